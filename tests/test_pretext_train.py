"""Training on a pretext task: gradients of the whole walk, the same bits every time, every library, and learning."""

from typing import Any

import numpy as np
import pytest
from backends import backend_named, ban_host_reads

from refcl.experiment.data import Data, load
from refcl.experiment.evaluate import evaluate
from refcl.experiment.objectives import Run
from refcl.experiment.optim import tree_map
from refcl.experiment.pretext.heads import side_by_side
from refcl.experiment.pretext.tasks import TASKS, Task
from refcl.experiment.pretext.train import start_head, task_gradients, train_pretext
from refcl.experiment.train import Model, Send, Settings, embed, start_model
from refcl.experiment.views import Strength
from refcl.walk.encoder import mlp

DIGITS = load()
SMALL = DIGITS._replace(training=DIGITS.training._replace(x=DIGITS.training.x[:200], y=DIGITS.training.y[:200]))
QUICK = Settings(epochs=2, batch=32, hidden=(24,), dimension=6)
every_task = pytest.mark.parametrize("name", TASKS)


def leaves(tree: Any) -> list[Any]:
    return [leaf for branch in tree for leaf in leaves(branch)] if isinstance(tree, tuple) else [tree]


def trained(name: str, *, seed: int = 0, settings: Settings = QUICK, send: Any = np.asarray) -> Model:
    return train_pretext(SMALL, Run(name, None, None, seed), settings, send, lambda epoch: None)


@every_task
def test_the_gradients_are_those_of_the_task(name: str) -> None:
    """Along a random direction in the encoder and the head at once, by differences in float64."""
    rng = np.random.default_rng(0)

    def send(x: np.ndarray) -> np.ndarray:
        return x.astype(np.float64)

    task = TASKS[name](DIGITS, QUICK.views)
    model = start_model(0, 64, QUICK, send)
    params = (model.params, start_head(0, task, QUICK, send))
    question = task.ask(DIGITS.training.x[:16].astype(np.float64), rng)
    direction = tree_map(lambda p: rng.standard_normal(p.shape), params)

    def value(params: Any) -> float:
        h, _ = mlp.forward(question.x, params[0])
        outputs, _ = mlp.forward(side_by_side.forward(h, patches=task.patches)[0], params[1])
        return float(task.loss.forward(outputs, **question.answer)[0])

    grads, _ = task_gradients(params, model.running, task, question)
    slope = sum(float(np.sum(d * v)) for d, v in zip(leaves(grads), leaves(direction), strict=True))
    h = 1e-6
    up, down = (value(tree_map(lambda p, v, s=sign: p + s * h * v, params, direction)) for sign in (1.0, -1.0))
    assert abs(slope) > 1e-3
    assert slope == pytest.approx((up - down) / (2 * h), rel=1e-5)


@every_task
def test_a_run_has_the_same_bits_every_time(name: str) -> None:
    first, again, other = (trained(name, seed=seed) for seed in (0, 0, 1))
    for one, two, three in zip(leaves(first), leaves(again), leaves(other), strict=True):
        assert one.dtype == np.float32
        assert np.all(np.isfinite(one))
        np.testing.assert_array_equal(one, two)
        assert not np.array_equal(one, three)


@every_task
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_training_runs_in_any_library_without_looking_at_its_arrays(
    name: str, optimizer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = QUICK._replace(optimizer=optimizer)
    expected = trained(name, settings=settings)
    strict = backend_named("strict-no-float64")
    with monkeypatch.context() as patch:
        ban_host_reads(patch)
        model = trained(name, settings=settings, send=strict.array)
    ours = strict.host(embed(model, strict.array(SMALL.held_out.x)))
    np.testing.assert_allclose(ours, embed(expected, SMALL.held_out.x), atol=1e-2)


@every_task
def test_a_run_starts_from_the_encoder_of_every_other_loss(name: str) -> None:
    start = start_model(3, 64, QUICK, np.asarray)
    still = trained(name, seed=3, settings=QUICK._replace(learning_rate=1e-30))
    for ours, theirs in zip(leaves(still.params), leaves(start.params), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-20)


def test_every_epoch_is_counted() -> None:
    epochs: list[int] = []
    train_pretext(SMALL, Run("rotation", None, None, 0), QUICK, np.asarray, epochs.append)
    assert epochs == [1, 2]


@pytest.mark.parametrize(
    "name",
    [name if name in ("rotation", "colourisation") else pytest.param(name, marks=pytest.mark.slow) for name in TASKS],
)
def test_the_task_is_learnt_and_the_encoder_measured(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every batch is asked anew, so that a falling loss is no memory of the answers."""
    losses: list[float] = []

    def watched(data: Data, strength: Strength, send: Send) -> Task:
        task = prepare(data, strength, send)

        def loss(outputs: np.ndarray, **answer: np.ndarray) -> Any:
            value, grads = task.loss(outputs, **answer)
            losses.append(float(value))
            return value, grads

        return task._replace(loss=loss)

    prepare = TASKS[name]
    monkeypatch.setitem(TASKS, name, watched)
    settings = Settings(epochs=8, hidden=(64,), dimension=16)
    run = Run(name, None, None, 0)
    before = start_model(0, 64, settings, np.asarray)
    after = train_pretext(DIGITS, run, settings, np.asarray, lambda epoch: None)
    task = prepare(DIGITS, settings.views)
    guessing = np.log(task.outputs) if name != "colourisation" else np.mean(losses[:9])
    assert np.mean(losses[-9:]) < 0.85 * guessing
    numbers, arrays = evaluate(after, before, DIGITS, run, settings, np.asarray)
    assert arrays["embedding"].shape == (540, 16)
    assert numbers["linear_accuracy"] > 0.7
