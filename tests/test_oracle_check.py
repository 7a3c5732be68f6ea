"""check: right losses pass under their conventions, and other people's code gets a sentence, not a traceback."""

import json
import sys
from typing import Any

import numpy as np
import pytest
from wrong import in_numpy
from wrong.in_numpy import epsilon_below_the_line

import refcl
from refcl.oracle import assert_correct, check, numeric
from refcl.oracle.compare import compare
from refcl.oracle.evaluate import evaluate
from refcl.oracle.probes import probes
from refcl.oracle.question import ask
from refcl.oracle.questions import ROWS

RECIPES = tuple(name for name, row in ROWS.items() if "pool" in row.recipe)  # whose rooms are the recipe's own
NEEDS = {name: {"hardest": 2} if name.startswith("hard") else {} for name in RECIPES}
EPS = float(np.finfo(np.float64).eps)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("loss", RECIPES)
def test_the_recipe_of_a_loss_is_the_loss(loss: str, reduction: str) -> None:
    question = ask(loss, reduction=reduction, **NEEDS[loss])
    for probe in probes(question, passes_scalar=True):
        wide = tuple(x.astype(np.float64) for x in probe.inputs)
        upstream = None if probe.upstream is None else probe.upstream.astype(np.float64)
        pair = question.expected(probe.inputs, probe.scalar, probe.upstream)
        made = evaluate(question.recipe, wide, probe.scalar, upstream=upstream)
        assert np.max(np.abs(made.value - pair.value)) <= 8 * EPS * made.value_size
        for a, b, size in zip(made.grads, pair.grads, made.grad_sizes, strict=True):
            assert np.all(np.abs(a - b) <= 8 * EPS * size)
        if pair.dscalar is not None:
            assert abs((made.dscalar or 0.0) - pair.dscalar) <= 8 * EPS * made.dscalar_size


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("loss", RECIPES)
def test_refcl_itself_is_correct(loss: str, reduction: str) -> None:
    pair = getattr(refcl, loss)

    def candidate(*arguments: Any, upstream: Any = None) -> Any:
        return pair(*arguments, upstream=upstream, reduction=reduction, **NEEDS[loss])

    scalar = not {"temperature", "log_scale", "weight"}.isdisjoint(pair.arguments)
    report = check(candidate, loss, reduction=reduction, passes_scalar=scalar, **NEEDS[loss])
    assert report.ok, str(report)
    assert report.gradient_judged
    assert report.scalar_judged == scalar
    assert report.indistinguishable == []
    assert all(p.worst.distance < 0.2 for p in report.probes)


def test_a_pair_is_a_candidate() -> None:
    assert check(refcl.clip, "clip").ok
    assert check(refcl.info_nce, "info_nce", extra_keys=3).ok


def test_probes_tell_mistakes_apart() -> None:
    for loss in RECIPES:
        question = ask(loss, **NEEDS[loss])
        found = probes(question, passes_scalar=True)
        assert len({p.name for p in found}) == len(found)
        assert {p.dtype for p in found} == {"float32", "float64"}
        for p in found:
            t = question.temperature(p.scalar)
            assert t is None or abs(t - 1) > 0.1
            if question.recipe.embeddings:
                (n, d), norms = p.inputs[0].shape, np.linalg.norm(p.inputs[0], axis=1)
                assert n != d
                assert norms.max() > 1.01 * norms.min()
    upstream = probes(ask("nt_xent", reduction="none"), passes_scalar=False)[0].upstream
    assert np.ptp(upstream) > 0.1


@pytest.mark.parametrize("factor", [0.0, 2.0])
@pytest.mark.parametrize("loss", RECIPES)
def test_zero_and_doubled_gradients_fail_on_every_ordinary_probe(loss: str, factor: float) -> None:
    question = ask(loss, **NEEDS[loss])
    pair = getattr(refcl, loss)

    def candidate(*arguments: Any) -> Any:
        value, grads = pair(*arguments, **NEEDS[loss])
        return value, tuple(g * factor for g in grads if g is not None)

    passes = question.scalar is not None
    report = check(candidate, loss, passes_scalar=passes, **NEEDS[loss])
    assert not report.ok
    moving = {
        p.name for p in probes(question, passes_scalar=passes) if np.any(question.expected(p.inputs, p.scalar).grads[0])
    }
    assert len(moving) > 6
    ordinary = [p for p in report.probes if not p.corner and not p.name.startswith("cold") and p.name in moving]
    assert all(not p.passed for p in ordinary)


def test_probes_on_which_nothing_can_fail_are_refused() -> None:
    def lonely(s: Any) -> Any:
        return refcl.softmax_contrastive(s, 0.2)

    with pytest.raises(RuntimeError, match="would let a gradient of zeros pass"):
        check(lonely, "softmax_contrastive", temperature=0.2, inputs=np.ones((1, 1)), only_inputs=True)


def test_ones_own_inputs_are_tried_too() -> None:
    mine = [(np.eye(3)[:, :2] + 0.1, np.ones((3, 2)) * [1.0, 2.0])]
    report = check(refcl.nt_xent, "nt_xent", inputs=mine)
    assert report.ok
    assert report.probes[0].name == "your own 0"
    only = check(refcl.nt_xent, "nt_xent", inputs=mine, only_inputs=True)
    assert len(only.probes) == 1
    with pytest.raises(ValueError, match="inputs of nt_xent are a, b; got 1 arrays"):
        check(refcl.nt_xent, "nt_xent", inputs=[(np.eye(3),)])


def test_positive_and_ignore_go_with_ones_own_inputs() -> None:
    s = np.random.default_rng(0).uniform(-1, 1, (3, 5))
    positive, ignore = np.array([4, 0, 2]), np.zeros((3, 5), dtype=bool)
    ignore[1, 3] = True

    def candidate(s: Any, temperature: Any) -> Any:
        return refcl.softmax_contrastive(s, temperature, positive=positive, ignore=ignore)

    settings: dict[str, Any] = {"inputs": s, "only_inputs": True, "positive": positive}
    assert check(candidate, "softmax_contrastive", ignore=ignore, **settings).ok
    assert not check(candidate, "softmax_contrastive", **settings).ok


def test_one_shape_for_all() -> None:
    seen = set()

    def built_for_one_size(a: Any, b: Any) -> Any:
        seen.add(a.shape)
        return refcl.nt_xent(a, b, 0.2)

    assert check(built_for_one_size, "nt_xent", temperature=0.2, shape=(4, 6)).ok
    assert seen == {(4, 6)}


def test_values_alone_are_judged_and_it_is_said() -> None:
    report = check(lambda a, b: refcl.nt_xent(a, b, 0.2)[0], "nt_xent", temperature=0.2)
    assert report.ok
    assert not report.gradient_judged
    assert "gradients (none were returned)" in str(report)


@pytest.mark.parametrize(("factor", "verdict"), [(1.0, "not judged"), (9.0, "scaled-by-constant")])
def test_gradients_on_all_batches_but_one_are_judged_and_not_called_correct(factor: float, verdict: str) -> None:
    def forgetful(a: Any, b: Any) -> Any:
        value, grads = refcl.nt_xent(a, b, 0.2)
        return value if a.shape == (5, 12) else (value, tuple(factor * g for g in grads[:2]))

    report = check(forgetful, "nt_xent", temperature=0.2)
    assert report.verdict == verdict
    assert "none were returned" not in str(report)
    assert 'Gradients were returned on 7 of 8 batches, not on "ordinary".' in str(report)


def test_gradients_that_come_once_and_not_again_are_said() -> None:
    calls: list[int] = []

    def moody(a: Any, b: Any) -> Any:
        calls.append(1)
        value, grads = refcl.nt_xent(a, b, 0.2)
        return value if len(calls) == 1 else (value, grads[:2])

    reason = check(moody, "nt_xent", temperature=0.2).reason
    assert reason == "of two calls on the same input one returned gradients and one did not."


@pytest.mark.slow
def test_a_slow_function_is_differentiated_on_the_small_batches_only() -> None:
    calls = []

    def counted(query: Any, key: Any, temperature: Any) -> Any:
        calls.append(query.shape)
        return refcl.info_nce(query, key, temperature)[0]

    report = check(numeric(counted), "info_nce")
    assert report.ok
    assert report.gradient_judged
    assert "on 4 of 16 batches" in str(report)
    assert len(calls) < 1200


def test_numeric_supplies_gradients() -> None:
    report = check(numeric(lambda a, b: refcl.nt_xent(a, b, 0.2)[0]), "nt_xent", temperature=0.2)
    assert report.ok
    assert report.gradient_judged
    flat = numeric(lambda a, b: refcl.nt_xent(a, b, 0.2, normalize=False)[0])
    assert check(flat, "nt_xent", temperature=0.2).verdict == "not-normalized"


def test_nan_where_a_number_is_due_is_a_difference() -> None:
    report = check(lambda a, b: np.nan, "nt_xent", temperature=0.2)
    assert report.verdict == "differs"
    assert report.differences[0].what.startswith('value is NaN on "ordinary"')


RAISES = (
    (lambda a, b: 1 / 0, 'the candidate raised ZeroDivisionError: division by zero on probe "ordinary"'),
    (lambda a, b: 3, "the value is made of integers (int64): something was rounded or truncated."),
    (lambda a, b: a, 'the value has shape (5, 12); expected a scalar with reduction="mean".'),
    (lambda a, b: None, "it returned None; expected a value, or (value, grads)."),
    (lambda a, b: "2.0", "the value is a str, not a number or an array of numbers."),
    (lambda a, b: 1j, "the value is complex."),
    (lambda a, b: (1.0, (a, b, 0.0, 0.0)), "it returned 4 gradients; expected 2 or 3: da, db, dtemperature."),
    (lambda a, b: (1.0, (a, b.T)), "the gradient of b has shape (12, 5); expected (5, 12)."),
    (lambda a, b: (1.0, (a.astype(int), b)), "the gradient of a is made of integers"),
    (lambda a, b: (1.0, (a, b, a)), "the gradient of the temperature has shape (5, 12); expected ()."),
    (lambda a, b: np.random.default_rng().random(), "two calls on the same input differ by"),
    (
        lambda a: 1.0,
        "the candidate takes 1 positional arguments; nt_xent gives it 2: a, b."
        ' Where it takes them together, say inputs="stacked" or inputs="views".',
    ),
    (lambda a, b, t, x: 1.0, "the candidate requires 4 positional arguments (a, b, t, x)"),
    (3.0, "the candidate is a float, which can't be called."),
)


@pytest.mark.parametrize(("candidate", "sentence"), RAISES, ids=[sentence for _, sentence in RAISES])
def test_what_cannot_be_judged_gets_one_sentence(candidate: Any, sentence: str) -> None:
    report = check(candidate, "nt_xent", temperature=0.2)
    assert report.verdict == "not judged"
    assert not report.ok
    assert sentence in report.reason
    assert report.reason.count("\n") == 0
    assert str(report).startswith("nt_xent: could not be judged: ")


def test_a_traceback_is_the_candidates_own() -> None:
    def inner(a: Any) -> Any:
        return a["no such field"]

    report = check(lambda a, b: inner(a), "nt_xent", temperature=0.2)
    assert "inner(a)" in report.trace
    assert "candidate.py" not in report.trace


def test_a_candidate_that_leaves_is_kept() -> None:
    def leaves(a: Any, b: Any) -> Any:
        raise SystemExit(3)

    assert "SystemExit" in check(leaves, "nt_xent", temperature=0.2).reason


def test_an_unknown_temperature_is_asked_for() -> None:
    report = check(lambda a, b: 1.0, "nt_xent")
    assert "its temperature is baked in and not known" in report.reason


def test_changing_an_input_is_noticed() -> None:
    def careless(a: Any, b: Any) -> Any:
        a /= np.linalg.norm(a, axis=1, keepdims=True)
        return refcl.nt_xent(a, b, 0.2)[0]

    report = check(careless, "nt_xent", temperature=0.2)
    assert report.notes == ["It changes its argument a in place."]


def test_none_for_a_gradient_is_judged_as_zeros() -> None:
    def stopped(query: Any, key: Any) -> Any:
        loss, grads = refcl.info_nce(query, key, 0.2)
        return loss, (grads.dquery, None)

    report = check(stopped, "info_nce", temperature=0.2)
    assert report.verdict == "keys-detached"
    assert report.notes == ["Its gradient of key is None: judged as zeros."]


@pytest.mark.parametrize(
    "form",
    [
        lambda value, da, db: (value, (da, db)),
        lambda value, da, db: [value, [da, db]],
        lambda value, da, db: (value, da, db),
        lambda value, da, db: (value, {"a": da, "b": db}),
        lambda value, da, db: (float(value), (da.tolist(), db)),
        lambda value, da, db: (np.array([value]), (da, db)),
    ],
)
def test_the_forms_of_an_answer(form: Any) -> None:
    report = check(lambda a, b: form(*flat(in_numpy.right(a, b, 0.2))), "nt_xent", temperature=0.2)
    assert report.ok, str(report)
    assert report.gradient_judged


def flat(answer: Any) -> Any:
    value, (da, db) = answer
    return value, da, db


def test_single_precision_is_held_to_single_precision() -> None:
    def narrow(a: Any, b: Any) -> Any:
        loss, grads = refcl.nt_xent(a.astype(np.float32), b.astype(np.float32), 0.2)
        return loss, grads[:2]

    assert check(narrow, "nt_xent", temperature=0.2).ok
    widened = check(lambda a, b: float(narrow(a, b)[0]), "nt_xent", temperature=0.2)
    assert widened.ok
    assert "single precision inside" in widened.notes[0]
    halved = check(lambda a, b: float(np.float16(narrow(a, b)[0])), "nt_xent", temperature=0.2)
    assert halved.verdict == "low-precision"


def test_an_upstream_that_is_not_taken_is_said() -> None:
    report = check(
        lambda a, b: refcl.nt_xent(a, b, 0.2, reduction="none"), "nt_xent", temperature=0.2, reduction="none"
    )
    assert report.ok
    assert "takes no upstream gradient" in report.notes[0]


@pytest.mark.parametrize(
    ("settings", "error", "sentence"),
    [
        ({"loss": "no_loss_at_all"}, ValueError, "no loss is called 'no_loss_at_all'; known are align_uniform, "),
        ({"loss": "InfoNCE"}, ValueError, r"no loss is called 'InfoNCE'; did you mean info_nce\?"),
        ({"loss": refcl.nt_xent}, TypeError, 'check: loss must be a name such as "info_nce", got Pair'),
        ({"loss": "nt_xent", "temperature": 0}, ValueError, "check: temperature must be > 0 and finite, got 0"),
        ({"loss": "clip", "temperature": -1.0}, ValueError, "check: temperature must be > 0 and finite, got -1.0"),
        ({"loss": "nt_xent", "temperature": "0.1"}, TypeError, "check: temperature must be a number, got str"),
        ({"loss": "nt_xent", "hardest": 3}, TypeError, "nt_xent has no setting 'hardest'"),
        ({"loss": "hard_info_nce"}, TypeError, "hard_info_nce needs hardest="),
        ({"loss": "nt_xent", "direction": "left"}, ValueError, "direction must be"),
        ({"loss": "triplet", "positive_in_denominator": False}, ValueError, "not for triplet"),
        ({"loss": "nt_xent", "detached": ("c",)}, ValueError, "nt_xent has no 'c'; it has a, b, candidates"),
        ({"loss": "nt_xent", "scale": "x"}, ValueError, "no scale is called 'x'"),
        ({"loss": "nt_xent", "reduction": "max"}, ValueError, "reduction must be"),
    ],
)
def test_a_question_that_makes_no_sense_is_refused(settings: Any, error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        check(refcl.nt_xent, **settings)


def test_a_sum_of_no_positives_in_a_logarithm_is_said() -> None:
    """An anchor without positives makes log 0 there, which no divisor helps."""

    def mine(query: Any, key: Any, temperature: float, *, positives: Any) -> Any:
        z, c = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (query, key))
        logits = z @ c.T / temperature
        e = np.exp(logits - logits.max(axis=1, keepdims=True))
        with np.errstate(divide="ignore"):
            return np.mean(np.log(e.sum(axis=1)) - np.log((e * positives).sum(axis=1)))

    text = str(check(mine, "multi_positive"))
    assert "log 0 infinite" in text
    assert "take no logarithm of a sum of none: the loss is 0 there" in text


def test_a_report_is_text_and_json() -> None:
    report = check(in_numpy.self_in_denominator, "nt_xent", passes_scalar=True)
    text = str(report)
    for part in ("self-in-denominator", "change it to", "https://github.com/", "ratio", "cosine", "BROKEN"):
        assert part in text
    told = json.loads(report.to_json())
    assert told["verdict"] == "self-in-denominator"
    assert told["ok"] is False
    assert told["findings"][0]["mistakes"][0]["links"] == ["https://github.com/shashank2000/JeopardyContrastive"]
    assert len(told["probes"]) == len(report.probes)
    overflow = check(in_numpy.raw_exponentials, "nt_xent", passes_scalar=True)
    told = json.loads(overflow.to_json(), parse_constant=pytest.fail)
    assert told["verdict"] == "overflow-at-small-temperature"
    assert None in [part["got"] for probe in told["probes"] for part in probe["parts"]]


def test_an_assertion_says_the_name_first() -> None:
    assert_correct(refcl.nt_xent, "nt_xent")
    with pytest.raises(AssertionError) as caught:
        assert_correct(in_numpy.self_in_denominator, "nt_xent", passes_scalar=True)
    assert str(caught.value).splitlines()[0] == "self-in-denominator"


def test_a_check_is_quick() -> None:
    """In Python calls, which no busy machine makes more."""
    calls = 0

    def count(frame: Any, event: str, arg: Any) -> None:
        nonlocal calls
        calls += event == "call"

    def wrong(a: Any, b: Any) -> Any:
        return in_numpy.right(a, b, 0.04)

    check(wrong, "nt_xent", temperature=0.2)  # whatever is imported on the way is no part of it
    before = sys.getprofile()
    sys.setprofile(count)
    try:
        report = check(wrong, "nt_xent", temperature=0.2)
    finally:
        sys.setprofile(before)
    assert report.verdict == "differs"
    assert 1000 < calls < 400_000


def test_nothing_infinite_agrees_with_anything() -> None:
    question = ask("nt_xent", temperature=0.2)
    probe = probes(question, passes_scalar=False)[0]
    right = question.expected(probe.inputs, probe.scalar)
    broken = right._replace(value=np.asarray(np.inf), value_size=np.inf)
    from refcl.oracle.candidate import Outcome

    outcome = Outcome(right.value, None, None, EPS)
    assert compare(broken, outcome, ("a", "b"))[0].distance == np.inf
    assert compare(right, Outcome(np.asarray(np.nan), None, None, EPS), ("a", "b"))[0].distance == np.inf


def test_an_epsilon_that_changes_nothing_is_a_note() -> None:
    report = check(lambda a, b: epsilon_below_the_line(a, b, 0.2), "nt_xent", temperature=0.2)
    assert report.verdict == "correct"
    assert "below 1e-6" in report.notes[0]
