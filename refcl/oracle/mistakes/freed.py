"""What callers may free of the softmax loss, and how it is read otherwise than it is meant.

In:  nothing.  Out: rows for the bank: a name, what it is about, in which recipes, and the ways; each way is a slip of
`freed`.
"""

from collections.abc import Callable

from refcl.oracle.recipe import Recipe


def _freed(*names: str) -> Callable[[Recipe], bool]:
    return lambda r: bool(r.freedoms & set(names))


def _two_tables(name: str) -> Callable[[Recipe], bool]:
    """Whether there is one for each direction."""
    return lambda r: name in r.freedoms and r.anchors == "both" and r.candidates == "other"


OWN_GRADIENT = "own_negatives: the gradient is that of their normalized rows"
LAID_OUT = ("transposed",), ("the images' for the texts too", "the images', transposed, for the texts too")
# What is freed -> the name, what it is about, the ways in which it is read otherwise.
FREED: tuple[tuple[str, str, Callable[[Recipe], bool], tuple[str, ...]], ...] = (
    (
        "label-smoothing-misplaced",
        "label_smoothing",
        _freed("label_smoothing"),
        (
            "spread over all but the positive",
            "the target is not lowered",
            "not divided by the number of candidates",
            "divided by one more",
            "the positive's share is left out",
        ),
    ),
    (
        "log-weight-misplaced",
        "log_weight",
        _freed("log_weight"),
        (
            "left out at the positive",
            "in the denominator only",
            "before the temperature",
            "taken for a weight",
            "taken for a weight, in the denominator only",
            "a factor of the logit",
            "its exponential a factor of the logit",
            "subtracted",
            "its exponential added",
            *LAID_OUT[0],
        ),
    ),
    ("log-weight-misplaced", "log_weight", _two_tables("log_weight"), LAID_OUT[1]),
    (
        "targets-misread",
        "targets",
        _freed("targets"),
        ("the largest alone", "their entropy subtracted", *LAID_OUT[0]),
    ),
    ("targets-misread", "targets", _two_tables("targets"), LAID_OUT[1]),
    (
        "anchor-weight-averaged",
        "anchor_weight",
        lambda r: "anchor_weight" in r.freedoms and r.reduction == "mean",
        ("over the sum of the weights", "over the sum of the weights of each direction"),
    ),
    (
        "own-negatives-misread",
        "own_negatives",
        _freed("own_negatives"),
        ("shared by all anchors", "laid out as (H, N, D)", "not normalized"),
    ),
    (
        "margin-misplaced",
        "margin",
        _freed("margin"),
        ("not divided by the temperature",),
    ),
    (
        "margin-misplaced",
        "margin",
        _freed("margin", "angular_margin"),
        ("in the numerator only", "in the denominator only", "added"),
    ),
    (
        "margin-misplaced",
        "margin",
        _freed("angular_margin"),
        ("the cosine of the sum beyond π too", "at acute angles only"),
    ),
)
