"""Training: the same bits every time, the same walk in every library, and gradients that are the loss's own."""

from typing import Any

import numpy as np
import pytest
from backends import NUMPY, Backend, backend_named, ban_host_reads

from refcl import hard_info_nce, hard_simple_loss, info_nce, metrics, simple_loss
from refcl.experiment import keys, train
from refcl.experiment.data import Part, load
from refcl.experiment.errors import StudyError
from refcl.experiment.evaluate import encoder_of, evaluate, named_arrays, tolerance_scores, uniformity_scores
from refcl.experiment.keys import SOURCES
from refcl.experiment.objectives import OBJECTIVES, Run, prepare_loss
from refcl.experiment.objectives import PAPERS as LOSSES
from refcl.experiment.optim import tree_map
from refcl.experiment.results.records import ARRAYS
from refcl.experiment.train import Settings, start_model
from refcl.walk.encoder import mlp

DIGITS = load()
SMALL = DIGITS._replace(training=DIGITS.training._replace(x=DIGITS.training.x[:100], y=DIGITS.training.y[:100]))
QUICK = Settings(epochs=2, batch=32, hidden=(24,), dimension=6, queue=70)


def run_of(loss: str, *, seed: int = 0) -> Run:
    entry = OBJECTIVES[loss]
    return Run(loss, 0.3 if entry.temperature else None, 0.2 if entry.hardest else None, seed)


def leaves(tree: Any) -> list[Any]:
    return [leaf for branch in tree for leaf in leaves(branch)] if isinstance(tree, tuple) else [tree]


def trained(run: Run, settings: Settings = QUICK) -> train.Model:
    return train.train(SMALL, run, settings, np.asarray, lambda epoch: None)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("loss", LOSSES)
def test_a_run_has_the_same_bits_every_time(loss: str, source: str) -> None:
    settings = QUICK._replace(keys=source)
    first, again, other = (trained(run_of(loss, seed=seed), settings) for seed in (0, 0, 1))
    for one, two, three in zip(leaves(first), leaves(again), leaves(other), strict=True):
        assert one.dtype == np.float32
        assert np.all(np.isfinite(one))
        np.testing.assert_array_equal(one, two)
        assert not np.array_equal(one, three)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("source", SOURCES)
def test_training_runs_in_any_library_without_looking_at_its_arrays(
    source: str, optimizer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = QUICK._replace(keys=source, optimizer=optimizer)
    for loss in LOSSES:
        expected = trained(run_of(loss), settings)
        strict = backend_named("strict-no-float64")
        with monkeypatch.context() as patch:
            ban_host_reads(patch)
            model = train.train(SMALL, run_of(loss), settings, strict.array, lambda epoch: None)
        if optimizer == "sgd":
            for ours, theirs in zip(leaves(model.params), leaves(expected.params), strict=True):
                np.testing.assert_allclose(strict.host(ours), theirs, atol=1e-5)
        else:
            # Embeddings, and not to the last digit: batch norm takes out the bias before it, whose gradient is rounding
            # alone, and Adam makes steps of full size out of rounding. The gradients themselves are held below.
            ours = strict.host(train.embed(model, strict.array(SMALL.held_out.x)))
            np.testing.assert_allclose(ours, train.embed(expected, SMALL.held_out.x), atol=1e-2)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("loss", LOSSES)
def test_the_gradients_of_a_batch_are_the_same_in_any_library(loss: str, source: str) -> None:
    run, settings = run_of(loss), QUICK._replace(keys=source)
    strict = backend_named("strict-no-float64")
    index, views = np.arange(32), np.random.default_rng(0).standard_normal((2, 32, 64)).astype(np.float32)
    found = []
    for send in (np.asarray, strict.array):
        model = start_model(0, 64, settings, send)
        memory, remaining = train._start_memory(run, settings, 200, model), iter(views)
        asked = prepare_loss(run, source)
        chosen = train.Chosen(index, send(index))
        grads, _, _ = train._gradients(
            asked, model, memory, lambda rest=remaining, s=send: s(next(rest)), chosen, index
        )
        found.append([strict.host(leaf) for leaf in leaves(grads)])
    largest = max(np.max(np.abs(leaf)) for leaf in found[0])
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(theirs, ours, rtol=0, atol=1e-5 * largest)


def test_a_run_starts_from_the_same_encoder_under_every_loss() -> None:
    start = start_model(3, 64, QUICK, np.asarray)
    still = [trained(run_of(loss, seed=3), QUICK._replace(learning_rate=1e-30)) for loss in LOSSES]
    for model in still:
        for ours, theirs in zip(leaves(model.params), leaves(start.params), strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-20)


def test_every_epoch_is_counted_and_every_batch_is_full() -> None:
    epochs: list[int] = []
    train.train(SMALL, run_of("info_nce"), QUICK, np.asarray, epochs.append)
    assert epochs == [1, 2]
    batches = list(train._batches(np.random.default_rng(0), np.zeros((200, 1)), 32))
    assert [batch.host.size for batch in batches] == [32] * 6
    assert np.unique(np.concatenate([batch.there for batch in batches])).size == 192


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("loss", LOSSES)
def test_the_gradients_are_those_of_the_loss(loss: str, source: str) -> None:
    """Along a random direction, by differences in float64; the memory is a constant."""
    rng = np.random.default_rng(0)
    run, settings = run_of(loss), QUICK._replace(keys=source, hidden=(9,), dimension=4)
    model = start_model(0, 64, settings, lambda x: x.astype(np.float64))
    memory = train._start_memory(run, settings, 200, model)
    index = rng.permutation(200)[:16]
    views = rng.standard_normal((2, 16, 64))
    direction = tree_map(lambda p: rng.standard_normal(p.shape), model.params)

    def value(params: Any) -> float:
        query, _ = mlp.forward(views[0], params)
        if isinstance(memory, keys.Bank):
            candidates = keys.bank_candidates(memory, index)
        elif isinstance(memory, keys.Queue):
            candidates = keys.queue_candidates(memory, views[1], index)
        else:
            h, _ = mlp.forward(np.concatenate([views[0], views[1]]), params)
            query, candidates = h[:16], keys.same_candidates(h[16:])
        which = {"positive": candidates.positive, "ignore": candidates.ignore}
        if loss == "info_nce":
            return float(info_nce.forward(query, candidates.key, 0.3, **which)[0])
        if loss == "simple_loss":
            return float(simple_loss.forward(query, candidates.key, **which)[0])
        if loss == "hard_info_nce":
            return float(hard_info_nce.forward(query, candidates.key, 0.3, hardest=0.2, **which)[0])
        return float(hard_simple_loss.forward(query, candidates.key, hardest=0.2, **which)[0])

    remaining = iter(views)
    asked = prepare_loss(run, source)
    (dparams, _), _, _ = train._gradients(
        asked, model, memory, lambda: next(remaining), train.Chosen(index, index), index
    )
    slope = sum(float(np.sum(d * v)) for d, v in zip(leaves(dparams), leaves(direction), strict=True))
    h = 1e-6
    up, down = (value(tree_map(lambda p, v, s=sign: p + s * h * v, model.params, direction)) for sign in (1.0, -1.0))
    assert abs(slope) > 1e-3
    assert slope == pytest.approx((up - down) / (2 * h), rel=1e-5)


def test_a_bank_takes_the_batch_after_the_loss() -> None:
    rng = np.random.default_rng(0)
    model = start_model(0, 64, QUICK, np.asarray)
    bank = train._start_memory(run_of("info_nce"), QUICK, 200, model)
    assert isinstance(bank, keys.Bank)
    view, index = rng.standard_normal((8, 64)).astype(np.float32), np.arange(8)
    asked = prepare_loss(run_of("info_nce"), "bank")
    _, _, after = train._gradients(asked, model, bank, lambda: view, train.Chosen(index, index), index)
    assert isinstance(after, keys.Bank)
    assert not np.array_equal(after.entries[:8], bank.entries[:8])
    np.testing.assert_array_equal(after.entries[8:], bank.entries[8:])


def test_training_learns_and_is_measured() -> None:
    settings = Settings(epochs=4, hidden=(64,), dimension=16)
    run = run_of("info_nce")
    before = start_model(0, 64, settings, np.asarray)
    after = train.train(DIGITS, run, settings, np.asarray, lambda epoch: None)
    numbers, arrays = evaluate(after, before, DIGITS, run, settings, np.asarray)
    untrained, _ = evaluate(before, before, DIGITS, run, settings, np.asarray)
    assert numbers["few_label_accuracy"] > untrained["few_label_accuracy"] + 0.05
    assert numbers["uniformity"] > untrained["uniformity"] + 0.5
    assert arrays["embedding"].shape == arrays["embedding_before"].shape == (540, 16)
    encoder = named_arrays(after, run)
    again = encoder_of(encoder, run, np.asarray)
    for ours, theirs in zip(leaves(tuple(again)), leaves(tuple(after)), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert set(ARRAYS) == set(arrays)
    sizes: dict[str, int] = {}
    for name, (letters, _) in ARRAYS.items():
        assert all(sizes.setdefault(k, n) == n for k, n in zip(letters, arrays[name].shape, strict=True))
    for name in ("embedding", "embedding_before"):
        np.testing.assert_allclose(np.linalg.norm(arrays[name], axis=1), 1.0, rtol=1e-5)
    assert arrays["nearest"].shape == (540, 10)
    assert np.all(np.diff(arrays["nearest"], axis=1) <= 0.0)
    # on the sphere the squared distance of two views is 2 - 2 times their similarity
    assert numbers["alignment"] == pytest.approx(2.0 - 2.0 * arrays["positive_similarity"].mean(), rel=1e-5)
    np.testing.assert_array_equal(arrays["labels"], DIGITS.held_out.y)
    # every number of the record is a mean over samples of what is kept of each
    assert numbers["linear_accuracy"] == arrays["linear_correct"].mean()
    assert numbers["few_label_accuracy"] == arrays["few_label_correct"].mean()
    assert numbers["uniformity"] == pytest.approx(-np.log(arrays["uniformity_score"].mean()), rel=1e-9)
    assert numbers["tolerance"] == pytest.approx(arrays["tolerance_score"].mean(), rel=1e-9)
    for part in ("", "_training"):
        gap = arrays[f"positive_similarity{part}"] - arrays[f"nearest{part}"][:, 0]
        assert numbers[f"separation{part}"] == pytest.approx(gap.mean(), rel=1e-5)
    h, _ = mlp.forward(DIGITS.held_out.x, rebuilt(encoder, "weight", "bias", "gamma", "beta"), training=False,
                       running=rebuilt(encoder, "running_mean", "running_variance"))  # fmt: skip
    np.testing.assert_allclose(h / np.linalg.norm(h, axis=1, keepdims=True), arrays["embedding"], rtol=1e-5, atol=1e-6)


def rebuilt(arrays: dict[str, Any], *names: str) -> tuple[tuple[Any, ...], ...]:
    """Return the parameters (or statistics) that a run's flat names stand for."""
    layers = ([f"layer{depth}_{name}" for name in names] for depth in range(2))
    return tuple(tuple(arrays[name] for name in layer if name in arrays) for layer in layers)


def test_a_run_that_diverged_is_refused() -> None:
    run = run_of("info_nce")
    model = start_model(0, 64, QUICK, np.asarray)
    for factor in (np.nan, 0.0, 1e30):
        broken = model._replace(params=tree_map(lambda p, f=factor: p * np.float32(f), model.params))
        with (
            np.errstate(over="ignore", invalid="ignore"),
            pytest.raises(StudyError, match="diverged under the info_nce loss; lower --learning-rate"),
        ):
            evaluate(broken, model, SMALL, run, QUICK, np.asarray)


def test_embeddings_are_the_same_in_every_library(backend: Backend) -> None:
    model = start_model(0, 64, QUICK, lambda x: x.astype(np.float64))
    here = train.Model(*backend.arrays(tuple(model)))
    z = train.embed(here, backend.array(SMALL.held_out.x[:20]))
    expected = train.embed(model, NUMPY.array(SMALL.held_out.x[:20]))
    np.testing.assert_allclose(backend.host(z), expected, rtol=1e-4, atol=1e-5)


def test_scores_are_influences(rng: np.random.Generator) -> None:
    """A resample's number is the mean of its scores, to first order: twice the change, four times the error."""
    z = rng.standard_normal((400, 5))
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    labels = rng.integers(0, 3, 400)
    s = z @ z.T

    def kernel(weight: np.ndarray) -> float:
        w = weight[:, None] * weight
        np.fill_diagonal(w, 0.0)
        return float(np.sum(w * np.exp(4.0 * s - 4.0)) / np.sum(w))

    def within(weight: np.ndarray) -> float:
        total = 0.0
        for label in range(3):
            rows = labels == label
            w = np.outer(weight[rows], weight[rows])
            np.fill_diagonal(w, 0.0)
            total += weight[rows].sum() * np.sum(w * s[np.ix_(rows, rows)]) / np.sum(w)
        return total / weight.sum()

    ones = np.ones(400)
    direction = rng.standard_normal(400)
    for scores, number in ((uniformity_scores(z), kernel), (tolerance_scores(z, labels), within)):
        assert scores.mean() == pytest.approx(number(ones), rel=1e-9)
        errors = []
        for step in (0.02, 0.01):
            weight = ones + step * direction
            errors.append(abs(np.average(scores, weights=weight) - number(weight)))
        assert errors[0] < 0.05 * abs(number(ones + 0.02 * direction) - number(ones)) + 1e-4
        assert errors[1] < 0.6 * errors[0] + 1e-7


def test_a_sample_alone_in_its_class_has_no_tolerance() -> None:
    scores = tolerance_scores(np.eye(3), np.array([0, 0, 1]))
    assert np.isnan(scores).tolist() == [False, False, True]


def test_memory_grows_with_the_samples_and_not_with_their_square(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tracemalloc

    monkeypatch.setattr(metrics, "STRIP_ENTRIES", 1 << 17)
    monkeypatch.setattr("refcl.experiment.evaluate.STRIP", 128)
    monkeypatch.setattr("refcl.experiment.probe.STRIP", 128)
    settings = Settings(epochs=1, hidden=(8,), dimension=4)
    run = run_of("info_nce")
    model = start_model(0, 5, settings, np.asarray)
    peaks = []
    for size in (600, 1800):
        parts = [Part(rng.standard_normal((size, 5)).astype(np.float32), np.arange(size) % 3) for _ in range(2)]
        data = DIGITS._replace(training=parts[0], held_out=parts[1], image=None, blank=0.0)
        tracemalloc.start()
        evaluate(model, model, data, run, settings, np.asarray)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 3.5 * peaks[0]
    assert peaks[1] < 1800 * 1800 * 4  # less than one matrix of all similarities, in float32
