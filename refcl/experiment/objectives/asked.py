"""How a loss of a study is asked: anchors and candidates -> the gradients that the encoder is trained by.

In:  a loss of the package and a run; then the anchors of a batch, what they are compared with, and what is learned.
Out: the value, and the gradients of all three.
Each loss is one of the package's own; here it is only told where its anchors and candidates come from.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import refcl
from refcl.core.arrays import Array, arange, constant, integers, namespace
from refcl.core.pair import AnyPair
from refcl.experiment.device import generator_beside
from refcl.experiment.keys import Candidates, largest
from refcl.walk.similarity import inner_product
from refcl.walk.sphere import l2_normalize

ATTENTION = 0.3  # the share of the negatives that `fixed_entropy` spreads its push over
DRAWS = 256  # of `nce`, for each anchor


class Run(NamedTuple):
    """One encoder to be trained: a loss, its settings and a seed."""

    loss: str
    temperature: float | None  # None where the loss has none
    hardest: float | int | None  # a fraction or a count; None where the loss keeps all negatives
    seed: int


class Batch(NamedTuple):
    """What a loss is given."""

    query: Array  # (B, D) not yet of length 1, as all below
    candidates: Candidates
    labels: np.ndarray  # (B,) their classes, which only supervised losses look at
    learned: tuple[Array, ...]  # what the loss has learned so far, (1,) each: an optimiser's arithmetic keeps arrays


# The value (), and its gradients for query, for key unless that is a constant, and for what is learned.
Answer = tuple[Array, Array, Array | None, tuple[Array, ...]]
Loss = Callable[[Batch], Answer]
Prepare = Callable[[Run], Loss]


def on_embeddings(pair: AnyPair, **settings: Any) -> Prepare:
    """Compare anchors with candidates: the loss does it itself."""

    def prepare(run: Run) -> Loss:
        given = _settings(run, pair, settings)

        def loss(batch: Batch) -> Answer:
            key, positive, ignore = batch.candidates
            learned = [namespace(x).reshape(x, ()) for x in batch.learned]
            value, grads = pair(batch.query, key, *learned, positive=positive, ignore=ignore, **given)
            dlearned = tuple(namespace(x).reshape(dx, (1,)) for x, dx in zip(batch.learned, grads[2:], strict=False))
            return value, grads[0], grads[1], dlearned

        return loss

    return prepare


def inst_disc(run: Run) -> Loss:
    """Compare anchors with a memory, a constant whose rows have length 1: no gradient but the anchors'."""
    given = _settings(run, refcl.inst_disc, {"normalize": False})

    def loss(batch: Batch) -> Answer:
        bank, index, ignore = batch.candidates
        z, on_sphere = l2_normalize.forward(batch.query)
        value, grads = refcl.inst_disc(z, bank=bank, index=index, ignore=ignore, **given)
        return value, l2_normalize.backward(grads.dquery, on_sphere), None, ()

    return loss


def on_similarities(pair: AnyPair, **settings: Any) -> Prepare:
    """Compare anchors with candidates: cosines, and a loss on them."""

    def prepare(run: Run) -> Loss:
        given = _settings(run, pair, settings)

        def loss(batch: Batch) -> Answer:
            key, positive, ignore = batch.candidates
            z, on_sphere = l2_normalize.forward(batch.query)
            other, key_on_sphere = l2_normalize.forward(key)
            s, compared = inner_product.forward(z, other)  # (B, M)
            value, grads = pair(s, positive=positive, ignore=ignore, **given)
            dz, dother = inner_product.backward(grads[0], compared)
            return value, l2_normalize.backward(dz, on_sphere), l2_normalize.backward(dother, key_on_sphere), ()

        return loss

    return prepare


def against_memory(pair: AnyPair, **settings: Any) -> Prepare:
    """Compare anchors with a memory: constants whose rows have length 1, so no gradient is made for them."""

    def prepare(run: Run) -> Loss:
        given = _settings(run, pair, settings)

        def loss(batch: Batch) -> Answer:
            key, positive, ignore = batch.candidates
            z, on_sphere = l2_normalize.forward(batch.query)
            xp = namespace(z)
            s = xp.matmul(z, xp.matrix_transpose(key))  # (B, M)
            value, grads = pair(s, positive=positive, ignore=ignore, **given)
            return value, l2_normalize.backward(xp.matmul(grads[0], key), on_sphere), None, ()

        return loss

    return prepare


def on_the_hardest(pair: AnyPair, whole: AnyPair) -> Prepare:
    """Compare anchors with their positive and their hardest candidates alone, and with nobody else.

    ``whole`` finds the hardest among all candidates and walks over every one of them; the share that is kept is small,
    so the hardest are taken out first and ``pair``, the same loss on what is left, walks over those. A memory takes no
    gradient, so none is made for it. Of ties at the threshold only as many are kept as were asked for.
    """

    def prepare(run: Run) -> Loss:
        given = _settings(run, pair, {})
        everyone = _settings(run, whole, {})

        def loss(batch: Batch) -> Answer:
            key, positive, ignore = batch.candidates
            xp = namespace(batch.query)
            negatives = key.shape[0] - 1
            if ignore is not None or not _kept(run, negatives) < negatives:
                value, grads = whole(batch.query, key, positive=positive, ignore=ignore, **everyone)
                return value, grads[0], None, ()
            z, on_sphere = l2_normalize.forward(batch.query)
            s = xp.matmul(z, xp.matrix_transpose(key))  # (B, M)
            own = positive[:, None]  # (B, 1)
            column = arange(key.shape[0], like=s)[None, :]  # (1, M)
            negative = xp.where(column == own, constant(-xp.inf, like=s), s)
            hardest = largest(negative, _kept(run, negatives))  # (B, K)
            chosen = xp.concat([own, hardest], axis=1)  # (B, 1 + K): the positive stands first
            near = xp.take_along_axis(s, chosen, axis=1)
            first = integers(np.zeros(s.shape[0], dtype=np.int64), like=s)
            value, grads = pair(near, positive=first, **given)
            rows = xp.take(key, xp.reshape(chosen, (-1,)), axis=0)  # (B (1 + K), D)
            rows = xp.reshape(rows, (*chosen.shape, z.shape[1]))
            dz = xp.matmul(grads[0][:, None, :], rows)[:, 0, :]
            return value, l2_normalize.backward(dz, on_sphere), None, ()

        return loss

    return prepare


def _kept(run: Run, negatives: int) -> int:
    """Return how many negatives are kept of so many, as the library counts."""
    hardest = run.hardest
    if hardest is None or isinstance(hardest, int):
        return min(hardest or negatives, negatives)
    return max(1, round(hardest * negatives))


def on_views(pair: AnyPair, **settings: Any) -> Prepare:
    """Compare both views of a batch with each other, each as the other's candidates."""

    def prepare(run: Run) -> Loss:
        given = _settings(run, pair, settings)

        def loss(batch: Batch) -> Answer:
            value, grads = pair(batch.query, batch.candidates.key, **given)
            return value, grads[0], grads[1], ()

        return loss

    return prepare


def clip(run: Run) -> Loss:
    """Compare in both directions, at a scale that stays where it is."""
    return on_views(refcl.clip, log_scale=-math.log(run.temperature or 1.0))(run._replace(temperature=None))


def nce(run: Run) -> Loss:
    """Tell an anchor's own row of the bank from rows drawn at random; log Z is that of the first batch."""
    assert run.temperature is not None  # it is one of the losses that have one
    temperature = run.temperature
    from_first: list[Any] = []  # the generator and log Z, once there is a batch

    def loss(batch: Batch) -> Answer:
        bank, index, _ = batch.candidates
        rng = from_first[0] if from_first else generator_beside(run.seed, "noise", like=bank)
        noise = integers(rng.integers(0, bank.shape[0], (batch.query.shape[0], DRAWS)), like=bank)
        drawn = {"bank": bank, "index": index, "noise": noise}
        if not from_first:
            from_first[:] = rng, refcl.nce_log_normalizer(batch.query, temperature, **drawn)
        value, grads = refcl.nce(batch.query, temperature, **drawn, log_normalizer=from_first[1])
        return value, grads.dquery, None, ()

    return loss


def fixed_entropy(run: Run) -> Loss:
    """Give each anchor the temperature at which its push is spread over a share of its negatives."""

    def loss(batch: Batch) -> Answer:
        key, positive, ignore = batch.candidates
        count = key.shape[0] - (1 if ignore is None else batch.query.shape[0])  # a queue leaves out the other views
        entropy = math.log(ATTENTION * count)
        value, grads = refcl.fixed_entropy(batch.query, key, entropy=entropy, positive=positive, ignore=ignore)
        return value, grads.dquery, grads.dkey, ()

    return loss


def pair_contrastive(run: Run) -> Loss:
    """Pull each sample's two views together, and keep each first view a margin away from its neighbour's second."""

    def loss(batch: Batch) -> Answer:
        (a, on_sphere), (b, key_on_sphere) = map(l2_normalize.forward, (batch.query, batch.candidates.key))
        xp, n = namespace(a), a.shape[0]
        neighbour = (arange(n, like=a) + 1) % n
        same = arange(2 * n, like=a) < n
        value, (dfirst, dsecond) = refcl.pair_contrastive(
            xp.concat([a, a], axis=0), xp.concat([b, xp.take(b, neighbour, axis=0)], axis=0), same=same
        )
        da = dfirst[:n, :] + dfirst[n:, :]
        db = dsecond[:n, :] + xp.roll(dsecond[n:, :], 1, axis=0)
        return value, l2_normalize.backward(da, on_sphere), l2_normalize.backward(db, key_on_sphere), ()

    return loss


def sup_con(run: Run) -> Loss:
    """Compare both views of a batch; all of an anchor's class are its positives."""

    def loss(batch: Batch) -> Answer:
        xp, n = namespace(batch.query), batch.query.shape[0]
        both = xp.concat([batch.query, batch.candidates.key], axis=0)  # (2B, D)
        labels = integers(np.tile(batch.labels, 2), like=both)
        assert run.temperature is not None  # it is one of the losses that have one
        value, (dboth, _) = refcl.sup_con(both, run.temperature, labels=labels)
        return value, dboth[:n, :], dboth[n:, :], ()

    return loss


def _settings(run: Run, pair: AnyPair, settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a loss, with what the run sets among them."""
    given = dict(settings)
    if run.temperature is not None:
        given["temperature"] = run.temperature
    if run.hardest is not None and "hardest" in pair.settings:
        given["hardest"] = run.hardest
    return given
