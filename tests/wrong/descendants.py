"""The descendants in NumPy, as they get written: right once each, and wrong in the ways that have names.

DCL, SupCon and SigLIP come with a backward by hand and return value, gradients; the others return a value, which
`numeric` differentiates. ``t`` is the temperature, SigLIP's ``theta`` the log-scale.
"""

import numpy as np

from wrong.in_numpy import finish, partner, through_unit, unit


def logsumexp(x):
    top = x.max(axis=1)
    return top + np.log(np.exp(x - top[:, None]).sum(axis=1))


def shares(x):
    return np.exp(x - logsumexp(x)[:, None])


# DCL and DCLW: the positive is not in the denominator.


def decoupled(logits, pulled, pos):
    """From logits with −∞ where nothing stands: value, and the gradients of both."""
    n = len(pos)
    d = shares(logits) / n
    dpulled = np.zeros_like(d)
    dpulled[np.arange(n), pos] = -1 / n
    return np.mean(logsumexp(logits) - pulled[np.arange(n), pos]), d, dpulled


def without(logits, *columns):
    """Return the logits with −∞ at oneself and at the columns given."""
    logits = logits.copy()
    rows = np.arange(len(logits))
    for c in (rows, *columns):
        logits[rows, c] = -np.inf
    return logits


def dcl(a, b, t):
    z, norm = unit(np.concatenate([a, b]))
    pos, s = partner(len(a)), z @ z.T / t
    value, d, dpos = decoupled(without(s, pos), s, pos)
    return value, finish(d + dpos, z, norm, t)


def dcl_positive_kept(a, b, t):
    z, norm = unit(np.concatenate([a, b]))
    pos, s = partner(len(a)), z @ z.T / t
    value, d, dpos = decoupled(without(s), s, pos)
    return value, finish(d + dpos, z, norm, t)


def dcl_self_kept(a, b, t):
    z, norm = unit(np.concatenate([a, b]))
    pos, s = partner(len(a)), z @ z.T / t
    negatives = s.copy()
    negatives[np.arange(len(z)), pos] = -np.inf
    value, d, dpos = decoupled(negatives, s, pos)
    return value, finish(d + dpos, z, norm, t)


def dcl_self_zeroed(a, b, t):
    z, norm = unit(np.concatenate([a, b]))
    pos, mask = partner(len(a)), 1 - np.eye(2 * len(a))
    s = z @ z.T / t * mask
    negatives = s.copy()
    negatives[np.arange(len(z)), pos] = -np.inf
    value, d, dpos = decoupled(negatives, s, pos)
    return value, finish((d + dpos) * mask, z, norm, t)


def dcl_self_masked_with_ten(a, b, t):
    z, norm = unit(np.concatenate([a, b]))
    pos, s = partner(len(a)), z @ z.T / t
    negatives = without(s, pos)
    np.fill_diagonal(negatives, -10.0)
    value, d, dpos = decoupled(negatives, s, pos)
    np.fill_diagonal(d, 0.0)
    return value, finish(d + dpos, z, norm, t)


def dcl_temperature_missing(a, b, t):
    return dcl(a, b, 1.0)


def dcl_temperature_inverted(a, b, t):
    return dcl(a, b, 1 / t)


def dcl_positive_without_temperature(a, b, t):
    z, norm = unit(np.concatenate([a, b]))
    pos, s = partner(len(a)), z @ z.T
    value, d, dpos = decoupled(without(s / t, pos), s, pos)
    return value, finish(d / t + dpos, z, norm, 1.0)


def dcl_negatives_without_temperature(a, b, t):
    z, norm = unit(np.concatenate([a, b]))
    pos, s = partner(len(a)), z @ z.T
    value, d, dpos = decoupled(without(s, pos), s / t, pos)
    return value, finish(d + dpos / t, z, norm, 1.0)


def dcl_not_normalized(a, b, t):
    z, n = np.concatenate([a, b]), len(a)
    pos, s = partner(n), z @ z.T / t
    value, d, dpos = decoupled(without(s, pos), s, pos)
    dz = (d + dpos + (d + dpos).T) @ z / t
    return value, (dz[:n], dz[n:])


def dcl_jacobian_missing(a, b, t):
    z, _ = unit(np.concatenate([a, b]))
    n = len(a)
    pos, s = partner(n), z @ z.T / t
    value, d, dpos = decoupled(without(s, pos), s, pos)
    dz = (d + dpos + (d + dpos).T) @ z / t
    return value, (dz[:n], dz[n:])


def dcl_one_direction(a, b, t):
    z, norm = unit(np.concatenate([a, b]))
    n = len(a)
    pos, s = partner(n), z @ z.T / t
    negatives = without(s, pos)
    d = shares(negatives)
    d[np.arange(2 * n), pos] = -1
    d[n:] = 0
    value = np.mean((logsumexp(negatives) - s[np.arange(2 * n), pos])[:n])
    return value, finish(d / n, z, norm, t)


def dcl_other_view_only(a, b, t):
    z, norm = unit(np.concatenate([a, b]))
    n = len(a)
    pos, s = partner(n), z @ z.T / t
    negatives = without(s, pos)
    negatives[:n, :n] = negatives[n:, n:] = -np.inf
    value, d, dpos = decoupled(negatives, s, pos)
    return value, finish(d + dpos, z, norm, t)


def dcl_interleaved(a, b, t):
    z, norm = unit(np.concatenate([a, b]))
    pos, s = np.arange(len(z)) ^ 1, z @ z.T / t
    value, d, dpos = decoupled(without(s, pos), s, pos)
    return value, finish(d + dpos, z, norm, t)


def dcl_shuffled(a, b, t):
    """The second view comes in another order, drawn for each batch size."""
    order = np.random.default_rng(len(a)).permutation(len(a))
    value, (da, db) = dcl(a, b[order], t)
    back = np.empty_like(db)
    back[order] = db
    return value, (da, back)


def dcl_summed(a, b, t):
    value, grads = dcl(a, b, t)
    return value * 2 * len(a), tuple(g * 2 * len(a) for g in grads if g is not None)


def dcl_keys_detached(a, b, t):
    z, norm = unit(np.concatenate([a, b]))
    n = len(a)
    pos, s = partner(n), z @ z.T / t
    value, d, dpos = decoupled(without(s, pos), s, pos)
    dh = through_unit((d + dpos) @ z / t, z, norm)
    return value, (dh[:n], dh[n:])


def dcl_denominator_detached(a, b, t):
    z, norm = unit(np.concatenate([a, b]))
    pos, s = partner(len(a)), z @ z.T / t
    value, _, dpos = decoupled(without(s, pos), s, pos)
    return value, finish(dpos, z, norm, t)


def dcl_log_of_mean(a, b, t):
    z, norm = unit(np.concatenate([a, b]))
    pos, s, rows = partner(len(a)), z @ z.T / t, np.arange(2 * len(a))
    negatives = without(s, pos)
    log_p = (s[rows, pos] - logsumexp(negatives))[None, :]
    d = shares(negatives)
    d[rows, pos] = -1
    return np.log(len(z)) - logsumexp(log_p)[0], finish(d * shares(log_p).T, z, norm, t)


def dcl_gradient_flipped(a, b, t):
    value, (da, db) = dcl(a, b, t)
    return value, (-da, -db)


def dclw_weights(s, sigma=0.5):
    e = np.exp(s / sigma)
    return 2 - e / e.mean()


def weighted(s, t, pos, *, weights_of=lambda s: s):
    near = s[np.arange(len(s)), pos]
    return np.mean(logsumexp(without(s / t, pos)) - dclw_weights(weights_of(near)) * near / t)


def dclw(a, b, t):
    z, _ = unit(np.concatenate([a, b]))
    return weighted(z @ z.T, t, partner(len(a)))


def dclw_temperature_missing_on_positive(a, b, t):
    z, _ = unit(np.concatenate([a, b]))
    s, pos = z @ z.T, partner(len(a))
    near = s[np.arange(len(s)), pos]
    return np.mean(logsumexp(without(s / t, pos)) - dclw_weights(near) * near)


def dclw_positive_kept(a, b, t):
    z, _ = unit(np.concatenate([a, b]))
    s, pos = z @ z.T, partner(len(a))
    near = s[np.arange(len(s)), pos]
    return np.mean(logsumexp(without(s / t)) - dclw_weights(near) * near / t)


def dclw_not_normalized(a, b, t):
    z = np.concatenate([a, b])
    return weighted(z @ z.T, t, partner(len(a)))


# Debiased and HCL: what positives among the negatives add is taken out, and near negatives weigh more.


def reweighted(s, t, n, *, tau_plus=0.1, beta=0.0, itself=False, positive=1.0, kept=False, counted=False):
    rows, pos = np.arange(2 * n), partner(n)
    mask = np.ones((2 * n, 2 * n), dtype=bool)
    if not itself:
        mask[rows, rows] = False
    if not kept:
        mask[rows, pos] = False
    count = 2 * n - 2 + counted
    top = np.max(np.where(mask, s, -np.inf)) / t
    weights = np.where(mask, np.exp(beta * (s / t - top)), 0.0)
    weights = weights * mask.sum(axis=1, keepdims=True) / weights.sum(axis=1, keepdims=True)
    near = s[rows, pos]
    # everything over exp(s⁺/τ), so that nothing overflows
    over = np.exp(np.where(mask, s - near[:, None], -np.inf) / t)
    total = np.sum(weights * over, axis=1)
    negative = np.maximum((total - tau_plus * count) / (1 - tau_plus), count * np.exp(-(1 + near) / t))
    return np.mean(np.log(positive + negative))


def debiased(a, b, t):
    z, _ = unit(np.concatenate([a, b]))
    return reweighted(z @ z.T, t, len(a))


def debiased_positive_missing(a, b, t):
    z, _ = unit(np.concatenate([a, b]))
    return reweighted(z @ z.T, t, len(a), positive=0.0)


def debiased_self_kept(a, b, t):
    z, _ = unit(np.concatenate([a, b]))
    return reweighted(z @ z.T, t, len(a), itself=True)


def debiased_temperature_missing(a, b, t):
    z, _ = unit(np.concatenate([a, b]))
    return reweighted(z @ z.T, 1.0, len(a))


def debiased_not_normalized(a, b, t):
    z = np.concatenate([a, b])
    return reweighted(z @ z.T, t, len(a))


def debiased_positive_kept(a, b, t):
    z, _ = unit(np.concatenate([a, b]))
    return reweighted(z @ z.T, t, len(a), kept=True)


def debiased_positive_kept_and_counted(a, b, t):
    z, _ = unit(np.concatenate([a, b]))
    return reweighted(z @ z.T, t, len(a), kept=True, counted=True)


def hcl(a, b, t):
    z, _ = unit(np.concatenate([a, b]))
    return reweighted(z @ z.T, t, len(a), beta=1.0)


def hcl_positive_missing(a, b, t):
    z, _ = unit(np.concatenate([a, b]))
    return reweighted(z @ z.T, t, len(a), beta=1.0, positive=0.0)


def hcl_temperature_missing(a, b, t):
    z, _ = unit(np.concatenate([a, b]))
    return reweighted(z @ z.T, 1.0, len(a), beta=1.0)


def hcl_whole_tensor(a, b, t):
    z = np.concatenate([a, b])
    z = z / np.linalg.norm(z)
    return reweighted(z @ z.T, t, len(a), beta=1.0)


def hcl_minus_log_number(a, b, t):
    return hcl(a, b, t) - np.log(2 * len(a) - 1)


# MACL: the temperature follows the alignment. Weights and temperature are constants in its gradient.


def model_aware(s, t, n, *, itself=False, same=False):
    rows, pos = np.arange(2 * n), partner(n)
    near = s[rows, pos]
    t = 1.0 if same else t
    grown = t * (1 + 0.5 * near.mean())
    logits = (s if itself else without(s)) / grown
    negatives = logits.copy()
    negatives[rows, pos] = -np.inf
    gap = logsumexp(negatives) - near / grown
    return np.mean(np.logaddexp(0.0, gap) * (1 + np.exp(-gap)))


def macl(a, b, t):
    z, _ = unit(np.concatenate([a, b]))
    return model_aware(z @ z.T, t, len(a))


def macl_self_kept(a, b, t):
    z, _ = unit(np.concatenate([a, b]))
    return model_aware(z @ z.T, t, len(a), itself=True)


def macl_temperature_missing(a, b, t):
    z, _ = unit(np.concatenate([a, b]))
    return model_aware(z @ z.T, t, len(a), same=True)


def macl_wrong_axis(a, b, t):
    z = np.concatenate([a / np.linalg.norm(a, axis=0), b / np.linalg.norm(b, axis=0)])
    return model_aware(z @ z.T, t, len(a))


# SupCon: all of one's class are positives.


def supervised(logits, positives, counted, pulled=None):
    """The mean over positives outside the logarithm: value and the gradient of the logits."""
    pulled = logits if pulled is None else pulled
    p = positives / np.maximum(positives.sum(axis=1), 1)[:, None]
    some = positives.sum(axis=1) > 0
    below = np.where(counted, logits, -np.inf)
    losses = np.where(some, logsumexp(below) - np.sum(p * pulled, axis=1), 0.0)
    n = len(logits)
    return losses.mean(), np.where(some[:, None], shares(below), 0.0) / n, -np.where(some[:, None], p, 0.0) / n


def classes(labels):
    same = labels[:, None] == labels[None, :]
    itself = np.eye(len(labels), dtype=bool)
    return same & ~itself, itself


def back(d, z, norm, t):
    return (through_unit((d + d.T) @ z / t, z, norm),)


def sup_con(z, t, labels):
    z, norm = unit(z)
    positives, itself = classes(labels)
    value, d, dpos = supervised(z @ z.T / t, positives, ~itself)
    return value, back(d + dpos, z, norm, t)


def sup_con_self_in_denominator(z, t, labels):
    z, norm = unit(z)
    positives, itself = classes(labels)
    value, d, dpos = supervised(z @ z.T / t, positives, np.ones_like(itself))
    return value, back(d + dpos, z, norm, t)


def sup_con_self_is_positive(z, t, labels):
    z, norm = unit(z)
    positives, itself = classes(labels)
    value, d, dpos = supervised(z @ z.T / t, positives | itself, np.ones_like(itself))
    return value, back(d + dpos, z, norm, t)


def sup_con_positives_twice(z, t, labels):
    z, norm = unit(z)
    positives, itself = classes(labels)
    logits = z @ z.T / t + np.log(1.0 + positives)
    value, d, dpos = supervised(logits, positives, ~itself, z @ z.T / t)
    return value, back(d + dpos, z, norm, t)


def sup_con_temperature_missing(z, t, labels):
    return sup_con(z, 1.0, labels)


def sup_con_temperature_inverted(z, t, labels):
    return sup_con(z, 1 / t, labels)


def sup_con_positive_without_temperature(z, t, labels):
    z, norm = unit(z)
    positives, itself = classes(labels)
    value, d, dpos = supervised(z @ z.T / t, positives, ~itself, z @ z.T)
    return value, back(d / t + dpos, z, norm, 1.0)


def sup_con_not_normalized(z, t, labels):
    positives, itself = classes(labels)
    value, d, dpos = supervised(z @ z.T / t, positives, ~itself)
    return value, ((d + dpos + (d + dpos).T) @ z / t,)


def sup_con_projection_missing(z, t, labels):
    z, norm = unit(z)
    positives, itself = classes(labels)
    value, d, dpos = supervised(z @ z.T / t, positives, ~itself)
    return value, ((d + dpos + (d + dpos).T) @ z / t / norm,)


def sup_con_mean_inside(z, t, labels):
    z, norm = unit(z)
    positives, itself = classes(labels)
    some = positives.any(axis=1)
    logits = z @ z.T / t
    below, near = np.where(itself, -np.inf, logits), np.where(positives, logits, -np.inf)
    near[~some] = below[~some]
    losses = np.where(some, logsumexp(below) - logsumexp(near) + np.log(np.maximum(positives.sum(axis=1), 1)), 0.0)
    return losses.mean(), back(np.where(some[:, None], shares(below) - shares(near), 0.0) / len(z), z, norm, t)


def sup_con_base_temperature(z, t, labels):
    value, (dz,) = sup_con(z, t, labels)
    return value * t / 0.07, (dz * t / 0.07,)


def sup_con_summed(z, t, labels):
    value, (dz,) = sup_con(z, t, labels)
    return value * len(z), (dz * len(z),)


def sup_con_keys_detached(z, t, labels):
    z, norm = unit(z)
    positives, itself = classes(labels)
    value, d, dpos = supervised(z @ z.T / t, positives, ~itself)
    return value, (through_unit((d + dpos) @ z / t, z, norm),)


def sup_con_masked_with_zero(z, t, labels):
    z, norm = unit(z)
    positives, itself = classes(labels)
    value, d, dpos = supervised(z @ z.T / t * ~itself, positives, np.ones_like(itself))
    return value, back((d + dpos) * ~itself, z, norm, t)


# SigLIP: every pair by itself.


def sigmoids(logits):
    sign = 1 - 2 * np.eye(len(logits))
    n = len(logits)
    return np.sum(np.logaddexp(0.0, sign * logits)) / n, sign * 0.5 * (1 + np.tanh(sign * logits / 2)) / n


def sig_lip(image, text, theta):
    x, xs = unit(image)
    y, ys = unit(text)
    value, d = sigmoids(np.exp(theta) * (x @ y.T) - 10.0)
    d = np.exp(theta) * d
    return value, (through_unit(d @ y, x, xs), through_unit(d.T @ x, y, ys))


def sig_lip_mean_over_pairs(image, text, theta):
    value, grads = sig_lip(image, text, theta)
    return value / len(image), tuple(g / len(image) for g in grads if g is not None)


def sig_lip_not_exponentiated(image, text, theta):
    x, xs = unit(image)
    y, ys = unit(text)
    value, d = sigmoids(theta * (x @ y.T) - 10.0)
    return value, (through_unit(theta * d @ y, x, xs), through_unit(theta * d.T @ x, y, ys))


def sig_lip_scale_missing(image, text, theta):
    return sig_lip(image, text, 0.0)


def sig_lip_not_normalized(image, text, theta):
    value, d = sigmoids(np.exp(theta) * (image @ text.T) - 10.0)
    return value, (np.exp(theta) * d @ text, np.exp(theta) * d.T @ image)


def sig_lip_text_detached(image, text, theta):
    value, (dimage, dtext) = sig_lip(image, text, theta)
    return value, (dimage, 0 * dtext)


def sig_lip_text_reversed(image, text, theta):
    value, (dimage, dtext) = sig_lip(image, text[::-1], theta)
    return value, (dimage, dtext[::-1])


def sig_lip_texts_swapped(image, text, theta):
    """Texts 0 and 1 have changed places, the others have not."""
    order = np.r_[1, 0, 2 : len(text)]
    value, (dimage, dtext) = sig_lip(image, text[order], theta)
    return value, (dimage, dtext[order])


# Alignment and uniformity.


def uniformity(z, *, itself=False):
    square = np.sum((z[:, None] - z[None]) ** 2, axis=2)
    kept = np.ones_like(square, dtype=bool) if itself else ~np.eye(len(z), dtype=bool)
    return np.log(np.mean(np.exp(-2 * square[kept])))


def alignment(a, b):
    return np.mean(np.sum((a - b) ** 2, axis=1))


def align_uniform(a, b):
    a, b = unit(a)[0], unit(b)[0]
    return alignment(a, b) + (uniformity(a) + uniformity(b)) / 2


def align_uniform_own_pairs(a, b):
    a, b = unit(a)[0], unit(b)[0]
    return alignment(a, b) + (uniformity(a, itself=True) + uniformity(b, itself=True)) / 2


def align_uniform_of_one_view(a, b):
    a, b = unit(a)[0], unit(b)[0]
    return alignment(a, b) + uniformity(a)


def align_uniform_not_normalized(a, b):
    return alignment(a, b) + (uniformity(a) + uniformity(b)) / 2


def align_uniform_whole_tensor(a, b):
    a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
    return alignment(a, b) + (uniformity(a) + uniformity(b)) / 2


# From similarities: the triplet loss and the simple loss leave the positive out as well.


def triplet(s):
    rows = np.arange(len(s))
    others = s.copy()
    others[rows, rows] = -np.inf
    return np.mean(np.maximum(0.0, others.max(axis=1) - s[rows, rows] + 0.5))


def triplet_positive_kept(s):
    return np.mean(np.maximum(0.0, s.max(axis=1) - s[np.arange(len(s)), np.arange(len(s))] + 0.5))


def triplet_summed(s):
    return triplet(s) * len(s)


def simple(s, weight=None):
    weight = 1 / (s.shape[1] - 1) if weight is None else weight
    positive = s[np.arange(len(s)), np.arange(len(s))]
    return np.mean(weight * (s.sum(axis=1) - positive) - positive)


def simple_positive_kept(s, weight=None):
    pushed = s.mean(axis=1) if weight is None else weight * s.sum(axis=1)
    return np.mean(pushed - s[np.arange(len(s)), np.arange(len(s))])


# loss, its settings, how it is tried, (verdict, function). Raw exponentials overflow where the temperature is an
# argument: what is written with them gets it baked in. MACL's gradient is no derivative of its value: that
# alone is tried.
LOSSES = (
    ("dcl", {}, "τ free", (
        ("correct", dcl),
        ("positive-among-negatives", dcl_positive_kept),
        ("self-in-denominator", dcl_self_kept),
        ("self-masked-with-zero", dcl_self_zeroed),
        ("finite-mask-leak", dcl_self_masked_with_ten),
        ("temperature-missing", dcl_temperature_missing),
        ("temperature-inverted", dcl_temperature_inverted),
        ("temperature-missing-on-positive", dcl_positive_without_temperature),
        ("temperature-missing-on-negatives", dcl_negatives_without_temperature),
        ("not-normalized", dcl_not_normalized),
        ("normalization-jacobian-missing", dcl_jacobian_missing),
        ("one-direction", dcl_one_direction),
        ("cross-view-only", dcl_other_view_only),
        ("positives-interleaved", dcl_interleaved),
        ("positives-permuted", dcl_shuffled),
        ("scaled-by-constant", dcl_summed),
        ("keys-detached", dcl_keys_detached),
        ("denominator-detached", dcl_denominator_detached),
        ("log-of-mean", dcl_log_of_mean),
        ("gradient-sign-flipped", dcl_gradient_flipped),
    )),
    ("dclw", {}, "numeric", (
        ("correct", dclw),
        ("temperature-missing-on-positive", dclw_temperature_missing_on_positive),
        ("positive-among-negatives", dclw_positive_kept),
        ("not-normalized", dclw_not_normalized),
    )),
    ("debiased", {"tau_plus": 0.1}, "numeric", (
        ("correct", debiased),
        ("positive-missing-from-denominator", debiased_positive_missing),
        ("self-in-denominator", debiased_self_kept),
        ("temperature-missing", debiased_temperature_missing),
        ("not-normalized", debiased_not_normalized),
        ("positive-counted-twice", debiased_positive_kept),
        ("positive-counted-twice", debiased_positive_kept_and_counted),
    )),
    ("hcl", {"tau_plus": 0.1, "beta": 1.0}, "numeric", (
        ("correct", hcl),
        ("positive-missing-from-denominator", hcl_positive_missing),
        ("temperature-missing", hcl_temperature_missing),
        ("normalized-whole-tensor", hcl_whole_tensor),
        ("offset-by-constant", hcl_minus_log_number),
    )),
    ("macl", {}, "baked", (
        ("correct", macl),
        ("self-in-denominator", macl_self_kept),
        ("temperature-missing", macl_temperature_missing),
        ("normalized-wrong-axis", macl_wrong_axis),
    )),
    ("sup_con", {}, "τ free", (
        ("correct", sup_con),
        ("self-in-denominator", sup_con_self_in_denominator),
        ("self-in-denominator", sup_con_self_is_positive),
        ("self-masked-with-zero", sup_con_masked_with_zero),
        ("positive-counted-twice", sup_con_positives_twice),
        ("temperature-missing", sup_con_temperature_missing),
        ("temperature-inverted", sup_con_temperature_inverted),
        ("temperature-missing-on-positive", sup_con_positive_without_temperature),
        ("not-normalized", sup_con_not_normalized),
        ("normalization-jacobian-missing", sup_con_projection_missing),
        ("log-of-mean", sup_con_mean_inside),
        ("scaled-by-constant", sup_con_base_temperature),
        ("scaled-by-constant", sup_con_summed),
        ("keys-detached", sup_con_keys_detached),
    )),
    ("sig_lip", {}, "τ free", (
        ("correct", sig_lip),
        ("scaled-by-constant", sig_lip_mean_over_pairs),
        ("log-scale-not-exponentiated", sig_lip_not_exponentiated),
        ("temperature-missing", sig_lip_scale_missing),
        ("not-normalized", sig_lip_not_normalized),
        ("keys-detached", sig_lip_text_detached),
        ("positives-permuted", sig_lip_text_reversed),
        ("positives-permuted", sig_lip_texts_swapped),
    )),
    ("align_uniform", {}, "bare numeric", (
        ("correct", align_uniform),
        ("self-in-denominator", align_uniform_own_pairs),
        ("one-direction", align_uniform_of_one_view),
        ("not-normalized", align_uniform_not_normalized),
        ("normalized-whole-tensor", align_uniform_whole_tensor),
    )),
    ("triplet", {"margin": 0.5}, "bare", (
        ("correct", triplet),
        ("positive-among-negatives", triplet_positive_kept),
        ("scaled-by-constant", triplet_summed),
    )),
    ("simple_contrastive", {}, "τ free", (
        ("correct", simple),
        ("positive-among-negatives", simple_positive_kept),
    )),
)  # fmt: skip
