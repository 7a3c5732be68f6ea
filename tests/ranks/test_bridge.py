"""The oracle judges the losses over ranks: its simulated world runs them, and says what they are."""

import inspect
from typing import Any

import pytest

from refcl import ranks
from refcl.oracle.world import world
from refcl.ranks.threads import Shared, ThreadCommunicator

SIZE = 2


def judged(loss: str, how: str, **settings: Any) -> Any:
    """Let the oracle judge a loss over ranks, by way of its own communicator."""
    shared = Shared(SIZE)
    over_ranks = getattr(ranks, loss)

    def per_rank(*arguments: Any, comm: Any, **named: Any) -> Any:
        return over_ranks(*arguments, comm=ThreadCommunicator(comm.rank, shared), exchange=how, **named)

    per_rank.__signature__ = inspect.signature(over_ranks)  # type: ignore[attr-defined]
    return world(per_rank, loss, ranks=SIZE, **settings)


@pytest.mark.parametrize(
    ("loss", "how"),
    [
        ("info_nce", "gather"),
        ("info_nce", "ring"),
        ("clip", "ring"),
        ("nt_xent", "gather"),
        ("dcl", "ring"),
        ("sup_con", "ring"),
        ("sig_lip", "gather"),
    ],
)
def test_the_oracle_finds_them_correct(loss: str, how: str) -> None:
    report = judged(loss, how, whole=True)
    assert report.verdict == "correct", str(report)
    assert report.gradient_judged


@pytest.mark.parametrize(("averaged", "verdict"), [(True, "world-size-factor"), (False, "temperature-gradient-wrong")])
def test_what_is_whole_must_be_neither_averaged_nor_added(averaged: bool, verdict: str) -> None:
    assert judged("info_nce", "ring", averaged=averaged).verdict == verdict
