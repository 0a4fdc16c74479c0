from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from functools import partial

import pytest

from taskq.plugins import Plugins
from taskq.testing import runner
from taskq.testing.record import Ledger
from taskq.testing.report import Facts
from taskq.testing.runner import Part, perform
from taskq.testing.target import Target
from taskq.testing.watchdog import watched

SOON = 0.01
LONG = 60.0


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    os.set_blocking(ends[0], False)
    yield ends
    for end in ends:
        os.close(end)


def read(number: int, until: str) -> str:
    """Return what a pipe is told, up to and with some words."""
    found, deadline = "", time.monotonic() + 30
    while until not in found:
        assert time.monotonic() < deadline, found
        try:
            found += os.read(number, 1 << 16).decode()
        except BlockingIOError:
            threading.Event().wait(0.005)
    return found


def watchers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "taskq-watchdog"]


def test_a_part_that_stands_still_is_named_with_its_laws_and_its_threads(
    pipe: tuple[int, int],
) -> None:
    def method_that_does_not_return() -> str:
        return read(pipe[0], until="method_that_does_not_return")

    with watched("test_stuck", ("L3", "L8"), lambda: None, patience=SOON, to=pipe[1]):
        told = method_that_does_not_return()

    assert "taskq: test_stuck (L3, L8) stands still: 0.01 s without an end or a check." in told


def test_a_part_that_checks_is_left_alone_however_long_it_takes(pipe: tuple[int, int]) -> None:
    looks = 0
    looked_often = threading.Event()

    def growing() -> Ledger:
        nonlocal looks
        looks += 1
        ledger = Ledger("x")
        ledger.counts["L1"] = looks
        if looks == 20:
            looked_often.set()
        return ledger

    with watched("test_slow", (), growing, patience=0.001, to=pipe[1]):
        assert looked_often.wait(30)

    with pytest.raises(BlockingIOError):
        os.read(pipe[0], 1)


def test_a_ledger_that_is_made_late_is_no_sign_of_life_by_itself(pipe: tuple[int, int]) -> None:
    made = iter([None, None])

    with watched("test_late", (), lambda: next(made, Ledger("x")), patience=SOON, to=pipe[1]):
        told = read(pipe[0], until="Ctrl-C")

    assert "test_late (all laws) stands still" in told


@pytest.mark.parametrize("patience", [SOON, LONG])
def test_nothing_is_left_running_afterwards(pipe: tuple[int, int], patience: float) -> None:
    with watched("test_x", (), lambda: None, patience=patience, to=pipe[1]):
        (watcher,) = watchers() or [None]

    assert watcher is None or not watcher.is_alive()
    assert watchers() == []


def test_whoever_reads_may_be_gone(pipe: tuple[int, int]) -> None:
    closed = os.dup(pipe[1])
    os.close(closed)

    with watched("test_x", (), lambda: None, patience=SOON, to=closed):
        for watcher in watchers():
            watcher.join(30)
            assert not watcher.is_alive()


def test_the_runner_watches_its_parts(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Not capfd: reading it while another thread writes drops what came in between.
    monkeypatch.setattr(runner, "watched", partial(watched, patience=SOON, to=pipe[1]))

    def stuck(target: Target, ledger: Ledger, profile: str) -> None:
        read(pipe[0], until="test_stuck (L3) stands still")

    part = Part("test_stuck", stuck, ("L3",))
    memory = Plugins().target("memory://")

    found = perform(part, memory, Facts("memory", "memory://"), "smoke", Ledger("memory"))

    assert found.failure is None
    assert watchers() == []
