"""Runs machines: many random sequences, or one that is written down."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from typing import Final, TypeVar

from hypothesis import settings
from hypothesis.errors import Flaky
from hypothesis.stateful import run_state_machine_as_test

from taskq.clock import Seconds
from taskq.plugins import Plugins
from taskq.testing.machine.faulty import FaultyMachine
from taskq.testing.machine.plain import BrokerMachine
from taskq.testing.record import Ledger
from taskq.testing.target import Target

SHRINKING: Final[Seconds] = 60.0
"""How long to look for a shorter sequence once one has broken a law. hypothesis would
take five minutes, and an author of a slow backend would wait for them again and again."""
Machine = TypeVar("Machine", bound=BrokerMachine)


class _ShortEnough(BaseException):
    """Ends a run of hypothesis, which keeps every `Exception` of a test to itself."""


class _Search:
    """Makes the machine of each sequence, and knows the shortest one that failed."""

    def __init__(self, make: Callable[[], BrokerMachine]) -> None:
        self._make = make
        self._length = math.inf
        self._end = math.inf
        self.over = False
        self.shortest: Exception = AssertionError("nothing was found")

    def __call__(self) -> BrokerMachine:
        if time.monotonic() >= self._end:
            self.over = True
            raise _ShortEnough
        machine = self._make()
        machine.trace.when_told = self._failed
        return machine

    def _failed(self, error: Exception, length: int) -> None:
        self._end = min(self._end, time.monotonic() + SHRINKING)
        if length < self._length:
            self._length, self.shortest = length, error


def _search(make: Callable[[], BrokerMachine], chosen: settings) -> None:
    search = _Search(make)
    try:
        run_state_machine_as_test(search, settings=chosen)  # type: ignore[arg-type]  # a factory is documented, and typed as a class
    except (_ShortEnough, Flaky):
        # It wonders at a sequence that ends before it has begun.
        if not search.over:
            raise
        search.shortest.add_note(f"There may be a shorter one: this one took {SHRINKING:g} s.")
        raise search.shortest from None


def run_machine(target: Target, ledger: Ledger, chosen: settings) -> None:
    """Run random sequences against a target.

    There is one factory for all backends: a sequence that broke one is the
    first to be replayed on the next.

    Raises:
        LawBroken: an answer no right broker could have given. A note has the
            shortest sequence found, as a test.
    """
    _search(lambda: BrokerMachine(target, ledger), chosen)


def run_faulty_machine(target: Target, ledger: Ledger, chosen: settings) -> None:
    """Run random sequences in which connections break and the server is restarted.

    Call it only for a target that can do one of these. Raises as `run_machine`.
    """
    _search(lambda: FaultyMachine(target, ledger), chosen)


@contextlib.contextmanager
def replay(target: Target | str, machine: type[Machine]) -> Iterator[Machine]:
    """Yield a machine to call the steps of; at the end it drains and checks what is left.

    `target` may be the URL of an installed backend.

    Raises:
        LawBroken: the sequence breaks a law.
    """
    found: Target = Plugins().target(target) if isinstance(target, str) else target
    state = machine(found, Ledger(found.url.scheme))
    try:
        yield state
    except BaseException:
        found.end()
        raise
    state.teardown()
