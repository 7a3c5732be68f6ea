"""The losses with more than two inputs or with a memory, right and wrong, as their authors would write them.

In PyTorch with autograd where nothing else is said; nothing of refcl is used. A memory's rows come with length 1.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from wrong.cases import Case


def moco(query: Any, key: Any, temperature: Any, queue: Any) -> Any:
    q, k = F.normalize(query, dim=1), F.normalize(key, dim=1)
    logits = torch.cat([(q * k).sum(dim=1, keepdim=True), q @ queue.T], dim=1) / temperature
    return F.cross_entropy(logits, torch.zeros(len(q), dtype=torch.long))


def moco_detached_key(query: Any, key: Any, temperature: Any, queue: Any) -> Any:
    return moco(query, key.detach(), temperature, queue)


def moco_raw(query: Any, key: Any, temperature: Any, queue: Any) -> Any:
    logits = torch.cat([(query * key).sum(dim=1, keepdim=True), query @ queue.T], dim=1) / temperature
    return F.cross_entropy(logits, torch.zeros(len(query), dtype=torch.long))


def moco_without_temperature(query: Any, key: Any, temperature: Any, queue: Any) -> Any:
    return moco(query, key, 1.0 + 0.0 * temperature, queue)


def moco_rolled_keys(query: Any, key: Any, temperature: Any, queue: Any) -> Any:
    return moco(query, torch.roll(key, 1, dims=0), temperature, queue)


def moco_positive_last(query: Any, key: Any, temperature: Any, queue: Any) -> Any:
    """The positive's column comes first, the label says last."""
    q, k = F.normalize(query, dim=1), F.normalize(key, dim=1)
    logits = torch.cat([(q * k).sum(dim=1, keepdim=True), q @ queue.T], dim=1) / temperature
    return F.cross_entropy(logits, torch.full((len(q),), len(queue)))


def moco_with_the_batch(query: Any, key: Any, temperature: Any, queue: Any) -> Any:
    """This batch's keys are negatives too, as if they had entered the queue before the loss."""
    q, k = F.normalize(query, dim=1), F.normalize(key, dim=1)
    return F.cross_entropy(q @ torch.cat([k, queue]).T / temperature, torch.arange(len(q)))


def inst_disc(query: Any, temperature: Any, bank: Any, index: Any) -> Any:
    return F.cross_entropy(F.normalize(query, dim=1) @ bank.T / temperature, index)


def inst_disc_without_index(query: Any, temperature: Any, bank: Any, index: Any) -> Any:
    """The bank is taken for the batch."""
    return F.cross_entropy(F.normalize(query, dim=1) @ bank.T / temperature, torch.arange(len(query)))


def inst_disc_raw(query: Any, temperature: Any, bank: Any, index: Any) -> Any:
    return F.cross_entropy(query @ bank.T / temperature, index)


def inst_disc_inverted(query: Any, temperature: Any, bank: Any, index: Any) -> Any:
    return F.cross_entropy(F.normalize(query, dim=1) @ bank.T * temperature, index)


def nce(
    query: Any,
    temperature: Any,
    bank: Any,
    index: Any,
    noise: Any,
    log_normalizer: Any,
    *,
    rate: Callable[[int, int], float] = lambda draws, rows: draws / rows,
    mean: bool = False,
    with_normalizer: bool = True,
) -> Any:
    z = F.normalize(query, dim=1)
    drawn = torch.cat([index[:, None], noise], dim=1)  # (N, 1 + K)
    logits = (z[:, None, :] * bank[drawn]).sum(dim=2) / temperature
    if with_normalizer:
        logits = logits - log_normalizer
    logits = logits - np.log(rate(noise.shape[1], len(bank)))
    # PyTorch's softplus is the identity from 20 on, where its slope is off by 2e-9: not to be used at small τ
    negatives = -F.logsigmoid(-logits[:, 1:])
    return (-F.logsigmoid(logits[:, 0]) + (negatives.mean(dim=1) if mean else negatives.sum(dim=1))).mean()


def nce_wrong(**how: Any) -> Callable[..., Any]:
    def candidate(query: Any, temperature: Any, bank: Any, index: Any, noise: Any, log_normalizer: Any) -> Any:
        return nce(query, temperature, bank, index, noise, log_normalizer, **how)

    return candidate


def cpc(context: Any, future: Any, weight: Any) -> Any:
    logits = torch.einsum("nd,tde,tme->tnm", context, weight, future)
    labels = torch.arange(len(context))
    return torch.stack([F.cross_entropy(step, labels) for step in logits]).mean()


def cpc_added_up(context: Any, future: Any, weight: Any) -> Any:
    return len(weight) * cpc(context, future, weight)


def cpc_over_contexts(context: Any, future: Any, weight: Any) -> Any:
    """The softmax runs over contexts instead of futures."""
    logits = torch.einsum("nd,tde,tme->tmn", context, weight, future)
    return torch.stack([F.cross_entropy(step, torch.arange(len(context))) for step in logits]).mean()


def cpc_one_form(context: Any, future: Any, weight: Any) -> Any:
    return cpc(context, future, weight[:1].expand_as(weight))


def cpc_futures_detached(context: Any, future: Any, weight: Any) -> Any:
    return cpc(context, future.detach(), weight)


def cpc_forms_detached(context: Any, future: Any, weight: Any) -> Any:
    return cpc(context, future, weight.detach())


def cpc_other_samples_future(context: Any, future: Any, weight: Any) -> Any:
    return cpc(context, torch.roll(future, 1, dims=1), weight)


def cmc(views: Any, temperature: Any) -> Any:
    z = [F.normalize(view, dim=1) for view in views]
    labels = torch.arange(len(z[0]))
    return sum(F.cross_entropy(a @ b.T / temperature, labels) for a in z for b in z if a is not b)


def cmc_averaged(views: Any, temperature: Any) -> Any:
    return cmc(views, temperature) / (len(views) * (len(views) - 1))


def cmc_one_direction(views: Any, temperature: Any) -> Any:
    z = [F.normalize(view, dim=1) for view in views]
    labels = torch.arange(len(z[0]))
    pairs = [(a, b) for k, a in enumerate(z) for b in z[k + 1 :]]
    return sum(F.cross_entropy(a @ b.T / temperature, labels) for a, b in pairs)


def cmc_core(views: Any, temperature: Any) -> Any:
    return sum(cmc((views[0], other), temperature) for other in views[1:])


def cmc_without_temperature(views: Any, temperature: Any) -> Any:
    return cmc(views, 1.0 + 0.0 * temperature)


def cmc_raw(views: Any, temperature: Any) -> Any:
    labels = torch.arange(len(views[0]))
    return sum(F.cross_entropy(a @ b.T / temperature, labels) for a in views for b in views if a is not b)


def pair_contrastive(a: Any, b: Any, same: Any) -> tuple[Any, tuple[Any, Any]]:
    """In NumPy, by hand."""
    difference = a - b
    d = np.sqrt(np.sum(difference**2, axis=1))
    short = np.maximum(1.0 - d, 0.0)
    value = np.mean(np.where(same, d**2, short**2)) / 2
    da = np.where(same, 1.0, -short / np.where(d > 0, d, np.inf))[:, None] * difference / len(a)
    return value, (da, -da)


def pair_contrastive_labels_flipped(a: Any, b: Any, same: Any) -> Any:
    """The paper's label Y is 1 for unlike pairs."""
    return pair_contrastive(a, b, ~same)


def pair_contrastive_without_half(a: Any, b: Any, same: Any) -> Any:
    value, (da, db) = pair_contrastive(a, b, same)
    return 2 * value, (2 * da, 2 * db)


def pair_contrastive_margin_of_squares(a: Any, b: Any, same: Any) -> Any:
    difference = a - b
    square = np.sum(difference**2, axis=1)
    value = np.mean(np.where(same, square, np.maximum(1.0 - square, 0.0))) / 2
    da = np.where(same, 1.0, -1.0 * (square < 1.0))[:, None] * difference / len(a)
    return value, (da, -da)


def pair_contrastive_without_hinge(a: Any, b: Any, same: Any) -> Any:
    difference = a - b
    d = np.sqrt(np.sum(difference**2, axis=1))
    value = np.mean(np.where(same, d**2, (1.0 - d) ** 2)) / 2
    da = np.where(same, 1.0, -(1.0 - d) / d)[:, None] * difference / len(a)
    return value, (da, -da)


def pair_contrastive_second_sign(a: Any, b: Any, same: Any) -> Any:
    value, (da, _) = pair_contrastive(a, b, same)
    return value, (da, da)


def multi_positive(query: Any, key: Any, temperature: Any, positives: Any) -> Any:
    logits = F.normalize(query, dim=1) @ F.normalize(key, dim=1).T / temperature
    near = logits.masked_fill(~positives, -1e9).logsumexp(dim=1)
    return torch.where(positives.any(dim=1), logits.logsumexp(dim=1) - near, 0.0).mean()


def multi_positive_averaged(query: Any, key: Any, temperature: Any, positives: Any) -> Any:
    count = positives.sum(dim=1).clamp(min=1).to(query.dtype)
    return multi_positive(query, key, temperature, positives) + count.log().mean()


def multi_positive_outside(query: Any, key: Any, temperature: Any, positives: Any) -> Any:
    logits = F.normalize(query, dim=1) @ F.normalize(key, dim=1).T / temperature
    log_p = torch.log_softmax(logits, dim=1)
    return -((log_p * positives).sum(dim=1) / positives.sum(dim=1).clamp(min=1)).mean()


def multi_positive_against_negatives(query: Any, key: Any, temperature: Any, positives: Any) -> Any:
    """The positives are left out of the denominator."""
    logits = F.normalize(query, dim=1) @ F.normalize(key, dim=1).T / temperature
    near = logits.masked_fill(~positives, -1e9).logsumexp(dim=1)
    far = logits.masked_fill(positives, -1e9).logsumexp(dim=1)
    return torch.where(positives.any(dim=1), far - near, 0.0).mean()


def multi_positive_raw(query: Any, key: Any, temperature: Any, positives: Any) -> Any:
    logits = query @ key.T / temperature
    near = logits.masked_fill(~positives, -1e9).logsumexp(dim=1)
    return torch.where(positives.any(dim=1), logits.logsumexp(dim=1) - near, 0.0).mean()


def multi_positive_one_key(query: Any, key: Any, temperature: Any, positives: Any) -> Any:
    return multi_positive(query, key.detach(), temperature, positives)


def triplet_margin(a: Any, p: Any, n: Any) -> Any:
    return F.triplet_margin_loss(a, p, n, eps=0.0)


def triplet_margin_by_default(a: Any, p: Any, n: Any) -> Any:
    """PyTorch's own 1e-6 in every entry of a difference."""
    return F.triplet_margin_loss(a, p, n)


def triplet_margin_swapped(a: Any, p: Any, n: Any) -> Any:
    return F.triplet_margin_loss(a, p, n, swap=True, eps=0.0)


def triplet_margin_of_squares(a: Any, p: Any, n: Any) -> Any:
    return F.relu(((a - p) ** 2).sum(dim=1) - ((a - n) ** 2).sum(dim=1) + 1.0).mean()


def triplet_margin_subtracted(a: Any, p: Any, n: Any) -> Any:
    return F.relu((a - p).norm(dim=1) - (a - n).norm(dim=1) - 1.0).mean()


def triplet_margin_turned(a: Any, p: Any, n: Any) -> Any:
    return triplet_margin(a, n, p)


def triplet_margin_detached(a: Any, p: Any, n: Any) -> Any:
    return triplet_margin(a, p, n.detach())


def triplet_margin_added_up(a: Any, p: Any, n: Any) -> Any:
    return len(a) * triplet_margin(a, p, n)


def per_anchor_contrastive(s: Any, temperature: Any) -> Any:
    return F.cross_entropy(s / temperature[:, None], torch.arange(len(s)))


def per_anchor_by_column(s: Any, temperature: Any) -> Any:
    """Broadcast along the wrong axis: every candidate has a temperature."""
    each = torch.cat([temperature, temperature[-1:].expand(s.shape[1] - len(s))])
    return F.cross_entropy(s / each, torch.arange(len(s)))


def per_anchor_mean(s: Any, temperature: Any) -> Any:
    return F.cross_entropy(s / temperature.mean(), torch.arange(len(s)))


def per_anchor_detached(s: Any, temperature: Any) -> Any:
    return per_anchor_contrastive(s, temperature.detach())


def per_anchor_times_temperature(s: Any, temperature: Any) -> Any:
    """The losses are weighed by their temperatures, against the growth of the gradient."""
    each = F.cross_entropy(s / temperature[:, None], torch.arange(len(s)), reduction="none")
    return (temperature * each).mean()


def sig_lip(image: Any, text: Any, log_scale: Any, bias: Any) -> Any:
    image, text = F.normalize(image, dim=1), F.normalize(text, dim=1)
    logits = image @ text.T * log_scale.exp() + bias
    sign = 2 * torch.eye(len(image), dtype=logits.dtype) - 1
    return -F.logsigmoid(sign * logits).sum() / len(image)


def sig_lip_bias_detached(image: Any, text: Any, log_scale: Any, bias: Any) -> Any:
    return sig_lip(image, text, log_scale, bias.detach())


def sig_lip_bias_subtracted(image: Any, text: Any, log_scale: Any, bias: Any) -> Any:
    return sig_lip(image, text, log_scale, -bias)


def sig_lip_bias_scaled(image: Any, text: Any, log_scale: Any, bias: Any) -> Any:
    """The bias is added before the scale."""
    image, text = F.normalize(image, dim=1), F.normalize(text, dim=1)
    logits = (image @ text.T + bias) * log_scale.exp()
    sign = 2 * torch.eye(len(image), dtype=logits.dtype) - 1
    return -F.logsigmoid(sign * logits).sum() / len(image)


IN_NUMPY = "pair_contrastive"
TRIED: tuple[tuple[str, str, Callable[..., Any]], ...] = (
    ("moco", "correct", moco),
    ("moco", "correct", moco_detached_key),
    ("moco", "not-normalized", moco_raw),
    ("moco", "temperature-missing", moco_without_temperature),
    ("moco", "positives-permuted", moco_rolled_keys),
    ("moco", "positives-permuted", moco_positive_last),
    ("moco", "unknown", moco_with_the_batch),
    ("inst_disc", "correct", inst_disc),
    ("inst_disc", "positives-permuted", inst_disc_without_index),
    ("inst_disc", "not-normalized", inst_disc_raw),
    ("inst_disc", "temperature-inverted", inst_disc_inverted),
    ("nce", "correct", nce_wrong()),
    ("nce", "unknown", nce_wrong(rate=lambda draws, rows: 1 / rows)),
    ("nce", "unknown", nce_wrong(rate=lambda draws, rows: draws)),
    ("nce", "unknown", nce_wrong(mean=True)),
    ("nce", "unknown", nce_wrong(with_normalizer=False)),
    ("cpc", "correct", cpc),
    ("cpc", "scaled-by-constant", cpc_added_up),
    ("cpc", "unknown", cpc_over_contexts),
    ("cpc", "unknown", cpc_one_form),
    ("cpc", "keys-detached", cpc_futures_detached),
    ("cpc", "unknown", cpc_forms_detached),
    ("cpc", "positives-permuted", cpc_other_samples_future),
    ("cmc", "correct", cmc),
    ("cmc", "scaled-by-constant", cmc_averaged),
    ("cmc", "one-direction", cmc_one_direction),
    ("cmc", "unknown", cmc_core),
    ("cmc", "temperature-missing", cmc_without_temperature),
    ("cmc", "not-normalized", cmc_raw),
    ("pair_contrastive", "correct", pair_contrastive),
    ("pair_contrastive", "differs", pair_contrastive_labels_flipped),
    ("pair_contrastive", "scaled-by-constant", pair_contrastive_without_half),
    ("pair_contrastive", "differs", pair_contrastive_margin_of_squares),
    ("pair_contrastive", "differs", pair_contrastive_without_hinge),
    ("pair_contrastive", "differs", pair_contrastive_second_sign),
    ("multi_positive", "correct", multi_positive),
    ("multi_positive", "differs", multi_positive_averaged),
    ("multi_positive", "differs", multi_positive_outside),
    ("multi_positive", "positive-missing-from-denominator", multi_positive_against_negatives),
    ("multi_positive", "not-normalized", multi_positive_raw),
    ("multi_positive", "keys-detached", multi_positive_one_key),
    ("triplet_margin", "correct", triplet_margin),
    ("triplet_margin", "differs", triplet_margin_by_default),
    ("triplet_margin", "differs", triplet_margin_swapped),
    ("triplet_margin", "differs", triplet_margin_of_squares),
    ("triplet_margin", "differs", triplet_margin_subtracted),
    ("triplet_margin", "differs", triplet_margin_turned),
    ("triplet_margin", "differs", triplet_margin_detached),
    ("triplet_margin", "scaled-by-constant", triplet_margin_added_up),
    ("per_anchor_contrastive", "correct", per_anchor_contrastive),
    ("per_anchor_contrastive", "unknown", per_anchor_by_column),
    ("per_anchor_contrastive", "unknown", per_anchor_mean),
    ("per_anchor_contrastive", "unknown", per_anchor_detached),
    ("per_anchor_contrastive", "unknown", per_anchor_times_temperature),
    ("sig_lip", "correct", sig_lip),
    ("sig_lip", "unknown", sig_lip_bias_detached),
    ("sig_lip", "unknown", sig_lip_bias_subtracted),
    ("sig_lip", "unknown", sig_lip_bias_scaled),
)  # fmt: skip


def system_cases() -> list[Case]:
    from refcl.oracle import from_torch

    return [
        Case(expected, function.__name__, "numpy", loss, function, {})
        if loss == IN_NUMPY
        else Case(expected, function.__name__, "torch", loss, from_torch(function), {})
        for loss, expected, function in TRIED
    ]
