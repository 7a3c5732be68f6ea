"""What refcl says in the figures: lines of its code, formulas, reports of its oracle, results of its study.

In:  the package.
Out: values that go as JSON into the pages.
"""

import ast
import inspect
import json
import re
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
from mathml import mathml

import refcl
from refcl.oracle import check
from refcl.walk import layers, pairing, penalty, reduce, similarity, sphere
from refcl.walk.pooling import soft_maximum

HERE = Path(__file__).parent
INPUTS = {
    "x": [[1.0, 0.2], [-0.3, 0.9], [0.4, -0.8]],
    "weight": [[0.9, -0.4], [0.3, 1.1]],
    "bias": [[0.1, -0.2]],
    "key": [[0.9, 0.1], [0.2, 1.0], [0.7, -0.6]],
    "temperature": 0.2,
}
# Quantity: formula, the function that computes it, and words that only its line has.
ABOUT = {
    "h": (r"h = x W + b", layers.linear, "forward", r"@ weight|matmul"),
    "z": (r"z = h / \lVert h \rVert", sphere.l2_normalize, "forward", r"z = |h /"),
    "s": (r"s = z\, c^\top", similarity.inner_product, "forward", r"@|matmul"),
    "s_pos": (r"s^+_i = s_{i p_i}", pairing.pairing, "forward", r"s_pos = "),
    "s_neg": (r"s^-_{ik} = s_{ik}, \quad k \ne p_i", pairing.pairing, "forward", r"s_neg|negatives"),
    "gap": (r"\mathrm{gap}_i = \log \sum_k e^{(s_{ik} - s_{ip})/\tau}", soft_maximum, "forward", r"gap = |log"),
    "relative": (
        r"r_{ik} = \frac{e^{s_{ik}/\tau}}{\sum_l e^{s_{il}/\tau}}",
        soft_maximum,
        "forward",
        r"relative = |relative",
    ),
    "loss": (r"L_i = \log(1 + e^{\mathrm{gap}_i})", penalty.softplus, "forward", r"log1p|loss = "),
    "L": (r"L = \frac{1}{N} \sum_i L_i", reduce.reduce, "forward", r"mean"),
    "dL": (r"\frac{\partial L}{\partial L} = 1", reduce.reduce, "backward", r"return"),
    "dloss": (r"dL_i = \frac{1}{N}", reduce.reduce, "backward", r"/"),
    "dgap": (r"d\mathrm{gap}_i = \sigma(\mathrm{gap}_i)\, dL_i", penalty.softplus, "backward", r"return.*slope"),
    "ds_pos": (r"ds^+_i = -\frac{d\mathrm{gap}_i}{\tau}", soft_maximum, "backward", r"share = |share /|ds_pos"),
    "ds_neg": (
        r"ds^-_{ik} = \frac{d\mathrm{gap}_i}{\tau} r_{ik}",
        soft_maximum,
        "backward",
        r"return.*relative|ds_neg =",
    ),
    "dtemperature": (
        r"d\tau = -\frac{1}{\tau} \sum_{ik} ds^-_{ik} (s_{ik} - s_{ip})",
        soft_maximum,
        "backward",
        r"dtemperature",
    ),
    "ds": (
        r"ds_{ik} = ds^+_i \text{ at the positive, } ds^-_{ik} \text{ elsewhere}",
        pairing.pairing,
        "backward",
        r"where",
    ),
    "dz": (r"dz = ds\, c", similarity.inner_product, "backward", r"@|matmul"),
    "dh": (
        r"dh = \frac{dz - \langle dz, z \rangle z}{\lVert h \rVert}",
        sphere.l2_normalize,
        "backward",
        r"along|dz -",
    ),
    "dx": (r"dx = dh\, W^\top", layers.linear, "backward", r"weight"),
    "dweight": (r"dW = x^\top dh", layers.linear, "backward", r"x\b.*@|matmul.*x"),
    "dbias": (r"db = \sum_i dh_i", layers.linear, "backward", r"sum"),
}
NAMES = {
    "weight": "W",
    "bias": "b",
    "key": "keys",
    "s_pos": "s⁺",
    "s_neg": "s⁻",
    "relative": "r",
    "loss": "lossᵢ",
    "dloss": "dlossᵢ",
    "ds_pos": "ds⁺",
    "ds_neg": "ds⁻",
    "dtemperature": "dτ",
    "dweight": "dW",
    "dbias": "db",
}
ROOMS = (
    ("encoder", ("h",), ("dx", "dweight", "dbias")),
    ("sphere", ("z",), ("dh",)),
    ("similarity", ("s",), ("dz",)),
    ("pairing", ("s_pos", "s_neg"), ("ds",)),
    ("pooling", ("gap", "relative"), ("ds_pos", "ds_neg", "dtemperature")),
    ("penalty", ("loss",), ("dgap",)),
    ("reduce", ("L",), ("dloss", "dL")),
)


def body(function: Any) -> str:
    """Return the statements of a function without its docstring, as they stand in its file."""
    source = textwrap.dedent(inspect.getsource(function))
    (defined,) = ast.parse(source).body
    assert isinstance(defined, ast.FunctionDef)
    first = defined.body[1] if ast.get_docstring(defined) else defined.body[0]
    lines = source.splitlines()
    statements = textwrap.dedent("\n".join(lines[first.lineno - 1 :]))
    return f"{function.__name__}\n{statements}"


def explained(formula: str, room: Any, half: str, words: str) -> dict[str, Any]:
    """Return formula, code and the number of the line that makes the quantity, from the module's raw function."""
    if inspect.ismodule(room):
        function = getattr(room, f"soft_maximum_{half}")
    else:
        function = getattr(inspect.getmodule(room.__wrapped__), f"{room.__name__}_{half}")
    code = body(function)
    found = [k for k, line in enumerate(code.splitlines()) if k and "floats(" not in line and re.search(words, line)]
    return {"formula": mathml(formula, "block"), "code": code, "line": found[0] if found else -1}


def walk() -> dict[str, Any]:
    about = {name: explained(*row) for name, row in ABOUT.items()}
    link = "../derivations/{}.html"
    rooms = [
        {"name": name, "forward": forward, "backward": backward, "link": link.format(name)}
        for name, forward, backward in ROOMS
    ]
    return {"inputs": INPUTS, "names": NAMES, "about": about, "rooms": rooms}


def mistakes() -> list[dict[str, Any]]:
    """Return the wrong losses of ``docs/data/mistakes.txt``, each with its gradient, the right one and the report."""
    text = (HERE.parent / "data" / "mistakes.txt").read_text(encoding="utf-8")
    cases = []
    for part in re.split(r"^# ---- ", text, flags=re.MULTILINE)[1:]:
        head, _, code = part.partition("\n")
        answer, *others = [choice.strip() for choice in head.split("|")]
        place = len(cases) % (len(others) + 1)  # the right answer does not always stand first
        choices = [*others[:place], answer, *others[place:]]
        namespace: dict[str, Any] = {"np": np}
        exec(code, namespace)
        mine = namespace["mine"]
        s = np.round(np.random.default_rng(7).uniform(-0.4, 0.8, (4, 4)), 2)
        expected = refcl.softmax_contrastive(s, 0.3)[1].ds
        report = check(mine, "softmax_contrastive", temperature=0.3, shape=(5, 5))
        cases.append(
            {
                "code": code.strip(),
                "choices": choices,
                "answer": place,
                "measured": slopes(mine, s, 0.3).tolist(),
                "expected": expected.round(6).tolist(),
                "report": str(report),
            }
        )
    return cases


def slopes(loss: Any, s: np.ndarray, temperature: float, step: float = 1e-3) -> np.ndarray:
    """Return the derivatives of a loss by each similarity, by fourth-order differences."""
    found = np.zeros_like(s)
    for place in np.ndindex(s.shape):

        def at(h: float, place: tuple[int, ...] = place) -> float:
            moved = s.copy()
            moved[place] += h
            return float(loss(moved, temperature))

        found[place] = (8 * (at(step) - at(-step)) - at(2 * step) + at(-2 * step)) / (12 * step)
    return found.round(6)


def study() -> Any:
    return json.loads((HERE.parent / "data" / "results.json").read_text(encoding="utf-8"))
