"""Losses with label smoothing, targets, weights, own negatives and margins, as people write them in NumPy."""
import numpy as np
from freed_common import case, lse, softmax, unit, unit_back

S = dict(label_smoothing=0.1)
# ------------- right
@case('correct', '', 'info_nce', **S)
def r_smoothed_value(query, key, temperature):
    x = unit(query) @ unit(key).T / temperature
    logp = x - lse(x)[:, None]
    n, m = x.shape
    return -np.mean(0.9 * np.diagonal(logp) + 0.1 * logp.mean(1))
@case('correct', '', 'softmax_contrastive', **S)
def r_smoothed_gradient(s, temperature):
    n, m = s.shape; t = 0.9 * np.eye(n, m) + 0.1 / m; x = s / temperature
    g = (softmax(x) - t) / n
    return np.mean(lse(x) - (t * x).sum(1)), (g / temperature, -(g * s).sum() / temperature**2)
@case('correct', '', 'info_nce', given='targets')
def r_targets_all_gradients(query, key, temperature, targets):
    z, c = unit(query), unit(key); s = z @ c.T; x = s / temperature; n = len(x)
    logp = x - lse(x)[:, None]
    d = (targets.sum(1, keepdims=True) * np.exp(logp) - targets) / n
    ds = d / temperature
    return -(targets * logp).sum() / n, dict(query=unit_back(ds @ c, query), key=unit_back(ds.T @ z, key),
                                             temperature=-(d * s).sum() / temperature**2, targets=-logp / n)
@case('correct', 'not judged: .*targets', 'info_nce', given='targets')
def r_targets_constant(query, key, temperature, targets):
    z, c = unit(query), unit(key); s = z @ c.T; x = s / temperature; n = len(x)
    d = (softmax(x) - targets) / n
    ds = d / temperature
    return -(targets * (x - lse(x)[:, None])).sum() / n, (unit_back(ds @ c, query), unit_back(ds.T @ z, key), -(d * s).sum() / temperature**2)
@case('correct', '', 'nt_xent', temperature=0.2, given=('targets',), detached=('targets',))
def r_targets_within_one_modality(a, b, targets):
    z = unit(np.concatenate([a, b])); x = z @ z.T / 0.2
    np.fill_diagonal(x, -1e9)
    return -(targets * (x - lse(x)[:, None])).sum(1).mean()
@case('correct', '', 'info_nce', given=('log_weight',))
def r_log_weight_in_the_sum(query, key, temperature, log_weight):
    s = unit(query) @ unit(key).T; gap = (s - np.diagonal(s)[:, None]) / temperature
    top = gap.max(1, keepdims=True); e = np.exp(gap - top) * np.exp(log_weight)
    return np.mean(top[:, 0] + np.log(e.sum(1)) - np.diagonal(log_weight))
@case('correct', '', 'info_nce', given=('own_negatives',))
def r_own_negatives_all_gradients(query, key, temperature, own_negatives):
    z, c, h = unit(query), unit(key), unit(own_negatives); n = len(z)
    s = np.hstack([z @ c.T, np.einsum('nd,nhd->nh', z, h)]); x = s / temperature
    d = softmax(x); loss = np.mean(lse(x) - np.diagonal(x)); d[np.arange(n), np.arange(n)] -= 1; d /= n * temperature
    m = len(c); g, o = d[:, :m], d[:, m:]
    return loss, (unit_back(g @ c + np.einsum('nh,nhd->nd', o, h), query), unit_back(g.T @ z, key), -(d * s).sum() / temperature,
                  unit_back(o[:, :, None] * z[:, None, :], own_negatives))
@case('correct', '', 'info_nce', given=('anchor_weight',))
def r_anchor_weight(query, key, temperature, anchor_weight):
    x = unit(query) @ unit(key).T / temperature
    return (anchor_weight * (lse(x) - np.diagonal(x))).sum() / len(x)
@case('correct', '', 'info_nce', margin=0.3)
def r_cosface(query, key, temperature):
    s = unit(query) @ unit(key).T
    x = (s - 0.3 * np.eye(*s.shape)) / temperature
    return np.mean(lse(x) - np.diagonal(x))
@case('correct', '', 'info_nce', angular_margin=0.4)
def r_arcface(query, key, temperature):
    s = np.clip(unit(query) @ unit(key).T, -1, 1); p = np.diagonal(s).copy(); th = np.arccos(p)
    x = s.copy(); x[np.arange(len(p)), np.arange(len(p))] = np.where(th + 0.4 > np.pi, p - 0.4 * np.sin(0.4), np.cos(th + 0.4))
    x /= temperature
    return np.mean(lse(x) - np.diagonal(x))
@case('correct', '', 'clip', given=('targets', 'anchor_weight'))
def r_clip_soft(image, text, log_scale, targets, anchor_weight):
    x = np.exp(log_scale) * unit(image) @ unit(text).T
    rows = [-(t * (y - lse(y)[:, None])).sum(1) * a for t, y, a in zip(targets, (x, x.T), anchor_weight)]
    return np.mean(rows)
@case('correct', '', 'info_nce', reduction='none', given=('anchor_weight', 'log_weight'))
def r_rowwise(query, key, temperature, log_weight, anchor_weight):
    x = unit(query) @ unit(key).T / temperature + log_weight
    return anchor_weight * (lse(x) - np.diagonal(x))

# ------------- label smoothing
NAME = 'label-smoothing-misplaced'
@case(NAME, 'all but the positive', 'info_nce', **S)
def smoothing_over_the_others(query, key, temperature):
    x = unit(query) @ unit(key).T / temperature; n, m = x.shape; eye = np.eye(n, m)
    t = 0.9 * eye + 0.1 / (m - 1) * (1 - eye)
    return np.mean(lse(x) - (t * x).sum(1))
@case(NAME, 'not lowered', 'softmax_contrastive', **S)
def smoothing_added(s, temperature):
    x = s / temperature; logp = x - lse(x)[:, None]
    return -np.mean(np.diagonal(logp) + 0.1 * logp.mean(1))
@case(NAME, 'not divided', 'info_nce', **S)
def smoothing_summed(query, key, temperature):
    x = unit(query) @ unit(key).T / temperature; logp = x - lse(x)[:, None]
    return -np.mean(0.9 * np.diagonal(logp) + 0.1 * logp.sum(1))
@case('differs', 'label_smoothing is 0, expected 0.1', 'info_nce', **S)
def smoothing_forgotten(query, key, temperature):
    x = unit(query) @ unit(key).T / temperature
    return np.mean(lse(x) - np.diagonal(x))
@case('differs', r'label_smoothing is 1 - label_smoothing|label_smoothing is .*0\.9', 'info_nce', **S)
def smoothing_the_wrong_way_round(query, key, temperature):
    x = unit(query) @ unit(key).T / temperature; logp = x - lse(x)[:, None]
    return -np.mean(0.1 * np.diagonal(logp) + 0.9 * logp.mean(1))
@case('differs', 'label_smoothing/2.*one of two directions', 'clip', **S)
def smoothing_in_one_direction(image, text, log_scale):
    x = np.exp(log_scale) * unit(image) @ unit(text).T; n = len(x)
    t = 0.9 * np.eye(n) + 0.1 / n
    return (np.mean(lse(x) - (t * x).sum(1)) + np.mean(lse(x.T) - np.diagonal(x))) / 2
@case('temperature-missing-on-positive', '', 'info_nce', **S)
def smoothing_without_temperature_in_the_target(query, key, temperature):
    s = unit(query) @ unit(key).T; n, m = s.shape
    t = 0.9 * np.eye(n, m) + 0.1 / m
    return np.mean(lse(s / temperature) - (t * s).sum(1))
@case('self-in-denominator', '', 'nt_xent', **S)
def smoothing_with_oneself(a, b, temperature):
    z = unit(np.concatenate([a, b])); n = len(a); x = z @ z.T / temperature
    t = 0.9 * np.roll(np.eye(2 * n), n, axis=1) + 0.1 / (2 * n)
    return np.mean(lse(x) - (t * x).sum(1))
@case(NAME, 'divided by one more', 'nt_xent', **S)
def smoothing_by_2n_with_oneself_masked(a, b, temperature):
    z = unit(np.concatenate([a, b])); n = len(a); x = z @ z.T / temperature; off = 1 - np.eye(2 * n)
    x = np.where(off > 0, x, -1e9)
    t = 0.9 * np.roll(np.eye(2 * n), n, axis=1) + 0.1 / (2 * n) * off
    return np.mean(t.sum(1) * lse(x) - (t * x).sum(1))

# ------------- targets
T = dict(given=('targets',))
@case('targets-misread', 'transposed', 'info_nce', **T)
def targets_transposed(query, key, temperature, targets):
    x = unit(query) @ unit(key).T / temperature
    return -np.mean((targets.T * (x - lse(x)[:, None])).sum(1))
@case('targets-misread', 'the largest alone', 'info_nce', **T)
def targets_made_hard(query, key, temperature, targets):
    x = unit(query) @ unit(key).T / temperature
    return np.mean(lse(x) - x[np.arange(len(x)), targets.argmax(1)])
@case('targets-misread', 'entropy', 'info_nce', **T)
def targets_by_kl(query, key, temperature, targets):
    x = unit(query) @ unit(key).T / temperature
    return np.mean((targets * (np.log(targets + 1e-300) - x + lse(x)[:, None])).sum(1))
@case('differs', 'targets', 'info_nce', **T)
def targets_not_read(query, key, temperature, targets):
    x = unit(query) @ unit(key).T / temperature
    return np.mean(lse(x) - np.diagonal(x))
@case('differs', 'targets', 'info_nce', **T)
def targets_taken_for_logits(query, key, temperature, targets):
    x = unit(query) @ unit(key).T / temperature; t = softmax(targets)
    return -np.mean((t * (x - lse(x)[:, None])).sum(1))
@case('differs', 'targets', 'info_nce', **T)
def targets_sharpened_by_the_temperature(query, key, temperature, targets):
    x = unit(query) @ unit(key).T / temperature; t = softmax(np.log(targets) / temperature)
    return -np.mean((t * (x - lse(x)[:, None])).sum(1))
@case('scaled-by-constant', '1/M|1/N', 'info_nce', **T)
def targets_mean_over_everything(query, key, temperature, targets):
    x = unit(query) @ unit(key).T / temperature
    return -np.mean(targets * (x - lse(x)[:, None]))
@case('targets-misread', "images'", 'clip', **T)
def targets_of_images_for_both(image, text, log_scale, targets):
    x = np.exp(log_scale) * unit(image) @ unit(text).T
    return -np.mean([(targets[0] * (x - lse(x)[:, None])).sum(1), (targets[0].T * (x.T - lse(x.T)[:, None])).sum(1)])
@case('one-direction', '', 'clip', **T)
def targets_in_one_direction(image, text, log_scale, targets):
    x = np.exp(log_scale) * unit(image) @ unit(text).T
    return -np.mean((targets[0] * (x - lse(x)[:, None])).sum(1))
@case('differs', 'texts?', 'clip', **T)
def targets_for_images_hard_for_texts(image, text, log_scale, targets):
    x = np.exp(log_scale) * unit(image) @ unit(text).T
    return (-np.mean((targets[0] * (x - lse(x)[:, None])).sum(1)) + np.mean(lse(x.T) - np.diagonal(x))) / 2
@case('differs', 'targets', 'nt_xent', **T)
def targets_mixed_with_the_positive(a, b, temperature, targets):
    z = unit(np.concatenate([a, b])); n = len(a); x = z @ z.T / temperature; np.fill_diagonal(x, -1e9)
    t = 0.6 * targets + 0.4 * np.roll(np.eye(2 * n), n, axis=1)
    return -np.mean((t * (x - lse(x)[:, None])).sum(1))
@case('self-in-denominator', '', 'nt_xent', **T)
def targets_with_oneself_in_the_sum(a, b, temperature, targets):
    z = unit(np.concatenate([a, b])); x = z @ z.T / temperature
    return -np.mean((targets * (x - lse(x)[:, None])).sum(1))
@case('scaled-by-constant', 'dtargets is -1 times', 'info_nce', **T)
def targets_gradient_of_the_wrong_sign(query, key, temperature, targets):
    z, c = unit(query), unit(key); s = z @ c.T; x = s / temperature; n = len(x); logp = x - lse(x)[:, None]
    d = (np.exp(logp) - targets) / n; ds = d / temperature
    return -(targets * logp).sum() / n, (unit_back(ds @ c, query), unit_back(ds.T @ z, key), -(d * s).sum() / temperature**2, logp / n)

# ------------- log weights
W = dict(given=('log_weight',))
NAME = 'log-weight-misplaced'
@case(NAME, 'before the temperature', 'info_nce', **W)
def weight_before_the_temperature(query, key, temperature, log_weight):
    x = (unit(query) @ unit(key).T + log_weight) / temperature
    return np.mean(lse(x) - np.diagonal(x))
@case(NAME, 'left out at the positive', 'info_nce', **W)
def weight_of_negatives_only(query, key, temperature, log_weight):
    x = unit(query) @ unit(key).T / temperature
    x = x + log_weight * (1 - np.eye(*x.shape))
    return np.mean(lse(x) - np.diagonal(x))
@case(NAME, 'denominator only', 'info_nce', **W)
def weight_in_the_denominator_only(query, key, temperature, log_weight):
    x = unit(query) @ unit(key).T / temperature
    return np.mean(lse(x + log_weight) - np.diagonal(x))
@case(NAME, 'taken for a weight', 'info_nce', **W)
def weight_not_exponentiated(query, key, temperature, log_weight):
    x = unit(query) @ unit(key).T / temperature
    x = x + np.log(log_weight)
    return np.mean(lse(x) - np.diagonal(x))
@case(NAME, 'factor of the logit', 'info_nce', **W)
def weight_times_logit(query, key, temperature, log_weight):
    x = unit(query) @ unit(key).T / temperature * log_weight
    return np.mean(lse(x) - np.diagonal(x))
@case(NAME, 'subtracted', 'softmax_contrastive', **W)
def weight_subtracted(s, temperature, log_weight):
    x = s / temperature - log_weight
    return np.mean(lse(x) - np.diagonal(x))
@case('differs', 'log_weight', 'softmax_contrastive', **W)
def weight_not_read(s, temperature, log_weight):
    x = s / temperature
    return np.mean(lse(x) - np.diagonal(x))
@case('differs', 'log_weight', 'info_nce', **W)
def weight_counted_twice(query, key, temperature, log_weight):
    x = unit(query) @ unit(key).T / temperature + 2 * log_weight
    return np.mean(lse(x) - np.diagonal(x))
@case('differs', 'log_weight', 'info_nce', **W)
def weight_normalised_by_row(query, key, temperature, log_weight):
    w = np.exp(log_weight); w = w / w.mean(1, keepdims=True)
    e = np.exp(unit(query) @ unit(key).T / temperature - 1 / temperature)
    return -np.mean(np.log(np.diagonal(e) / (np.diagonal(e) + (w * e).sum(1) - np.diagonal(w * e))))
@case('differs', 'dlog_weight.*transposed', 'softmax_contrastive', **W)
def weight_gradient_transposed(s, temperature, log_weight):
    if s.shape[0] != s.shape[1]: raise ValueError('square, please')
    n = len(s); x = s / temperature + log_weight; d = (softmax(x) - np.eye(n)) / n
    return np.mean(lse(x) - np.diagonal(x)), (d / temperature, -(d * s).sum() / temperature**2, d.T)
@case('scaled-by-constant', 'dlog_weight is N ', 'softmax_contrastive', **W)
def weight_gradient_without_the_mean(s, temperature, log_weight):
    n = len(s); x = s / temperature + log_weight; d = (softmax(x) - np.eye(*s.shape)) / n
    return np.mean(lse(x) - np.diagonal(x)), (d / temperature, -(d * s).sum() / temperature**2, n * d)
@case('scaled-by-constant', 'dlog_weight is 1/τ', 'softmax_contrastive', **W)
def weight_gradient_over_the_temperature(s, temperature, log_weight):
    n = len(s); x = s / temperature + log_weight; d = (softmax(x) - np.eye(*s.shape)) / n
    return np.mean(lse(x) - np.diagonal(x)), (d / temperature, -(d * s).sum() / temperature**2, d / temperature)
@case('differs', 'log_weight gets no gradient', 'softmax_contrastive', **W)
def weight_without_gradient(s, temperature, log_weight):
    n = len(s); x = s / temperature + log_weight; d = (softmax(x) - np.eye(*s.shape)) / n
    return np.mean(lse(x) - np.diagonal(x)), (d / temperature, -(d * s).sum() / temperature**2, 0 * d)

# ------------- weights of anchors
A = dict(given=('anchor_weight',))
@case('anchor-weight-averaged', 'sum of the weights', 'info_nce', **A)
def anchors_weighted_mean(query, key, temperature, anchor_weight):
    x = unit(query) @ unit(key).T / temperature
    return np.average(lse(x) - np.diagonal(x), weights=anchor_weight)
@case('differs', 'anchor_weight', 'info_nce', **A)
def anchors_weight_not_read(query, key, temperature, anchor_weight):
    x = unit(query) @ unit(key).T / temperature
    return np.mean(lse(x) - np.diagonal(x))
@case('differs', '', 'info_nce', **A)
def anchors_weight_of_the_candidate(query, key, temperature, anchor_weight):
    x = unit(query) @ unit(key).T / temperature + np.log(anchor_weight)
    return np.mean(lse(x) - np.diagonal(x))
@case('scaled-by-constant', 'N', 'info_nce', **A)
def anchors_weighted_sum(query, key, temperature, anchor_weight):
    x = unit(query) @ unit(key).T / temperature
    return (anchor_weight * (lse(x) - np.diagonal(x))).sum()
@case('differs', 'weights', 'info_nce', **A)
def anchors_weight_squared(query, key, temperature, anchor_weight):
    x = unit(query) @ unit(key).T / temperature
    return np.mean(anchor_weight**2 * (lse(x) - np.diagonal(x)))
@case('differs', 'danchor_weight', 'softmax_contrastive', **A)
def anchors_weight_gradient_of_one(s, temperature, anchor_weight):
    n = len(s); x = s / temperature; d = anchor_weight[:, None] * (softmax(x) - np.eye(*s.shape)) / n
    loss = lse(x) - np.diagonal(x)
    return np.mean(anchor_weight * loss), (d / temperature, -(d * s).sum() / temperature**2, anchor_weight * loss / n)

# ------------- own negatives
O = dict(given=('own_negatives',))
@case('own-negatives-misread', 'shared', 'info_nce', **O)
def own_shared_over_the_batch(query, key, temperature, own_negatives):
    h = unit(own_negatives).reshape(-1, key.shape[1])
    x = unit(query) @ np.vstack([unit(key), h]).T / temperature
    return np.mean(lse(x) - np.diagonal(x))
@case('own-negatives-misread', 'not normalized', 'info_nce', **O)
def own_not_normalised(query, key, temperature, own_negatives):
    z = unit(query)
    x = np.hstack([z @ unit(key).T, np.einsum('nd,nhd->nh', z, own_negatives)]) / temperature
    return np.mean(lse(x) - np.diagonal(x))
@case('own-negatives-misread', 'H, N', 'info_nce', **O)
def own_reshaped(query, key, temperature, own_negatives):
    n, h, d = own_negatives.shape
    z, hard = unit(query), unit(own_negatives).reshape(h, n, d)
    x = np.hstack([z @ unit(key).T, np.einsum('nd,hnd->nh', z, hard)]) / temperature
    return np.mean(lse(x) - np.diagonal(x))
@case('differs', 'own_negatives', 'info_nce', **O)
def own_not_read(query, key, temperature, own_negatives):
    x = unit(query) @ unit(key).T / temperature
    return np.mean(lse(x) - np.diagonal(x))
@case('differs', 'own_negatives', 'info_nce', **O)
def own_first_only(query, key, temperature, own_negatives):
    z = unit(query)
    x = np.hstack([z @ unit(key).T, (z * unit(own_negatives[:, 0])).sum(1, keepdims=True)]) / temperature
    return np.mean(lse(x) - np.diagonal(x))
@case('differs', 'own_negatives', 'info_nce', **O)
def own_without_temperature(query, key, temperature, own_negatives):
    z = unit(query)
    x = np.hstack([z @ unit(key).T / temperature, np.einsum('nd,nhd->nh', z, unit(own_negatives))])
    return np.mean(lse(x) - np.diagonal(x))
@case('differs', 'key', 'info_nce', **O)
def own_instead_of_the_batch(query, key, temperature, own_negatives):
    z = unit(query); p = (z * unit(key)).sum(1, keepdims=True)
    x = np.hstack([p, np.einsum('nd,nhd->nh', z, unit(own_negatives))]) / temperature
    return np.mean(lse(x) - x[:, 0])
@case('differs', 'own_negatives', 'info_nce', **O)
def own_against_the_positive(query, key, temperature, own_negatives):
    z, c = unit(query), unit(key)
    x = np.hstack([z @ c.T, np.einsum('nd,nhd->nh', c, unit(own_negatives))]) / temperature
    return np.mean(lse(x) - np.diagonal(x))
@case('differs', 'own_negatives', 'info_nce', **O)
def own_averaged(query, key, temperature, own_negatives):
    z, h = unit(query), unit(own_negatives)
    x = np.hstack([z @ unit(key).T, np.einsum('nd,nhd->nh', z, h).mean(1, keepdims=True)]) / temperature
    return np.mean(lse(x) - np.diagonal(x))
def own_back(query, key, temperature, own_negatives, jacobian=True, to_query=True):
    z, c, h = unit(query), unit(key), unit(own_negatives); n, m = len(z), len(c)
    s = np.hstack([z @ c.T, np.einsum('nd,nhd->nh', z, h)]); x = s / temperature
    d = softmax(x); d[np.arange(n), np.arange(n)] -= 1; d /= n * temperature; g, o = d[:, :m], d[:, m:]
    down = o[:, :, None] * z[:, None, :]
    dz = g @ c + (np.einsum('nh,nhd->nd', o, h) if to_query else 0)
    return np.mean(lse(x) - np.diagonal(x)), (unit_back(dz, query), unit_back(g.T @ z, key), -(d * s).sum() / temperature,
                                              unit_back(down, own_negatives) if jacobian else down)
@case('differs', 'down_negatives|own_negatives', 'info_nce', **O)
def own_gradient_without_the_sphere(query, key, temperature, own_negatives):
    return own_back(query, key, temperature, own_negatives, jacobian=False)
@case('differs', 'dquery', 'info_nce', **O)
def own_gradient_not_to_the_query(query, key, temperature, own_negatives):
    return own_back(query, key, temperature, own_negatives, to_query=False)

# ------------- margins
@case('margin-misplaced', 'not divided by the temperature', 'info_nce', margin=0.2)
def margin_after_the_temperature(query, key, temperature):
    x = unit(query) @ unit(key).T / temperature
    x = x - 0.2 * np.eye(*x.shape)
    return np.mean(lse(x) - np.diagonal(x))
@case('margin-misplaced', 'numerator only', 'info_nce', margin=0.2)
def margin_in_the_numerator_only(query, key, temperature):
    s = unit(query) @ unit(key).T
    return np.mean(lse(s / temperature) - (np.diagonal(s) - 0.2) / temperature)
@case('margin-misplaced', 'added', 'info_nce', margin=0.2)
def margin_added(query, key, temperature):
    s = unit(query) @ unit(key).T; x = (s + 0.2 * np.eye(*s.shape)) / temperature
    return np.mean(lse(x) - np.diagonal(x))
@case('differs', 'the margin is 0.35, expected 0.2', 'info_nce', margin=0.2)
def margin_of_another_size(query, key, temperature):
    s = unit(query) @ unit(key).T; x = (s - 0.35 * np.eye(*s.shape)) / temperature
    return np.mean(lse(x) - np.diagonal(x))
@case('margin-misplaced', 'beyond π', 'info_nce', angular_margin=0.5)
def arcface_without_the_fallback(query, key, temperature):
    s = unit(query) @ unit(key).T; n, m = s.shape; th = np.arccos(np.clip(s, -1, 1)); x = np.cos(th + 0.5 * np.eye(n, m)) / temperature
    return np.mean(lse(x) - np.diagonal(x))
@case('differs', 'NaN', 'info_nce', angular_margin=0.5)
def arcface_without_clipping(query, key, temperature):
    s = unit(query) @ unit(key).T; n, m = s.shape
    with np.errstate(invalid='ignore'): th = np.arccos(s)
    x = np.where(np.eye(n, m) * (th + 0.5 > np.pi) > 0, s - 0.5 * np.sin(0.5), np.cos(th + 0.5 * np.eye(n, m))) / temperature
    return np.mean(lse(x) - np.diagonal(x))
@case('margin-misplaced', 'acute', 'info_nce', angular_margin=0.5)
def arcface_easy_margin(query, key, temperature):
    s = unit(query) @ unit(key).T; p = np.diagonal(s); x = s.copy()
    x[np.arange(len(p)), np.arange(len(p))] = np.where(p > 0, np.cos(np.arccos(np.clip(p, -1, 1)) + 0.5), p)
    x /= temperature
    return np.mean(lse(x) - np.diagonal(x))
@case('differs', 'angular_margin is .*180|π', 'info_nce', angular_margin=0.5)
def arcface_in_degrees(query, key, temperature):
    s = np.clip(unit(query) @ unit(key).T, -1, 1); n, m = s.shape
    x = np.cos(np.arccos(s) + np.deg2rad(0.5) * np.eye(n, m)) / temperature
    return np.mean(lse(x) - np.diagonal(x))
@case('differs', '', 'info_nce', angular_margin=0.5)
def arcface_of_every_candidate(query, key, temperature):
    x = np.cos(np.arccos(np.clip(unit(query) @ unit(key).T, -1, 1)) + 0.5) / temperature
    return np.mean(lse(x) - np.diagonal(x))
@case('differs', '', 'info_nce', angular_margin=0.4)
def arcface_times_the_angle(query, key, temperature):
    s = np.clip(unit(query) @ unit(key).T, -1, 1); n, m = s.shape
    x = np.cos(np.arccos(s) * (1 + 0.4 * np.eye(n, m))) / temperature
    return np.mean(lse(x) - np.diagonal(x))
