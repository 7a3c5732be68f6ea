"""The model of what ranks cost: its parts by hand, its limits, and its program."""

import math

import pytest

from refcl.ranks import cost
from refcl.ranks.cost import Load, Machine, gather, pays_from, ring

MACHINE = Machine(flops=1e12, entries=1e10, bandwidth=1e9, latency=1e-5)
LOAD = Load(rows=4096, dimension=64, ranks=4)


def test_one_rank_sends_nothing() -> None:
    for predict in (gather, ring):
        alone = predict(LOAD._replace(ranks=1), MACHINE)
        assert alone.messages == 0
        assert alone.total == pytest.approx(alone.products + alone.entries)
    assert alone.products == pytest.approx(8 * 4096**2 * 64 / 1e12)  # four products of 2 N² D
    assert alone.entries == pytest.approx(2 * 4096**2 / 1e10)


def test_messages_by_hand() -> None:
    block = 1024 * 64 * 4 / 1e9 + 1e-5
    assert ring(LOAD, MACHINE).messages == pytest.approx((3 * 3 + 1) * block)
    assert gather(LOAD, MACHINE).messages == pytest.approx(2 * 3 * block)
    assert ring(LOAD._replace(rounds=1), MACHINE).messages == pytest.approx((2 * 3 + 1) * block)


def test_a_ring_hides_the_shorter_of_work_and_messages() -> None:
    free = MACHINE._replace(bandwidth=math.inf, latency=0.0)
    work = ring(LOAD, free)
    assert work.total == pytest.approx(work.products + work.entries)
    slow = MACHINE._replace(flops=math.inf, entries=math.inf)
    messages = ring(LOAD, slow)
    assert messages.total == pytest.approx(messages.messages)
    both = ring(LOAD, MACHINE)
    assert max(work.total, messages.total) <= both.total <= work.total + messages.total
    assert gather(LOAD, MACHINE).total == pytest.approx(work.total + gather(LOAD, MACHINE).messages)


def test_memory_of_a_ring_shrinks_with_the_ranks_and_that_of_a_gather_does_not() -> None:
    many = Load(rows=1e7, dimension=512, ranks=1000)
    more = many._replace(ranks=2000)
    assert ring(more, MACHINE).memory < 0.6 * ring(many, MACHINE).memory
    assert gather(many, MACHINE).memory > gather(more, MACHINE).memory > 3 * 1e7 * 512 * 4


def test_from_a_batch_on_many_ranks_pay() -> None:
    machine = Machine(flops=5e13, entries=5e13 / 64, bandwidth=25e9, latency=5e-6)
    load = Load(rows=1, dimension=512, ranks=1024)
    least = pays_from(load, machine)
    assert 1e5 < least < 1e7
    for rows, pays in ((least * 1.1, True), (least / 1.1, False)):
        alone = ring(load._replace(rows=rows, ranks=1), machine).total
        assert (alone / 1024 / ring(load._replace(rows=rows), machine).total >= cost.PAYS) is pays


def test_both_directions_take_twice_as_long() -> None:
    one, both = ring(LOAD, MACHINE), ring(LOAD._replace(directions=2), MACHINE)
    assert both[:4] == pytest.approx([2 * x for x in one[:4]])


def test_the_program(capsys: pytest.CaptureFixture[str]) -> None:
    assert cost.main(["--rows", "1e6", "--ranks", "1024"]) == 0
    said = capsys.readouterr().out
    assert "ring" in said
    assert "An extrapolation" in said
    assert cost.main(["--rows", "4096", "--ranks", "2", "--loss", "sig_lip"]) == 0
    assert "extrapolation" not in capsys.readouterr().out
    with pytest.raises(SystemExit):
        cost.main(["--rows", "-1"])
    assert "--rows must be > 0" in capsys.readouterr().err


def test_calibration_measures_something() -> None:
    machine = cost.calibrated(dimension=16, rows=128, seconds=0.01)
    assert 0 < machine.flops < 1e16
    assert 0 < machine.entries < 1e16
    assert (machine.bandwidth, machine.latency) == (math.inf, 0.0)
