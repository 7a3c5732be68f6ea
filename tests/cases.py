"""Every card, and one table of cases over every pair and every public function of the core.

The core is scanned: a pair or a function without a case fails `test_contract.py`.
"""

import importlib
import inspect
import pkgutil
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import cache, wraps
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from cards import LARGE, ONE_COLUMN, ONE_ROW, SMALL, Card, Case, Sizes, cosines, rows

import refcl
from refcl import Pair

__all__ = ["LARGE", "ONE_COLUMN", "ONE_ROW", "SMALL", "Card", "Case", "Sizes", "cosines", "rows"]

HERE = Path(__file__).parent
sys.path += [str(HERE / folder) for folder in ("walk", "losses")]  # as .pytest.ini has it, for programs run by hand

# The tiled losses are the core's own, but not written against the standard: tests/strips says what holds there.
OUTER_WINGS = (
    "refcl.experiment",
    "refcl.oracle",
    "refcl.strips",
    "refcl.ranks",
    "refcl.torch",
    "refcl.jax",
    "refcl.__main__",
)


def _cards() -> list[Card]:
    files = [*HERE.glob("walk/test_*.py"), *HERE.glob("losses/test_*.py"), *HERE.glob("test_[hm]*.py")]
    modules = [importlib.import_module(path.stem) for path in sorted(files)]
    return [card for module in modules for card in getattr(module, "CARDS", ())]


CARDS = {card.function.__name__: card for card in _cards()}


def cases(sizes: Sizes, *, pairs: bool = True) -> list[Case]:
    """Return the cases of all pairs, or of all other functions."""
    return [case for card in CARDS.values() if isinstance(card.function, Pair) is pairs for case in card.cases(sizes)]


PAIR_CASES, FUNCTION_CASES = cases(SMALL), cases(SMALL, pairs=False)
# One case of each pair, its first that leaves no argument out.
WHOLE = [case for case in PAIR_CASES if all(x is not None for x in case.inputs)]
ONE_OF_EACH = list({case.function.__name__: case for case in reversed(WHOLE)}.values())


def in_turn(argument: str, groups: Mapping[str, Iterable[Any]]) -> Callable[[Callable[..., None]], Any]:
    """Return a decorator that makes a test of each group: every one of it in turn, and who failed is said.

    What pytest does before and after a test costs more than most of these do.
    """

    def decorate(test: Callable[..., None]) -> Any:
        @wraps(test)
        def of_a_group(group: str, **others: Any) -> None:
            for one in groups[group]:
                try:
                    test(**{argument: one}, **others)
                except BaseException as error:
                    error.add_note(f"{argument}: {getattr(one, 'name', one)}")
                    raise

        parameters = inspect.signature(test).parameters
        new = [p.replace(name="group", annotation=str) if p.name == argument else p for p in parameters.values()]
        of_a_group.__signature__ = inspect.Signature(new)  # type: ignore[attr-defined]
        return pytest.mark.parametrize("group", list(groups))(of_a_group)

    return decorate


def by_function(cases: Iterable[Case]) -> dict[str, list[Case]]:
    """Return cases by the name of their function."""
    groups: dict[str, list[Case]] = {}
    for case in cases:
        groups.setdefault(case.function.__name__, []).append(case)
    return groups


def named(case: Any) -> str:
    """Return how pytest calls a case."""
    return str(case.name)


@cache
def core_modules() -> list[ModuleType]:
    """Return every module of the middle wing."""
    names = [
        info.name for info in pkgutil.walk_packages(refcl.__path__, "refcl.") if not info.name.startswith(OUTER_WINGS)
    ]
    return [refcl, *(importlib.import_module(name) for name in names)]


@cache
def core_pairs() -> dict[str, Pair]:
    """Return every pair that the core defines, by its name."""
    found = [value for module in core_modules() for value in vars(module).values() if isinstance(value, Pair)]
    return {pair.__name__: pair for pair in found}


# Functions of no array, or of parameters: their own files test them.
OF_THE_HOST = {
    "he_init",
    "initial_running",
    "updated_running",
    "uniform_law_uniformity",
    "mutual_information_bound",
    "chunked",
}


@cache
def core_functions() -> dict[str, Callable[..., Any]]:
    """Return every function of the core that users are told of and that is no pair: it has a door, or an example."""
    halves = {f"{name}_{half}" for name in core_pairs() for half in ("forward", "backward")}
    return {
        name: value
        for module in core_modules()
        for name, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module.__name__ and name not in halves
        if not module.__name__.startswith("refcl.core.") and not name.startswith("_")
        if hasattr(value, "__wrapped__") or ">>>" in (value.__doc__ or "")
    }
