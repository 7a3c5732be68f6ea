"""How exact the losses are: every value and gradient entry against 50 digits, as the tables of ``docs/exactness.md``.

In:  nothing; ``python tests/exactness.py`` measures, ``--write`` puts the tables into the page, ``--small`` is quick.
Out: for each quantity the worst error in eps and as a part of the bound

    |computed − true| ≤ 4 eps (1 + range(s)/τ) |true|        or of the sum of magnitudes where terms have mixed signs

over kinds of similarities, temperatures and sizes; and beside it what cross-entropies of PyTorch and JAX give, where
they are installed.
"""

import argparse
import functools
import importlib
import math
import re
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from digits import (
    KINDS,
    Truth,
    decoupled_truth,
    dominated,
    exact,
    hardest_of,
    simple_truth,
    softmax,
    softmax_truth,
    triplet_truth,
)
from mpmath import mp, mpf

import refcl
from refcl import hardness, metrics
from refcl.walk import pooling

PAGE = Path(__file__).parent.parent / "docs" / "exactness.md"
TEMPERATURES = (1e-3, 1e-2, 0.07, 0.2, 0.5, 1.0, 1e2, 1e4, 1e6)
SIZES = (2, 33, 4096)
DTYPES = ("float64", "float32")


class Row(NamedTuple):
    kind: str
    s: Any  # (1, M), the positive in column 0
    exact: list[mpf]
    temperature: Any  # a NumPy scalar of the dtype


def every_row(dtype: str, sizes: tuple[int, ...]) -> Iterator[Row]:
    """Yield similarities, rounded to the dtype first: what is measured is what is done to them."""
    for m in sizes:
        for kind in KINDS:
            s = kind(np.random.default_rng([m, 11]), m).astype(dtype)
            known = exact(s.tolist())
            for temperature in TEMPERATURES:
                yield Row(f"{kind.__name__.strip('_')}, M = {m}", s[None, :], known, s.dtype.type(temperature))


class Measured(NamedTuple):
    """One number, and the truth."""

    got: Any
    want: mpf
    magnitude: mpf
    ratio: float  # range(s)/τ


class Worst:
    """The worst errors of a quantity, in eps and as a part of the bound, and where it came nearest to the bound."""

    def __init__(self, dtype: str) -> None:
        self.eps = float(np.finfo(dtype).eps)
        self.tiny = float(np.finfo(dtype).tiny)
        self.in_eps = self.of_bound = 0.0
        self.where = ""
        self.count = 0

    def add(self, number: Measured, temperature: Any, where: str) -> None:
        """Count a number, unless it or the exponential behind it is subnormal: those are outside the bound."""
        if float(number.magnitude) * min(1.0, float(temperature)) < self.tiny:
            return
        self.count += 1
        error = abs(float((number.want - float(number.got)) / number.magnitude)) / self.eps
        error = math.inf if math.isnan(error) else error
        self.in_eps = max(self.in_eps, error)
        of_bound = error / (4 * (1 + number.ratio))
        if of_bound > self.of_bound:
            self.of_bound, self.where = of_bound, f"{where}, τ = {float(temperature):.3g}"


Table = dict[tuple[str, str], dict[str, Worst]]  # (loss, quantity) -> dtype -> worst


def measure(
    sizes: tuple[int, ...] = SIZES, libraries: tuple[str, ...] = (), dtypes: tuple[str, ...] = DTYPES
) -> tuple[Table, dict[str, Table]]:
    """Measure every loss, gradient and entropy, and the softmax loss of other libraries; a warning raises."""
    table: Table = {}
    others: dict[str, Table] = {name: {} for name in libraries}
    for dtype in dtypes:
        for row in every_row(dtype, sizes):
            soft = softmax_truth(row.exact, 0, list(range(1, len(row.exact))), mpf(float(row.temperature)))
            _add(table, dtype, [*losses_of(row, soft), *analysis_of(row)], row)
            for name, other in others.items():
                _add(other, dtype, cross_entropy_of(row, soft, PEERS[name]), row)
        for key, number, where in uniformity_of(dtype):
            table.setdefault(key, {}).setdefault(dtype, Worst(dtype)).add(number, 1.0, where)
    return table, others


def _add(table: Table, dtype: str, numbers: Iterable[tuple[tuple[str, str], Measured]], row: Row) -> None:
    for key, number in numbers:
        table.setdefault(key, {}).setdefault(dtype, Worst(dtype)).add(number, row.temperature, row.kind)


def losses_of(row: Row, soft: Truth) -> Iterator[tuple[tuple[str, str], Measured]]:
    """Yield the loss and every gradient entry of each loss."""
    others = list(range(1, len(row.exact)))
    tau = mpf(float(row.temperature))
    value, grads = refcl.softmax_contrastive(row.s, row.temperature)
    yield from _compare("softmax", value, grads.ds, grads.dtemperature, soft, tau, "dτ")
    ((_, kept),) = hardest_of([row.exact], [(0, others)], 5)
    value, grads = refcl.hard_softmax_contrastive(row.s, row.temperature, hardest=5)
    yield from _compare(
        "hard softmax", value, grads.ds, grads.dtemperature, softmax_truth(row.exact, 0, kept, tau), tau, "dτ"
    )
    gap, pooled = pooling.soft_maximum(row.s[:, 0], row.s[:, 1:], row.temperature, negatives=row.s[:, 1:] < np.inf)
    ds = np.concatenate((pooled.ds_pos[:, None], pooled.ds_neg), axis=1)
    yield from _compare(
        "DCL form", gap[0], ds, pooled.dtemperature, decoupled_truth(row.exact, 0, others, tau), tau, "dτ"
    )
    for name, weight in (("simple", None), ("simple, λ = τ", row.temperature)):
        truth = simple_truth(row.exact, 0, others, None if weight is None else tau)
        value, grads = refcl.simple_contrastive(row.s, weight)
        yield from _compare(name, value, grads.ds, grads.dweight, truth, mp.inf, "dλ")
    value, grads = refcl.triplet(row.s)
    yield from _compare("triplet", value, grads.ds, None, triplet_truth(row.exact, 0, others, mpf(0)), mp.inf, "")


def _compare(
    name: str, value: Any, ds: Any, dscalar: Any, truth: Truth, tau: mpf, scalar: str
) -> Iterator[tuple[tuple[str, str], Measured]]:
    ratio = float(truth.range / tau)
    yield (name, "loss"), Measured(value, truth.loss, truth.loss_magnitude, ratio)
    for got, want in zip(ds[0].tolist(), truth.ds, strict=True):
        yield (name, "ds"), Measured(got, want, abs(want), ratio)
    if dscalar is not None:
        yield (name, scalar), Measured(dscalar, truth.dscalar, truth.dscalar_magnitude, ratio)


def analysis_of(row: Row) -> Iterator[tuple[tuple[str, str], Measured]]:
    """Yield the relative penalty, its entropy, and the gradient balance."""
    tau, negatives = mpf(float(row.temperature)), row.exact[1:]
    top = max(negatives)
    ratio = float((top - min(negatives)) / tau)
    r = list(softmax(negatives, list(range(len(negatives))), tau).values())
    for got, want in zip(hardness.relative_penalty(row.s, row.temperature)[0, 1:].tolist(), r, strict=True):
        yield ("relative penalty", "r"), Measured(got, want, want, ratio)
    # −log r of the nearest, and what the others are further off: terms of one sign.
    entropy = -mp.log(max(r)) + mp.fsum(share * (top - x) / tau for share, x in zip(r, negatives, strict=True))
    got = hardness.penalty_entropy(row.s, row.temperature)[0]
    yield ("relative penalty", "entropy"), Measured(got, entropy, entropy, ratio)
    _, grads = refcl.softmax_contrastive(row.s, row.temperature)
    if abs(float(grads.ds[0, 0])) * min(1.0, float(row.temperature)) >= np.finfo(row.s.dtype).tiny * len(r):
        yield ("softmax", "balance"), Measured(hardness.balance(grads.ds)[0], mpf(1), mpf(1), 0.0)


def uniformity_of(dtype: str) -> Iterator[tuple[tuple[str, str], Measured, str]]:
    """Yield uniformity and its gradient; t‖z − z'‖² stands for s/τ, and products are allowed D t eps more."""
    rng = np.random.default_rng(3)
    n, d = 12, 6
    sphere = rng.standard_normal((n, d))
    sphere /= np.linalg.norm(sphere, axis=1, keepdims=True)
    kinds = {
        "random": sphere,
        "collapsed": sphere[:1] + 1e-4 * sphere,
        "antipodal": np.where(np.arange(n)[:, None] % 2 == 0, sphere[:1], -sphere[:1]),
        "close pairs": np.repeat(sphere[::2], 2, axis=0) + 1e-6 * np.roll(sphere, 1, axis=0),
    }
    for kind, rows in kinds.items():
        for t in (0.01, 2.0, 50.0):
            z = rows.astype(dtype)
            value, grads = metrics.uniformity(z, t=t)
            want, dz, magnitudes, ratio = uniformity_truth(exact(z.tolist()), mpf(t))
            ratio += d * t / 4
            yield ("uniformity", "value"), Measured(value, want, abs(want), ratio), f"{kind}, t = {t:g}"
            for got, entry, magnitude in zip(grads.dz.ravel().tolist(), dz, magnitudes, strict=True):
                yield ("uniformity", "dz"), Measured(got, entry, magnitude, ratio), f"{kind}, t = {t:g}"


def uniformity_truth(z: list[list[mpf]], t: mpf) -> tuple[mpf, list[mpf], list[mpf], float]:
    """Return the value, dz, the magnitudes behind dz, and the range of the exponents.

    Each term w (z_p − z_q) of a gradient is held to its length, however near the two rows lie.
    """
    n = len(z)
    x = [[-t * mp.fsum((a - b) ** 2 for a, b in zip(p, q, strict=True)) for q in z] for p in z]
    weights = [[mp.exp(x[p][q]) if p != q else mpf(0) for q in range(n)] for p in range(n)]
    total = mp.fsum(mp.fsum(row) for row in weights)
    apart = [[mp.sqrt(mp.fsum((a - b) ** 2 for a, b in zip(p, q, strict=True))) for q in z] for p in z]
    dz, magnitudes = [], []
    for p in range(n):
        for axis in range(len(z[p])):
            terms = [-4 * t * weights[p][q] / total * (z[p][axis] - z[q][axis]) for q in range(n)]
            dz.append(mp.fsum(terms))
            magnitudes.append(mp.fsum(4 * t * weights[p][q] / total * apart[p][q] for q in range(n)))
    return mp.log(total / (n * (n - 1))), dz, magnitudes, float(max(-y for row in x for y in row))


def cross_entropy_of(row: Row, soft: Truth, of: "Peer") -> Iterator[tuple[tuple[str, str], Measured]]:
    """Yield what another library gives for the softmax loss, under the same names."""
    value, ds, dtemperature = of(row.s, row.temperature)
    yield from _compare("softmax", value, ds, dtemperature, soft, mpf(float(row.temperature)), "dτ")


Peer = Callable[[Any, Any], tuple[float, Any, float]]  # s (1, M), τ -> loss, ds (1, M), dτ


def _refcl(s: Any, temperature: Any) -> tuple[float, Any, float]:
    loss, grads = refcl.softmax_contrastive(s, temperature)
    return float(loss), grads.ds, float(grads.dtemperature)


def _torch(s: Any, temperature: Any) -> tuple[float, Any, float]:
    import torch

    x, tau = torch.tensor(s, requires_grad=True), torch.tensor(temperature, requires_grad=True)
    loss = torch.nn.functional.cross_entropy(x / tau, torch.tensor([0]))
    ds, dtemperature = torch.autograd.grad(loss, (x, tau))
    return float(loss.detach()), ds.numpy(), float(dtemperature)


def _jax(s: Any, temperature: Any) -> tuple[float, Any, float]:
    import jax

    loss, (ds, dtemperature) = _jax_cross_entropy()(jax.numpy.asarray(s), jax.numpy.asarray(temperature))
    return float(loss), np.asarray(ds), float(dtemperature)


@functools.cache
def _jax_cross_entropy() -> Callable[[Any, Any], Any]:
    import jax

    jax.config.update("jax_enable_x64", True)  # type: ignore[no-untyped-call]
    return jax.jit(
        jax.value_and_grad(lambda x, tau: -jax.nn.log_softmax(x / tau, axis=1)[0, 0], argnums=(0, 1))
    )  # one compiled function: a new one for each call would be compiled again


# The softmax loss as a user of each library would write it.
PEERS: dict[str, Peer] = {"refcl": _refcl, "PyTorch": _torch, "JAX": _jax}
MODULES = {"PyTorch": "torch", "JAX": "jax"}


def installed() -> dict[str, str]:
    """Return the names and versions of the other libraries that are here."""
    found = {}
    for name, module in MODULES.items():
        try:
            found[name] = importlib.import_module(module).__version__.partition("+")[0]
        except ImportError:
            continue
    return found


def errors_where_the_positive_dominates(dtype: str) -> tuple[list[str], list[list[str]]]:
    """Return the relative errors of the loss and of the positive's gradient, a line a temperature."""
    versions = installed()
    lines = []
    for temperature in TEMPERATURES[:6]:
        s = dominated(np.random.default_rng([33, 11]), 33).astype(dtype)[None, :]
        truth = softmax_truth(exact(s[0].tolist()), 0, list(range(1, 33)), mpf(float(s.dtype.type(temperature))))
        if truth.loss < float(np.finfo(dtype).tiny):
            continue
        cells = [f"{temperature:g}", mp.nstr(truth.loss, 3)]
        for name in ("refcl", *versions):
            loss, ds, _ = PEERS[name](s, s.dtype.type(temperature))
            for got, want in ((loss, truth.loss), (float(ds[0, 0]), truth.ds[0])):
                cells.append(f"{float(abs(mpf(got) - want) / abs(want)):.0e}")
        lines.append(cells)
    head = ["τ", "loss", "refcl: loss", "ds⁺"]
    for name, version in versions.items():
        head += [f"{name} {version}: loss", "ds⁺"]
    return head, lines


def smallest() -> list[tuple[float, mpf, float]]:
    """Return losses that underflow, at ever smaller temperatures: τ, the true loss and the computed one."""
    lines = []
    for temperature in (0.00141, 0.0014, 0.00134, 0.0013, 0.001):
        s = np.array([[1.0, 0.0]])
        got = float(refcl.softmax_contrastive(s, temperature)[0])
        want = mp.log1p(mp.exp(-1 / mpf(temperature)))
        lines.append((temperature, want, got))
    return lines


def markdown(head: list[str], lines: list[list[str]]) -> str:
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def tables(sizes: tuple[int, ...] = SIZES) -> dict[str, str]:
    """Return the tables of the page by their names."""
    versions = installed()
    table, others = measure(sizes, tuple(versions))
    lines = []
    for key, by_dtype in table.items():
        cells = list(key)
        for dtype in DTYPES:
            worst = by_dtype[dtype]
            cells += [f"{worst.in_eps:.3g}", f"{worst.of_bound:.2f}"]
            cells += [_beside(others.get(name), key, dtype) for name in MODULES]
        lines.append([*cells, by_dtype["float64"].where])
    head = ["", ""]
    for dtype in DTYPES:
        head += [f"{dtype}: eps", "of the bound", *(f"{name} {versions.get(name, '')}".rstrip() for name in MODULES)]
    made = {"bound": markdown([*head, "float64 is nearest to it at"], lines)}
    for dtype in DTYPES:
        made[f"dominated-{dtype}"] = markdown(*errors_where_the_positive_dominates(dtype))
    below = [[f"{temperature:g}", mp.nstr(want, 6), f"{got:.6g}"] for temperature, want, got in smallest()]
    made["smallest"] = markdown(["τ", "true loss", "computed"], below)
    return made


def _beside(other: Table | None, key: tuple[str, str], dtype: str) -> str:
    """Return another library's worst error in eps; nothing where it has no such quantity."""
    if key not in {("softmax", quantity) for quantity in ("loss", "ds", "dτ")}:
        return ""
    return "not installed" if other is None else f"{other[key][dtype].in_eps:.3g}"


def written(page: str, made: dict[str, str]) -> str:
    """Return the page with each table between its two comments."""
    for name, table in made.items():
        pattern = rf"(<!-- {name} -->\n).*?(<!-- end -->)"
        page, found = re.subn(
            pattern, lambda match, table=table: match[1] + table + "\n" + match[2], page, flags=re.DOTALL
        )
        if found != 1:
            raise ValueError(f"{PAGE.name} must have one place for the table {name}, has {found}.")
    return page


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--write", action="store_true", help="put the tables into docs/exactness.md")
    parser.add_argument("--small", action="store_true", help="at most 33 candidates")
    arguments = parser.parse_args()
    warnings.simplefilter("error")
    made = tables(SIZES[:-1] if arguments.small else SIZES)
    print(*(f"{name}\n\n{table}\n" for name, table in made.items()), sep="\n")
    if arguments.write:
        PAGE.write_text(written(PAGE.read_text(encoding="utf-8"), made), encoding="utf-8")


if __name__ == "__main__":
    main()
