"""The GPU's path, held without a GPU: nothing waits, nothing NumPy has and CuPy has not is used."""

import importlib
import importlib.util
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from backends import Backend, check_near, standin, standing_in
from cases import PAIR_CASES, Case, named

import refcl
from refcl.core import arrays
from refcl.experiment.data import Part, load
from refcl.experiment.info import machine
from refcl.experiment.keys import SOURCES
from refcl.experiment.objectives import OBJECTIVES, Run, losses_with
from refcl.experiment.pretext.tasks import TASKS
from refcl.experiment.pretext.train import train_pretext
from refcl.experiment.study.job import Work, evaluate_run, train_run
from refcl.experiment.train import Settings, train
from refcl.oracle import check

DIGITS = load()

READS_ITS_NUMBERS = {"fixed_entropy", "fixed_entropy_contrastive"}  # the temperature is searched for on the host
COPIES_A_TABLE = {"hard_info_nce", "hard_simple_loss", "hard_softmax_contrastive", "hard_simple_contrastive"}


@pytest.fixture
def cupy(monkeypatch: pytest.MonkeyPatch) -> Any:
    module = standing_in(monkeypatch)
    monkeypatch.setattr(module, "waits", [])
    monkeypatch.setattr(module, "copies", [])
    return module


@pytest.mark.parametrize("case", PAIR_CASES, ids=named)
def test_a_call_neither_waits_nor_copies(case: Case, cupy: Any) -> None:
    backend = Backend("cupy", cupy, "float64")
    inputs = backend.arrays(case.inputs)
    settings = {name: backend.arrays(value) for name, value in case.settings.items()}
    name = case.function.__name__
    for tile in (None, 2) if "tile" in case.function.settings else (None,):
        cupy.waits.clear()
        cupy.copies.clear()
        case.function(*inputs, **settings, **({} if tile is None else {"tile": tile}))
        assert name in READS_ITS_NUMBERS or cupy.waits == []
        if name not in READS_ITS_NUMBERS | COPIES_A_TABLE:
            assert cupy.copies == []


@pytest.mark.parametrize("loss", ["info_nce", "nt_xent", "clip", "simple_loss"])
def test_strips_equal_those_of_numpy(loss: str, cupy: Any, rng: np.random.Generator) -> None:
    a, b = rng.standard_normal((2, 30, 5))
    scalars = () if loss == "simple_loss" else (0.3,)
    value, grads = getattr(refcl, loss)(cupy.asarray(a), cupy.asarray(b), *scalars, tile=7)
    want, want_grads = getattr(refcl, loss)(a, b, *scalars, tile=7)
    host = [None if x is None else x.get() for x in (value, *grads)]
    check_near(
        tuple(x for x in host if x is not None), tuple(x for x in (want, *want_grads) if x is not None), rtol=1e-13
    )


def test_an_index_out_of_range_makes_nan_where_looking_would_wait(cupy: Any, rng: np.random.Generator) -> None:
    """An anchor's own negatives, which stand behind the keys, are nobody's positive."""
    q, k = (cupy.asarray(rng.standard_normal((n, 3))) for n in (4, 6))
    own = cupy.asarray(rng.standard_normal((4, 2, 3)))
    for tile in (None, 2):
        for beside in (None, own):
            positive = cupy.asarray(np.array([0, 6, -1, 5]))
            value, _ = refcl.info_nce(q, k, 0.2, beside, positive=positive, reduction="none", tile=tile)
            assert np.isnan(value.get()).tolist() == [False, True, True, False]


@pytest.mark.parametrize("loss", [refcl.info_nce, refcl.nt_xent])
def test_the_strips_take_a_tensor_s_memory_through_cupy(
    loss: Any, cupy: Any, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    looked_at = arrays.looked_at  # as on a GPU, where only NumPy's arrays can be looked at
    monkeypatch.setattr(arrays, "looked_at", lambda x: looked_at(x) if isinstance(x, np.ndarray) else None)
    taken: list[int] = []
    monkeypatch.setattr(cupy, "from_dlpack", lambda x, real=cupy.from_dlpack: (taken.append(x.data_ptr()), real(x))[1])
    host = [rng.standard_normal((5, 3)) for _ in range(2)]
    tensors = [torch.asarray(x) for x in host]
    value, grads = loss(*tensors, 0.2, tile=2)
    want, want_grads = loss(*host, 0.2, tile=2)
    assert {x.data_ptr() for x in tensors} <= set(taken)
    assert all(isinstance(x, torch.Tensor) for x in (value, *grads) if x is not None)
    check_near(
        tuple(x.numpy() for x in (value, *grads) if x is not None),
        tuple(x for x in (want, *want_grads) if x is not None),
        rtol=1e-13,
    )
    assert cupy.copies == []
    assert cupy.waits == []


@pytest.mark.parametrize("source", SOURCES)
def test_a_step_of_the_study_copies_twice_at_most_and_never_waits(source: str, cupy: Any) -> None:
    """What an epoch has more than another: an order of the samples, and its batches."""
    few = Part(DIGITS.training.x[:64], DIGITS.training.y[:64])
    data = DIGITS._replace(training=few)
    for loss in losses_with(source, pictures=source == SOURCES[0]):
        entry, counted = OBJECTIVES[loss], []
        run = Run(loss, 0.3 if entry.temperature else None, 0.2 if entry.hardest else None, 0)
        for epochs in (1, 2):
            cupy.waits.clear()
            cupy.copies.clear()
            settings = Settings(epochs=epochs, batch=16, hidden=(8,), dimension=4, queue=20, keys=source, device="gpu")
            trainer = train_pretext if loss in TASKS else train
            trainer(data, run, settings, cupy.asarray, lambda epoch: None)
            counted.append((len(cupy.waits), len(cupy.copies)))
        waits, copies = np.subtract(counted[1], counted[0])
        assert loss in READS_ITS_NUMBERS or waits == 0
        assert copies <= 4 * 2 + 1, loss


@pytest.mark.usefixtures("cupy")
@pytest.mark.parametrize("loss", ["hard_simple_loss", "info_nce"])
def test_a_run_of_the_study_is_as_good_as_on_the_cpu(loss: str) -> None:
    """Its views are others, as a GPU draws its own numbers."""
    run, found = Run(loss, 0.3 if loss == "info_nce" else None, 0.1 if loss != "info_nce" else None, 0), []
    for device in ("cpu", "gpu"):
        settings = Settings(epochs=2, hidden=(16,), dimension=5, device=device)
        work = Work(DIGITS, DIGITS.fingerprint, settings, machine())
        numbers, arrays = evaluate_run(work, run, train_run(work, run))
        assert all(type(x) is np.ndarray for x in arrays.values())
        found.append([numbers[name] for name in ("linear_accuracy", "uniformity", "alignment")])
    assert found[0] != found[1]
    np.testing.assert_allclose(found[1], found[0], rtol=0.1)


@pytest.mark.parametrize(("half", "verdict"), [(1.0, "correct"), (0.5, "scaled-by-constant")])
def test_the_oracle_judges_what_a_gpu_computed(half: float, verdict: str, cupy: Any) -> None:
    def candidate(query: Any, key: Any, temperature: Any) -> Any:
        value, grads = refcl.info_nce(cupy.asarray(query), cupy.asarray(key), float(temperature))
        return half * cupy.asnumpy(value), tuple(half * cupy.asnumpy(d) for d in grads if d is not None)

    assert check(candidate, "info_nce").verdict == verdict


WAITING: dict[str, Any] = {
    "float(x)": lambda x: float(x[0]),
    "if x": lambda x: bool(x[0] > 0),
    "x.item()": lambda x: x[0].item(),
    "x[mask]": lambda x: x[x > 0],
    "x[mask] = 1": lambda x: x.__setitem__(x > 0, 1),
    "for _ in x": lambda x: list(x),
    "asnumpy": lambda x: standin().asnumpy(x),
    "nonzero": lambda x: standin().nonzero(x),
}


@pytest.mark.parametrize("what", WAITING)
def test_what_waits_is_recorded(what: str, cupy: Any) -> None:
    WAITING[what](cupy.ones(3))
    assert len(cupy.waits) == 1
    assert "test_standin.py" in cupy.waits[0]


REFUSED: dict[str, Any] = {
    "a keyword of NumPy's": lambda xp, x: xp.sum(x, initial=0.0),
    "another keyword": lambda xp, x: xp.argsort(x, stable=True),
    "an array of the host": lambda xp, x: xp.exp(np.ones(3)),
    "a sum with one": lambda xp, x: x + np.ones(3),
    "conversion": lambda xp, x: np.asarray(x),
    "a device": lambda xp, x: xp.zeros(3, device="gpu"),
    "a ufunc's where": lambda xp, x: xp.exp(x, where=x > 0),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cupy_refuses_is_refused(what: str, cupy: Any) -> None:
    with pytest.raises(TypeError):
        REFUSED[what](cupy, cupy.ones(3))


def test_results_stay_arrays_and_indices_wrap(cupy: Any) -> None:
    x = cupy.asarray(np.arange(3.0))
    assert type(cupy.sum(x)) is type(x)
    assert type(x[1]) is type(x)
    assert not hasattr(cupy, "vecdot")
    assert x[cupy.asarray(np.array([4]))].get().tolist() == [1.0]
    assert cupy.copies == ["asarray of ndarray" + c[len("asarray of ndarray") :] for c in cupy.copies]


def test_the_signatures_are_those_of_the_installed_cupy() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # CuPy warns on import where it finds no CUDA
        cupy = pytest.importorskip("cupy", reason="CuPy is not installed", exc_type=ImportError)
    folder = Path(__file__).parents[1] / "standin"
    known = json.loads((folder / "cupy" / "signatures.json").read_text(encoding="utf-8"))
    if known["version"] != cupy.__version__:
        pytest.skip(f"CuPy {cupy.__version__} is installed, and {known['version']} is known")
    spec = importlib.util.spec_from_file_location("dump", folder / "dump.py")
    assert spec is not None
    assert spec.loader is not None
    dump = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(dump)
    assert dump.signatures(cupy) == known
