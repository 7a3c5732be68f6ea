"""Every error message of the core: what was expected, what came, what to do; alike on every backend."""

import ast
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import array_api_strict
import numpy as np
import pytest
from backends import NUMPY, Backend
from cases import core_modules

import refcl
from refcl import encoder, hardness, metrics, sphere, validate
from refcl.backend import Library, namespace

ANY = r"[\s\S]*"


class Wrong(NamedTuple):
    call: Callable[[Backend], Any]
    error: type[Exception]
    message: str  # {dtype}, {other}: the backend's floats and the others; {smallest}, {largest}: of its normal numbers


def ones(backend: Backend, *shape: int) -> Any:
    return backend.array(np.ones(shape))


def embeddings(**settings: Any) -> Callable[[Backend], Any]:
    """Call info_nce on embeddings (3, 2), with settings; a function among them makes its array on the backend."""
    return lambda b: refcl.info_nce(ones(b, 3, 2), ones(b, 4, 2), **made(settings, b))


def similarities(pair: Any, *inputs: Any, **settings: Any) -> Callable[[Backend], Any]:
    return lambda b: pair(ones(b, 2, 3), *inputs, **made(settings, b))


def made(settings: dict[str, Any], backend: Backend) -> dict[str, Any]:
    return {name: value(backend) if callable(value) else value for name, value in settings.items()}


def drawn(**settings: Any) -> Callable[[Backend], Any]:
    """Call nce with one draw an anchor, but for what is given."""

    def call(b: Backend) -> Any:
        usual = {"index": integers(0, 1, 2)(b), "noise": b.array(np.zeros((3, 1), dtype=np.int64))}
        return refcl.nce(ones(b, 3, 2), 0.2, bank=ones(b, 4, 2), log_normalizer=1.0, **{**usual, **made(settings, b)})

    return call


def clipped(clamp: Any) -> Callable[[Backend], Any]:
    return lambda b: refcl.clip(ones(b, 3, 2), ones(b, 3, 2), 1.5, clamp=clamp)


def hard(hardest: Any) -> Callable[[Backend], Any]:
    return similarities(refcl.hard_softmax_contrastive, 0.2, hardest=hardest)


def half(backend: Backend) -> Any:
    """Return an array in half precision; the standard has none, so that there it is looked like."""
    if backend.xp is not array_api_strict:
        return backend.xp.ones((2, 3), dtype=backend.xp.float16)
    array = ones(backend, 2, 3)
    looks = {"__eq__": lambda *_: False, "__str__": lambda _: "float16", "__hash__": object.__hash__}
    array._dtype = type("float16", (), looks)()
    return array


def integers(*values: int) -> Callable[[Backend], Any]:
    return lambda b: b.array(np.array(values))


def params(*widths: int, backend: Backend) -> Any:
    return backend.arrays(encoder.he_init(np.random.default_rng(0), widths, batch_norm=True))


def cache_of_one_row(backend: Backend) -> Any:
    layers = params(2, 3, 1, backend=backend)
    return encoder.mlp.forward(ones(backend, 1, 2), layers)[1], encoder.initial_running(layers)


ALIKE = {
    # shapes
    "agree": Wrong(
        lambda b: refcl.info_nce(ones(b, 32, 128), ones(b, 31, 64)),
        ValueError,
        "info_nce: query and key must agree on D; got query (32, 128) and key (31, 64).",
    ),
    "matrix": Wrong(
        lambda b: sphere.l2_normalize(ones(b, 3)), ValueError, "l2_normalize: h must have shape (N, D); got (3,)."
    ),
    "vector": Wrong(
        lambda b: refcl.penalty.hinge(ones(b, 3, 1)), ValueError, "hinge: gap must have shape (N,); got (3, 1)."
    ),
    "empty": Wrong(
        lambda b: sphere.l2_normalize(b.array(np.ones((0, 2)))),
        ValueError,
        "l2_normalize: h is empty; got shape (0, 2).",
    ),
    "diagonal": Wrong(
        lambda b: refcl.triplet(ones(b, 3, 2)),
        ValueError,
        "triplet: 3 anchors need at least as many candidates for positives on the diagonal; got 2. "
        "Pass positive=(N,) columns.",
    ),
    "positive-shape": Wrong(
        embeddings(positive=integers(0, 1)), ValueError, "info_nce: positive must have shape (3,); got (2,)."
    ),
    "ignore-shape": Wrong(
        embeddings(ignore=lambda b: b.array(np.zeros((3, 3), dtype=bool))),
        ValueError,
        "info_nce: ignore must have shape (3, 4); got (3, 3).",
    ),
    # kinds
    "integers": Wrong(
        lambda b: refcl.info_nce(b.array(np.ones((3, 2), dtype=np.int64)), ones(b, 4, 2)),
        TypeError,
        "info_nce: query is int64; expected float32 or float64. Convert it to one of them first.",
    ),
    "half": Wrong(
        lambda b: sphere.l2_normalize(half(b)),
        TypeError,
        "l2_normalize: h is float16; expected float32 or float64. "
        "Sums of exponentials lose everything in half precision: convert to float32 first, and the gradients back.",
    ),
    "list": Wrong(
        lambda b: refcl.info_nce([[1.0]], ones(b, 1, 1)),
        TypeError,
        "info_nce: query is list; expected an array of NumPy, CuPy or the array API standard. "
        "Convert it with numpy.asarray(...) first.",
    ),
    "positive-kind": Wrong(
        embeddings(positive=lambda b: ones(b, 3)),
        TypeError,
        "info_nce: positive is {dtype}; expected an array of integers of shape (3,).",
    ),
    "ignore-kind": Wrong(
        embeddings(ignore=lambda b: b.array(np.zeros((3, 4), dtype=np.int64))),
        TypeError,
        "info_nce: ignore is int64; expected an array of booleans of shape (3, 4).",
    ),
    # numbers
    "temperature-zero": Wrong(
        embeddings(temperature=0.0), ValueError, "info_nce: temperature must be > 0 and finite, got 0.0."
    ),
    "temperature-nan": Wrong(
        embeddings(temperature=float("nan")), ValueError, "info_nce: temperature must be > 0 and finite, got nan."
    ),
    "temperature-below-normal": Wrong(
        lambda b: refcl.info_nce(ones(b, 3, 2), ones(b, 4, 2), 1e-320),
        ValueError,
        "info_nce: temperature must be between {smallest} and {largest} in {dtype}, got 1e-320.",
    ),
    "weight-infinite": Wrong(
        similarities(refcl.simple_contrastive, float("inf")),
        ValueError,
        "simple_contrastive: weight must be finite, got inf.",
    ),
    "temperature-text": Wrong(
        embeddings(temperature="cold"),
        TypeError,
        "info_nce: temperature must be a number or a 0-d array, got str.",
    ),
    "temperature-bool": Wrong(
        embeddings(temperature=True), TypeError, "info_nce: temperature must be a number or a 0-d array, got bool."
    ),
    "temperature-array": Wrong(
        embeddings(temperature=lambda b: ones(b, 1)),
        TypeError,
        "info_nce: temperature must be a number or a 0-d array, got an array of shape (1,).",
    ),
    "temperature-integer-array": Wrong(
        embeddings(temperature=lambda b: b.array(np.array(1))),
        TypeError,
        "info_nce: temperature is int64 and the inputs are {dtype}; expected one dtype. "
        "Convert it first, or pass a number.",
    ),
    "margin": Wrong(
        similarities(refcl.triplet, margin=-0.1), ValueError, "triplet: margin must be >= 0 and finite, got -0.1."
    ),
    "eps": Wrong(embeddings(eps=0), ValueError, "info_nce: eps must be > 0 and finite, got 0."),
    "eps-text": Wrong(embeddings(eps="small"), TypeError, "info_nce: eps must be a number, got str."),
    "hardest-bool": Wrong(
        hard(True),
        TypeError,
        "hard_softmax_contrastive: hardest must be a fraction (float in (0, 1]) or a count (int >= 1), got bool.",
    ),
    "hardest-count": Wrong(hard(0), ValueError, "hard_softmax_contrastive: hardest as a count must be >= 1, got 0."),
    "hardest-fraction": Wrong(
        hard(1.5),
        ValueError,
        "hard_softmax_contrastive: hardest as a fraction must be in (0, 1], got 1.5; pass an int to give a count.",
    ),
    "reduction": Wrong(
        embeddings(reduction="avg"), ValueError, 'info_nce: reduction must be "mean", "sum" or "none", got \'avg\'.'
    ),
    # pairs
    "upstream-reduced": Wrong(
        embeddings(upstream=lambda b: ones(b)),
        ValueError,
        'info_nce: upstream goes with reduction="none" only; scale the gradients of a reduced loss yourself.',
    ),
    "upstream-shape": Wrong(
        embeddings(reduction="none", upstream=lambda b: ones(b, 2)),
        ValueError,
        "info_nce: upstream must have the shape of the value, (3,); got (2,).",
    ),
    # the encoder
    "running": Wrong(
        lambda b: encoder.batch_norm(ones(b, 2, 3), ones(b, 3), ones(b, 3), training=False),
        ValueError,
        "batch_norm: evaluation needs running=(mean, variance); see initial_running.",
    ),
    "params": Wrong(
        lambda b: encoder.mlp(ones(b, 2, 3), ((ones(b, 3, 2),),)),
        ValueError,
        "mlp: params must be layers (weight, bias) or (weight, bias, gamma, beta), the last (weight, bias); "
        "got lengths [1].",
    ),
    "running-layers": Wrong(
        lambda b: encoder.mlp(ones(b, 4, 2), params(2, 3, 1, backend=b), running=()),
        ValueError,
        "mlp: running must have one entry a layer, 2; got 0.",
    ),
    "running-one-row": Wrong(
        lambda b: encoder.updated_running(*cache_of_one_row(b)),
        ValueError,
        "updated_running: the variance of one row is unknown; use batches of at least 2 rows.",
    ),
    "momentum": Wrong(
        lambda b: encoder.updated_running(*cache_of_one_row(b), momentum=1.5),
        ValueError,
        "updated_running: momentum must be <= 1, got 1.5.",
    ),
    "widths": Wrong(
        lambda b: encoder.he_init(np.random.default_rng(0), (3,)),
        ValueError,
        "he_init: widths must be at least two numbers >= 1, got (3,).",
    ),
    # the systems
    "noise-shape": Wrong(
        drawn(noise=lambda b: b.array(np.zeros((2, 3), dtype=np.int64))),
        ValueError,
        "nce: noise must have shape (3, K), K >= 1; got (2, 3).",
    ),
    "noise-vector": Wrong(
        drawn(noise=integers(0, 1, 2)), ValueError, "nce: noise must have shape (3, K), K >= 1; got (3,)."
    ),
    "noise-kind": Wrong(
        drawn(noise=lambda b: ones(b, 3, 2)),
        TypeError,
        "nce: noise is {dtype}; expected an array of integers of shape (3, 2).",
    ),
    "noise-list": Wrong(
        drawn(noise=[[0], [1], [2]]),
        TypeError,
        "nce: noise is list; expected an array of NumPy, CuPy or the array API standard. "
        "Convert it with numpy.asarray(...) first.",
    ),
    "index-shape": Wrong(drawn(index=integers(0)), ValueError, "nce: index must have shape (3,); got (1,)."),
    "stabilizer": Wrong(drawn(stabilizer=-1e-7), ValueError, "nce: stabilizer must be >= 0 and finite, got -1e-07."),
    "queue": Wrong(
        lambda b: refcl.moco(ones(b, 3, 2), ones(b, 3, 2), 0.2, queue=ones(b, 5, 4)),
        ValueError,
        "moco: query and queue must agree on D; got query (3, 2) and queue (5, 4).",
    ),
    "views-list": Wrong(
        lambda b: refcl.cmc([ones(b, 3, 2), ones(b, 3, 2)], 0.2),
        TypeError,
        "cmc: views must be a tuple of (N, D) arrays, got list.",
    ),
    "views-one": Wrong(
        lambda b: refcl.cmc((ones(b, 3, 2),), 0.2),
        ValueError,
        "cmc: one view is compared with another; expected views of at least 2, got 1.",
    ),
    "views-agree": Wrong(
        lambda b: refcl.cmc((ones(b, 3, 2), ones(b, 4, 2)), 0.2),
        ValueError,
        "cmc: views[0] and views[1] must agree on N; got views[0] (3, 2) and views[1] (4, 2).",
    ),
    "core": Wrong(
        lambda b: refcl.cmc((ones(b, 3, 2), ones(b, 3, 2)), 0.2, core=2),
        ValueError,
        "cmc: core must be False, True or an int from 0 to 1, got 2.",
    ),
    "form": Wrong(
        lambda b: refcl.cpc(ones(b, 3, 2), ones(b, 3, 4), ones(b, 4, 2)),
        ValueError,
        "cpc: context and weight must agree on D; got context (3, 2) and weight (4, 2).",
    ),
    "bound-kind": Wrong(
        lambda b: refcl.mutual_information_bound(0.5, 2.0),
        TypeError,
        "mutual_information_bound: n must be an int, got float.",
    ),
    "bound-count": Wrong(
        lambda b: refcl.mutual_information_bound(0.5, 0),
        ValueError,
        "mutual_information_bound: n must be >= 1, got 0.",
    ),
    "clamp-kind": Wrong(clipped(4.6), TypeError, "clip: clamp must be a tuple (low, high) or None, got 4.6."),
    "clamp-order": Wrong(clipped((4.6, 0.0)), ValueError, "clip: clamp must have low <= high, got (4.6, 0.0)."),
    "clamp-infinite": Wrong(clipped((0.0, float("inf"))), ValueError, "clip: clamp must be finite, got inf."),
    "otherwise": Wrong(
        similarities(refcl.semi_hard_triplet, otherwise="random"),
        ValueError,
        'semi_hard_triplet: otherwise must be "skip", "easiest" or "hardest", got \'random\'.',
    ),
    "same-kind": Wrong(
        lambda b: refcl.pair_contrastive(ones(b, 3, 2), ones(b, 3, 2), same=integers(1, 0, 1)(b)),
        TypeError,
        "pair_contrastive: same is int64; expected an array of booleans of shape (3,).",
    ),
    # about the walk
    "one-row": Wrong(
        lambda b: metrics.uniformity(ones(b, 1, 2)),
        ValueError,
        "uniformity: one row makes no pair; expected z with at least 2 rows, got shape (1, 2).",
    ),
    "dimension": Wrong(
        lambda b: metrics.uniform_law_uniformity(0),
        ValueError,
        "uniform_law_uniformity: dimension must be an integer >= 1, got 0.",
    ),
    "nearest": Wrong(
        lambda b: metrics.local_separation(ones(b, 2, 3), nearest=3),
        ValueError,
        "local_separation: nearest must be an integer from 1 to 2, got 3.",
    ),
    "labels": Wrong(
        lambda b: metrics.tolerance(ones(b, 2, 3), ones(b, 2)),
        TypeError,
        "tolerance: labels is {dtype}; expected an array of integers of shape (2,).",
    ),
    "entropy": Wrong(
        lambda b: hardness.temperature_for_entropy(b.array(np.array([[0.5, 0.25, 0.75]])), 0.9),
        ValueError,
        "temperature_for_entropy: entropy must lie between log 1 and log 2 for row 0, its nearest and all its "
        "negatives; got 0.9.",
    ),
    # what grew from the softmax loss
    "form of SupCon": Wrong(
        lambda b: refcl.sup_con(ones(b, 2, 3), 0.2, labels=integers(0, 0)(b), form="mean"),
        ValueError,
        'sup_con: form must be "out" or "in", got \'mean\'.',
    ),
    "tau-plus": Wrong(
        lambda b: refcl.debiased(ones(b, 2, 3), ones(b, 2, 3), 0.2, tau_plus=1.0),
        ValueError,
        "debiased: tau_plus must be < 1, got 1.0.",
    ),
    "one-pair": Wrong(
        lambda b: refcl.align_uniform(ones(b, 1, 3), ones(b, 1, 3)),
        ValueError,
        "align_uniform: one row makes no pair; expected at least 2 rows, got shape (1, 3).",
    ),
    "namespace": Wrong(
        lambda b: namespace(1.0), TypeError, "expected an array, got float; convert it with numpy.asarray(...) first."
    ),
}

# What only some libraries can get wrong.
TORCH = type("Tensor", (), {"__module__": "torch"})()
STRICT_ONES = array_api_strict.ones((2, 3))
PARTICULAR = {
    "dtypes": Wrong(
        lambda _: refcl.info_nce(np.ones((3, 2)), np.ones((4, 2), dtype=np.float32)),
        TypeError,
        "info_nce: query is float64 and key is float32; expected one dtype. Convert one of them first.",
    ),
    "temperature-dtype": Wrong(
        lambda _: refcl.info_nce(np.ones((3, 2)), np.ones((4, 2)), np.array(0.5, dtype=np.float32)),
        TypeError,
        "info_nce: temperature is float32 and the inputs are float64; expected one dtype. "
        "Convert it first, or pass a number.",
    ),
    "devices": Wrong(
        lambda _: refcl.info_nce(
            array_api_strict.ones((3, 2)), array_api_strict.ones((4, 2), device=array_api_strict.Device("device1"))
        ),
        TypeError,
        "info_nce: query is on device array_api_strict.Device('CPU_DEVICE') and key on "
        "array_api_strict.Device('device1'); move one of them first.",
    ),
    "libraries": Wrong(
        lambda _: refcl.info_nce(np.ones((3, 3)), STRICT_ONES),
        TypeError,
        "expected arrays from one library, got array_api_strict and numpy; convert one first.",
    ),
    "libraries-of-roles": Wrong(
        lambda _: refcl.triplet(STRICT_ONES, positive=np.array([0, 1])),
        TypeError,
        "expected arrays from one library, got array_api_strict and numpy; convert one first.",
    ),
    "cupy-and-numpy": Wrong(
        lambda _: validate.one_library([Library("numpy", np), Library("cupy", np)]),
        TypeError,
        "expected arrays from one library, got cupy and numpy; move one with cupy.asarray(...) or cupy.asnumpy(...).",
    ),
    "torch": Wrong(
        lambda _: sphere.l2_normalize(TORCH),
        TypeError,
        "l2_normalize: h is torch.Tensor; expected an array of NumPy, CuPy or the array API standard. "
        "Convert it with tensor.detach().cpu().numpy() first.",
    ),
}


def check_refused(wrong: Wrong, backend: Backend) -> None:
    info = np.finfo(backend.dtype)
    want = wrong.message.replace("{dtype}", backend.dtype)
    want = want.replace("{smallest}", f"{info.smallest_normal:.1e}").replace("{largest}", f"{info.max:.1e}")
    with pytest.raises(wrong.error, match=f"^{re.escape(want)}$"):
        wrong.call(backend)


@pytest.mark.parametrize("name", ALIKE)
def test_messages_are_alike_on_every_backend(name: str, backend: Backend) -> None:
    check_refused(ALIKE[name], backend)


@pytest.mark.parametrize("name", PARTICULAR)
def test_messages_of_mixed_libraries_dtypes_and_devices(name: str) -> None:
    check_refused(PARTICULAR[name], NUMPY)


ON_SIMILARITIES = {
    "softmax_contrastive": (refcl.softmax_contrastive, (0.2,), {}),
    "simple_contrastive": (refcl.simple_contrastive, (0.5,), {}),
    "hard_softmax_contrastive": (refcl.hard_softmax_contrastive, (0.2,), {"hardest": 1}),
    "hard_simple_contrastive": (refcl.hard_simple_contrastive, (0.5,), {"hardest": 1}),
    "triplet": (refcl.triplet, (), {}),
    "semi_hard_triplet": (refcl.semi_hard_triplet, (), {}),
}
ON_EMBEDDINGS = {
    "info_nce": (refcl.info_nce, (0.2,), {}),
    "simple_loss": (refcl.simple_loss, (0.5,), {}),
    "hard_info_nce": (refcl.hard_info_nce, (0.2,), {"hardest": 1}),
    "hard_simple_loss": (refcl.hard_simple_loss, (0.5,), {"hardest": 1}),
    "nt_xent": (refcl.nt_xent, (0.2,), {}),
    "clip": (refcl.clip, (1.5,), {}),
    "moco": (refcl.moco, (0.2,), {"queue": np.ones((3, 2))}),
    "sig_lip": (refcl.sig_lip, (1.5, -2.5), {}),
}


@pytest.mark.parametrize("name", [*ON_SIMILARITIES, *ON_EMBEDDINGS])
def test_a_loss_says_its_own_name_and_its_caller_s_words(name: str) -> None:
    """Not the name of the room in which the walk came to a halt."""
    pair, scalars, settings = {**ON_SIMILARITIES, **ON_EMBEDDINGS}[name]
    good = [np.ones((3, 4))] if name in ON_SIMILARITIES else [np.ones((3, 2)), np.ones((3, 2))]
    scalar_names = pair.arguments[len(good) :]
    for position, scalar_name in enumerate(scalar_names):
        wrong = [float("nan") if place == position else x for place, x in enumerate(scalars)]
        with pytest.raises(ValueError, match=rf"^{name}: {scalar_name} must be {ANY}finite, got nan\.$"):
            pair(*good, *wrong, **settings)
    with pytest.raises(ValueError, match=rf"^{name}: reduction must be"):
        pair(*good, *scalars, reduction="median", **settings)
    with pytest.raises(TypeError, match=rf"^{name}: ignore is float64"):
        pair(*good, *scalars, ignore=np.ones((3, 3)), **settings)
    if "eps" in pair.settings:
        with pytest.raises(ValueError, match=rf"^{name}: eps must be > 0"):
            pair(*good, *scalars, eps=-1.0, **settings)
    for position, argument in enumerate(pair.arguments[: len(good)]):
        with pytest.raises(TypeError, match=rf"^{name}: {argument} is int64"):
            pair(*(x.astype("int64") if p == position else x for p, x in enumerate(good)), *scalars, **settings)


def test_settings_of_the_host_are_looked_at_and_arrays_are_not() -> None:
    """What a 0-d array holds would have to be fetched from a device: NaN in, NaN out."""
    s = np.array([[0.5, 0.25]])
    loss, grads = refcl.softmax_contrastive(s, np.array(np.nan))
    assert np.isnan(loss)
    assert np.isnan(grads.dtemperature)


@pytest.mark.parametrize("temperature", [np.float32(0.5), np.float64(0.5), 0.5, np.int64(2), 2], ids=repr)
def test_numbers_of_any_kind_are_taken(temperature: Any, backend: Backend) -> None:
    value = validate.scalar("f", "temperature", temperature, like=ones(backend, 1), positive=True)
    assert backend.owns(value)
    assert value.dtype == ones(backend, 1).dtype
    assert backend.host(value) == temperature


@pytest.mark.parametrize("value", [1e-50, 1e50, 10**400], ids=["tiny", "huge", "no float at all"])
def test_a_temperature_must_be_a_number_of_its_dtype(value: Any) -> None:
    a = np.ones((2, 2), dtype=np.float32)
    with pytest.raises(
        ValueError, match=r"^info_nce: temperature must be (between 1\.2e-38 and 3\.4e\+38|> 0 and fin)"
    ):
        refcl.info_nce(a, a, value)
    with pytest.raises(ValueError, match=r"^sig_lip: bias must be (at most 3\.4e\+38 in size in float32|finite)"):
        refcl.sig_lip(a, a, 1.0, max(value, 1e50))
    with pytest.raises(ValueError, match=r"^info_nce: eps must be > 0 and finite"):
        refcl.info_nce(a, a, eps=10**400)


def test_what_agreed_is_remembered_for_a_while_only(monkeypatch: pytest.MonkeyPatch) -> None:
    agreed: dict[Any, Any] = {}
    monkeypatch.setattr(validate, "_AGREED", agreed)
    monkeypatch.setattr(validate, "_MOST_AGREED", 2)
    for n in (1, 2, 3, 1, 3):
        assert validate.floats("f", x=(np.ones((n, 2)), "N D"), y=(np.ones(n), "N")) is np
        assert len(agreed) <= 2
        with pytest.raises(ValueError, match="must agree on N"):
            validate.floats("f", x=(np.ones((n, 2)), "N D"), y=(np.ones(n + 1), "N"))


def raises_in(path: Path) -> dict[int, str]:
    """Return the lines on which a file raises, each with the first line of its statement."""
    found: dict[int, str] = {}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Raise):
            where = f"{path.name}:{node.lineno}"
            found |= dict.fromkeys(range(node.lineno, (node.end_lineno or node.lineno) + 1), where)
    return found


def test_every_raise_of_the_core_has_a_row_here() -> None:
    files = {Path(module.__file__ or "") for module in core_modules()}
    lines = {(str(path), line): where for path in files for line, where in raises_in(path).items()}
    reached = set()
    for wrong in [*ALIKE.values(), *PARTICULAR.values()]:
        try:
            wrong.call(NUMPY)
        except wrong.error:
            trace = sys.exc_info()[2]
            while trace is not None and trace.tb_next is not None:
                trace = trace.tb_next
            assert trace is not None
            reached.add(lines.get((trace.tb_frame.f_code.co_filename, trace.tb_lineno)))
    assert set(lines.values()) - reached == set()


def test_a_count_of_the_hardest_is_no_float() -> None:
    assert validate.hardest("f", np.int64(3)) == 3
    assert type(validate.hardest("f", np.int64(3))) is int
    assert type(validate.hardest("f", np.float64(0.5))) is float
