"""What every pair of the core promises, on every backend."""

import importlib
import inspect
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from backends import (
    BACKENDS,
    EPS,
    HERE,
    NUMPY,
    Backend,
    backend_named,
    check_near,
    check_same_bits,
    flat,
    leaves,
    map_leaves,
)
from calls import backward, forward, given, run, settings_on, upstream_for, weighed
from cases import (
    CARDS,
    FUNCTION_CASES,
    LARGE,
    OF_THE_HOST,
    ONE_COLUMN,
    ONE_ROW,
    PAIR_CASES,
    Case,
    by_function,
    cases,
    core_functions,
    core_pairs,
    in_turn,
    named,
)
from differences import along, check_gradient

import refcl
from refcl.walk.layers import BatchNormCache
from refcl.walk.reduce import ReduceCache

every_pair_case = in_turn("case", by_function(PAIR_CASES))
every_function_case = in_turn("case", by_function(FUNCTION_CASES))
every_pair = pytest.mark.parametrize("name", sorted(core_pairs()))


def test_every_pair_and_every_function_has_a_case() -> None:
    assert {case.function.__name__ for case in PAIR_CASES} == set(core_pairs())
    assert {case.function.__name__ for case in FUNCTION_CASES} == set(core_functions()) - OF_THE_HOST


def test_no_case_is_blind() -> None:
    """At τ = 1 a forgotten τ, and with N = D a turned matrix, would not be seen."""
    for case in PAIR_CASES + FUNCTION_CASES:
        arrays = [np.asarray(x) for x in leaves(case.inputs) if x is not None]
        assert all(float(x) != 1.0 for x in arrays if x.ndim == 0), case.name
        assert all(x.shape[0] != x.shape[1] or not np.allclose(x, x.T) for x in arrays if x.ndim == 2), case.name


@pytest.mark.parametrize("case", PAIR_CASES, ids=named)
def test_the_backward_is_the_derivative(case: Case) -> None:
    value, grads, upstream = run(case, NUMPY)
    check_gradient(given(case, grads), weighed(case, upstream), given(case), step=case.step)
    for argument, gradient in zip(case.function.arguments, grads, strict=True):
        assert gradient is None or flat(gradient).any(), f"d{argument} is zero: the case shows nothing"
    assert flat(value).any()


@pytest.mark.parametrize("case", [*cases(ONE_ROW), *cases(ONE_COLUMN)], ids=named)
def test_the_backward_is_the_derivative_with_one_row_and_with_one_dimension(case: Case) -> None:
    _, grads, upstream = run(case, NUMPY)
    check_gradient(given(case, grads), weighed(case, upstream), given(case), step=case.step)


@pytest.mark.parametrize("case", cases(LARGE), ids=named)
def test_the_backward_is_the_adjoint_of_the_derivative(case: Case) -> None:
    """⟨v, J u⟩ = ⟨Jᵀ v, u⟩ for a direction u in all inputs at once, at a size where entries are many."""
    _, grads, upstream = run(case, NUMPY)
    rng = np.random.default_rng(7)
    direction = map_leaves(lambda x: rng.uniform(-0.5, 0.5, x.shape) * min(1.0, float(np.max(np.abs(x)))), given(case))
    numeric = along(weighed(case, upstream), given(case), direction, step=case.step / 10)
    terms = flat(given(case, grads)) * flat(direction)
    assert abs(float(terms.sum()) - numeric) <= 1e-7 * float(np.linalg.norm(terms)) + 1e-10


@every_pair_case
def test_the_backward_is_linear_in_the_upstream(case: Case) -> None:
    value, cache = forward(case, case.inputs)
    u, v = upstream_for(value, case.name), upstream_for(value, case.name + "another")
    v = map_leaves(lambda x: np.array(x * x), v)
    pairs = iter([np.array(2.5 * a + b) for a, b in zip(leaves(u), leaves(v), strict=True)])
    both = map_leaves(lambda _: next(pairs), u)
    together = flat(backward(case, both, cache))
    apart = 2.5 * flat(backward(case, u, cache)) + flat(backward(case, v, cache))
    check_near(together, apart, rtol=64 * EPS["float64"])


@every_pair_case
def test_values_equal_plain_loops(case: Case) -> None:
    check_near(forward(case, case.inputs)[0], in_loops(case), rtol=1e-13)


@every_function_case
def test_functions_equal_plain_loops(case: Case) -> None:
    got = case.function(*case.inputs, **case.settings)
    check_near(got, in_loops(case), rtol=1e-12)


def in_loops(case: Case) -> Any:
    """Return what the plain loops say, as a tree of host arrays."""

    def listed(tree: Any) -> Any:
        return map_leaves(lambda x: x.tolist() if isinstance(x, np.ndarray) else x, tree)

    function = CARDS[case.function.__name__].loops
    value = function(*listed(case.inputs), **{name: listed(value) for name, value in case.settings.items()})
    return map_leaves(np.array, value)


@every_pair_case
def test_backends_agree(case: Case, backend: Backend) -> None:
    """Value and gradients equal those of NumPy in float64 of the same numbers, and are arrays as the inputs were."""
    inputs = backend.arrays(case.inputs)
    value, grads, upstream = run(case, backend)
    assert all(backend.owns(x) for x in leaves((value, grads))), "an array of another library or device, or a scalar"
    assert all(x.dtype == getattr(backend.xp, backend.dtype) for x in leaves((value, grads)))
    for x, gradient in zip(inputs, grads, strict=True):
        if x is None and gradient is None:
            continue
        shapes = [()] if x is None else [leaf.shape for leaf in leaves(x)]
        assert [leaf.shape for leaf in leaves(gradient)] == shapes
    same = case._replace(inputs=rounded(case.inputs, backend), settings=rounded_settings(case, backend))
    want, cache = forward(same, same.inputs)
    rtol = 200 * EPS[backend.dtype]
    check_near(backend.hosts(value), want, rtol=rtol)
    check_near(backend.hosts(grads), backward(same, rounded(backend.hosts(upstream), backend), cache), rtol=rtol)


@every_function_case
def test_functions_agree_on_backends(case: Case, backend: Backend) -> None:
    got = case.function(*backend.arrays(case.inputs), **settings_on(case, backend))
    want = case.function(*rounded(case.inputs, backend), **rounded_settings(case, backend))
    check_near(backend.hosts(got), want, rtol=200 * EPS[backend.dtype])
    assert all(backend.owns(x) for x in leaves(got))
    assert all(x.dtype in (getattr(backend.xp, backend.dtype), backend.xp.bool) for x in leaves(got))


def rounded(tree: Any, backend: Backend) -> Any:
    """Return host arrays in float64 that hold what the backend's dtype can."""

    def through(x: Any) -> Any:
        is_float = isinstance(x, np.ndarray) and x.dtype.kind == "f"
        return x.astype(backend.dtype).astype("float64") if is_float else x

    return map_leaves(through, tree)


def rounded_settings(case: Case, backend: Backend) -> dict[str, Any]:
    return {name: rounded(value, backend) for name, value in case.settings.items()}


@every_pair_case
def test_a_call_returns_value_and_named_gradients(case: Case) -> None:
    settings = {**case.settings}
    if "reduction" in case.function.settings:
        settings["reduction"] = "none"
    value, cache = case.function.forward(*case.inputs, **settings)
    upstream = upstream_for(value, case.name)
    again, grads = case.function(*case.inputs, **settings, upstream=upstream)
    assert grads._fields == tuple(f"d{argument}" for argument in case.function.arguments)
    check_same_bits((again, tuple(grads)), (value, backward(case, upstream, cache)))


@every_pair_case
def test_a_call_without_upstream_means_ones(case: Case) -> None:
    value, cache = forward(case, case.inputs)
    again, grads = case.function(*case.inputs, **case.settings)
    check_same_bits((again, tuple(grads)), (value, backward(case, map_leaves(np.ones_like, value), cache)))


@every_pair_case
def test_inputs_upstream_and_cache_are_left_alone(case: Case) -> None:
    value, cache = forward(case, case.inputs)
    upstream = upstream_for(value, case.name)
    held = (case.inputs, tuple(case.settings.values()), upstream, value, cache)
    before = [copied(x) for x in leaves(held)]
    first = backward(case, upstream, cache)
    second = backward(case, upstream, cache)
    assert [copied(x) for x in leaves(held)] == before
    check_same_bits(first, second)


def copied(x: Any) -> Any:
    return x.tobytes() if isinstance(x, np.ndarray) else x


@pytest.mark.parametrize("backend", [name for name in HERE if not name.startswith(("numpy-", "strict"))], indirect=True)
@every_pair_case
def test_two_calls_give_the_same_bits(case: Case, backend: Backend) -> None:
    """Once a library: what is strict computes in NumPy."""
    first, second = run(case, backend), run(case, backend)
    check_same_bits(backend.hosts(first), backend.hosts(second))


@every_pair_case
def test_calls_do_not_see_each_other(case: Case) -> None:
    """Forward A, forward B, backward A, backward B is A by itself and B by itself."""
    other = case._replace(inputs=map_leaves(lambda x: x if x is None else x * 1.25, case.inputs))
    alone = run(case, NUMPY), run(other, NUMPY)
    value, cache = forward(case, case.inputs)
    other_value, other_cache = forward(other, other.inputs)
    upstream, other_upstream = upstream_for(value, case.name), upstream_for(other_value, case.name)
    grads, other_grads = backward(case, upstream, cache), backward(other, other_upstream, other_cache)
    check_same_bits(((value, grads, upstream), (other_value, other_grads, other_upstream)), alone)


@pytest.mark.parametrize("layout", ["strided", "turned", "backwards"])
@every_pair_case
def test_memory_may_lie_in_any_order(case: Case, layout: str) -> None:
    def laid(x: Any) -> Any:
        if not isinstance(x, np.ndarray) or x.ndim == 0:
            return x
        if layout == "turned":
            return np.asfortranarray(x)
        step = 2 if layout == "strided" else -1
        wide = np.zeros((*x.shape[:-1], 2 * x.shape[-1]), x.dtype) if step == 2 else x[..., ::-1].copy()
        if step == 2:
            wide[..., ::2] = x
        assert (wide[..., ::step] == x).all()
        return wide[..., ::step]

    settings = {name: map_leaves(laid, value) for name, value in case.settings.items()}
    plain_value, plain_grads, upstream = run(case, NUMPY)
    value, cache = case.function.forward(*map_leaves(laid, case.inputs), **settings)
    grads = backward(case, map_leaves(laid, upstream), cache)
    check_near((value, grads), (plain_value, plain_grads), rtol=64 * EPS["float64"])


@every_pair_case
def test_numbers_of_python_and_numpy_are_taken_for_0d_arrays(case: Case) -> None:
    plain = run(case, NUMPY)
    scalars = [x for x in case.inputs if isinstance(x, np.ndarray) and x.ndim == 0]
    for kind in (float, np.float64):
        inputs = [kind(x) if isinstance(x, np.ndarray) and x.ndim == 0 else x for x in case.inputs]
        check_same_bits(run(case._replace(inputs=tuple(inputs)), NUMPY), plain)
    assert len(scalars) <= 2


class Poison:
    """Stands in for a field of a cache, and says so whatever is done to it."""

    def __getattribute__(self, name: str) -> Any:
        if name == "__class__":
            return Poison
        raise PoisonedError

    def _read(self, *_: Any) -> Any:
        raise PoisonedError

    __bool__ = __eq__ = __ne__ = __lt__ = __gt__ = __le__ = __ge__ = _read
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _read
    __matmul__ = __rmatmul__ = __pow__ = __rpow__ = __neg__ = __invert__ = __getitem__ = __iter__ = _read
    __index__ = _read
    __hash__ = object.__hash__


class PoisonedError(Exception):
    """A poisoned field was read."""


def paths(tree: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the way to each leaf of a cache that is there."""
    if isinstance(tree, ReduceCache) and tree.reduction == "none":
        yield (*at, (1, "reduction"))  # nothing was reduced: the losses are not needed
    elif isinstance(tree, BatchNormCache):  # whose mean goes into the running statistics
        yield from ((*at, (i, name)) for i, name in enumerate(tree._fields) if name != "mean")
    elif isinstance(tree, tuple):
        for index, branch in enumerate(tree):
            name = tree._fields[index] if hasattr(tree, "_fields") else index
            yield from paths(branch, (*at, (index, name)))
    elif tree is not None:
        yield at


def poisoned(tree: Any, at: tuple[Any, ...]) -> Any:
    if not at:
        return Poison()
    (index, _), *rest = at
    branches = list(tree)
    branches[index] = poisoned(branches[index], tuple(rest))
    return type(tree)(*branches) if hasattr(tree, "_fields") else tuple(branches)


@every_pair
def test_every_field_of_the_cache_is_read(name: str) -> None:
    """Each field that a forward keeps is read by the backward in one case at least."""
    kept, read = set(), set()
    for case in (case for case in PAIR_CASES if case.function.__name__ == name):
        value, cache = forward(case, case.inputs)
        upstream = upstream_for(value, case.name)
        for at in paths(cache):
            kept.add(at)
            try:
                backward(case, upstream, poisoned(cache, at))
            except PoisonedError:
                read.add(at)
    assert kept == read


@every_pair
def test_both_halves_stand_beside_their_pair_documented(name: str) -> None:
    pair = core_pairs()[name]
    module = importlib.import_module(pair.__module__)
    forward, backward = (getattr(module, f"{name}_{half}") for half in ("forward", "backward"))
    assert getattr(module, name) is pair
    assert inspect.getdoc(forward)
    assert (inspect.getdoc(backward) or "").startswith("Return ")


@every_pair
def test_a_half_has_the_arguments_and_defaults_of_its_pair(name: str) -> None:
    """What a raw forward names is an argument of the call, with the same default where it has one."""
    pair = core_pairs()[name]
    declared = inspect.signature(pair).parameters
    for parameter in inspect.signature(raw_forward(pair)).parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            continue
        assert parameter.kind is declared[parameter.name].kind
        if parameter.default is not parameter.empty:
            assert parameter.default == declared[parameter.name].default
    assert "tile" not in inspect.signature(raw_forward(pair)).parameters


def raw_forward(pair: Any) -> Any:
    return getattr(importlib.import_module(pair.__module__), f"{pair.__name__}_forward")


@pytest.mark.parametrize("name", refcl.losses.__all__)
def test_the_losses_are_exported(name: str) -> None:
    assert name in refcl.__all__
    assert getattr(refcl, name) is getattr(refcl.losses, name)


@pytest.mark.parametrize(
    "name", [name for name in refcl.losses.__all__ if isinstance(getattr(refcl, name), refcl.Pair)]
)
def test_the_gradients_of_a_loss_are_a_class_of_its_own(name: str) -> None:
    pair = getattr(refcl, name)
    assert pair.Grads._fields == tuple(f"d{argument}" for argument in pair.arguments)
    assert getattr(importlib.import_module(pair.__module__), pair.Grads.__name__) is pair.Grads
    assert pair.Grads.__name__ != "Grads"


def test_exported_names_exist() -> None:
    assert all(hasattr(refcl, name) for name in refcl.__all__)
    assert all(hasattr(refcl.losses, name) for name in refcl.losses.__all__)


OF_EMBEDDINGS = {"ignore": None, "reduction": "mean", "normalize": True, "eps": 1e-12}
DEFAULTS: dict[str, dict[str, Any]] = {
    "info_nce": {
        "temperature": 0.1,
        "positive": None,
        "ignore": None,
        "reduction": "mean",
        "normalize": True,
        "eps": 1e-12,
    },
    "nt_xent": {"temperature": 0.5, **OF_EMBEDDINGS},
    "clip": OF_EMBEDDINGS,
    "simple_loss": {"weight": None, "positive": None, **OF_EMBEDDINGS},
    "hard_info_nce": {"temperature": 0.1, "positive": None, **OF_EMBEDDINGS},
    "hard_simple_loss": {"weight": None, "positive": None, **OF_EMBEDDINGS},
    "softmax_contrastive": {"positive": None, "ignore": None, "reduction": "mean"},
    "simple_contrastive": {"weight": None, "reduction": "mean"},
    "hard_softmax_contrastive": {"positive": None, "ignore": None, "reduction": "mean"},
    "hard_simple_contrastive": {"weight": None, "reduction": "mean"},
    "triplet": {"margin": 0.0, "reduction": "mean"},
    "maximum": {"margin": 0.0},
    "l2_normalize": {"eps": 1e-12},
    "batch_norm": {"running": None, "eps": 1e-5},
    "mlp": {"training": True, "running": None, "eps": 1e-5},
    "reduce": {"reduction": "mean"},
    "alignment": {"alpha": 2.0},
    "uniformity": {"t": 2.0},
    "uniform_law_uniformity": {"t": 2.0},
    "tolerance": {"normalized": True, "self_pairs": False},
    "local_separation": {"nearest": 10, "positive": None, "ignore": None},
    "relative_penalty": {"positive": None, "ignore": None, "hardest": None},
    "updated_running": {"momentum": 0.1},
    "he_init": {"batch_norm": False, "dtype": "float64"},
}


@pytest.mark.parametrize("name", DEFAULTS)
def test_defaults_are_those_of_the_contract(name: str) -> None:
    function = core_pairs()[name] if name in core_pairs() else core_functions()[name]
    parameters = inspect.signature(function).parameters
    assert {argument: parameters[argument].default for argument in DEFAULTS[name]} == DEFAULTS[name]


@every_pair
def test_what_has_a_gradient_is_positional_and_the_rest_is_keyword_only(name: str) -> None:
    pair = core_pairs()[name]
    kinds = {p.name: p.kind for p in inspect.signature(pair).parameters.values()}
    keyword_only = {argument for argument, kind in kinds.items() if kind is inspect.Parameter.KEYWORD_ONLY}
    assert set(kinds) - keyword_only == set(pair.arguments)
    assert keyword_only == {*pair.settings, "upstream"}
    assert not keyword_only & {"s", "query", "key", "temperature", "weight", "log_scale"}


@pytest.mark.parametrize("name", BACKENDS)
def test_every_backend_is_here(name: str) -> None:
    """Skipped, with the reason, for each that the suite goes without: the tests of backends are made for those here."""
    assert backend_named(name).name == name


def test_float32_never_becomes_float64_behind_the_scenes() -> None:
    """The device without float64 refuses every silent promotion: this is what the contract above relies on."""
    device = backend_named("strict-no-float64")
    with pytest.raises(ValueError, match="float64"):
        device.xp.asarray(np.zeros(2), device=device.device)
