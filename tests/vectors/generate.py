"""The program behind the test vectors of the package: ``python tests/vectors/generate.py [DIR]``.

In:  nothing but the probes of the oracle and mpmath.
Out: ``contrastive.json``, the same to the last bit on every run.
"""

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np

from refcl.oracle.candidate import Outcome
from refcl.oracle.compare import ROUNDINGS, agrees
from refcl.oracle.evaluate import evaluate
from refcl.oracle.evidence import Result
from refcl.oracle.mistakes import CATALOGUE, DISTRIBUTED, constant_term, links, variations
from refcl.oracle.numerics import raw_exponentials_fail
from refcl.oracle.probes import ABOUT, Probe, probes
from refcl.oracle.question import Question, ask
from refcl.oracle.recipe import InLog, Recipe

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vectors.exact import DIGITS, answer

VERSION = "1"
EPS = float(np.finfo(np.float64).eps)

GROUPS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("softmax_contrastive", {"reduction": "mean"}),
    ("softmax_contrastive", {"reduction": "sum"}),
    ("softmax_contrastive", {"reduction": "none"}),
    ("hard_softmax_contrastive", {"reduction": "mean", "hardest": 2}),
    ("simple_contrastive", {"reduction": "mean"}),
    ("hard_simple_contrastive", {"reduction": "mean", "hardest": 2}),
    ("triplet", {"reduction": "mean", "margin": 0.125}),
    ("info_nce", {"reduction": "mean", "normalize": True}),
    ("info_nce", {"reduction": "mean", "normalize": False}),
    ("nt_xent", {"reduction": "mean", "normalize": True}),
    ("nt_xent", {"reduction": "none", "normalize": True}),
    ("clip", {"reduction": "mean", "normalize": True}),
    ("simple_loss", {"reduction": "mean", "normalize": True}),
)

HEADER = (
    "Contrastive losses and their gradients: inputs are float64, exactly as printed.",
    f"Values and gradients were computed at {DIGITS} digits and rounded once, to the nearest float64.",
    "tolerance: largest |yours - listed| that rounding in float64 explains: one number for the value and the scalar, "
    "one for each row of a gradient. In float32 round the inputs first and multiply it by 2^29.",
    "flags: mistakes that this case gives away; notes says what each is.",
    'To have your numbers judged, fill in answers: [{"tcId": 1, "value": ..., "gradients": {"s": ...}}, ...] '
    "and run: python -m refcl verify FILE",
    "Rows are anchors. similarities s (N, M): column i is the positive of row i. Embeddings (N, D): row i of one input "
    "is the positive of row i of the other; in nt_xent all 2N rows are anchors, the first input's before the second's.",
)


def generate() -> dict[str, Any]:
    """Return the test vectors as what JSON holds."""
    groups: list[dict[str, Any]] = []
    number = 0
    for loss, settings in GROUPS:
        question = ask(loss, **settings)
        tests = []
        for probe in _cases(question):
            number += 1
            tests.append(_test(number, question, settings, probe))
        groups.append(
            {
                "type": "LossWithGradient",
                "loss": loss,
                "settings": settings,
                "arguments": [*question.inputs, *([question.scalar] if question.scalar else [])],
                "tests": tests,
            }
        )
    used = {flag for group in groups for test in group["tests"] for flag in test["flags"]}
    return {
        "algorithm": "contrastive losses",
        "schema": "contrastive.schema.json",
        "generatorVersion": VERSION,
        "header": list(HEADER),
        "numberOfTests": number,
        "notes": {id_: _note(id_) for id_ in CATALOGUE if id_ in used},
        "testGroups": groups,
        "answers": [],
    }


def to_json(vectors: dict[str, Any]) -> str:
    """Return the text of the file: one test a line, decimals as short as they can be."""
    lines = []
    for key, value in vectors.items():
        if key != "testGroups":
            lines.append(f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False, indent=1)}")
            continue
        groups = []
        for group in value:
            head = ", ".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in group.items() if k != "tests")
            tests = ",\n".join(json.dumps(test, separators=(",", ":")) for test in group["tests"])
            groups.append(f'{{{head}, "tests": [\n{tests}\n]}}')
        lines.append('"testGroups": [\n' + ",\n".join(groups) + "\n]")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _cases(question: Question) -> list[Probe]:
    """Return the oracle's own double-precision probes, their inputs rounded to a few digits."""
    found = []
    for probe in probes(question, passes_scalar=True):
        if probe.corner or probe.dtype != "float64" or probe.name in ABOUT:
            continue
        short = tuple(np.round(x, 6) for x in probe.inputs)
        scalar = None if probe.scalar is None else round(probe.scalar, 6)
        upstream = None if probe.upstream is None else np.round(probe.upstream, 6)
        found.append(Probe(probe.name, short, scalar, upstream, probe.corner, probe.stress))
    return found


def _test(number: int, question: Question, settings: dict[str, Any], probe: Probe) -> dict[str, Any]:
    inputs: dict[str, Any] = {name: x.tolist() for name, x in zip(question.inputs, probe.inputs, strict=True)}
    if question.scalar is not None:
        inputs[question.scalar] = probe.scalar
    if probe.upstream is not None:
        inputs["upstream"] = probe.upstream.tolist()
    value, gradients = answer(question.loss, settings, inputs)
    expected = question.expected(probe.inputs, probe.scalar, probe.upstream)
    tolerances: dict[str, Any] = {
        name: [_short(ROUNDINGS * EPS * x) for x in np.broadcast_to(size, (len(given), 1))[:, 0].tolist()]
        for name, size, given in zip(question.inputs, expected.grad_sizes, probe.inputs, strict=True)
    }
    if question.scalar in gradients:
        tolerances[str(question.scalar)] = _short(ROUNDINGS * EPS * expected.dscalar_size)
    return {
        "tcId": number,
        "comment": probe.name,
        "flags": _flags(question, probe),
        "inputs": inputs,
        "value": value,
        "gradients": gradients,
        "tolerance": {"value": _short(ROUNDINGS * EPS * expected.value_size), "gradients": tolerances},
        "result": "valid",
    }


def _short(x: float) -> float:
    """Round a tolerance up to two digits."""
    exponent = math.floor(math.log10(x)) - 1
    return float(f"{math.ceil(x / 10.0**exponent)}e{exponent}")


def _flags(question: Question, probe: Probe) -> list[str]:
    """Return the mistakes that would be noticed on this probe."""
    right = question.expected(probe.inputs, probe.scalar, probe.upstream)
    caught = set()
    for id_, recipe in _wrong(question):
        other = evaluate(recipe, probe.inputs, probe.scalar, upstream=probe.upstream)
        if not agrees(right, Outcome(other.value, other.grads, other.dscalar, EPS)):
            caught.add(id_)
    result = Result(probe, Outcome(right.value, right.grads, right.dscalar, EPS), right)
    if raw_exponentials_fail(question, result):
        caught.add("overflow-at-small-temperature")
    return [id_ for id_ in CATALOGUE if id_ in caught]


def _wrong(question: Question) -> list[tuple[str, Recipe]]:
    from dataclasses import replace

    recipe = question.recipe
    found = [(v.id, r) for v, r in variations(recipe) if v.id not in DISTRIBUTED]
    if recipe.pool == "softmax":
        found.append(("epsilon-in-log", replace(recipe, in_log=InLog(1e-8, added=True))))
        if recipe.embeddings and recipe.candidates == "all":
            found.append(("finite-mask-leak", replace(recipe, extra=constant_term(-10.0))))
    return found


def _note(id_: str) -> dict[str, Any]:
    mistake = CATALOGUE[id_]
    return {
        "bugType": "WRONG_GRADIENT" if mistake.id in _GRADIENT_ONLY else "WRONG_VALUE",
        "description": f"{mistake.wrong} instead of {mistake.right}",
        "effect": mistake.effect,
        "links": links(mistake),
    }


_GRADIENT_ONLY = ("normalization-jacobian-missing", "keys-detached", "denominator-detached")


def main(words: list[str]) -> int:
    """Write the file into a folder."""
    from refcl.oracle.vectors import __file__ as kept
    from refcl.oracle.vectors import write_whole

    out = Path(words[0]) if words else Path(kept).parent
    vectors = generate()
    write_whole(out / "contrastive.json", to_json(vectors).encode())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
