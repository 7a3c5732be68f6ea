"""Where g(x) comes from: what an anchor f(x) is compared with.

In:  a batch, and what is remembered of earlier ones.
Out: the candidates of the batch's anchors, and afterwards a new memory; the old one is left as it was.
Three sources: ``same`` (the batch's other views through the same encoder, with gradients; SimCLR), ``bank`` (one entry
for every sample; InstDisc, and the paper) and ``queue`` (a slowly following encoder and its latest outputs; MoCo).
"""

from typing import NamedTuple, TypeAlias

import numpy as np

from refcl.core.arrays import Array, arange, constant, integers, namespace
from refcl.experiment.optim import tree_map
from refcl.walk.encoder import Layer, mlp
from refcl.walk.sphere import l2_normalize

BANK, SAME, QUEUE = SOURCES = ("bank", "same", "queue")

Params: TypeAlias = tuple[Layer, ...]


class Candidates(NamedTuple):
    """What the anchors of a batch are compared with."""

    key: Array  # (M, D)
    positive: Array  # (B,) the row of key that belongs to each anchor
    ignore: Array | None = None  # (B, M) True where a row is neither positive nor negative


def same_candidates(key: Array) -> Candidates:
    """Return the batch's second views as candidates: row i belongs to anchor i, all others are its negatives.

    Parameters
    ----------
    key : (B, D) array
        Encodings of the second views. Gradients flow through them.

    Returns
    -------
    Candidates
        B candidates.
    """
    return Candidates(key, arange(key.shape[0], like=key))


class Bank(NamedTuple):
    """One embedding for every training sample, an average over its epochs. No gradient flows into it."""

    entries: Array  # (N, D) rows of length 1


def start_bank(rng: np.random.Generator, size: int, dimension: int, *, like: Array) -> Bank:
    """Return a bank of random directions.

    Parameters
    ----------
    rng : numpy.random.Generator
        Where the directions come from.
    size : int
        N, the number of training samples.
    dimension : int
        D, of the embeddings.
    like : array
        Whose dtype and device the entries take.

    Returns
    -------
    Bank
        Entries uniform on the sphere.
    """
    return Bank(_random_directions(rng, size, dimension, like))


def bank_candidates(bank: Bank, index: Array) -> Candidates:
    """Return the whole bank as candidates: a sample's own entry is its positive, all others are its negatives.

    Parameters
    ----------
    bank : Bank
        N entries.
    index : (B,) array of int64
        Which training samples the batch holds.

    Returns
    -------
    Candidates
        N candidates.
    """
    return Candidates(bank.entries, integers(index, like=bank.entries))


def updated_bank(bank: Bank, z: Array, index: np.ndarray, *, momentum: float = 0.5) -> Bank:
    """Return the bank after a batch: the entries of its samples move towards their new embeddings.

    Parameters
    ----------
    bank : Bank
        Before the batch; left as it is.
    z : (B, D) array
        Embeddings of the batch, of length 1.
    index : (B,) array of int64, NumPy
        Which training samples these are; no sample twice.
    momentum : float
        m in entry <- normalised(m entry + (1 - m) z).

    Returns
    -------
    Bank
        After the batch.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.experiment.keys import Bank
    >>> from refcl.experiment.keys import updated_bank
    >>> bank = Bank(np.array([[1.0, 0.0], [0.0, 1.0]]))
    >>> updated_bank(bank, np.array([[0.0, 1.0]]), np.array([0])).entries.round(3)
    array([[0.707, 0.707],
           [0.   , 1.   ]])
    """
    xp = namespace(z)
    size, batch = bank.entries.shape[0], index.size
    # Written as a gather, which every library has: the batch's rows stand below the bank's, and take their places.
    row = np.arange(size)
    row[index] = size + np.arange(batch)
    both = integers(np.concatenate([index, row]), like=z)  # (B + N,) moved at once
    moved = momentum * xp.take(bank.entries, both[:batch], axis=0) + (1.0 - momentum) * z  # (B, D)
    unit, _ = l2_normalize.forward(moved)
    return Bank(xp.take(xp.concat([bank.entries, unit], axis=0), both[batch:], axis=0))


class Queue(NamedTuple):
    """A slowly following encoder, and its latest outputs, the newest first. No gradient flows into either."""

    params: Params  # of the momentum encoder
    entries: Array  # (K, D) rows of length 1
    sample: np.ndarray  # (K,) which training sample each entry is of, -1 at the start


def start_queue(rng: np.random.Generator, size: int, dimension: int, params: Params) -> Queue:
    """Return a queue of random directions, and the encoder itself as its momentum encoder.

    Parameters
    ----------
    rng : numpy.random.Generator
        Where the directions come from.
    size : int
        K, the number of entries.
    dimension : int
        D, of the embeddings.
    params : tuple of layers
        The encoder's at the start.

    Returns
    -------
    Queue
        Entries uniform on the sphere, of no sample.
    """
    entries = _random_directions(rng, size, dimension, params[0][0])
    return Queue(params, entries, np.full(size, -1, dtype=np.int64))


def followed(queue: Queue, params: Params, *, momentum: float = 0.999) -> Queue:
    """Return the queue with its momentum encoder one step closer to the encoder.

    Parameters
    ----------
    queue : Queue
        Before; left as it is.
    params : tuple of layers
        The encoder's now.
    momentum : float
        m in slow <- m slow + (1 - m) params.

    Returns
    -------
    Queue
        The same entries, a new momentum encoder.
    """
    slow = tree_map(lambda old, new: momentum * old + (1.0 - momentum) * new, queue.params, params)
    return queue._replace(params=slow)


def queue_candidates(queue: Queue, x: Array, index: np.ndarray) -> Candidates:
    """Return the batch's second views through the momentum encoder, followed by the queue.

    Parameters
    ----------
    queue : Queue
        K entries.
    x : (B, F) array
        Second views of the batch.
    index : (B,) array of int64, NumPy
        Which training samples these are.

    Returns
    -------
    Candidates
        B + K candidates. An anchor's positive is its own second view; its negatives are the entries of the queue. Left
        out are the other second views, as in MoCo, and entries of the anchor's own sample, which on small data can
        still be in the queue.
    """
    xp = namespace(x)
    batch = x.shape[0]
    h, _ = mlp.forward(x, queue.params, training=True)
    z, _ = l2_normalize.forward(h)  # (B, D)
    own = queue.sample[None, :] == index[:, None]  # (B, K)
    left_out = np.concatenate([np.ones((batch, batch), dtype=bool), own], axis=1)  # the positive wins over it
    key = xp.concat([z, queue.entries], axis=0)  # (B + K, D)
    return Candidates(key, arange(batch, like=x), constant(left_out, like=x) > 0)


def enqueued(queue: Queue, key: Array, index: np.ndarray) -> Queue:
    """Return the queue with a batch's keys at its head and as many fewer at its tail: first in, first out.

    Parameters
    ----------
    queue : Queue
        Before; left as it is.
    key : (B, D) array
        The batch's embeddings by the momentum encoder.
    index : (B,) array of int64, NumPy
        Which training samples these are.

    Returns
    -------
    Queue
        K entries again.
    """
    size = queue.entries.shape[0]
    entries = namespace(key).concat([key, queue.entries], axis=0)[:size, :]
    return queue._replace(entries=entries, sample=np.concatenate([index, queue.sample])[:size])


def _random_directions(rng: np.random.Generator, size: int, dimension: int, like: Array) -> Array:
    directions, _ = l2_normalize.forward(constant(rng.standard_normal((size, dimension)), like=like))
    return directions


def largest(s: Array, count: int) -> Array:
    """Return where the largest entries of each row are, in no order that means anything.

    Parameters
    ----------
    s : (N, M) array of float32 or float64
        Without NaN.
    count : int
        How many, from 1 to M.

    Returns
    -------
    (N, count) array of integers
        Columns. The same ones every time, also where entries are equal.

    Examples
    --------
    >>> import numpy as np
    >>> from refcl.experiment.keys import largest
    >>> sorted(largest(np.array([[0.3, 0.9, 0.1, 0.5]]), 2)[0].tolist())
    [1, 3]
    """
    xp = namespace(s)
    # The standard has no partition, and a full sort costs several times as much.
    order = xp.argpartition(s, -count, axis=1) if hasattr(xp, "argpartition") else xp.argsort(s, axis=1)
    return order[:, s.shape[1] - count :]
