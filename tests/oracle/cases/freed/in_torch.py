"""The same in PyTorch, as in papers' code: F.cross_entropy, modules, momentum distillation, hard negatives."""
import math
import torch, torch.nn as nn, torch.nn.functional as F
from freed_common import case
from refcl.oracle import from_module, from_torch
T = from_torch
def n(x): return F.normalize(x, dim=-1)
def logits(q, k, t): return n(q) @ n(k).T / t
def own(x): return torch.arange(len(x))

# ------------- right
@case('correct', '', 'info_nce', T, label_smoothing=0.1)
def t_label_smoothing(query, key, temperature):
    return F.cross_entropy(logits(query, key, temperature), own(query), label_smoothing=0.1)
@case('correct', '', 'clip', T, label_smoothing=0.1)
def t_clip_label_smoothing(image, text, log_scale):
    x = log_scale.exp() * n(image) @ n(text).T
    return (F.cross_entropy(x, own(x), label_smoothing=0.1) + F.cross_entropy(x.T, own(x), label_smoothing=0.1)) / 2
@case('correct', '', 'info_nce', T, given=('targets',))
def t_soft_targets(query, key, temperature, targets):
    return F.cross_entropy(logits(query, key, temperature), targets)
@case('correct', '', 'nt_xent', T, given=('targets',), detached=('targets',))
def t_ressl(a, b, temperature, targets):
    z = n(torch.cat([a, b])); x = z @ z.T / temperature
    x = x.masked_fill(torch.eye(len(z), dtype=torch.bool), -1e9)
    return -(targets.detach() * F.log_softmax(x, dim=1)).sum(1).mean()
@case('correct', '', 'clip', T, given=('targets',), detached=('targets',))
def t_albef(image, text, log_scale, targets):
    x = log_scale.exp() * n(image) @ n(text).T
    i2t = -torch.sum(F.log_softmax(x, dim=1) * targets[0].detach(), dim=1).mean()
    t2i = -torch.sum(F.log_softmax(x.T, dim=1) * targets[1].detach(), dim=1).mean()
    return (i2t + t2i) / 2
@case('correct', '', 'info_nce', T, given=('log_weight',))
def t_simcse_weights(query, key, temperature, log_weight):
    cos_sim = F.cosine_similarity(query.unsqueeze(1), key.unsqueeze(0), dim=-1) / temperature + log_weight
    return nn.CrossEntropyLoss()(cos_sim, own(query))
@case('correct', '', 'info_nce', T, given=('own_negatives', 'anchor_weight'))
def t_own_negatives_and_anchor_weights(query, key, temperature, own_negatives, anchor_weight):
    q, h = n(query), n(own_negatives)
    x = torch.cat([q @ n(key).T, torch.bmm(h, q.unsqueeze(2)).squeeze(2)], dim=1) / temperature
    return (F.cross_entropy(x, own(x), reduction='none') * anchor_weight).mean()
@case('correct', '', 'info_nce', T, margin=0.2)
def t_cosface(query, key, temperature):
    s = n(query) @ n(key).T
    return F.cross_entropy((s - 0.2 * F.one_hot(own(s), s.shape[1])) / temperature, own(s))
@case('correct', '', 'info_nce', T, angular_margin=0.3)
def t_arcface(query, key, temperature):
    s = n(query) @ n(key).T; p = s.diagonal()
    sine = torch.sqrt(torch.clamp((1 - p) * (1 + p), min=1e-20))
    phi = torch.where(p > -math.cos(0.3), p * math.cos(0.3) - sine * math.sin(0.3), p - 0.3 * math.sin(0.3))
    return F.cross_entropy(torch.diagonal_scatter(s, phi) / temperature, own(s))
@case('correct', '', 'info_nce', T, angular_margin=0.3)
def t_arcface_by_acos(query, key, temperature):
    s = n(query) @ n(key).T; p = s.diagonal(); th = torch.acos(p.clamp(-1 + 1e-7, 1 - 1e-7))
    phi = torch.where(th + 0.3 > math.pi, p - 0.3 * math.sin(0.3), torch.cos(th + 0.3))
    return F.cross_entropy(torch.diagonal_scatter(s, phi) / temperature, own(s))
@case('correct', '', 'info_nce', lambda c: from_module(c()), label_smoothing=0.1, given=('log_weight',))
class t_module(nn.Module):
    def __init__(self):
        super().__init__()
        self.temperature = nn.Parameter(torch.tensor(0.1))
        self.loss = nn.CrossEntropyLoss(label_smoothing=0.1)
    def forward(self, query, key, log_weight):
        return self.loss(logits(query, key, self.temperature) + log_weight, own(query))

# ------------- wrong
@case('label-smoothing-misplaced', 'all but the positive', 'info_nce', T, label_smoothing=0.1)
def t_smoothing_fairseq(query, key, temperature):
    lprobs = F.log_softmax(logits(query, key, temperature), dim=-1)
    nll = -lprobs.diagonal(); smooth = -lprobs.sum(dim=-1); eps_i = 0.1 / (lprobs.shape[1] - 1)
    return ((1 - 0.1 - eps_i) * nll + eps_i * smooth).mean()
@case('targets-misread', 'entropy', 'info_nce', T, given=('targets',))
def t_kl_div(query, key, temperature, targets):
    return F.kl_div(F.log_softmax(logits(query, key, temperature), dim=1), targets, reduction='batchmean')
@case('differs', 'targets gets no gradient', 'info_nce', T, given=('targets',))
def t_targets_detached(query, key, temperature, targets):
    return F.cross_entropy(logits(query, key, temperature), targets.detach())
@case('self-in-denominator', '', 'nt_xent', T, given=('targets',))
def t_ressl_with_oneself(a, b, temperature, targets):
    z = n(torch.cat([a, b]))
    return -(targets * F.log_softmax(z @ z.T / temperature, dim=1)).sum(1).mean()
@case('log-weight-misplaced', 'before the temperature', 'info_nce', T, given=('log_weight',))
def t_simcse_weight_before(query, key, temperature, log_weight):
    return F.cross_entropy((n(query) @ n(key).T + log_weight) / temperature, own(query))
@case('log-weight-misplaced', 'factor of the logit', 'info_nce', T, given=('log_weight',))
def t_weight_times_logits(query, key, temperature, log_weight):
    return F.cross_entropy(logits(query, key, temperature) * log_weight, own(query))
@case('own-negatives-misread', 'not normalized', 'info_nce', T, given=('own_negatives',))
def t_dpr_raw_hard_negatives(query, key, temperature, own_negatives):
    q = n(query); x = torch.cat([q @ n(key).T, torch.einsum('nd,nhd->nh', q, own_negatives)], 1) / temperature
    return F.cross_entropy(x, own(x))
@case('own-negatives-misread', 'shared', 'info_nce', T, given=('own_negatives',))
def t_dpr_shared(query, key, temperature, own_negatives):
    return F.cross_entropy(logits(query, torch.cat([key, own_negatives.flatten(0, 1)]), temperature), own(query))
@case('differs', 'own_negatives gets no gradient', 'info_nce', T, given=('own_negatives',))
def t_hard_negatives_detached(query, key, temperature, own_negatives):
    q, h = n(query), n(own_negatives).detach()
    x = torch.cat([q @ n(key).T, torch.einsum('nd,nhd->nh', q, h)], 1) / temperature
    return F.cross_entropy(x, own(x))
@case('anchor-weight-averaged', '', 'info_nce', T, given=('anchor_weight',))
def t_weights_over_their_sum(query, key, temperature, anchor_weight):
    losses = F.cross_entropy(logits(query, key, temperature), own(query), reduction='none')
    return (losses * anchor_weight).sum() / anchor_weight.sum()
@case('margin-misplaced', 'not divided', 'info_nce', T, margin=0.2)
def t_margin_on_the_logit(query, key, temperature):
    x = logits(query, key, temperature)
    return F.cross_entropy(x - 0.2 * torch.eye(*x.shape, dtype=x.dtype), own(x))
@case('margin-misplaced', 'not divided by the temperature; beside that it is off by less than 1e-6', 'info_nce', T, margin=0.2)
def t_margin_on_the_logit_in_single_precision(query, key, temperature):
    x = logits(query, key, temperature)
    return F.cross_entropy(x - 0.2 * torch.eye(*x.shape), own(x))
@case('differs', 'identical views', 'info_nce', T, angular_margin=0.3)
def t_arcface_slope_at_the_tip(query, key, temperature):
    s = n(query) @ n(key).T; p = s.diagonal(); th = torch.acos(p.clamp(-1, 1))
    phi = torch.where(th + 0.3 > math.pi, p - 0.3 * math.sin(0.3), torch.cos(th + 0.3))
    return F.cross_entropy(torch.diagonal_scatter(s, phi) / temperature, own(s))
