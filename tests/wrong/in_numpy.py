"""NT-Xent in NumPy with a backward by hand, as it gets written: right twice, and wrong in every way that has a name.

Each function takes a, b (N, D) and the temperature and returns value, (da, db).
"""

import numpy as np


def unit(h):
    norm = np.linalg.norm(h, axis=1, keepdims=True)
    return h / norm, norm


def through_unit(dz, z, norm):
    return (dz - z * np.sum(dz * z, axis=1, keepdims=True)) / norm


def partner(n):
    return np.concatenate([np.arange(n, 2 * n), np.arange(n)])


def softmax(logits):
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def finish(dlogits, z, norm, t):
    """From the gradient of the logits to that of a and b."""
    n = len(z) // 2
    dh = through_unit((dlogits + dlogits.T) @ z / t, z, norm)
    return dh[:n], dh[n:]


def cross_entropy(logits, pos):
    p = softmax(logits)
    rows = np.arange(len(pos))
    d = p.copy()
    d[rows, pos] -= 1
    top = logits.max(axis=1)
    value = np.mean(top + np.log(np.exp(logits - top[:, None]).sum(axis=1)) - logits[rows, pos])
    return value, d / len(pos)


def right(a, b, t):
    z, norm = unit(np.concatenate([a, b]))
    logits = z @ z.T / t
    np.fill_diagonal(logits, -np.inf)
    value, d = cross_entropy(logits, partner(len(a)))
    return value, finish(d, z, norm, t)


def right_subtracting_itself(a, b, t):
    """Looks wrong and is not: exp(1/τ) is taken out of the sum again."""
    z, norm = unit(np.concatenate([a, b]))
    e = np.exp(z @ z.T / t)
    total = e.sum(axis=1) - np.exp(1 / t)
    pos = partner(len(a))
    rows = np.arange(len(z))
    value = np.mean(np.log(total) - np.log(e[rows, pos]))
    d = e / total[:, None]
    d[rows, pos] -= 1
    return value, finish(d / len(z), z, norm, t)


def self_in_denominator(a, b, t):
    z, norm = unit(np.concatenate([a, b]))
    value, d = cross_entropy(z @ z.T / t, partner(len(a)))
    return value, finish(d, z, norm, t)


def self_masked_with_zero(a, b, t):
    z, norm = unit(np.concatenate([a, b]))
    mask = 1 - np.eye(len(z))
    value, d = cross_entropy(z @ z.T / t * mask, partner(len(a)))
    return value, finish(d * mask, z, norm, t)


def self_term_wrong_constant(a, b, t):
    z, norm = unit(np.concatenate([a, b]))
    e = np.exp(z @ z.T / t)
    total = e.sum(axis=1) - np.e
    pos = partner(len(a))
    rows = np.arange(len(z))
    d = e / total[:, None]
    d[rows, pos] -= 1
    return np.mean(np.log(total / e[rows, pos])), finish(d / len(z), z, norm, t)


def finite_mask_leak(a, b, t):
    z, norm = unit(np.concatenate([a, b]))
    logits = z @ z.T / t
    np.fill_diagonal(logits, -10.0)
    value, d = cross_entropy(logits, partner(len(a)))
    np.fill_diagonal(d, 0.0)
    return value, finish(d, z, norm, t)


def positive_missing_from_denominator(a, b, t):
    z, norm = unit(np.concatenate([a, b]))
    logits = z @ z.T / t
    pos, rows = partner(len(a)), np.arange(len(z))
    s_pos = logits[rows, pos].copy()
    logits[rows, rows] = logits[rows, pos] = -np.inf
    top = logits.max(axis=1)
    value = np.mean(top + np.log(np.exp(logits - top[:, None]).sum(axis=1)) - s_pos)
    d = softmax(logits)
    d[rows, pos] = -1
    return value, finish(d / len(z), z, norm, t)


def positive_counted_twice(a, b, t):
    z, norm = unit(np.concatenate([a, b]))
    logits = z @ z.T / t
    np.fill_diagonal(logits, -np.inf)
    pos, rows = partner(len(a)), np.arange(len(z))
    top = logits.max(axis=1, keepdims=True)
    e = np.exp(logits - top)
    total = e[rows, pos] + e.sum(axis=1)  # the negatives were meant
    value = np.mean(np.log(total) + top[:, 0] - logits[rows, pos])
    d = e / total[:, None]
    d[rows, pos] = 2 * d[rows, pos] - 1
    return value, finish(d / len(z), z, norm, t)


def cross_view_only(a, b, t):
    za, na = unit(a)
    zb, nb = unit(b)
    rows = np.arange(len(a))
    value_a, da = cross_entropy(za @ zb.T / t, rows)
    value_b, db = cross_entropy(zb @ za.T / t, rows)
    d = (da + db.T) / 2
    return (value_a + value_b) / 2, (through_unit(d @ zb / t, za, na), through_unit(d.T @ za / t, zb, nb))


def one_direction(a, b, t):
    z, norm = unit(np.concatenate([a, b]))
    n = len(a)
    logits = z @ z.T / t
    np.fill_diagonal(logits, -np.inf)
    value, d = cross_entropy(logits[:n], np.arange(n, 2 * n))
    return value, finish(np.concatenate([d, np.zeros_like(d)]), z, norm, t)


def temperature_missing(a, b, t):
    return right(a, b, 1.0)


def temperature_inverted(a, b, t):
    return right(a, b, 1 / t)


def log_scale_not_exponentiated(a, b, t):
    return right(a, b, 1 / np.log(1 / t))


def temperature_missing_on_positive(a, b, t):
    z, norm = unit(np.concatenate([a, b]))
    s = z @ z.T
    logits = s / t
    np.fill_diagonal(logits, -np.inf)
    pos, rows = partner(len(a)), np.arange(len(z))
    top = logits.max(axis=1)
    value = np.mean(top + np.log(np.exp(logits - top[:, None]).sum(axis=1)) - s[rows, pos])
    ds = softmax(logits) / t
    ds[rows, pos] -= 1
    return value, finish(ds / len(z), z, norm, 1.0)


def temperature_missing_on_negatives(a, b, t):
    z, norm = unit(np.concatenate([a, b]))
    s = z @ z.T
    pos, rows = partner(len(a)), np.arange(len(z))
    logits = s.copy()
    logits[rows, pos] = s[rows, pos] / t
    np.fill_diagonal(logits, -np.inf)
    value, d = cross_entropy(logits, pos)
    d[rows, pos] /= t
    return value, finish(d, z, norm, 1.0)


def not_normalized(a, b, t):
    h = np.concatenate([a, b])
    logits = h @ h.T / t
    np.fill_diagonal(logits, -np.inf)
    value, d = cross_entropy(logits, partner(len(a)))
    dh = (d + d.T) @ h / t
    return value, (dh[: len(a)], dh[len(a) :])


def normalized_whole_tensor(a, b, t):
    na, nb = np.linalg.norm(a), np.linalg.norm(b)
    z = np.concatenate([a / na, b / nb])
    logits = z @ z.T / t
    np.fill_diagonal(logits, -np.inf)
    value, d = cross_entropy(logits, partner(len(a)))
    dz = (d + d.T) @ z / t
    n = len(a)
    return value, tuple((g - x * np.sum(g * x)) / m for g, x, m in ((dz[:n], z[:n], na), (dz[n:], z[n:], nb)))


def normalized_wrong_axis(a, b, t):
    na, nb = np.linalg.norm(a, axis=0), np.linalg.norm(b, axis=0)
    z = np.concatenate([a / na, b / nb])
    logits = z @ z.T / t
    np.fill_diagonal(logits, -np.inf)
    value, d = cross_entropy(logits, partner(len(a)))
    dz = (d + d.T) @ z / t
    n = len(a)
    return value, tuple((g - x * np.sum(g * x, axis=0)) / m for g, x, m in ((dz[:n], z[:n], na), (dz[n:], z[n:], nb)))


def _without_jacobian(a, b, t, jacobian):
    z, norm = unit(np.concatenate([a, b]))
    logits = z @ z.T / t
    np.fill_diagonal(logits, -np.inf)
    value, d = cross_entropy(logits, partner(len(a)))
    dh = jacobian((d + d.T) @ z / t, z, norm)
    return value, (dh[: len(a)], dh[len(a) :])


def normalization_forgotten_in_backward(a, b, t):
    return _without_jacobian(a, b, t, lambda dz, z, norm: dz)


def projection_forgotten_in_backward(a, b, t):
    return _without_jacobian(a, b, t, lambda dz, z, norm: dz / norm)


def length_forgotten_in_backward(a, b, t):
    return _without_jacobian(a, b, t, lambda dz, z, norm: dz - z * np.sum(dz * z, axis=1, keepdims=True))


def log_of_mean(a, b, t):
    z, norm = unit(np.concatenate([a, b]))
    logits = z @ z.T / t
    np.fill_diagonal(logits, -np.inf)
    p = softmax(logits)
    pos, rows = partner(len(a)), np.arange(len(z))
    p_pos = p[rows, pos]
    dp = -p_pos / p_pos.sum()
    d = -p * dp[:, None]
    d[rows, pos] += dp
    return -np.log(p_pos.mean()), finish(d, z, norm, t)


def twice(a, b, t):
    value, (da, db) = right(a, b, t)
    return 2 * value, (2 * da, 2 * db)


def sum_instead_of_mean(a, b, t):
    value, (da, db) = right(a, b, t)
    return 2 * len(a) * value, (2 * len(a) * da, 2 * len(a) * db)


def mean_over_one_too_few(a, b, t):
    n = len(a)
    value, (da, db) = right(a, b, t)
    return value * n / (n - 1), (da * n / (n - 1), db * n / (n - 1))


def base_temperature(a, b, t):
    value, (da, db) = right(a, b, t)
    return t / 0.07 * value, (t / 0.07 * da, t / 0.07 * db)


def mean_forgotten_in_backward(a, b, t):
    value, (da, db) = right(a, b, t)
    return value, (2 * len(a) * da, 2 * len(a) * db)


def temperature_forgotten_in_backward(a, b, t):
    value, (da, db) = right(a, b, t)
    return value, (t * da, t * db)


def minus_log_number(a, b, t):
    value, grads = right(a, b, t)
    return value - np.log(len(a)), grads


def minus_log_temperature(a, b, t):
    value, grads = right(a, b, t)
    return value - np.log(t), grads


def _with_positives(a, b, t, pos):
    z, norm = unit(np.concatenate([a, b]))
    logits = z @ z.T / t
    np.fill_diagonal(logits, -np.inf)
    value, d = cross_entropy(logits, pos)
    return value, finish(d, z, norm, t)


def positives_interleaved(a, b, t):
    return _with_positives(a, b, t, np.arange(2 * len(a)) ^ 1)


def positives_one_row_on(a, b, t):
    n = len(a)
    shifted = (np.arange(n) + 1) % n
    return _with_positives(a, b, t, np.concatenate([n + shifted, shifted]))


def positives_reversed(a, b, t):
    n = len(a)
    return _with_positives(a, b, t, np.concatenate([n + np.arange(n)[::-1], np.arange(n)[::-1]]))


def broadcast_outer(a, b, t):
    z, norm = unit(np.concatenate([a, b]))
    e = np.exp(z @ z.T / t)
    pos, rows = partner(len(a)), np.arange(len(z))
    e_pos = e[rows, pos][:, None]  # (2N, 1)
    others = e.copy()
    others[rows, rows] = others[rows, pos] = 0
    total = others.sum(axis=1)  # (2N,)
    loss = -np.log(e_pos / (e_pos + total))  # (2N, 2N)
    m = len(z)
    de_pos = (-1 / e_pos + 1 / (e_pos + total)).sum(axis=1) / m**2
    dtotal = (1 / (e_pos + total)).sum(axis=0) / m**2
    d = others * dtotal[:, None]
    d[rows, pos] = de_pos * e_pos[:, 0]
    return loss.mean(), finish(d, z, norm, t)


def double_softmax(a, b, t):
    z, norm = unit(np.concatenate([a, b]))
    logits = z @ z.T / t
    np.fill_diagonal(logits, -np.inf)
    p = softmax(logits)
    value, dp = cross_entropy(p, partner(len(a)))
    d = p * (dp - np.sum(p * dp, axis=1, keepdims=True))
    return value, finish(d, z, norm, t)


def keys_forgotten_in_backward(a, b, t):
    z, norm = unit(np.concatenate([a, b]))
    logits = z @ z.T / t
    np.fill_diagonal(logits, -np.inf)
    value, d = cross_entropy(logits, partner(len(a)))
    dh = through_unit(d @ z / t, z, norm)  # d.T @ z is missing
    return value, (dh[: len(a)], dh[len(a) :])


def denominator_forgotten_in_backward(a, b, t):
    value, _ = right(a, b, t)
    z, norm = unit(np.concatenate([a, b]))
    d = np.zeros((len(z), len(z)))
    d[np.arange(len(z)), partner(len(a))] = -1 / len(z)
    return value, finish(d, z, norm, t)


def gradient_zero(a, b, t):
    return right(a, b, t)[0], (np.zeros_like(a), np.zeros_like(b))


def gradient_sign_flipped(a, b, t):
    value, (da, db) = right(a, b, t)
    return value, (-da, -db)


def raw_exponentials(a, b, t):
    z, norm = unit(np.concatenate([a, b]))
    e = np.exp(z @ z.T / np.asarray(t, dtype=a.dtype))
    np.fill_diagonal(e, 0.0)
    p = e / e.sum(axis=1, keepdims=True)
    pos, rows = partner(len(a)), np.arange(len(z))
    d = p.copy()
    d[rows, pos] -= 1
    return -np.mean(np.log(p[rows, pos])), finish(d / len(z), z, norm, t)


def _with_epsilon(a, b, t, eps):
    z, norm = unit(np.concatenate([a, b]))
    logits = z @ z.T / t
    np.fill_diagonal(logits, -np.inf)
    p = softmax(logits)
    pos, rows = partner(len(a)), np.arange(len(z))
    p_pos = p[rows, pos]
    dp = -1 / (p_pos + eps) * p_pos / len(z)
    d = -p * dp[:, None]
    d[rows, pos] += dp
    return -np.mean(np.log(p_pos + eps)), finish(d, z, norm, t)


def epsilon_in_log(a, b, t):
    return _with_epsilon(a, b, t, 1e-7)


def epsilon_below_the_line(a, b, t):
    z, norm = unit(np.concatenate([a, b]))
    e = np.exp(z @ z.T / t)
    np.fill_diagonal(e, 0.0)
    pos, rows = partner(len(a)), np.arange(len(z))
    total = e.sum(axis=1) + 1e-8
    d = e / total[:, None]
    d[rows, pos] -= 1
    return np.mean(np.log(total) - np.log(e[rows, pos])), finish(d / len(z), z, norm, t)


def half_precision(a, b, t):
    z, norm = unit(np.concatenate([a, b]))
    logits = (z.astype(np.float16) @ z.astype(np.float16).T).astype(a.dtype) / t
    np.fill_diagonal(logits, -np.inf)
    value, d = cross_entropy(logits, partner(len(a)))
    return value, finish(d, z, norm, t)


RIGHT = (right, right_subtracting_itself)
WRONG = (
    ("self-in-denominator", self_in_denominator),
    ("self-masked-with-zero", self_masked_with_zero),
    ("self-term-wrong-constant", self_term_wrong_constant),
    ("finite-mask-leak", finite_mask_leak),
    ("positive-missing-from-denominator", positive_missing_from_denominator),
    ("positive-counted-twice", positive_counted_twice),
    ("cross-view-only", cross_view_only),
    ("one-direction", one_direction),
    ("temperature-missing", temperature_missing),
    ("temperature-inverted", temperature_inverted),
    ("log-scale-not-exponentiated", log_scale_not_exponentiated),
    ("temperature-missing-on-positive", temperature_missing_on_positive),
    ("temperature-missing-on-negatives", temperature_missing_on_negatives),
    ("not-normalized", not_normalized),
    ("normalized-whole-tensor", normalized_whole_tensor),
    ("normalized-wrong-axis", normalized_wrong_axis),
    ("normalization-jacobian-missing", normalization_forgotten_in_backward),
    ("normalization-jacobian-missing", projection_forgotten_in_backward),
    ("normalization-jacobian-missing", length_forgotten_in_backward),
    ("log-of-mean", log_of_mean),
    ("scaled-by-constant", twice),
    ("scaled-by-constant", sum_instead_of_mean),
    ("scaled-by-constant", mean_over_one_too_few),
    ("scaled-by-constant", base_temperature),
    ("scaled-by-constant", mean_forgotten_in_backward),
    ("scaled-by-constant", temperature_forgotten_in_backward),
    ("offset-by-constant", minus_log_number),
    ("offset-by-constant", minus_log_temperature),
    ("positives-interleaved", positives_interleaved),
    ("positives-permuted", positives_one_row_on),
    ("positives-permuted", positives_reversed),
    ("broadcast-outer", broadcast_outer),
    ("double-softmax", double_softmax),
    ("keys-detached", keys_forgotten_in_backward),
    ("denominator-detached", denominator_forgotten_in_backward),
    ("gradient-zero", gradient_zero),
    ("gradient-sign-flipped", gradient_sign_flipped),
    ("overflow-at-small-temperature", raw_exponentials),
    ("epsilon-in-log", epsilon_in_log),
    ("low-precision", half_precision),
)
