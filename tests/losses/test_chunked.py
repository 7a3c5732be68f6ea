"""A loss of a batch that the encoder takes a few rows at a time."""

import re
import weakref
from typing import Any

import numpy as np
import pytest
from backends import NUMPY, Backend, check_near, leaves
from peers import check_same, of_torch, torch

import refcl
from refcl import Pair, chunked
from refcl.walk.encoder import he_init, mlp
from refcl.walk.layers import linear
from refcl.walk.sphere import l2_normalize

N, D_IN = 7, 5


def towers(backend: Backend = NUMPY) -> list[tuple[Any, Any, Any]]:
    """Return two encoders that share nothing: one with nested parameters, one with an array each."""
    rng = np.random.default_rng(4)
    nested = rng.standard_normal((N, D_IN)), (he_init(rng, (D_IN, 6, 3)),)
    plain = rng.standard_normal((N, 4)), (rng.standard_normal((4, 3)), rng.standard_normal(3))
    return [(mlp, *backend.arrays(nested)), (linear, *backend.arrays(plain))]


def whole(loss: Any, of: Any, *numbers: Any, **settings: Any) -> tuple[Any, Any]:
    """Embed everything at once, and walk back."""
    walked = [encoder.forward(x, *parameters) for encoder, x, parameters in of]
    value, grads = loss(*[h for h, _ in walked], *numbers, **settings)
    backs = [tower[0].backward(dh, cache) for tower, dh, (_, cache) in zip(of, grads, walked, strict=False)]
    return value, (*backs, *grads[len(of) :])


@pytest.mark.parametrize("rows", [1, 3, N, 100])
def test_the_gradients_are_those_of_the_whole_batch(rows: int) -> None:
    of = towers()
    value, grads = chunked(refcl.info_nce, rows)(of, 0.2)
    want, wanted = whole(refcl.info_nce, of, 0.2)
    check_near(value, want, rtol=1e-14)
    got = [*leaves((grads.dtowers, grads.dnumbers))]
    for mine, true in zip(got, leaves(wanted), strict=True):
        check_near(mine, true, rtol=1e-13)


@pytest.mark.parametrize("loss", ["nt_xent", "sig_lip", "triplet_margin", "sup_con"])
def test_any_loss_of_embeddings_will_do(loss: str) -> None:
    of, rng = towers(), np.random.default_rng(6)
    third = linear, rng.standard_normal((N, 4)), (rng.standard_normal((4, 3)), np.zeros(3))
    of = {"sup_con": of[:1], "triplet_margin": [*of, third]}.get(loss, of)
    numbers = {"sig_lip": (1.5, -2.0), "triplet_margin": (2.0,)}.get(loss, (0.3,))
    settings: dict[str, Any] = {"labels": np.arange(N) % 3} if loss == "sup_con" else {}
    value, grads = chunked(getattr(refcl, loss), 2)(of, *numbers, **settings)
    want, wanted = whole(getattr(refcl, loss), of, *numbers, **settings)
    check_near(value, want, rtol=1e-14)
    for mine, true in zip(leaves((grads.dtowers, grads.dnumbers)), leaves(wanted), strict=True):
        check_near(mine, true, rtol=1e-13)


def test_it_runs_where_the_arrays_are(backend: Backend) -> None:
    value, grads = chunked(refcl.info_nce, 3)(towers(backend), 0.2)
    want, wanted = chunked(refcl.info_nce, 3)(towers(), 0.2)
    rtol = 1e-4 if backend.dtype == "float32" else 1e-12
    assert all(backend.owns(x) for x in leaves((value, grads)))
    check_near(backend.hosts((value, grads)), (want, wanted), rtol=rtol)


class Kept:
    """A cache that can be watched."""

    def __init__(self, cache: Any) -> None:
        self.cache = cache


def test_the_encoder_sees_a_chunk_and_one_cache_lives_at_a_time() -> None:
    sizes, alive, most = [], weakref.WeakSet[Kept](), 0

    def forward(x: Any, weight: Any) -> Any:
        nonlocal most
        sizes.append(x.shape[0])
        kept = Kept(x)
        alive.add(kept)
        most = max(most, len(alive))
        return x @ weight, (kept, weight)

    def backward(dh: Any, cache: Any) -> Any:
        return dh @ cache[1].T, cache[0].cache.T @ dh

    rng = np.random.default_rng(2)
    x, weight = rng.standard_normal((N, D_IN)), rng.standard_normal((D_IN, 3))
    chunked(refcl.nt_xent, 2)([(Pair(forward, backward), x, (weight,)), (Pair(forward, backward), x, (weight,))], 0.5)
    assert sizes == [2, 2, 2, 1] * 4
    assert most <= 2, "the last chunk's, until the next one's stands in its place"


def test_an_encoder_without_parameters() -> None:
    x = np.random.default_rng(3).standard_normal((2, N, 3))
    of = [(l2_normalize, one, ()) for one in x]
    value, grads = chunked(refcl.info_nce, 4)(of, 0.2, normalize=False)
    want, wanted = refcl.info_nce(*x, 0.2)
    check_near(value, want, rtol=1e-14)
    check_near([d[0] for d in grads.dtowers], [wanted.dquery, wanted.dkey], rtol=1e-13)


def test_pieces_of_a_batch_are_another_loss() -> None:
    """What it is not: the mean of the losses of the chunks, each with its own negatives only."""
    query, key = np.random.default_rng(5).standard_normal((2, 8, 4))
    pieces = np.mean([refcl.info_nce(query[k : k + 2], key[k : k + 2], 0.2)[0] for k in range(0, 8, 2)])
    assert pieces < refcl.info_nce(query, key, 0.2)[0]


@pytest.mark.parametrize("rows", [0, -1, 2.0, True, None])
def test_a_chunk_has_rows(rows: Any) -> None:
    with pytest.raises(ValueError, match=rf"^chunked: rows must be an int >= 1, got {rows}\.$"):
        chunked(refcl.info_nce, rows)


X, WEIGHT = np.ones((4, 3)), np.ones((3, 2))
TOWER = linear, X, (WEIGHT, np.ones(2))


@pytest.mark.parametrize(
    ("loss", "of", "sentence"),
    [
        ("info_nce", (TOWER,), "loss must be a loss such as refcl.info_nce, got 'info_nce'."),
        (refcl.info_nce, X, "got ndarray for a tower."),
        (refcl.info_nce, TOWER, "got Pair for a tower."),
        (refcl.info_nce, ((linear, X, WEIGHT, np.ones(2)),), "got 4 things for a tower."),
        (refcl.info_nce, ((linear, X, WEIGHT),), "got parameters of type ndarray for a tower."),
        (refcl.info_nce, ((np.tanh, X, ()),), "the encoder is ufunc; expected a pair such as"),
        (refcl.info_nce, ((linear, X.tolist(), TOWER[2]),), "x is list; expected an array of NumPy"),
        (refcl.info_nce, ((linear, X[:0], TOWER[2]),), "x must have rows; got shape (0, 3)."),
        (lambda z: z.sum(), (TOWER,), "expected a tuple (value, grads)."),
        (lambda z: (z.sum(), z), (TOWER,), "one for each tower first; got ndarray for 1."),
        (lambda z, c: (z.sum(), (c,)), (TOWER, TOWER), "one for each tower first; got 1 for 2."),
    ],
)
def test_what_is_no_loss_or_tower_is_said(loss: Any, of: Any, sentence: str) -> None:
    """The last but one walked back from one row of the gradient, the last left a tower without."""
    with pytest.raises((TypeError, ValueError), match=rf"^chunked: .*{re.escape(sentence)}"):
        chunked(loss, 2)(of)


@of_torch
def test_it_is_what_autograd_has_of_the_whole_batch() -> None:
    of = towers()
    (_, x, (((w1, b1), (w2, b2)),)), (_, y, (w, b)) = of
    tensors = [torch.tensor(t, requires_grad=True) for t in (x, w1, b1, w2, b2, y, w, b)]
    a, u1, c1, u2, c2, o, u, c = tensors
    query, key = torch.relu(a @ u1 + c1) @ u2 + c2, o @ u + c
    logits = torch.nn.functional.normalize(query) @ torch.nn.functional.normalize(key).T / 0.2
    loss = torch.nn.functional.cross_entropy(logits, torch.arange(N))
    loss.backward()
    value, grads = chunked(refcl.info_nce, 3)(of, 0.2)
    check_same((value, grads.dtowers), (loss.detach().numpy(), tuple(t.grad.numpy() for t in tensors)))
