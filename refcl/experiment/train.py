"""Data -> a trained encoder.

In:  the training part, a loss and its settings.
Out: the encoder's parameters and running statistics. The walk of the package, with an optimiser at its end.
Nothing here knows where the arrays live: they are moved to their device once and stay there.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from refcl.core.arrays import Array, integers, namespace
from refcl.experiment import keys, optim
from refcl.experiment.data import Data
from refcl.experiment.device import generator_beside
from refcl.experiment.keys import Bank, Params, Queue
from refcl.experiment.objectives import Batch, Loss, Run, prepare_loss, start_learned
from refcl.experiment.seeding import generator
from refcl.experiment.views import Strength, view
from refcl.walk.encoder import he_init, initial_running, mlp, updated_running
from refcl.walk.layers import Statistics
from refcl.walk.sphere import l2_normalize

Send = Callable[[np.ndarray], Array]


class Settings(NamedTuple):
    """What all runs of a study share."""

    keys: str = keys.BANK
    epochs: int = 100
    batch: int = 128
    optimizer: str = "adam"
    learning_rate: float = 2e-3
    weight_decay: float = 0.0
    hidden: tuple[int, ...] = (256, 256)
    dimension: int = 32
    queue: int = 1024  # entries, where keys are a queue; fewer where there are fewer training samples
    views: Strength = Strength()
    device: str = "cpu"


class Chosen(NamedTuple):
    """Which training samples a batch holds."""

    host: np.ndarray  # (B,)
    there: Array  # (B,) the same beside the samples


class Model(NamedTuple):
    """What a run trains: the encoder, its running statistics, and what the loss learns."""

    params: Params
    running: tuple[Statistics, ...]
    learned: tuple[Array, ...] = ()  # what the loss learned beside the encoder, (1,) each


Memory = Bank | Queue | None
Trained = tuple[Params, tuple[Array, ...]]  # the encoder, and what the loss learns beside it


def start_model(seed: int, features: int, settings: Settings, send: Send) -> Model:
    """Return the untrained encoder of a seed: the same one under every loss.

    Parameters
    ----------
    seed : int
        Of the run.
    features : int
        F, the width of the input.
    settings : Settings
        Read here: the widths.
    send : callable
        Moves a NumPy array to the device.

    Returns
    -------
    Model
        In float32, batch norm in the hidden layers.
    """
    widths = (features, *settings.hidden, settings.dimension)
    params = he_init(generator(seed, "encoder"), widths, batch_norm=True, dtype="float32")
    params = optim.tree_map(send, params)
    return Model(params, initial_running(params))


EMBEDDED = 2048  # samples at a time: with running statistics each is embedded by itself


def embed(model: Model, x: Array) -> Array:
    """Return the embeddings (N, D) of samples (N, F), of length 1, with batch norm's running statistics."""
    parts = []
    for start in range(0, x.shape[0], EMBEDDED):
        stop = min(start + EMBEDDED, x.shape[0])
        h, _ = mlp.forward(x[start:stop, :], model.params, training=False, running=model.running)
        parts.append(l2_normalize.forward(h)[0])
    return namespace(x).concat(parts, axis=0)


def train(data: Data, run: Run, settings: Settings, send: Send, tick: Callable[[int], None]) -> Model:
    """Train an encoder.

    Parameters
    ----------
    data : Data
        Read here: the training part.
    run : Run
        The loss and the seed.
    settings : Settings
        Everything else.
    send : callable
        Moves a NumPy array to the device.
    tick : callable
        Called with the number of finished epochs after each.

    Returns
    -------
    Model
        Depends on the arguments only: the same bits every time, on one machine with one set of versions.
    """
    x = send(data.training.x)
    model = start_model(run.seed, x.shape[1], settings, send)
    changes = generator_beside(run.seed, "views", like=x)
    loss = prepare_loss(run, settings.keys)

    def gradients(
        params: Trained, carried: tuple[tuple[Statistics, ...], Memory], sample: Array, chosen: Chosen
    ) -> tuple[Trained, tuple[tuple[Statistics, ...], Memory]]:
        running, memory = carried
        model = Model(params[0], running, params[1])

        def another_view() -> Array:
            return view(sample, changes, image=data.image, blank=data.blank, strength=settings.views)

        grads, running, memory = _gradients(loss, model, memory, another_view, chosen, data.training.y[chosen.host])
        return grads, (running, memory)

    start: Trained = (model.params, start_learned(run.loss, like=x))
    memory = _start_memory(run, settings, x.shape[0], model)
    (params, learned), (running, _) = descend(x, start, (model.running, memory), gradients, run.seed, settings, tick)
    return Model(params, running, learned)


def descend(
    x: Array,
    params: optim.Tree,
    carried: Any,
    gradients: Callable[[Any, Any, Array, Chosen], tuple[Any, Any]],
    seed: int,
    settings: Settings,
    tick: Callable[[int], None],
) -> tuple[Any, Any]:
    """Go down the gradients of one batch after the other.

    Parameters
    ----------
    x : (N, F) array
        The training samples.
    params : nested tuple of arrays
        Where to start.
    carried : object
        What goes from batch to batch beside the parameters.
    gradients : callable
        ``gradients(params, carried, sample, chosen)``, with the samples of a batch and their numbers, returns the
        gradients, nested like the parameters, and what is carried to the next batch.
    seed : int
        Of the run, for the order of the samples.
    settings : Settings
        Read here: epochs, batch and what the optimiser needs.
    tick : callable
        Called with the number of finished epochs after each.

    Returns
    -------
    params, carried
        After the last batch.
    """
    xp = namespace(x)
    start, step = (optim.start_adam, optim.adam) if settings.optimizer == "adam" else (optim.start_sgd, optim.sgd)
    state: Any = start(params)
    order = generator(seed, "order")
    for epoch in range(settings.epochs):
        rate = optim.step_schedule(settings.learning_rate, epoch, settings.epochs)
        for chosen in _batches(order, x, settings.batch):
            sample = xp.take(x, chosen.there, axis=0)
            grads, carried = gradients(params, carried, sample, chosen)
            params, state = step(params, grads, state, rate=rate, weight_decay=settings.weight_decay)
        tick(epoch + 1)
    return params, carried


def _gradients(
    loss: Loss, model: Model, memory: Memory, another_view: Callable[[], Array], chosen: Chosen, labels: np.ndarray
) -> tuple[Trained, tuple[Statistics, ...], Memory]:
    """Return the gradients of one batch, the running statistics and the memory after it."""
    batch = chosen.host.size
    x = another_view()
    xp = namespace(x)
    if memory is None:  # both views through the encoder, gradients through both
        h, cache = mlp.forward(xp.concat([x, another_view()], axis=0), model.params)  # (2B, D)
        pairs = keys.same_candidates(h[batch:, :])
        _, dquery, dkey, dlearned = loss(Batch(h[:batch, :], pairs, labels, model.learned))
        dh = xp.concat([dquery, dkey], axis=0)
    else:
        h, cache = mlp.forward(x, model.params)  # (B, D)
        if isinstance(memory, Bank):
            candidates = keys.bank_candidates(memory, chosen.there)
            memory = keys.updated_bank(memory, l2_normalize.forward(h)[0], chosen.host)
        else:
            memory = keys.followed(memory, model.params)
            candidates = keys.queue_candidates(memory, another_view(), chosen.host)
            memory = keys.enqueued(memory, candidates.key[:batch, :], chosen.host)
        _, dh, _, dlearned = loss(Batch(h, candidates, labels, model.learned))  # the memory takes no gradient
    _, dparams = mlp.backward(dh, cache, to_input=False)
    return (dparams, dlearned), updated_running(cache, model.running), memory


def _start_memory(run: Run, settings: Settings, size: int, model: Model) -> Memory:
    if settings.keys == keys.SAME:
        return None
    rng = generator(run.seed, "memory")
    if settings.keys == keys.BANK:
        return keys.start_bank(rng, size, settings.dimension, like=model.params[0][0])
    return keys.start_queue(rng, min(settings.queue, size), settings.dimension, model.params)


def _batches(rng: np.random.Generator, x: Array, batch: int) -> Iterator[Chosen]:
    # What is left over at the end of an epoch waits for the next, another permutation: every batch is of one size.
    order = rng.permutation(x.shape[0])
    there = integers(order, like=x)  # an epoch's at once
    for start in range(0, x.shape[0] - batch + 1, batch):
        yield Chosen(order[start : start + batch], there[start : start + batch])
