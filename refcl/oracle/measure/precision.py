"""How rough is it, and how little? Few digits make another error each time; an epsilon makes a small one.

In:  answers that are not right, and the candidate.
Out: a sentence where it has far fewer digits than the numbers that it comes in; a difference where it is off by little.
"""

import math

import numpy as np

from refcl.oracle.compare import agrees
from refcl.oracle.evidence import Call, Result
from refcl.oracle.harmless import SHIFTED, added_to_differences, relative_error
from refcl.oracle.measure.lab import Lab, lab
from refcl.oracle.names.difference import Difference
from refcl.oracle.names.sentences import say
from refcl.oracle.numerics import noise
from refcl.oracle.question import Question

ROUGH = 1e-5  # relative to the value: coarser than single precision
LITTLE = 1e-4  # relative: no other formula is as near as that on every batch
FORMATS = ((10.5, "bfloat16"), (18.0, "float16 or TF32"), (math.inf, "float32"))  # up to how many bits


def few_digits(question: Question, results: list[Result], call: Call) -> str:
    """Say how many bits there are where the error is rough: another one for every small move of the input."""
    # A scalar's gradient alone has no roughness to be seen.
    wrong = [r for r in results if not r.probe.stress and not agrees(r.right._replace(dmore=()), r.outcome)]
    ordinary = [r for r in wrong if r.probe.dtype == "float64"] or wrong  # autocast leaves double precision alone
    if not ordinary:
        return ""
    steps = _steps_of_the_value(lab(question, call), ordinary)
    found = noise(question, ordinary, call, step=2.0**-7)  # past the spacing of bfloat16
    if steps == 0.0 and not (found.rough and found.relative <= 0.05):
        return ""
    size = steps or found.relative
    bits = -math.log2(max(size, 1e-16))
    kind = next(name for most, name in FORMATS if bits < most)
    what = "the value moves in steps of {:.1e} of itself" if steps else "the error is up to {:.1e} of the largest entry"
    about = f"about {bits:.0f} bits, as with {kind} inside"
    return f"{what.format(size)}, another one for every small move of the input: {about}"


def _steps_of_the_value(bench: Lab, results: list[Result]) -> float:
    """Return the size of the value's steps along lines, where it is no more off than these explain; 0 where smooth."""
    scalars = [r for r in results if not np.ndim(r.outcome.value)][:3]
    sizes = [_roughness(bench, r, k) for k, r in enumerate(scalars)]
    sizes = [x for x in sizes if x]  # a value that is one number all along a line is between two steps
    # Where the value moves by less than a step, there is little to be seen.
    if not (sizes and max(sizes) > ROUGH and all(x > ROUGH / 5 for x in sizes)):
        return 0.0
    off = max(
        abs(float(r.outcome.value) - float(r.right.value))
        / max(abs(float(r.right.value)), float(r.right.value_size), 1e-300)
        for r in scalars
    )
    return max(sizes) if off <= min(300 * max(sizes), 0.1) else 0.0


def _roughness(bench: Lab, r: Result, seed: int) -> float:
    """Return the size of the steps of the value along a line, relative to the value."""
    rng = np.random.default_rng((9, seed))
    directions = [rng.standard_normal(x.shape) * (float(np.sqrt(np.mean(x * x))) or 1.0) for x in r.wide]
    t = np.sort(rng.uniform(-4e-3, 4e-3, 20))
    moved = [tuple(x + s * d for x, d in zip(r.wide, directions, strict=True)) for s in t]
    values = np.array([bench.value(x, r.probe.scalar, r.probe.companions) for x in moved])
    if not np.all(np.isfinite(values)):
        return math.nan
    smooth = np.polynomial.polynomial.polyval(t * 250, np.polynomial.polynomial.polyfit(t * 250, values, 5))
    size = max(float(np.max(np.abs(values))), abs(float(np.sum(r.right.value_size))) * 0.1, 1e-300)
    return float(np.sqrt(np.mean((values - smooth) ** 2))) / size


def off_by_little(question: Question, results: list[Result]) -> list[Difference]:
    """Say by how much it is off where that is little everywhere: an epsilon, which has no name of its own."""
    off = {r.probe.name: relative_error(r) for r in results}
    worst = max(off, key=lambda name: off[name])
    if not 0.0 < off[worst] < LITTLE:
        return []
    e = added_to_differences(question, results)
    if e:
        said = SHIFTED.format(e, off[worst])
        return [say("epsilon in a difference", worst, what=said[0].lower() + said[1:], eps=e)]
    right = [name for name, x in off.items() if x == 0.0]
    also = f" and right to rounding on {', '.join(right[:3])}" if right else ""
    return [say("off by an epsilon", worst, size=off[worst], also=also)]
