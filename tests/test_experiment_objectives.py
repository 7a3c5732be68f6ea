"""The study's losses: each goes with the keys that it says, and what it asks of the encoder is its own gradient."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from backends import backend_named

from refcl.experiment import keys, train
from refcl.experiment.data import load
from refcl.experiment.errors import StudyError
from refcl.experiment.evaluate import evaluate, named_arrays
from refcl.experiment.keys import SOURCES, Candidates
from refcl.experiment.objectives import (
    OBJECTIVES,
    PAPER,
    PRETEXT,
    Batch,
    Run,
    check_keys,
    loss_named,
    losses_with,
    prepare_loss,
    start_learned,
)
from refcl.experiment.train import Settings, start_model
from refcl.metrics import alignment

DIGITS = load()
SMALL = DIGITS._replace(training=DIGITS.training._replace(x=DIGITS.training.x[:200], y=DIGITS.training.y[:200]))
QUICK = Settings(epochs=2, batch=32, hidden=(24,), dimension=6, queue=70)
FAMILY = [loss for loss, entry in OBJECTIVES.items() if entry.group not in (PAPER, PRETEXT)]
COMBINATIONS = [(loss, source) for loss in FAMILY for source in OBJECTIVES[loss].keys]
# Constants in the gradient, not in the value: weights, temperatures and, for `nce`, what is drawn.
DETACHED = ("macl", "fixed_entropy", "nce")


def run_of(loss: str, *, seed: int = 0) -> Run:
    return Run(loss, 0.3 if OBJECTIVES[loss].temperature else None, 0.2 if OBJECTIVES[loss].hardest else None, seed)


def leaves(tree: Any) -> Iterator[Any]:
    if isinstance(tree, tuple):
        for branch in tree:
            yield from leaves(branch)
    else:
        yield tree


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def a_batch(loss: str, source: str, dtype: str = "float64") -> Batch:
    """Return anchors with the candidates that a source gives."""
    rng = np.random.default_rng(3)
    query = rng.standard_normal((12, 6)).astype(dtype)
    if source == "same":
        candidates = keys.same_candidates(rng.standard_normal((12, 6)).astype(dtype))
    elif source == "bank":
        candidates = Candidates(unit(rng.standard_normal((40, 6))).astype(dtype), rng.permutation(40)[:12])
    else:
        left_out = np.concatenate([np.ones((12, 12), dtype=bool), rng.random((12, 50)) < 0.1], axis=1)
        candidates = Candidates(unit(rng.standard_normal((62, 6))).astype(dtype), np.arange(12), left_out)
    return Batch(query, candidates, np.arange(12) % 3, start_learned(loss, like=query))


def test_the_catalogue_names_every_objective_and_where_its_keys_come_from() -> None:
    named = {loss: entry for loss, entry in OBJECTIVES.items() if entry.group != "pretext"}
    for entry in named.values():
        assert (entry.views is not None) == ("same" in entry.keys)
        assert (entry.memory is not None) == ("bank" in entry.keys)
        assert ("queue" in entry.keys) == (entry.memory is not None and entry.queue)
    assert [loss for loss, entry in named.items() if entry.temperature] == [
        *("info_nce", "hard_info_nce", "nt_xent", "clip", "nce", "dcl", "dclw", "debiased", "hcl", "macl"),
        *("label_smoothing", "margin", "sup_con"),
    ]


@pytest.mark.parametrize(("loss", "source"), [c for c in COMBINATIONS if c[0] not in DETACHED])
def test_what_is_asked_is_the_gradient_of_the_value(loss: str, source: str) -> None:
    rng = np.random.default_rng(1)
    batch, asked = a_batch(loss, source), prepare_loss(run_of(loss), source)
    value, dquery, dkey, dlearned = asked(batch)
    assert np.isfinite(value)
    along = [rng.standard_normal(np.shape(x)) for x in (batch.query, batch.candidates.key, *batch.learned)]
    if dkey is None:  # a memory is a constant
        dkey, along[1] = np.zeros_like(along[1]), np.zeros_like(along[1])
    slope = sum(float(np.sum(d * v)) for d, v in zip((dquery, dkey, *dlearned), along, strict=True))

    def value_at(step: float) -> float:
        moved = batch._replace(
            query=batch.query + step * along[0],
            candidates=batch.candidates._replace(key=batch.candidates.key + step * along[1]),
            learned=tuple(np.asarray(x + step * v) for x, v in zip(batch.learned, along[2:], strict=True)),
        )
        return float(asked(moved)[0])

    h = 1e-6  # small: the triplets have kinks everywhere
    by_differences = (8 * (value_at(h) - value_at(-h)) - (value_at(2 * h) - value_at(-2 * h))) / (12 * h)
    assert abs(slope) > 1e-3
    assert slope == pytest.approx(by_differences, rel=1e-6)


@pytest.mark.parametrize(("loss", "source"), [c for c in COMBINATIONS if c[0] in DETACHED])
def test_losses_with_constants_in_the_gradient_pull_to_the_positive(loss: str, source: str) -> None:
    """A small step down the gradient brings anchors and positives together."""
    batch, asked = a_batch(loss, source), prepare_loss(run_of(loss), source)
    _, dquery, *_ = asked(batch)
    positive = batch.candidates.key[batch.candidates.positive]

    def cosine(query: Any) -> float:
        unit = query / np.linalg.norm(query, axis=1, keepdims=True)
        return float(np.mean(np.sum(unit * positive, axis=1)))

    assert cosine(batch.query - 0.1 * dquery) > cosine(batch.query)


@pytest.mark.parametrize(("loss", "source"), COMBINATIONS)
def test_the_same_in_any_library(loss: str, source: str) -> None:
    strict = backend_named("strict-no-float64")
    batch = a_batch(loss, source, "float32")
    there = Batch(
        strict.array(batch.query),
        Candidates(*(None if x is None else strict.array(x) for x in batch.candidates)),
        batch.labels,
        tuple(strict.array(x) for x in batch.learned),
    )
    ours = [x for x in leaves(prepare_loss(run_of(loss), source)(batch)) if x is not None]
    theirs = [x for x in leaves(prepare_loss(run_of(loss), source)(there)) if x is not None]
    for one, two in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(strict.host(two), one, rtol=1e-4, atol=1e-5 * float(np.max(np.abs(one))))


@pytest.mark.parametrize(
    ("loss", "source"),
    [
        pytest.param(loss, source, marks=[] if source == OBJECTIVES[loss].keys[0] else [pytest.mark.slow])
        for loss, source in COMBINATIONS
    ],
)
def test_training_repeats_its_bits_and_brings_two_views_together(loss: str, source: str) -> None:
    settings = QUICK._replace(keys=source, epochs=4)
    before = start_model(0, 64, settings, np.asarray)
    first, again = (train.train(SMALL, run_of(loss), settings, np.asarray, lambda epoch: None) for _ in range(2))
    for one, two in zip(leaves(first), leaves(again), strict=True):
        np.testing.assert_array_equal(one, two)
    assert len(first.learned) == len(OBJECTIVES[loss].learned)
    assert all(value[0] != start for value, (_, start) in zip(first.learned, OBJECTIVES[loss].learned, strict=True))
    rng = np.random.default_rng(0)
    views = [train.view(SMALL.held_out.x, rng, image=SMALL.image, blank=SMALL.blank) for _ in range(2)]

    def apart(model: train.Model) -> float:
        """Distance of two views of a sample, over that of two samples."""
        one, two = (np.asarray(train.embed(model, x), dtype=np.float64) for x in views)
        return float(alignment.forward(one, two)[0] / alignment.forward(one, np.roll(two, 1, axis=0))[0])

    assert apart(first) < apart(before)


def test_what_was_learned_is_recorded() -> None:
    run, settings = run_of("sig_lip"), QUICK._replace(keys="same")
    before = start_model(0, 64, settings, np.asarray)
    model = train.train(SMALL, run, settings, np.asarray, lambda epoch: None)
    evaluate(model, before, SMALL, run, settings, np.asarray)
    arrays = named_arrays(model, run)
    assert arrays["learned_log_scale"] == model.learned[0]
    assert arrays["learned_bias"] == model.learned[1]


def test_keys_that_do_not_go_with_a_loss_are_refused() -> None:
    for loss, entry in OBJECTIVES.items():
        for source in SOURCES:
            if source in entry.keys:
                check_keys([loss], source)
            else:
                with pytest.raises(
                    StudyError, match=f"the {loss} loss goes with --keys {' or '.join(entry.keys)}, not"
                ):
                    check_keys(["info_nce", loss], source)
    with pytest.raises(ValueError, match="does not go with keys 'bank'"):
        prepare_loss(run_of("nt_xent"), "bank")


def test_names_are_those_of_the_api() -> None:
    import refcl

    for loss, entry in OBJECTIVES.items():
        assert entry.group == PRETEXT or loss in refcl.info_nce.settings or callable(getattr(refcl, loss))
        assert "-" not in loss


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("nt_xent", "nt_xent"), ("nt-xent", "nt_xent"), ("NT-Xent", "nt_xent"), ("softmax", "info_nce"),
        ("simple", "simple_loss"), ("hard-softmax", "hard_info_nce"), ("hard_simple", "hard_simple_loss"),
        ("semi-hard-triplet", "semi_hard_triplet"),
    ],
)  # fmt: skip
def test_names_are_read_generously(word: str, name: str) -> None:
    assert loss_named(word) == name


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("nt_xnet", "no loss is called 'nt_xnet'; did you mean nt_xent?"),
        ("softmx", "did you mean softmax?"),
        ("zebra", "choose from info_nce simple_loss"),
        ("moco", "no loss of a study is called 'moco': it is info_nce with --keys queue."),
    ],
)
def test_names_that_are_none_get_the_nearest(word: str, sentence: str) -> None:
    with pytest.raises(StudyError) as caught:
        loss_named(word)
    assert sentence in str(caught.value)


@pytest.mark.parametrize("source", SOURCES)
def test_all_losses_are_all_that_go_with_the_keys(source: str) -> None:
    for pictures in (False, True):
        names = losses_with(source, pictures=pictures)
        check_keys(names, source)
        left = set(OBJECTIVES) - set(names)
        assert all(source not in OBJECTIVES[n].keys or (OBJECTIVES[n].group == PRETEXT and not pictures) for n in left)


@pytest.mark.parametrize("loss", ["hard_info_nce", "hard_simple_loss"])
@pytest.mark.parametrize("hardest", [0.1, 0.5, 7, 39, 1000, 1.0])
def test_the_hardest_alone_are_the_hardest_among_all(loss: str, hardest: float | int) -> None:
    """Taking them out first changes neither the value nor the gradient."""
    import refcl

    batch = a_batch("dcl", "bank")
    run = run_of(loss)._replace(hardest=hardest)
    value, dquery, dkey, _ = prepare_loss(run, "bank")(batch)
    whole = getattr(refcl, loss)
    given = {"hardest": hardest} | ({"temperature": 0.3} if run.temperature else {})
    expected, grads = whole(batch.query, batch.candidates.key, positive=batch.candidates.positive, **given)
    assert dkey is None
    np.testing.assert_allclose(value, expected, rtol=1e-13)
    np.testing.assert_allclose(dquery, grads.dquery, rtol=1e-11, atol=1e-15)


@pytest.mark.parametrize("backend", ["numpy", "strict-no-float64"])
def test_the_largest_are_found_in_any_library(backend: str, rng: np.random.Generator) -> None:
    library = backend_named(backend)
    s = rng.standard_normal((9, 40)).astype(np.float32)
    found = library.host(keys.largest(library.array(s), 6))
    np.testing.assert_array_equal(np.sort(found, axis=1), np.sort(np.argsort(s, axis=1)[:, -6:], axis=1))
