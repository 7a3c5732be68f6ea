"""refcl.jax: refcl's gradients under jit, grad and vmap, and a clear word where there are none."""

import functools
from typing import Any

import numpy as np
import pytest
from backends import backend_named, map_leaves
from cases import PAIR_CASES

jax: Any = pytest.importorskip("jax", reason="JAX is not installed")

import jax.numpy as jnp  # noqa: E402

import refcl  # noqa: E402
import refcl.jax as transformed  # noqa: E402

READS_ITS_NUMBERS = {"fixed_entropy", "fixed_entropy_contrastive"}
ONE_EACH = {case.function.__name__: case for case in reversed(PAIR_CASES)}
LOSSES = sorted(set(ONE_EACH) & set(transformed.__all__))


@pytest.fixture(autouse=True)
def _float64() -> None:
    backend_named("jax")


def arrays(tree: Any) -> Any:
    return map_leaves(lambda x: jnp.asarray(x) if isinstance(x, np.ndarray) else x, tree)


def test_every_loss_is_there() -> None:
    pairs = {name for name in refcl.losses.__all__ if isinstance(getattr(refcl, name), refcl.Pair)}
    assert set(transformed.__all__) == pairs


@pytest.mark.parametrize("name", LOSSES)
def test_the_gradient_is_refcls_and_every_loss_is_traced(name: str) -> None:
    case = ONE_EACH[name]
    settings = {key: arrays(value) for key, value in case.settings.items()}
    spots = tuple(i for i, x in enumerate(case.inputs) if x is not None)

    def loss(*inputs: Any) -> Any:
        return getattr(transformed, name)(*inputs, **settings).sum()

    inputs = arrays(case.inputs)
    gradient = jax.grad(loss, argnums=spots)
    got = (gradient if name in READS_ITS_NUMBERS else jax.jit(gradient))(*inputs)
    _, grads = case.function(*case.inputs, **case.settings)
    want = [grads[i] for i in spots]
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)
    if name in READS_ITS_NUMBERS:
        with pytest.raises(TypeError, match=r"^expected arrays whose numbers can be looked at"):
            jax.eval_shape(loss, *inputs)
    else:
        stacked = jax.tree.map(lambda x: jnp.stack([x, x]), inputs)
        jax.eval_shape(jax.vmap(loss), *stacked)


@pytest.fixture
def given(rng: np.random.Generator) -> tuple[Any, Any, float]:
    return jnp.asarray(rng.standard_normal((4, 3))), jnp.asarray(rng.standard_normal((5, 3))), 0.3


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_check_grads(reduction: str, given: Any) -> None:
    from jax.test_util import check_grads

    positive = jnp.asarray([1, 0, 3, 2])
    loss = jax.jit(lambda *x: transformed.info_nce(*x, reduction=reduction, positive=positive))
    check_grads(loss, given, order=1, modes=["rev"])


def test_jit_vmap_and_second_order(given: Any) -> None:
    q, k, t = given

    def written(q: Any, k: Any, t: Any) -> Any:
        a, b = (x / jnp.linalg.norm(x, axis=1, keepdims=True) for x in (q, k))
        s = a @ b.T / t
        return jnp.mean(jax.nn.logsumexp(s, axis=1) - jnp.diagonal(s))

    f, every = transformed.info_nce, (0, 1, 2)
    for a, b in zip(*(jax.jit(jax.grad(g, argnums=every))(q, k, t) for g in (f, written)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)
    stacked = jnp.stack([q, 2 * q + 1])
    gradient = jax.jit(jax.grad(f))
    each = [gradient(x, k, t) for x in stacked]
    together = jax.jit(jax.vmap(jax.grad(f), (0, None, None)))(stacked, k, t)
    np.testing.assert_allclose(together, jnp.stack(each), rtol=1e-12)
    got, want = (jax.jit(jax.jacrev(jax.jacrev(g, argnums=every), argnums=every))(q, k, t) for g in (f, written))
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", ["simple_loss", "hard_simple_loss"])
def test_an_argument_that_is_left_out_gets_no_gradient(name: str, given: Any) -> None:
    q, k, _ = given
    settings = {"hardest": 2} if name == "hard_simple_loss" else {}
    got = jax.jit(jax.grad(lambda x: getattr(transformed, name)(x, k, **settings)))(q)
    want = getattr(refcl, name)(np.asarray(q), np.asarray(k), **settings)[1].dquery
    np.testing.assert_allclose(got, want, rtol=1e-12)


def test_nothing_is_silently_zero(given: Any) -> None:
    q, k, t = given
    square = k[:4]
    with pytest.raises(NotImplementedError, match=r"^refcl\.jax\.dcl: there is no second derivative"):
        jax.eval_shape(jax.grad(lambda x: jax.grad(lambda y: transformed.dcl(y, square, t))(x).sum()), q)
    smoothed = functools.partial(transformed.info_nce, label_smoothing=0.1)
    with pytest.raises(NotImplementedError, match=r"^refcl\.jax\.info_nce: .* for one positive only"):
        jax.eval_shape(jax.jacrev(jax.jacrev(smoothed)), q, k, t)
    with pytest.raises(NotImplementedError, match="third derivative"):
        jax.eval_shape(jax.jacrev(jax.jacrev(jax.grad(transformed.info_nce))), q, k, t)
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(lambda x: transformed.info_nce(x, k, t), (q,), (q,))


def test_indices_are_looked_at_outside_a_trace_only(given: Any) -> None:
    q, k, t = given
    columns = jnp.asarray([0, 1, 2, 9])
    with pytest.raises(ValueError, match=r"^info_nce: positive\[3\] is 9"):
        refcl.info_nce(q, k, t, positive=columns)
    value = jax.jit(lambda p: refcl.info_nce(q, k, t, positive=p, reduction="none")[0])(columns)
    assert np.isnan(value).tolist() == [False, False, False, True]


def test_float32_stays_float32_without_a_word(given: Any) -> None:
    q, k = given[0].astype("float32"), given[1].astype("float32")
    value, grads = jax.jit(lambda q, k: tuple(refcl.info_nce(q, k, 0.1)))(q, k)
    assert {value.dtype, *(g.dtype for g in grads if g is not None)} == {np.dtype("float32")}
