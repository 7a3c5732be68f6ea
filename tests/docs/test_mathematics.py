"""The script behind the figures computes what refcl computes, to twelve digits."""

import json
import subprocess

import numpy as np
import pytest
from docs_places import REPORT, STATIC, node

import refcl
from refcl import hardness, metrics

RUN = """
const vm = require("vm"), fs = require("fs");
const asked = JSON.parse(fs.readFileSync(0, "utf8"));
const page = vm.createContext({});
vm.runInContext(fs.readFileSync(asked.script, "utf8"), page);
const answers = asked.calls.map(([name, args]) => page.refcl[name](...args));
process.stdout.write(JSON.stringify(answers));
"""


def ask(*calls):
    """Return what the script's functions return, each called by name with its arguments."""
    asked = json.dumps({"script": str(STATIC / "refcl.js"), "calls": calls})
    done = subprocess.run([node(), "-e", RUN], input=asked, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def check_close(found, expected):
    np.testing.assert_allclose(np.array(found, dtype=float), expected, rtol=1e-12, atol=1e-15)


@pytest.fixture
def rows(rng):
    return rng.uniform(-0.9, 0.9, (5, 7))  # the positive stands first


LOSSES = {
    "softmax": refcl.softmax_contrastive,
    "hard": lambda s, temperature: refcl.hard_softmax_contrastive(s, temperature, hardest=3),
    "dcl": refcl.decoupled_contrastive,
    "simple": lambda s, temperature: refcl.simple_contrastive(s),
    "triplet": lambda s, temperature: refcl.triplet(s),
}


@pytest.mark.parametrize("temperature", [0.01, 0.07, 0.3, 20.0])
@pytest.mark.parametrize("kind", LOSSES)
def test_losses_of_one_anchor(rows, kind, temperature):
    answers = ask(*[["anchor", [kind, row[0], row[1:].tolist(), temperature, 3]] for row in rows])
    for row, found in zip(rows, answers, strict=True):
        s = row[None]
        loss, grads = LOSSES[kind](s, temperature)
        check_close(found["loss"], loss)
        check_close([found["dsPos"], *found["dsNeg"]], grads.ds[0])
        if hasattr(grads, "dtemperature"):
            check_close(found["dtau"], grads.dtemperature)
        if kind in ("softmax", "dcl"):
            check_close(found["share"], hardness.relative_penalty(s, temperature)[0, 1:])
            check_close(found["entropy"], hardness.penalty_entropy(s, temperature)[0])


def test_a_positive_far_ahead_does_not_round_to_zero():
    s = np.array([[0.9, 0.1, 0.05, -0.3]])
    (found,) = ask(["anchor", ["softmax", 0.9, [0.1, 0.05, -0.3], 0.01, 3]])
    loss, grads = refcl.softmax_contrastive(s, 0.01)
    assert 0 < loss < 1e-30
    check_close([found["loss"], found["dsPos"], *found["dsNeg"]], [loss, *grads.ds[0]])


@pytest.mark.parametrize(("end", "temperature"), [("zero", 1e-5), ("infinity", 1e7)])
def test_limits_are_what_the_loss_tends_to(rows, end, temperature):
    answers = ask(*[["limit", [end, row[0], row[1:].tolist()]] for row in rows])
    for row, found in zip(rows, answers, strict=True):
        loss, _ = refcl.softmax_contrastive(row[None], temperature)
        constant = 0.0 if end == "zero" else np.log(len(row))
        assert found["loss"] == pytest.approx(temperature * (loss - constant), abs=1e-6)
        share = hardness.relative_penalty(row[None], temperature)[0, 1:]
        np.testing.assert_allclose(found["share"], share, atol=1e-6)


@pytest.mark.parametrize("temperature", [0.05, 0.5])
def test_info_nce_and_its_gradients(rng, temperature):
    query, key = rng.standard_normal((2, 6, 3))
    (found,) = ask(["infoNce", [query.tolist(), key.tolist(), temperature]])
    value, grads = refcl.info_nce(query, key, temperature)
    check_close(found["value"], value)
    check_close(found["dquery"], grads.dquery)
    check_close(found["dkey"], grads.dkey)
    check_close(found["dtau"], grads.dtemperature)


def test_linear_encoder(rng):
    x, weight, bias, dh = (rng.standard_normal(shape) for shape in ((4, 3), (3, 2), (2,), (4, 2)))
    h, back = ask(
        ["linear", [x.tolist(), weight.tolist(), bias.tolist()]],
        ["linearBack", [dh.tolist(), x.tolist(), weight.tolist()]],
    )
    expected, grads = refcl.walk.layers.linear(x, weight, bias, upstream=dh)
    check_close(h, expected)
    check_close(back["dx"], grads.dx)
    check_close(back["dweight"], grads.dweight)
    check_close(back["dbias"], grads.dbias)


def test_metrics(rng):
    z, other = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in rng.standard_normal((2, 9, 3)))
    labels = np.array([0, 0, 1, 1, 1, 2, 0, 2, 3])  # 3 is alone
    found = ask(
        ["uniformity", [z.tolist(), 2]],
        ["alignment", [z.tolist(), other.tolist()]],
        ["tolerance", [z.tolist(), labels.tolist()]],
    )
    check_close(found, [metrics.uniformity(z)[0], metrics.alignment(z, other)[0], metrics.tolerance(z, labels)])


def test_a_wrong_script_would_be_seen(rng):
    query, key = rng.standard_normal((2, 6, 3))
    (found,) = ask(["infoNce", [query.tolist(), key.tolist(), 0.5]])
    with pytest.raises(AssertionError):
        check_close(found["value"], refcl.info_nce(query, key, 0.5 * (1 + 1e-10))[0])


def test_scripts_are_small_and_import_nothing():
    scripts = sorted([*STATIC.glob("*.js"), *REPORT.glob("*.js")])
    assert {"refcl.js", "touch.js", "knob.js", "dilemma.js", "walk.js", "mistake.js", "study.js"} == {
        s.name for s in scripts
    }
    text = "".join(script.read_text(encoding="utf-8") for script in scripts)
    assert len(text.encode()) < 40_000
    assert not [word for word in ("import(", "require(", "fetch(", "XMLHttpRequest", "eval(") if word in text]
