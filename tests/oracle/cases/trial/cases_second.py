"""A second trial, written blind by someone else: what the oracle could not tell at first, and samples of the rest."""
import math
import numpy as np, torch, torch.nn as nn, torch.nn.functional as F
from scipy.special import logsumexp as lse
from refcl.oracle import from_torch as T
from registry import case
inf = float("inf")
def unit(x): return x / np.linalg.norm(x, axis=-1, keepdims=True)
def back(dz, z, x): return (dz - z * (z * dz).sum(-1, keepdims=True)) / np.linalg.norm(x, axis=-1, keepdims=True)
def CE(l, lab=None, **k): return F.cross_entropy(l, torch.arange(len(l)) if lab is None else lab, **k)
def N(x): return F.normalize(x, dim=-1)
def two(a, b):
    z = N(torch.cat([a, b])); n = len(a)
    return z, n, torch.eye(2 * n, dtype=torch.bool), torch.arange(2 * n).roll(n)
def sim(q, k): return N(q) @ N(k).T
def zeros(l): return torch.zeros(len(l), dtype=torch.long)
def ce0(*parts): l = torch.cat(parts, 1); return CE(l, zeros(l))

@case('simple_loss', 'correct', 'R')
def r_simple_hand(query, key, weight):
    q, k = unit(query), unit(key); n, m = len(q), len(k); s = q @ k.T
    g = np.full((n, m), float(weight)); g[np.arange(n), np.arange(n)] = -1; g /= n
    off = s.sum() - np.trace(s)
    return (g * s).sum(), (back(g @ k, q, query), back(g.T @ q, k, key), off / n)
@case('nt_xent', 'correct', 'R', T, inputs='views', temperature=0.13)
def r_views_supcontrast(features):
    t, (B, V, D) = 0.13, features.shape
    mask = torch.eye(B, dtype=features.dtype)
    f = N(torch.cat(torch.unbind(features, dim=1), dim=0))
    adc = torch.div(f @ f.T, t)
    logits = adc - adc.max(dim=1, keepdim=True)[0].detach()
    mask = mask.repeat(V, V)
    lm = torch.scatter(torch.ones_like(mask), 1, torch.arange(B * V).view(-1, 1), 0)
    mask = mask * lm
    e = torch.exp(logits) * lm
    lp = logits - torch.log(e.sum(1, keepdim=True))
    return -((mask * lp).sum(1) / mask.sum(1)).view(V, B).mean()
class Flash(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q, k, tau):
        n = len(q); m = q.new_full((n,), -inf); tot = q.new_zeros(n)
        for c in k.split(2):
            l = q @ c.T / tau; new = torch.maximum(m, l.amax(1))
            tot = tot * torch.exp(m - new) + torch.exp(l - new[:, None]).sum(1); m = new
        z = m + tot.log(); ctx.save_for_backward(q, k, tau, z)
        return (z - (q * k[:n]).sum(1) / tau).mean()
    @staticmethod
    def backward(ctx, up):
        q, k, tau, z = ctx.saved_tensors; n = len(q); dq = torch.zeros_like(q); dks = []; dt = tau.new_zeros(())
        for j, c in enumerate(k.split(2)):
            s = q @ c.T; g = torch.exp(s / tau - z[:, None])
            for r in range(len(c)):
                if 2 * j + r < n: g[2 * j + r, r] -= 1
            g = g * up / n; dq += g @ c / tau; dks.append(g.T @ q / tau); dt -= (g * s).sum() / tau ** 2
        return dq, torch.cat(dks), dt
@case('info_nce', 'correct', 'R', T, extra_keys=3)
def r_flash(query, key, temperature): return Flash.apply(N(query), N(key), temperature)
@case('nce', 'correct', 'R', T, temperature=0.3, stabilizer=1e-7)
def r_nce_original(query, bank, index, noise, log_normalizer):
    z = N(query); K = noise.shape[1]; Pn = 1.0 / len(bank); Z = math.exp(float(log_normalizer))
    P = torch.exp(torch.einsum('nd,nkd->nk', z, bank[torch.cat([index[:, None], noise], 1)]) / 0.3) / Z
    Pmt, Pon = P[:, 0], P[:, 1:]
    h1 = Pmt / (Pmt + K * Pn + 1e-7); h0 = K * Pn / (Pon + K * Pn + 1e-7)
    return -(torch.log(h1).sum() + torch.log(h0).sum()) / len(z)
@case('debiased', 'correct', 'R', None, temperature=0.6, tau_plus=0.2)
def r_debiased_log(a, b):
    z = unit(np.concatenate([a, b])); n = len(a); l = z @ z.T / 0.6; i = np.arange(2 * n); j = np.roll(i, n)
    p = l[i, j]; l = l.copy(); l[i, i] = l[i, j] = -inf; k = 2 * n - 2
    ng = np.maximum((np.exp(l).sum(1) - 0.2 * k * np.exp(p)) / 0.8, k * np.exp(-1 / 0.6))
    return np.mean(np.log1p(ng * np.exp(-p)))
@case('triplet_margin', 'correct', 'R', T, distance='squared', swap=True, margin=0.7)
def r_triplet_swap(anchor, positive, negative):
    d = lambda u, v: ((u - v) ** 2).sum(-1)
    neg = torch.minimum(d(anchor, negative), d(positive, negative))
    return torch.clamp(d(anchor, positive) - neg + 0.7, min=0.0).mean()
@case('semi_hard_triplet', 'correct', 'R', T, margin=0.3, otherwise='easiest')
def r_semi_hard_tfa(s):
    n, m = s.shape; own = torch.eye(n, m, dtype=torch.bool); pos = s.diagonal()
    out = []
    for i in range(n):
        neg = s[i][~own[i]]
        band = neg[neg < pos[i]]
        out.append((band.max() if len(band) else neg.min()) - pos[i] + 0.3)
    return torch.stack(out).clamp(min=0).mean()
@case('cpc', 'correct', 'R', T)
def r_cpc_einsum(context, future, weight):
    l = torch.einsum('nd,tde,tme->tnm', context, weight, future)
    T_, n, m = l.shape
    return F.cross_entropy(l.permute(1, 2, 0), torch.arange(n)[:, None].expand(n, T_))
@case('nt_xent', 'correct', 'R', None, temperature=0.35, what='an outer difference by mistake, whose mean is that of the difference')
def n_ntx_outer(a, b):
    z = unit(np.concatenate([a, b])); n = len(a); l = z @ z.T / 0.35; i = np.arange(2 * n); p = l[i, np.roll(i, n)][:, None]; np.fill_diagonal(l, -inf)
    return (lse(l, axis=1) - p).mean()
@case('cpc', 'positives-permuted', 'N', T, what='targets shifted by one: context i is told its future is i + 1')
def n_cpc_shifted(context, future, weight):
    n = len(context); y = (torch.arange(n) + 1) % n
    return torch.stack([F.cross_entropy(context @ w @ f.T, y) for w, f in zip(weight, future)]).mean()
@case('inst_disc', 'double-softmax', 'N', T, what='softmax output fed to cross_entropy')
def n_inst_double(query, temperature, bank, index): return F.cross_entropy(torch.softmax(N(query) @ bank.T / temperature, -1), index)
@case('moco', 'temperature-missing-on-negatives', 'N', T, what='only the positive logit is divided by T')
def n_moco_t_neg(query, key, temperature, queue):
    q = N(query); return CE(torch.cat([(q * N(key)).sum(1, keepdim=True) / temperature, q @ queue.T], 1), torch.zeros(len(q), dtype=torch.long))
@case('semi_hard_triplet', 'gradient-zero', 'N', T, margin=0.3, what='the loss is computed from detached numbers, nothing is learned')
def n_semi_zero(s):
    d = s.detach(); p = d.diagonal()[:, None]; neg = d.masked_fill(~(d < p), -inf).amax(1); ok = torch.isfinite(neg)
    return torch.where(ok, F.relu(neg - p[:, 0] + 0.3), torch.zeros_like(neg)).mean().requires_grad_()
@case('clip', 'temperature-gradient-wrong', 'N', None, what='the log-scale gets the gradient of the scale (factor exp(theta) missing)')
def n_clip_dscale(image, text, log_scale):
    u, v = unit(image), unit(text); n = len(u); sc = np.exp(log_scale); s = u @ v.T; l = sc * s
    r, c = l - lse(l, axis=1, keepdims=True), l - lse(l, axis=0, keepdims=True); g = (np.exp(r) + np.exp(c) - 2 * np.eye(n)) / (2 * n)
    return -(np.trace(r) + np.trace(c)) / (2 * n), (back(sc * g @ v, u, image), back(sc * g.T @ u, v, text), (g * s).sum())
@case('moco', 'differs', 'U', T, what="the batch's keys are written into the queue's first N rows before the loss: they are negatives too, and N old rows are lost")
def u_moco_enqueue_first(query, key, temperature, queue):
    q, k = N(query), N(key); v = queue.clone(); v[:len(k)] = k.detach()[:len(v)]
    return CE(torch.cat([(q * k).sum(1, keepdim=True), q @ v.T], 1) / temperature, zeros(q))
@case('moco', 'differs', 'U', T, by_columns=('queue',), what='the queue (D, K) is normalized along K, not D')
def u_moco_queue_axis(query, key, temperature, queue):
    q, k = N(query), N(key); return CE(torch.cat([(q * k).sum(1, keepdim=True), q @ F.normalize(queue, dim=1)], 1) / temperature, zeros(q))
@case('moco', 'differs', 'U', None, what='the gradient lacks the pull of the positive: p_0 in place of p_0 - 1')
def u_moco_grad_no_pull(query, key, temperature, queue):
    q, k = unit(query), unit(key); s = np.hstack([(q * k).sum(1)[:, None], q @ queue.T]); l = s / temperature; z = lse(l, axis=1); g = np.exp(l - z[:, None]) / len(q)
    h = g.copy(); h[:, 0] -= 1 / len(q)
    return (z - l[:, 0]).mean(), (back((g[:, :1] * k + g[:, 1:] @ queue) / temperature, q, query), back(g[:, :1] * q / temperature, k, key), -(h * s).sum() / temperature ** 2)
@case('clip', 'differs', 'U', T, what="the text direction is divided by N twice (cross_entropy averages already)")
def u_clip_text_twice(image, text, log_scale):
    l = log_scale.exp() * sim(image, text); return (CE(l) + CE(l.T) / len(l)) / 2
@case('clip', 'differs', 'U', T, what='text->image direction sees detached images (images get no gradient as candidates); the other direction is whole')
def u_clip_half_detached(image, text, log_scale):
    i, t = N(image), N(text); sc = log_scale.exp(); return (CE(sc * i @ t.T) + CE(sc * t @ i.detach().T)) / 2
@case('clip', 'differs', 'U', T, what='with an odd batch the last anchor is dropped (n // 2 * 2)')
def u_clip_even_only(image, text, log_scale):
    l = log_scale.exp() * sim(image, text); m = max(len(l) // 2 * 2, 1); y = torch.arange(len(l))
    return (CE(l[:m], y[:m]) + CE(l.T[:m], y[:m])) / 2
@case('clip', 'differs', 'U', T, what='in the text direction the scale is detached: log_scale gets half of its gradient')
def u_clip_scale_half(image, text, log_scale):
    s = sim(image, text); sc = log_scale.exp(); return (CE(sc * s) + CE(sc.detach() * s.T)) / 2
def sc(z, t, labels):
    f = N(z); eye = torch.eye(len(f), dtype=torch.bool); l = f @ f.T / t; m = ((labels[:, None] == labels[None]) & ~eye)
    return l, l.masked_fill(eye, -inf).logsumexp(1, keepdim=True), m.to(l.dtype), eye
@case('sup_con', 'differs', 'U', T, what='the sum over positives is divided by P + 1 (the row itself counted)')
def u_supcon_p_plus_one(z, temperature, labels):
    l, d, m, eye = sc(z, temperature, labels); return (-(m * (l - d)).sum(1) / (m.sum(1) + 1)).mean()
@case('sup_con', 'differs', 'U', T, base_temperature=0.07, also=('scaled-by-constant',), what='factor base/tau in place of tau/base')
def u_supcon_base_inverted(z, temperature, labels):
    l, d, m, eye = sc(z, temperature, labels); return (0.07 / temperature) * (-(m * (l - d)).sum(1) / m.sum(1).clamp(min=1)).mean()
@case('info_nce', 'differs', 'U', T, what='logits are clamped to [-10, 10] "for stability"')
def u_clamped_logits(query, key, temperature): return CE((sim(query, key) / temperature).clamp(-10, 10))
@case('hard_simple_loss', 'differs', 'U', T, hardest=2, what='kept negatives are passed through relu: far ones do not count')
def u_hard_simple_relu(query, key):
    s = sim(query, key); k = min(2, s.shape[1] - 1); neg = s.masked_fill(torch.eye(*s.shape, dtype=torch.bool), -inf).topk(k, 1)[0]; return (F.relu(neg).mean(1) - s.diagonal()).mean()
@case('info_nce', 'differs', 'U', None, what='dkey is computed with the softmax over columns, not rows')
def u_dkey_column_softmax(query, key, temperature):
    q, k = unit(query), unit(key); s = q @ k.T; l = s / temperature; n = len(q); i = np.arange(n)
    z = lse(l, axis=1, keepdims=True); g = np.exp(l - z); g[i, i] -= 1; c = np.exp(l - lse(l, axis=0, keepdims=True)); c[i, i] -= 1
    return (z[:, 0] - l[i, i]).mean(), (back(g @ k / temperature / n, q, query), back(c.T @ q / temperature / n, k, key), -(g * s).sum() / temperature ** 2 / n)
@case('info_nce', 'differs', 'U', T, what="keys are divided by the queries' norms (copy and paste)")
def u_key_by_query_norm(query, key, temperature):
    nq = query.norm(dim=1, keepdim=True); return CE((query / nq) @ (key / nq).T / temperature)
@case('info_nce', 'differs', 'U', T, what='negatives with cosine above 0.5 are removed as "false negatives"')
def u_false_negative_threshold(query, key, temperature):
    s = sim(query, key); fn = (s > 0.5) & ~torch.eye(*s.shape, dtype=torch.bool); return CE((s / temperature).masked_fill(fn, -inf))
@case('info_nce', 'differs', 'U', T, what='a z-loss 0.01 * lse^2 is left on')
def u_z_loss(query, key, temperature):
    l = sim(query, key) / temperature; return CE(l) + 0.01 * (l.logsumexp(1) ** 2).mean()
@case('info_nce', 'differs', 'U', T, what='mean of the means of chunks of 2 anchors: the ragged last chunk counts too much')
def u_mean_of_chunk_means(query, key, temperature):
    l = sim(query, key) / temperature; y = torch.arange(len(l)); c = 2
    parts = [F.cross_entropy(a, b) for a, b in zip(l.split(c), y.split(c))]; return sum(parts) / len(parts)
@case('nt_xent', 'differs', 'U', T, what="the positive's similarity is computed against a detached b: no pull on b through positives of a's anchors (and of b's)")
def u_ntx_positive_half_detached(a, b, temperature):
    z, n, eye, tgt = two(a, b); p = (z[:n] * z[n:].detach()).sum(1).repeat(2) / temperature
    return ((z @ z.T / temperature).masked_fill(eye, -inf).logsumexp(1) - p).mean()
@case('nt_xent', 'differs', 'U', T, what='the negatives of both views are averaged, so that they count half')
def u_ntx_negatives_half(a, b, temperature):
    z, n, eye, tgt = two(a, b); l = z @ z.T / temperature; p = l.gather(1, tgt[:, None])[:, 0]; neg = l.masked_fill(eye, -inf).scatter(1, tgt[:, None], -inf).logsumexp(1)
    return (torch.logaddexp(p, neg - math.log(2)) - p).mean()
@case('cpc', 'differs', 'U', T, what='steps are discounted by 0.9^t')
def u_cpc_discount(context, future, weight):
    return sum(0.9 ** t * CE(context @ w @ f.T) for t, (w, f) in enumerate(zip(weight, future))) / len(future)
@case('cpc', 'differs', 'U', T, what="step t uses the weight of step t - 1 (a roll)")
def u_cpc_weight_rolled(context, future, weight): return sum(CE(context @ w @ f.T) for w, f in zip(weight.roll(1, 0), future)) / len(future)
@case('cpc', 'differs', 'U', T, what='the context is normalized although CPC takes it as it is')
def u_cpc_context_norm(context, future, weight): return sum(CE(N(context) @ w @ f.T) for w, f in zip(weight, future)) / len(future)
@case('cmc', 'differs', 'U', T, what='views are stacked to one vector and normalized jointly')
def u_cmc_joint_norm(views, temperature):
    n = torch.cat(list(views), 1).norm(dim=1, keepdim=True); z = [v / n for v in views]
    return sum(CE(z[i] @ z[j].T / temperature) for i in range(len(z)) for j in range(len(z)) if i != j)
@case('pair_contrastive', 'differs', 'U', T, what='d has shape (N, 1) and same (N,): broadcast to N x N, every distance is judged under every label')
def u_pair_broadcast(a, b, same):
    d = torch.norm(a - b, dim=1, keepdim=True); y = same.to(d.dtype); return (0.5 * y * d ** 2 + 0.5 * (1 - y) * F.relu(1 - d) ** 2).mean()
@case('pair_contrastive', 'differs', 'U', T, margin=1.5, what='unlike pairs: margin minus squared distance inside the square')
def u_pair_margin_sq(a, b, same):
    d2 = (a - b).pow(2).sum(1); return 0.5 * torch.where(same.bool(), d2, F.relu(1.5 - d2) ** 2).mean()
@case('triplet_margin', 'differs', 'U', T, swap=True, what='swap takes the larger of the two negative distances')
def u_triplet_swap_max(anchor, positive, negative, margin):
    d = lambda u, v: (u - v).norm(dim=1); return F.relu(d(anchor, positive) - torch.maximum(d(anchor, negative), d(positive, negative)) + margin).mean()
@case('triplet_margin', 'differs', 'U', T, what='the squared distance to the positive, the plain one to the negative')
def u_triplet_mixed(anchor, positive, negative, margin):
    return F.relu((anchor - positive).pow(2).sum(1) - (anchor - negative).norm(dim=1) + margin).mean()
@case('triplet_margin', 'differs', 'U', T, what='eps 0.01 inside the root')
def u_triplet_eps_root(anchor, positive, negative, margin):
    d = lambda u, v: ((u - v).pow(2).sum(1) + 1e-2).sqrt(); return F.relu(d(anchor, positive) - d(anchor, negative) + margin).mean()
@case('semi_hard_triplet', 'differs', 'U', T, margin=0.3, what='of the negatives beyond the positive the furthest is taken, not the nearest')
def u_semi_furthest(s):
    p = s.diagonal()[:, None]; neg = s.masked_fill(~(s < p), inf).amin(1); ok = torch.isfinite(neg)
    return torch.where(ok, F.relu(torch.where(ok, neg, p[:, 0]) - p[:, 0] + 0.3), torch.zeros_like(neg)).mean()
def deb(a, b, t, tp, beta=0.0, mean=lambda i, p: i.mean(1), K=lambda n: 2 * n - 2):
    n = len(a); a, b = N(a), N(b); z = torch.cat([a, b]); m = ~torch.eye(n, dtype=torch.bool).repeat(2, 2); neg = torch.exp(z @ z.T / t)[m].view(2 * n, -1); pos = torch.exp((a * b).sum(1) / t).repeat(2)
    imp = neg ** beta; w = (imp * neg).sum(1) / mean(imp, pos ** beta); return -torch.log(pos / (pos + ((w - tp * K(n) * pos) / (1 - tp)).clamp(min=(2 * n - 2) * math.exp(-1 / t)))).mean()
@case('debiased', 'differs', 'U', T, temperature=0.5, tau_plus=0.1, what='the correction counts N in place of K = 2N - 2 negatives')
def u_deb_k_is_n(a, b): return deb(a, b, 0.5, 0.1, K=lambda n: n)
@case('hcl', 'differs', 'U', T, temperature=0.5, tau_plus=0.1, beta=1.0, what='the weights are normalized with the positive among them (mean over K + 1)')
def u_hcl_mean_with_positive(a, b): return deb(a, b, 0.5, 0.1, 1.0, mean=lambda i, p: (i.sum(1) + p) / (i.shape[1] + 1))
@case('simple_loss', 'differs', 'U', T, what='the weight multiplies the positive too')
def u_simple_weight_everywhere(query, key, weight):
    s = sim(query, key); return (weight * (s.sum(1) - 2 * s.diagonal())).mean()
@case('nce', 'differs', 'U', T, what='noise is drawn with density 1/(M-1): log(K/(M-1))')
def u_nce_m_minus_one(query, temperature, bank, index, noise, log_normalizer):
    z = N(query); off = log_normalizer + math.log(noise.shape[1] / (len(bank) - 1)); return (F.softplus(off - (z * bank[index]).sum(1) / temperature) + F.softplus((z[:, None] * bank[noise]).sum(-1) / temperature - off).sum(1)).mean()
@case('inst_disc', 'differs', 'U', T, what="the bank's own row is updated (half old, half query) before the loss")
def u_inst_update_first(query, temperature, bank, index):
    z = N(query); v = bank.clone(); v[index] = N(0.5 * v[index] + 0.5 * z.detach()); return CE(z @ v.T / temperature, index)
@case('per_anchor_contrastive', 'differs', 'U', T, shape=(5, 5), what='temperatures divide columns, not rows')
def u_per_anchor_columns(s, temperature): return CE(s / temperature)
@case('cpc', 'differs', 'U', T, what="negatives of all steps: futures of the other steps are candidates too")
def v_cpc_all_steps(context, future, weight):
    T_, m, e = future.shape; allf = future.reshape(T_ * m, e); return sum(CE(context @ w @ allf.T, torch.arange(len(context)) + t * m) for t, w in enumerate(weight)) / T_
@case('cpc', 'differs', 'U', T, what='temperature 0.1 is applied although there is none')
def v_cpc_temperature(context, future, weight): return sum(CE(context @ w @ f.T / 0.1) for w, f in zip(weight, future)) / len(future)
@case('info_nce', 'differs', 'U', T, what='trimmed mean: the anchor with the largest loss is dropped')
def v_trimmed(query, key, temperature):
    l = CE(sim(query, key) / temperature, reduction='none'); return l.sort()[0][:-1].mean()
@case('triplet_margin', 'differs', 'U', T, what='positive and negative are exchanged')
def v_tm_exchanged(anchor, positive, negative, margin): return F.relu((anchor - negative).norm(dim=1) - (anchor - positive).norm(dim=1) + margin).mean()
@case('triplet_margin', 'differs', 'U', T, what='the negatives of the batch are rolled by one: negative[i + 1] is met')
def v_tm_rolled(anchor, positive, negative, margin): return F.relu((anchor - positive).norm(dim=1) - (anchor - negative.roll(-1, 0)).norm(dim=1) + margin).mean()
@case('triplet_margin', 'differs', 'U', T, what='rows are normalized though raw ones were asked')
def v_tm_normalized(anchor, positive, negative, margin): a, p, n = N(anchor), N(positive), N(negative); return F.relu((a - p).norm(dim=1) - (a - n).norm(dim=1) + margin).mean()
@case('triplet', 'differs', 'U', T, margin=0.3, what='leaky relu (slope 0.1) for the hinge')
def v_triplet_leaky(s): return F.leaky_relu(s.masked_fill(torch.eye(*s.shape, dtype=torch.bool), -inf).amax(1) - s.diagonal() + 0.3, 0.1).mean()
@case('moco', 'differs', 'U', T, what='the queue is averaged: each of its rows counts 1/K')
def v_moco_queue_mean(query, key, temperature, queue):
    q = N(query); p = (q * N(key)).sum(1) / temperature; return (torch.logaddexp(p, torch.logsumexp(q @ queue.T / temperature, 1) - math.log(len(queue))) - p).mean()
class NoTau(torch.autograd.Function):
    @staticmethod
    def forward(ctx, s, t): ctx.save_for_backward(s, t); return -(s / t).log_softmax(1).diagonal().mean()
    @staticmethod
    def backward(ctx, up): s, t = ctx.saved_tensors; g = s.softmax(1); g.diagonal().sub_(1); g = g * up / len(s) / t; return g, -(g * s).sum() / t
@case('info_nce', 'differs', 'U', T, what='backward takes the softmax of s, not of s/tau')
def v_backward_softmax_no_tau(query, key, temperature): return NoTau.apply(sim(query, key), temperature)
@case('hard_info_nce', 'differs', 'U', T, hardest=2, what='the hardest are those nearest to the positive key, not to the anchor')
def v_hard_by_key(query, key, temperature):
    s = sim(query, key); kk = sim(key, key)[:len(s)]; eye = torch.eye(*s.shape, dtype=torch.bool); i = kk.masked_fill(eye, -inf).topk(min(2, s.shape[1] - 1), 1)[1]; return ce0(s.diagonal()[:, None] / temperature, s.gather(1, i) / temperature)
@case('simple_loss', 'differs', 'U', T, what='the negatives are squared')
def v_simple_squared(query, key):
    s = sim(query, key); n, m = s.shape; off = ~torch.eye(n, m, dtype=torch.bool); return ((s ** 2)[off].sum() / (m - 1) - s.diagonal().sum()) / n
@case('sig_lip', 'differs', 'U', T, what='the bias is detached')
def v_siglip_bias_detached(image, text, log_scale, bias):
    l = log_scale.exp() * sim(image, text) + bias.detach(); y = 2 * torch.eye(*l.shape, dtype=l.dtype) - 1; return -F.logsigmoid(y * l).sum() / len(l)
@case('info_nce', 'differs', 'U', T, extra_keys=3, what='the extra keys are not divided by tau')
def v_extra_no_tau(query, key, temperature):
    s = sim(query, key); n = len(s); return CE(torch.cat([s[:, :n] / temperature, s[:, n:]], 1))
