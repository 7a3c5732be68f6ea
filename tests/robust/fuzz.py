"""Random settings, random files, random signals: ``python tests/robust/fuzz.py --seconds 120``.

In:  a time, and seeds; by default 0 and one that derives from the package's files, new for each change and repeatable.
Out: what was tried, and an exit status that is not 0 where something was found. What is found becomes a test.

Losses are held against the loops of their cards, and those that have one against the truth in 50 digits and the bound
of docs/exactness.md. Readers of files get random bytes, random JSON, and right files with bytes changed: they may
refuse in their own exception, in one line, and nothing else; with ``--guided`` and atheris installed, also what reaches
lines that were not reached before. A study gets a signal at a random moment, and is resumed.
"""

import argparse
import contextlib
import hashlib
import io
import json
import random
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
sys.path += [str(HERE.parents[1]), str(HERE.parent), str(HERE)]

import numpy as np  # noqa: E402
from hypothesis import HealthCheck, given, settings  # noqa: E402
from hypothesis import seed as seeded  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from mpmath import mp, mpf  # noqa: E402

if "--guide" in sys.argv:  # what is imported from here on tells which of its lines are reached
    import atheris

    telling = atheris.instrument_imports(include=["refcl"])
else:
    telling = contextlib.nullcontext()
with telling:
    import refcl
    from refcl.experiment.data import load
    from refcl.experiment.errors import StudyError
    from refcl.experiment.results import load_trained, read_records
    from refcl.oracle.vectors import load_vectors
    from refcl.oracle.verify import verify

import chaos  # noqa: E402
import exactness  # noqa: E402
from backends import leaves, map_leaves  # noqa: E402
from cases import CARDS, Sizes  # noqa: E402
from digits import exact, softmax_truth  # noqa: E402

mp.dps = 50


def tree_seed() -> int:
    """Return a seed that is another one as soon as a file of the package is."""
    package = Path(refcl.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(path.relative_to(package).as_posix().encode() + path.read_bytes())
    return int.from_bytes(digest.digest()[:4], "big")


def losses_in_loops(rng: np.random.Generator) -> str:
    """Compare one random case of a random card with its loops."""
    card = CARDS[str(rng.choice(sorted(CARDS)))]
    options = list(card.variants)
    variant, build = options[int(rng.integers(len(options)))]
    n = int(rng.integers(2, 9))
    sizes = (n, n + int(rng.integers(3, 9)), int(rng.integers(2, 12)))
    state = rng.bit_generator.state
    inputs, more = build(rng, Sizes(*sizes))
    got = card.function(*inputs, **more)
    got = got[0] if isinstance(card.function, refcl.Pair) else got

    def listed(tree: Any) -> Any:
        return map_leaves(lambda x: x.tolist() if isinstance(x, np.ndarray) else x, tree)

    try:
        want = card.loops(*listed(inputs), **{name: listed(value) for name, value in more.items()})
    except (ArithmeticError, ValueError):  # the loops exponentiate as it is written, and may leave the range
        return "" if all(np.all(np.isfinite(x)) for x in leaves(got)) else f"{card.function.__name__}: {got}, {state}"
    for a, b in zip(leaves(got), leaves(map_leaves(np.array, want)), strict=True):
        x, y = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
        if not np.allclose(x, y, rtol=1e-10, atol=1e-12, equal_nan=True):
            return f"{card.function.__name__} {variant} {sizes}, state {state}: {x} and {y} in loops"
    return ""


def losses_in_digits(rng: np.random.Generator) -> str:
    """Hold random similarities at a random temperature to the bound, in one of the two dtypes.

    At the smallest temperature a share is e^-2000: 1 less it needs 900 digits, or the truth loses it.
    """
    with mp.workdps(900):
        return _in_digits(rng)


def _in_digits(rng: np.random.Generator) -> str:
    dtype = str(rng.choice(exactness.DTYPES))
    m = int(rng.integers(2, 40))
    kind = exactness.KINDS[int(rng.integers(len(exactness.KINDS)))]
    s = kind(rng, m).astype(dtype)
    temperature = s.dtype.type(10.0 ** rng.uniform(-3, 6))
    row = exactness.Row(kind.__name__, s[None, :], exact(s.tolist()), temperature)
    soft = softmax_truth(row.exact, 0, list(range(1, m)), mpf(float(temperature)))
    for key, number in [*exactness.losses_of(row, soft), *exactness.analysis_of(row)]:
        worst = exactness.Worst(dtype)
        worst.add(number, temperature, kind.__name__)
        if worst.of_bound > 1:
            return f"{key} {kind.__name__}, M = {m}, τ = {temperature!r}, {dtype}: {worst.of_bound:.3g} of the bound"
    return ""


class Reader(NamedTuple):
    """Something that reads files, and what it is given."""

    name: str
    file: str
    read: Callable[[Path], object]
    refusals: tuple[type[Exception], ...]  # what it may raise, in one line
    right: bytes  # a file that it takes


def readers() -> list[Reader]:
    """Return every reader of files, with a file that it takes."""
    first = load_vectors()["testGroups"][0]["tests"][0]
    answers = json.dumps({"answers": [{"tcId": 1, "value": first["value"], "gradients": first["gradients"]}]}).encode()
    arrays = io.BytesIO()
    np.savez(arrays, X=np.random.default_rng(0).standard_normal((20, 3)), y=np.repeat([0, 1], 10))
    table = b"a,b,label\n" + b"".join(b"%d,%d,%d\n" % (i, i * i, i % 2) for i in range(20))
    idx = b"\0\0\x08\x03\0\0\0\x02\0\0\0\x02\0\0\0\x02" + bytes(8)
    return [
        Reader("verify", "a.json", verify, (ValueError,), answers),
        Reader("results", "r.json", read_records, (StudyError,), b"[]"),
        Reader("trained", "t.npz", load_trained, (), arrays.getvalue()),
        Reader("npz", "d.npz", load, (StudyError,), arrays.getvalue()),
        Reader("csv", "d.csv", load, (StudyError,), table),
        Reader("idx", "train-images-idx3-ubyte", load, (StudyError,), idx),
        Reader("cifar", "data_batch_1.bin", load, (StudyError,), bytes(3073)),
    ]


def asker(reader: Reader, folder: Path, seed: int, examples: int) -> Any:
    """Return a test of hypothesis that gives a reader what nobody would write."""
    leaf = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
    names = st.sampled_from(["answers", "tcId", "value", "gradients", "precision", "s", "loss"]) | st.text(max_size=3)
    tree = st.recursive(leaf, lambda x: st.lists(x, max_size=3) | st.dictionaries(names, x, max_size=3), max_leaves=8)
    right = reader.right
    changed = st.tuples(st.integers(0, len(right)), st.integers(0, 9), st.binary(max_size=9)).map(
        lambda cut: right[: cut[0]] + cut[2] + right[cut[0] + cut[1] :]
    )
    written = tree.map(lambda x: json.dumps(x).encode()) | st.binary(max_size=200) | changed
    answered = tree.map(lambda x: json.dumps({"answers": [{"tcId": 1, "value": 0, "gradients": x}]}).encode())
    path = folder / reader.file

    @seeded(seed)
    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(written | answered)
    def ask(content: bytes) -> None:
        path.write_bytes(content)
        said = ""
        try:
            reader.read(path)
        except reader.refusals as refusal:
            said = str(refusal)
        if "\n" in said:
            raise RuntimeError(f"more than one line: {said}")

    return ask


def ask_readers(seed: int, folder: Path, examples: int) -> list[str]:
    """Ask every reader at random."""
    found = []
    for reader in readers():
        try:
            asker(reader, folder, seed, examples)()
        except Exception as error:
            said = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            found.append(f"{reader.name}: {said}; file {(folder / reader.file).read_bytes()[:200]!r}")
    return found


def guide(name: str, seconds: int) -> None:
    """Ask one reader what reaches lines that were not reached before; atheris ends the process."""
    reader = next(reader for reader in readers() if reader.name == name)
    folder = Path(tempfile.mkdtemp())
    ask = asker(reader, folder, 0, 1)
    atheris.Setup([sys.argv[0], f"-max_total_time={seconds}"], ask.hypothesis.fuzz_one_input)
    atheris.Fuzz()


def guided(seconds: int) -> list[str]:
    """Ask every reader under coverage, each in a process of its own."""
    found = []
    for reader in readers():
        command = [sys.executable, __file__, "--guide", reader.name, "--guided", str(seconds)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            found.append(f"{reader.name}: {' '.join(done.stderr.split())[-600:]}")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, tree_seed()])
    parser.add_argument("--examples", type=int, default=100, help="for each reader and seed")
    parser.add_argument("--signals", type=int, default=2, help="for each seed")
    parser.add_argument("--guided", type=int, default=0, help="seconds for each reader under coverage, with atheris")
    parser.add_argument("--guide", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    if asked.guide:
        guide(asked.guide, asked.guided)
    found: list[str] = []
    if asked.guided:
        found += guided(asked.guided)
        print(f"under coverage: {asked.guided} s for each reader", flush=True)
    for seed in asked.seeds:
        end = time.monotonic() + asked.seconds / len(asked.seeds)
        print(f"seed {seed}", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            found += ask_readers(seed, Path(folder), asked.examples)
            print(f"  readers of 7 kinds of files: {asked.examples} examples each", flush=True)
            if asked.signals:
                place = chaos.Place(Path(folder))
                first = place.fresh()
                began = time.monotonic()
                if place.run(first)[0] == 0:
                    seconds = time.monotonic() - began
                    told = chaos.kills(place, chaos.made(first), seconds, asked.signals, random.Random(seed))
                    lost = [f"{kind}: {what}" for kind, all_ in told.items() for what in all_ if what != "identical"]
                    found += [text for text in lost if any(word in text for word in chaos.LOST)]
                    print(f"  signals into a study: {asked.signals}", flush=True)
        rng, tried = np.random.default_rng(seed), 0
        while time.monotonic() < end or tried < 20:
            for one in (losses_in_loops, losses_in_digits):
                trouble = one(rng)
                found += [trouble] if trouble else []
                tried += 1
        print(f"  random settings of losses: {tried}", flush=True)
    for text in found[:50]:
        print(f"found: {text}")
    print(f"{len(found)} found")
    return min(len(found), 1)


if __name__ == "__main__":
    sys.exit(main())
