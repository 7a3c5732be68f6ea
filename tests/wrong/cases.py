"""Every wrong implementation as a case: what it is, how it is asked, and what the oracle should say.

A mistake is tried with its temperature baked in and with the temperature as an argument.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from refcl.oracle import numeric
from wrong import descendants, in_numpy

OVERFLOW = "overflow-at-small-temperature"


class Case(NamedTuple):
    expected: str  # the verdict
    name: str
    library: str
    loss: str
    candidate: Callable[..., Any]
    settings: dict[str, Any]


def numpy_cases() -> list[Case]:
    raw = {in_numpy.self_term_wrong_constant, in_numpy.broadcast_outer, in_numpy.epsilon_below_the_line}
    found = []
    for expected, function in (*(("correct", f) for f in in_numpy.RIGHT), *in_numpy.WRONG):
        name = function.__name__
        # What is written with raw exponentials is right at .2, and where τ is an argument overflows besides.
        baked = "correct" if expected == OVERFLOW else expected
        found.append(Case(baked, name, "numpy", "nt_xent", _baked(function, 0.2), {"temperature": 0.2}))
        if function is in_numpy.right_subtracting_itself:
            continue
        free = f"{expected} + {OVERFLOW}" if function in raw else expected
        found.append(Case(free, f"{name}, τ free", "numpy", "nt_xent", function, {"passes_scalar": True}))
    return found


def descendant_cases() -> list[Case]:
    found = []
    for loss, settings, way, cases in descendants.LOSSES:
        for expected, function in cases:
            candidate, how = function, dict(settings)
            if way == "τ free":
                how["passes_scalar"] = True
            elif "bare" not in way:
                candidate = _baked(function, 0.2)
                how["temperature"] = 0.2
            if "numeric" in way:
                candidate = numeric(candidate)
            found.append(Case(expected, f"{function.__name__}, {way}", "numpy", loss, candidate, how))
    return found


def torch_cases() -> list[Case]:
    from refcl.oracle import from_torch
    from wrong import descendants_in_torch
    from wrong import in_torch as w

    nt_xent = (
        ("correct", w.right),
        ("correct", w.right_subtracting_itself),
        ("self-in-denominator", w.self_in_denominator),
        ("self-masked-with-zero", w.self_masked_with_zero),
        ("self-term-wrong-constant", w.self_term_wrong_constant),
        ("finite-mask-leak", w.finite_mask_leak),
        ("finite-mask-leak", w.finite_mask_before_temperature),
        ("positive-missing-from-denominator", w.positive_missing_from_denominator),
        ("positive-counted-twice", w.positive_counted_twice),
        ("cross-view-only", w.cross_view_only),
        ("one-direction", w.one_direction),
        ("cross-view-only + one-direction", w.info_nce_instead),
        ("temperature-missing", w.temperature_missing),
        ("temperature-inverted", w.temperature_inverted),
        ("temperature-missing-on-positive", w.temperature_missing_on_positive),
        ("temperature-missing-on-negatives", w.temperature_missing_on_negatives),
        ("log-scale-not-exponentiated", w.log_scale_not_exponentiated),
        ("not-normalized", w.not_normalized),
        ("normalized-whole-tensor", w.normalized_whole_tensor),
        ("normalized-wrong-axis", w.normalized_wrong_axis),
        ("normalization-jacobian-missing", w.norm_detached),
        ("log-of-mean", w.log_of_mean),
        ("scaled-by-constant", w.two_means_added),
        ("scaled-by-constant", w.base_temperature),
        ("offset-by-constant", w.minus_log_number),
        ("positives-interleaved", w.positives_interleaved),
        ("positives-permuted", w.positives_shuffled),
        ("broadcast-outer", w.broadcast_outer),
        ("double-softmax", w.double_softmax),
        ("keys-detached", w.keys_detached),
        ("keys-detached", w.second_view_detached),
        ("denominator-detached", w.denominator_detached),
        ("gradient-zero", w.no_gradient),
        ("gradient-sign-flipped", w.gradient_sign_flipped),
        ("epsilon-in-log", w.epsilon_in_log),
        ("epsilon-in-log", w.epsilon_below_the_line),
        ("epsilon-in-log", w.clamped),
        ("low-precision", w.bfloat16),
    )
    free_only = (
        ("temperature-gradient-wrong", w.temperature_through_item),
        ("temperature-gradient-wrong", w.masked_before_the_temperature),
        ("temperature-gradient-wrong", w.temperature_detached_in_denominator),
        (OVERFLOW, w.raw_exponentials),
    )
    info_nce = (
        ("correct", w.info_right),
        ("positive-missing-from-denominator", w.info_positive_missing),
        ("temperature-missing", w.info_temperature_missing),
        ("temperature-missing-on-positive", w.info_positive_without_temperature),
        ("not-normalized", w.info_not_normalized),
        ("keys-detached", w.info_keys_detached),
        ("positives-permuted", w.info_labels_zero),
        ("double-softmax", w.info_double_softmax),
        ("log-of-mean", w.info_log_of_mean),
        ("scaled-by-constant", w.info_sum),
    )
    clip = (
        ("correct", w.clip_right),
        ("log-scale-not-exponentiated", w.clip_log_scale_not_exponentiated),
        ("one-direction", w.clip_one_direction),
        ("scaled-by-constant", w.clip_added),
        ("temperature-gradient-wrong", w.clip_scale_detached),
        ("temperature-inverted", w.clip_scale_divided),
        ("positives-permuted", w.clip_text_shuffled),
    )
    raw = {w.self_term_wrong_constant, w.broadcast_outer}
    found = []
    for loss, cases in (("nt_xent", (*nt_xent, *free_only)), ("info_nce", info_nce), ("clip", clip)):
        for expected, function in cases:
            wrapped = from_torch(function)
            if function is w.right_subtracting_itself:
                continue  # NaN where its own term is all that there is, at τ = .001
            free = f"{expected} + {OVERFLOW}" if function in raw else expected
            found.append(Case(free, f"{function.__name__}, τ free", "torch", loss, wrapped, {"passes_scalar": True}))
    for loss, cases in (("nt_xent", nt_xent), ("info_nce", info_nce)):
        for expected, function in cases:
            baked = from_torch(_baked_tensor(function, 0.2))
            found.append(Case(expected, function.__name__, "torch", loss, baked, {"temperature": 0.2}))
    for loss, settings, overflows, cases in descendants_in_torch.LOSSES:
        for expected, function in cases:
            baked = {"temperature": 0.2} if overflows else {}
            wrapped = from_torch(_baked_tensor(function, 0.2) if overflows else function)
            found.append(Case(expected, function.__name__, "torch", loss, wrapped, settings | baked))
    return found


def _baked(function: Callable[..., Any], t: float) -> Callable[..., Any]:
    return lambda a, b: function(a, b, t)


def _baked_tensor(function: Callable[..., Any], t: float) -> Callable[..., Any]:
    import torch

    return lambda a, b: function(a, b, torch.tensor(t, dtype=a.dtype))
