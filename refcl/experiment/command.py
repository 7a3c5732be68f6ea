"""The experiment on the command line: ``refcl study`` and ``refcl info``.

In:  words of a shell.
Out: the table of results (or JSON) on standard output, everything else on standard error, and an exit status: 0, 2
where a word or a file is wrong, 130 after Ctrl-C and 143 after SIGTERM.
"""

import argparse
import errno
import json
import math
import sys
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from refcl.experiment.device import DEVICES
from refcl.experiment.errors import StudyError
from refcl.experiment.keys import SOURCES
from refcl.experiment.objectives import OBJECTIVES, PAPERS, PRETEXT, loss_named, losses_with
from refcl.experiment.optim import OPTIMIZERS
from refcl.experiment.views import Strength

T = TypeVar("T")

TEMPERATURES = (0.07, 0.3, 0.7, 1.0)
# What float32 can use: it rounds similarities to 6e-8, no longer little beside a smaller τ, and 1 + s/τ to as much,
# no longer little beside s/τ at a larger one.
USABLE = (1e-6, 1e6)
HARDEST = 0.0819  # the paper's share of hard negatives on CIFAR-10
LEARNING_RATES = {"adam": 2e-3, "sgd": 0.03}
WEIGHT_DECAYS = {"adam": 0.0, "sgd": 5e-4}

SEEDS = (0, 1, 2)  # fewer than three cannot disagree by more than one
ALL = "all"

DESCRIPTION = """Train one small encoder under each loss of the paper's Table 1, measure what the temperature does, and
ask the paper's claims of the runs. Without options: the digits, three seeds of ten runs, the folder "study".
docs/study.md says what comes in and what comes out."""


def add_verbs(verbs: Any) -> None:
    """Add the verbs of this wing to the command line's.

    Parameters
    ----------
    verbs : argparse's action of subparsers
        Each verb sets ``function``, which takes the parsed arguments and returns the exit status.
    """
    _add_study(verbs.add_parser("study", help="train, measure, report", description=DESCRIPTION, allow_abbrev=False))
    info = verbs.add_parser("info", help="versions, BLAS, devices", description="Print versions, BLAS and devices.")
    info.set_defaults(function=info_command)


def info_command(arguments: argparse.Namespace) -> int:
    """Print what a study would run on."""
    from refcl.experiment.info import describe

    print(describe())
    return 0


def study_command(arguments: argparse.Namespace) -> int:
    """Run a study, and say in one line why where that is not possible."""
    try:
        said, then = _study(arguments)
    except BrokenPipeError:  # no fault of --out: whoever reads standard error has seen enough
        raise
    except StudyError as error:
        return _fail(str(error))
    except MemoryError:
        return _fail("not enough memory; what was trained is kept: go on with --resume and fewer --jobs.")
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        advice = "make room, then go on with --resume" if full else "give an --out that can be written"
        return _fail(f"{error.filename or arguments.out}: {error.strerror or error}; {advice}.")
    except KeyboardInterrupt:
        print("refcl study: interrupted; go on with --resume.", file=sys.stderr)
        return 130
    print(said, flush=True)  # outside: a full standard output is no fault of --out
    if then:
        print(then, file=sys.stderr)
    return 0


def _study(arguments: argparse.Namespace) -> tuple[str, str]:
    """Run a study; return what goes to standard output, and to standard error after it."""
    from refcl.experiment.data import load
    from refcl.experiment.info import usable_cores
    from refcl.experiment.report.table import format_table
    from refcl.experiment.study import check_plan, plan_runs, run_study
    from refcl.experiment.train import Settings

    settings = Settings(
        keys=arguments.keys,
        epochs=arguments.epochs,
        batch=arguments.batch,
        optimizer=arguments.optimizer,
        learning_rate=arguments.learning_rate or LEARNING_RATES[arguments.optimizer],
        weight_decay=WEIGHT_DECAYS[arguments.optimizer] if arguments.weight_decay is None else arguments.weight_decay,
        hidden=tuple(arguments.widths),
        dimension=arguments.dimension,
        views=arguments.views,
        device=arguments.device,
    )
    data = load(arguments.data, test=arguments.test, x=arguments.x, y=arguments.y)
    if arguments.data is not None:
        print(data.said, file=sys.stderr)
    for line in data.warnings:
        print(f"refcl study: warning: {line}", file=sys.stderr)
    losses = arguments.losses
    if ALL in losses:
        losses = losses_with(settings.keys, pictures=data.image is not None)
    runs = plan_runs(losses, arguments.temperatures, arguments.hardest, arguments.seeds)
    if arguments.describe:
        from refcl.experiment.describe import describe_study

        check_plan(data, runs, settings)
        return describe_study(data, runs, settings, arguments.out), ""
    records = run_study(
        data,
        runs,
        settings,
        arguments.out,
        jobs=arguments.jobs or (usable_cores() if arguments.device == "cpu" else 1),
        cluster=arguments.cluster,
        mixed=arguments.mixed,
        resume=arguments.resume,
        progress=not arguments.quiet,
    )
    said = json.dumps(records, indent=2) if arguments.json else format_table(records)
    return said, f"report: {arguments.out / 'report.html'}"


def _fail(message: str) -> int:
    print(f"refcl study: error: {' '.join(message.split())}", file=sys.stderr)
    return 2


def _add_study(study: argparse.ArgumentParser) -> None:
    study.set_defaults(function=study_command)
    what = study.add_argument_group("what is trained")
    what.add_argument(
        "--data", type=Path, metavar="PATH",
        help="an .npz, a .csv, an IDX or CIFAR file, or a folder of pictures with one folder a class "
        "(default: the digits)",
    )  # fmt: skip
    what.add_argument("--test", type=Path, metavar="PATH", help="what is held out (default: 30 %% of the data)")
    what.add_argument("--x", nargs="+", default=(), metavar="NAME", help="array, or columns, of the samples")
    what.add_argument("--y", metavar="NAME", help="array, column or IDX file of the labels")
    what.add_argument(
        "--losses", nargs="+", action=Distinct, type=_loss, default=list(PAPERS), metavar="LOSS",
        help=f"all, or some of {' '.join(OBJECTIVES)} (default: those of the paper, {' '.join(PAPERS)}); "
        f"{_goes_with()}",
    )  # fmt: skip
    what.add_argument(
        "--temperatures", nargs="+", action=Distinct, type=temperature, default=list(TEMPERATURES),
        metavar="T", help="of the losses that have one (default: .07 .3 .7 1)",
    )  # fmt: skip
    what.add_argument(
        "--hardest", type=_hardest, default=HARDEST, metavar="SHARE",
        help="negatives that the hard losses keep: a share such as .0819 (default) or a count such as 100; 1 is a "
        "count, one negative, and 1.0 a share, all of them",
    )  # fmt: skip
    what.add_argument(
        "--keys", choices=SOURCES, default="bank",
        help="what an anchor is compared with: a memory bank (default), the other views of the batch through the same "
        "encoder, or a momentum encoder and its queue",
    )  # fmt: skip
    what.add_argument(
        "--seeds", nargs="+", action=Distinct, type=integer(0), default=list(SEEDS), metavar="N",
        help="one run each (default: 0 1 2)",
    )  # fmt: skip
    what.add_argument(
        "--views", type=_views, default=Strength(), metavar="WHAT=HOW,...",
        help=f"how much a view changes a sample (default: {_strength(Strength())})",
    )  # fmt: skip
    what.add_argument(
        "--widths", nargs="+", type=integer(1), default=[256, 256], metavar="N",
        help="of the encoder's hidden layers (default: 256 256)",
    )  # fmt: skip
    what.add_argument("--dimension", type=integer(1), default=32, metavar="D", help="of the embedding (default: 32)")
    how = study.add_argument_group("how")
    how.add_argument("--epochs", type=integer(1), default=100, metavar="N", help="(default: 100)")
    how.add_argument("--batch", type=integer(2), default=128, metavar="N", help="samples a step (default: 128)")
    how.add_argument("--optimizer", choices=OPTIMIZERS, default="adam", help="(default: adam)")
    how.add_argument(
        "--learning-rate", type=number(above=0.0), metavar="RATE",
        help="at the start; it falls to a tenth after 80 %% and after 95 %% of the epochs "
        f"(default: {LEARNING_RATES['adam']:g} for adam, {LEARNING_RATES['sgd']:g} for sgd)",
    )  # fmt: skip
    how.add_argument(
        "--weight-decay", type=number(above=0.0, at_least=True), metavar="RATE",
        help=f"(default: {WEIGHT_DECAYS['adam']:g} for adam, {WEIGHT_DECAYS['sgd']:g} for sgd)",
    )  # fmt: skip
    how.add_argument("--device", choices=DEVICES, default="cpu", help="gpu needs CuPy (default: cpu)")
    how.add_argument(
        "--jobs", type=integer(1), metavar="N",
        help="processes; the results do not depend on it (default: one for each core, one on a GPU)",
    )  # fmt: skip
    how.add_argument(
        "--cluster", metavar="ADDRESS",
        help="a Dask scheduler, such as tcp://10.0.0.1:8786, whose workers train instead (extra: cluster)",
    )  # fmt: skip
    how.add_argument(
        "--mixed", action="store_true", help="take workers of other versions or BLAS kernels too, and note which"
    )
    where = study.add_argument_group("what comes out")
    where.add_argument("--out", type=folder, default=Path("study"), metavar="DIR", help="(default: study)")
    where.add_argument(
        "--resume", action="store_true",
        help="go on with the study in DIR, or add seeds, losses, temperatures or epochs to it; finished runs stay",
    )  # fmt: skip
    where.add_argument(
        "--describe", action="store_true", help="say what would be run, draw the views, and train nothing"
    )
    where.add_argument("--quiet", action="store_true", help="no progress bar")
    where.add_argument("--json", action="store_true", help="the records on standard output instead of the table")


def _goes_with() -> str:
    """Say which losses go with some keys, or some data, only."""
    narrow = [(entry.keys, name) for name, entry in OBJECTIVES.items() if entry.keys != SOURCES]
    by_keys = [
        f"with --keys {' or '.join(keys)} only: {' '.join(name for fitting, name in narrow if fitting == keys)}"
        for keys in dict.fromkeys(keys for keys, _ in narrow)
    ]
    pretext = [name for name, entry in OBJECTIVES.items() if entry.group == PRETEXT]
    return "; ".join([*by_keys, f"on pictures only: {' '.join(pretext)}"])


def _loss(word: str) -> str:
    """Read the name of a loss, as the API spells it or nearly so."""
    if word == ALL:
        return word
    try:
        return loss_named(word)
    except StudyError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _views(words: str) -> Strength:
    """Read what of a view differs from the default, such as shift=1,noise=.4."""
    given: dict[str, Any] = {}
    for word in words.split(","):
        name, equals, value = (part.strip() for part in word.partition("="))
        if not equals or name not in Strength._fields or name in given:
            near = get_close_matches(name, Strength._fields, n=1)
            hint = f"did you mean {near[0]}?" if near and name not in given else f"such as {_strength(Strength())}"
            raise argparse.ArgumentTypeError(f"expected {' '.join(Strength._fields)}, each once, got {word!r}; {hint}")
        if name == "shift":
            given[name] = integer(0)(value)
        else:
            given[name] = number(above=0.0, at_least=True)(value)
            if name != "noise" and given[name] > 1.0:
                raise argparse.ArgumentTypeError(f"expected {name} from 0 to 1, got {value}")
    return Strength()._replace(**given)


def _strength(strength: Strength) -> str:
    return ",".join(f"{name}={value:g}" for name, value in strength._asdict().items())


class Distinct(argparse.Action):
    """Store a list, once it is sure that nothing is in it twice: a run has a file of its own."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        if len(set(values)) < len(values):
            raise argparse.ArgumentError(self, "expected no value twice")
        if len({f"{value:g}" if isinstance(value, float) else value for value in values}) < len(values):
            raise argparse.ArgumentError(self, "expected values that differ in the six digits that tables show")
        setattr(namespace, self.dest, values)


def folder(word: str) -> Path:
    """Read the path of a folder; an empty one is refused, which would be the current folder."""
    if not word.strip():
        raise argparse.ArgumentTypeError(f"expected a folder, such as study, got {word!r}")
    return Path(word)


def temperature(word: str) -> float:
    """Read a temperature that training in float32 can use."""
    value = number(above=0.0)(word)
    low, high = USABLE
    if not low <= value <= high:
        raise argparse.ArgumentTypeError(
            f"training is in float32: expected a temperature from {low:g} to {high:g}, got {word}"
        )
    return value


def integer(least: int, most: int | None = None) -> Callable[[str], int]:
    """Return the reader of an integer in a range."""
    expected = f"an integer >= {least}" if most is None else f"an integer from {least} to {most}"

    def read(word: str) -> int:
        return _checked(word, int, lambda value: value >= least and (most is None or value <= most), expected)

    return read


def number(*, above: float, at_least: bool = False) -> Callable[[str], float]:
    """Return the reader of a finite number above a bound."""

    def read(word: str) -> float:
        expected = f"a finite number {'>=' if at_least else '>'} {above:g}"
        return _checked(word, float, lambda v: math.isfinite(v) and (v > above or (at_least and v == above)), expected)

    return read


def _hardest(word: str) -> float | int:
    kind: Callable[[str], float | int] = int if word.lstrip("+-").isdecimal() else float
    return _checked(
        word,
        kind,
        lambda value: value >= 1 if isinstance(value, int) else 0.0 < value <= 1.0,
        "a share > 0 and <= 1, such as .0819, or a count >= 1, such as 100",
    )


def _checked(word: str, kind: Callable[[str], T], accepted: Callable[[T], bool], expected: str) -> T:
    try:
        value = kind(word)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected {expected}, got {word!r}") from None
    if not accepted(value):
        raise argparse.ArgumentTypeError(f"expected {expected}, got {word}")
    return value
