"""The same mistakes in PyTorch, where autograd differentiates what was written: NT-Xent, InfoNCE and CLIP.

NT-Xent takes a, b and the temperature; InfoNCE query, key and the temperature; CLIP image, text and the log-scale.
"""

import torch
import torch.nn.functional as F


def partner(n):
    return torch.cat([torch.arange(n, 2 * n), torch.arange(n)])


def without_itself(s, value=-torch.inf):
    return s.masked_fill(torch.eye(len(s), dtype=torch.bool), value)


def stacked(a, b):
    return F.normalize(torch.cat([a, b]), dim=1)


# NT-Xent


def right(a, b, t):
    z = stacked(a, b)
    return F.cross_entropy(without_itself(z @ z.T / t), partner(len(a)))


def right_subtracting_itself(a, b, t):
    """Looks wrong and is not: its own term is taken out of the sum, after the greatest logit."""
    z = torch.cat([a, b])
    z = z / torch.linalg.norm(z, dim=1, keepdim=True)  # of unit length however short: 1/t is its own term
    logits = z @ z.T / t
    top = logits.max(dim=1).values  # not detached: looks wrong too, and changes nothing
    total = torch.exp(logits - top[:, None]).sum(dim=1) - torch.exp(1 / t - top)
    positive = logits[torch.arange(len(z)), partner(len(a))]
    return (torch.log(total) + top - positive).mean()


def self_in_denominator(a, b, t):
    z = stacked(a, b)
    return F.cross_entropy(z @ z.T / t, partner(len(a)))


def self_masked_with_zero(a, b, t):
    z = stacked(a, b)
    return F.cross_entropy(z @ z.T / t * (1 - torch.eye(len(z), dtype=z.dtype)), partner(len(a)))


def self_term_wrong_constant(a, b, t):
    z = stacked(a, b)
    e = torch.exp(z @ z.T / t)
    positive = torch.exp((z[: len(a)] * z[len(a) :]).sum(dim=1) / t).repeat(2)
    return -torch.log(positive / (e.sum(dim=1) - torch.e)).mean()


def finite_mask_leak(a, b, t):
    z = stacked(a, b)
    return F.cross_entropy(without_itself(z @ z.T / t, -10.0), partner(len(a)))


def finite_mask_before_temperature(a, b, t):
    z = stacked(a, b)
    return F.cross_entropy(without_itself(z @ z.T, -1.0) / t, partner(len(a)))


def positive_missing_from_denominator(a, b, t):
    z = stacked(a, b)
    logits = without_itself(z @ z.T / t)
    rows, pos = torch.arange(len(z)), partner(len(a))
    positive = logits[rows, pos]
    others = logits.clone()
    others[rows, pos] = -torch.inf
    return (torch.logsumexp(others, dim=1) - positive).mean()


def positive_counted_twice(a, b, t):
    z = stacked(a, b)
    logits = without_itself(z @ z.T / t)
    positive = logits[torch.arange(len(z)), partner(len(a))]
    return F.cross_entropy(torch.cat([positive[:, None], logits], dim=1), torch.zeros(len(z), dtype=torch.long))


def cross_view_only(a, b, t):
    a, b = F.normalize(a, dim=1), F.normalize(b, dim=1)
    labels = torch.arange(len(a))
    return (F.cross_entropy(a @ b.T / t, labels) + F.cross_entropy(b @ a.T / t, labels)) / 2


def one_direction(a, b, t):
    z = stacked(a, b)
    return F.cross_entropy(without_itself(z @ z.T / t)[: len(a)], partner(len(a))[: len(a)])


def info_nce_instead(a, b, t):
    return info_right(a, b, t)


def temperature_missing(a, b, t):
    z = stacked(a, b)
    return F.cross_entropy(without_itself(z @ z.T), partner(len(a)))


def temperature_inverted(a, b, t):
    z = stacked(a, b)
    return F.cross_entropy(without_itself(z @ z.T * t), partner(len(a)))


def temperature_missing_on_positive(a, b, t):
    z = stacked(a, b)
    s = z @ z.T
    positive = s[torch.arange(len(z)), partner(len(a))]
    return (torch.logsumexp(without_itself(s / t), dim=1) - positive).mean()


def temperature_missing_on_negatives(a, b, t):
    z = stacked(a, b)
    s = without_itself(z @ z.T)
    positive = s[torch.arange(len(z)), partner(len(a))]
    return (torch.logsumexp(s, dim=1) - positive / t).mean()


def log_scale_not_exponentiated(a, b, t):
    z = stacked(a, b)
    return F.cross_entropy(without_itself(z @ z.T * torch.log(1 / t)), partner(len(a)))


def masked_before_the_temperature(a, b, t):
    """d(−∞/τ)/dτ is infinite, and 0 × ∞ makes the temperature's gradient NaN."""
    z = stacked(a, b)
    return F.cross_entropy(without_itself(z @ z.T) / t, partner(len(a)))


def temperature_through_item(a, b, t):
    z = stacked(a, b)
    return F.cross_entropy(without_itself(z @ z.T / t.item()), partner(len(a)))


def temperature_detached_in_denominator(a, b, t):
    z = stacked(a, b)
    s = z @ z.T
    positive = s[torch.arange(len(z)), partner(len(a))]
    return (torch.logsumexp(without_itself(s / t.detach()), dim=1) - positive / t).mean()


def not_normalized(a, b, t):
    z = torch.cat([a, b])
    return F.cross_entropy(without_itself(z @ z.T / t), partner(len(a)))


def normalized_whole_tensor(a, b, t):
    z = torch.cat([a, b])
    z = z / z.norm()
    return F.cross_entropy(without_itself(z @ z.T / t), partner(len(a)))


def normalized_wrong_axis(a, b, t):
    z = F.normalize(torch.cat([a, b]), dim=0)
    return F.cross_entropy(without_itself(z @ z.T / t), partner(len(a)))


def norm_detached(a, b, t):
    h = torch.cat([a, b])
    z = h / h.norm(dim=1, keepdim=True).detach()
    return F.cross_entropy(without_itself(z @ z.T / t), partner(len(a)))


def log_of_mean(a, b, t):
    z = stacked(a, b)
    p = torch.softmax(without_itself(z @ z.T / t), dim=1)
    return -torch.log(p[torch.arange(len(z)), partner(len(a))].mean())


def two_means_added(a, b, t):
    z = stacked(a, b)
    logits, pos, n = without_itself(z @ z.T / t), partner(len(a)), len(a)
    return F.cross_entropy(logits[:n], pos[:n]) + F.cross_entropy(logits[n:], pos[n:])


def base_temperature(a, b, t):
    return t / 0.07 * right(a, b, t)


def minus_log_number(a, b, t):
    return right(a, b, t) - torch.log(torch.tensor(float(len(a)), dtype=a.dtype))


def positives_interleaved(a, b, t):
    z = stacked(a, b)
    return F.cross_entropy(without_itself(z @ z.T / t), torch.arange(len(z)) ^ 1)


def positives_shuffled(a, b, t):
    z = stacked(a, b.roll(1, dims=0))
    return F.cross_entropy(without_itself(z @ z.T / t), partner(len(a)))


def broadcast_outer(a, b, t):
    z = stacked(a, b)
    logits = z @ z.T / t
    positive = torch.exp(logits[torch.arange(len(z)), partner(len(a))])[:, None]
    others = torch.exp(logits)
    others = others * (1 - torch.eye(len(z), dtype=z.dtype)) * (1 - F.one_hot(partner(len(a)), len(z)))
    return -torch.log(positive / (positive + others.sum(dim=1))).mean()


def double_softmax(a, b, t):
    z = stacked(a, b)
    return F.cross_entropy(torch.softmax(without_itself(z @ z.T / t), dim=1), partner(len(a)))


def keys_detached(a, b, t):
    z = stacked(a, b)
    return F.cross_entropy(without_itself(z @ z.T.detach() / t), partner(len(a)))


def second_view_detached(a, b, t):
    return right(a, b.detach(), t)


def denominator_detached(a, b, t):
    z = stacked(a, b)
    logits = without_itself(z @ z.T / t)
    positive = logits[torch.arange(len(z)), partner(len(a))]
    return (torch.logsumexp(logits, dim=1).detach() - positive).mean()


def no_gradient(a, b, t):
    with torch.no_grad():
        return right(a, b, t)


class _Reversed(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, dx):
        return -dx


def gradient_sign_flipped(a, b, t):
    return _Reversed.apply(right(a, b, t))


def raw_exponentials(a, b, t):
    z = stacked(a, b)
    e = torch.exp(z @ z.T / t) * (1 - torch.eye(len(z), dtype=z.dtype))
    return -torch.log(e[torch.arange(len(z)), partner(len(a))] / e.sum(dim=1)).mean()


def epsilon_in_log(a, b, t):
    z = stacked(a, b)
    p = torch.softmax(without_itself(z @ z.T / t), dim=1)
    return -torch.log(p[torch.arange(len(z)), partner(len(a))] + 1e-8).mean()


def epsilon_below_the_line(a, b, t):
    z = stacked(a, b)
    logits = z @ z.T / t
    logits = logits - logits.max(dim=1, keepdim=True).values.detach()
    e = torch.exp(logits) * (1 - torch.eye(len(z), dtype=z.dtype))
    log_p = logits - torch.log(e.sum(dim=1, keepdim=True) + 1e-6)
    return -log_p[torch.arange(len(z)), partner(len(a))].mean()


def clamped(a, b, t):
    z = stacked(a, b)
    p = torch.softmax(without_itself(z @ z.T / t), dim=1)
    return -torch.log(p[torch.arange(len(z)), partner(len(a))].clamp(min=1e-3)).mean()


def bfloat16(a, b, t):
    z = stacked(a, b)
    s = (z.bfloat16() @ z.bfloat16().T).to(z.dtype)
    return F.cross_entropy(without_itself(s / t), partner(len(a)))


# InfoNCE: query, key, temperature


def info_right(q, k, t):
    return F.cross_entropy(F.normalize(q, dim=1) @ F.normalize(k, dim=1).T / t, torch.arange(len(q)))


def info_positive_missing(q, k, t):
    s = F.normalize(q, dim=1) @ F.normalize(k, dim=1).T / t
    return (torch.logsumexp(without_itself(s), dim=1) - s.diagonal()).mean()


def info_temperature_missing(q, k, t):
    return info_right(q, k, 1.0)


def info_positive_without_temperature(q, k, t):
    s = F.normalize(q, dim=1) @ F.normalize(k, dim=1).T
    positive, others = s.diagonal()[:, None], without_itself(s / t)
    return F.cross_entropy(torch.cat([positive, others], dim=1), torch.zeros(len(q), dtype=torch.long))


def info_not_normalized(q, k, t):
    return F.cross_entropy(q @ k.T / t, torch.arange(len(q)))


def info_keys_detached(q, k, t):
    return info_right(q, k.detach(), t)


def info_labels_zero(q, k, t):
    logits = F.normalize(q, dim=1) @ F.normalize(k, dim=1).T / t
    return F.cross_entropy(logits, torch.zeros(len(q), dtype=torch.long))


def info_double_softmax(q, k, t):
    logits = F.normalize(q, dim=1) @ F.normalize(k, dim=1).T / t
    return F.cross_entropy(torch.softmax(logits, dim=1), torch.arange(len(q)))


def info_log_of_mean(q, k, t):
    logits = F.normalize(q, dim=1) @ F.normalize(k, dim=1).T / t
    return -torch.log(torch.softmax(logits, dim=1).diagonal().mean())


def info_sum(q, k, t):
    return len(q) * info_right(q, k, t)


# CLIP: image, text, log-scale


def clip_right(i, x, log_scale):
    logits = log_scale.exp() * F.normalize(i, dim=1) @ F.normalize(x, dim=1).T
    labels = torch.arange(len(i))
    return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2


def clip_log_scale_not_exponentiated(i, x, log_scale):
    logits = log_scale * F.normalize(i, dim=1) @ F.normalize(x, dim=1).T
    labels = torch.arange(len(i))
    return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2


def clip_one_direction(i, x, log_scale):
    return F.cross_entropy(log_scale.exp() * F.normalize(i, dim=1) @ F.normalize(x, dim=1).T, torch.arange(len(i)))


def clip_added(i, x, log_scale):
    return 2 * clip_right(i, x, log_scale)


def clip_scale_detached(i, x, log_scale):
    return clip_right(i, x, log_scale.detach())


def clip_scale_divided(i, x, log_scale):
    return clip_right(i, x, -log_scale)


def clip_text_shuffled(i, x, log_scale):
    return clip_right(i, x.flip(0), log_scale)
