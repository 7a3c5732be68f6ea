"""A loss of a study -> what it asks of an encoder.

In:  the anchors of a batch, what they are compared with, and what the loss learns beside the encoder.
Out: the gradients of all three.
Each loss is one of the package's own; here it is only told where its anchors and candidates come from. ``views`` takes
two views through the encoder, with gradients through both, ``memory`` anchors against a bank or a queue.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import refcl
from refcl.backend import Array, arange, constant, integers, namespace
from refcl.experiment.keys import Candidates
from refcl.experiment.seeding import generator
from refcl.pair import Pair
from refcl.similarity import inner_product
from refcl.sphere import l2_normalize

TAU_PLUS = 0.1  # the share of false negatives that `debiased` and `hcl` assume: the papers', and one class in ten
BETA = 1.0  # hcl's
MARGIN = 0.1  # in cosine: .2 of the squared distance, as in FaceNet
ATTENTION = 0.3  # the share of the negatives that `fixed-entropy` spreads its push over
DRAWS = 256  # of `nce`, for each anchor
LOG_SCALE, BIAS = math.log(10.0), -10.0  # where `sig-lip` starts


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


class Objective(NamedTuple):
    """One loss: how a run of it prepares what each batch asks."""

    views: Prepare | None  # None where the loss has no place for the keys
    memory: Prepare | None
    learned: tuple[tuple[str, float], ...] = ()  # names, and where they start


def on_embeddings(pair: Pair, **settings: Any) -> Prepare:
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


def on_similarities(pair: Pair, **settings: Any) -> Prepare:
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


def on_views(pair: Pair, **settings: Any) -> Prepare:
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
    rng = generator(run.seed, "noise")
    log_normalizers: list[Array] = []

    def loss(batch: Batch) -> Answer:
        bank, index, _ = batch.candidates
        noise = integers(rng.integers(0, bank.shape[0], (batch.query.shape[0], DRAWS)), like=bank)
        drawn = {"bank": bank, "index": index, "noise": noise}
        if not log_normalizers:
            log_normalizers.append(refcl.nce_log_normalizer(batch.query, run.temperature, **drawn))
        value, grads = refcl.nce(batch.query, run.temperature, **drawn, log_normalizer=log_normalizers[0])
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
        value, (dboth, _) = refcl.sup_con(both, run.temperature, labels=labels)
        return value, dboth[:n, :], dboth[n:, :], ()

    return loss


def _settings(run: Run, pair: Pair, settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a loss, with what the run sets among them."""
    given = dict(settings)
    if run.temperature is not None:
        given["temperature"] = run.temperature
    if run.hardest is not None and "hardest" in pair.settings:
        given["hardest"] = run.hardest
    return given


def _everywhere(prepare: Prepare, **learned: float) -> Objective:
    return Objective(prepare, prepare, tuple(learned.items()))


OBJECTIVES = {
    "softmax": Objective(on_embeddings(refcl.info_nce), inst_disc),
    "simple": _everywhere(on_embeddings(refcl.simple_loss)),
    "hard-softmax": _everywhere(on_embeddings(refcl.hard_info_nce)),
    "hard-simple": _everywhere(on_embeddings(refcl.hard_simple_loss)),
    "nt-xent": Objective(on_views(refcl.nt_xent), None),
    "clip": Objective(clip, None),
    "nce": Objective(None, nce),
    "dcl": Objective(on_views(refcl.dcl), on_similarities(refcl.decoupled_contrastive)),
    "dclw": Objective(on_views(refcl.dclw), on_similarities(refcl.weighted_decoupled_contrastive)),
    "debiased": Objective(
        on_views(refcl.debiased, tau_plus=TAU_PLUS),
        on_similarities(refcl.reweighted_contrastive, tau_plus=TAU_PLUS),
    ),
    "hcl": Objective(
        on_views(refcl.hcl, tau_plus=TAU_PLUS, beta=BETA),
        on_similarities(refcl.reweighted_contrastive, tau_plus=TAU_PLUS, beta=BETA),
    ),
    "macl": Objective(on_views(refcl.macl), on_similarities(refcl.model_aware_contrastive)),
    "fixed-entropy": _everywhere(fixed_entropy),
    "sig-lip": _everywhere(on_embeddings(refcl.sig_lip), log_scale=LOG_SCALE, bias=BIAS),
    "align-uniform": Objective(on_views(refcl.align_uniform), None),
    "triplet": _everywhere(on_similarities(refcl.triplet, margin=MARGIN)),
    "semi-hard-triplet": _everywhere(on_similarities(refcl.semi_hard_triplet, margin=MARGIN)),
    "pair-contrastive": Objective(pair_contrastive, None),
    "sup-con": Objective(sup_con, None),
}


def prepare_loss(run: Run, keys: str) -> Loss:
    """Return what each batch of a run asks, given where its keys come from."""
    objective = OBJECTIVES[run.loss]
    prepare = objective.views if keys == "same" else objective.memory
    if prepare is None:
        raise ValueError(f"the {run.loss} loss does not go with keys {keys!r}.")
    return prepare(run)


def start_learned(loss: str, *, like: Array) -> tuple[Array, ...]:
    """Return what a loss learns beside the encoder, before the first step: (1,) arrays in the order of their names."""
    return tuple(constant([start], like=like) for _, start in OBJECTIVES[loss].learned)
