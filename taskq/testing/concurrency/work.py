"""What every thread of a run has: the time, a client, the record of its calls. The producers."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import Final, TypeVar

from taskq.clock import Seconds, VirtualClock
from taskq.contract.broker import Broker
from taskq.contract.message import Message, Send
from taskq.testing.concurrency.history import AnyCall, Instant, Item, Sent

QUEUES: Final = ("a", "b")
PRIORITIES: Final = (5, 5, 0, 9)
MAX_DELIVERIES: Final = 1000
"""So many that a message which dies of losses is a breach."""
BATCHES: Final = (1, 10, 50, 100)
SPREAD: Final[Seconds] = 0.8
"""Twice the time over which the second half of the messages is sent, at least."""
Answer = TypeVar("Answer")


class Pulse:
    """Reads the monotonic clock. Thread-safe.

    The clock of a backend without a server may stand still between the moves
    that tests make. Then it is set to the machine's time, and `read` moves it
    by what has passed. Since every call is preceded by a reading, a lease
    granted by such a clock ends no earlier than its length after the reading,
    as on a clock that runs.
    """

    def __init__(self, clock: VirtualClock | None = None) -> None:
        self._lock = threading.Lock()
        self._clock = clock if clock is not None and _stands(clock) else None
        self._last = time.monotonic()
        if self._clock is not None:
            self._clock.advance(max(0.0, time.time() - self._clock.now()))

    def read(self) -> Instant:
        """Return the present instant."""
        if self._clock is None:
            return time.monotonic()
        with self._lock:
            now = time.monotonic()
            self._clock.advance(now - self._last)
            self._last = now
            return now


class Signals:
    """What a crew tells its threads."""

    def __init__(self) -> None:
        self.no_more = threading.Event()
        """Everything has been sent: end when nothing comes."""
        self.halt = threading.Event()
        """Something went wrong: end at once."""


class Worker:
    """One thread's client, its own chance, and the list of its calls."""

    def __init__(self, broker: Broker, who: str, pulse: Pulse, signals: Signals) -> None:
        self.broker = broker
        self.who = who
        self.calls: list[AnyCall] = []
        self._pulse = pulse
        self._signals = signals
        self._random = random.Random(who)

    def timed(self, call: Callable[[], Answer]) -> tuple[Answer, Instant, Instant]:
        """Return what the call returns, and the instants before and after it."""
        before = self._pulse.read()
        answer = call()
        return answer, before, self._pulse.read()

    def run(self) -> None:
        """Do the work; called by the worker's thread."""
        raise NotImplementedError


class Producer(Worker):
    """Sends the first half of its messages as fast as it can, the rest over a while.

    So there is work when the first leases end, however fast the backend is.
    """

    def __init__(
        self, broker: Broker, who: str, pulse: Pulse, signals: Signals, *, count: int
    ) -> None:
        super().__init__(broker, who, pulse, signals)
        self._count = count

    def run(self) -> None:
        first = 0
        while first < self._count and not self._signals.halt.is_set():
            last = min(self._count, first + self._random.choice(BATCHES))
            items = [self._item(number) for number in range(first, last)]
            batch = [Send(to_message(item)) for item in items]
            _, before, after = self.timed(lambda: self.broker.send(batch))  # noqa: B023 - called at once
            self.calls.append(Sent(self.who, before, after, items))
            first = last
            if 2 * first > self._count:
                self._signals.halt.wait(SPREAD * len(items) / self._count)

    def _item(self, number: int) -> Item:
        queue, priority = self._random.choice(QUEUES), self._random.choice(PRIORITIES)
        return Item(f"{self.who}.{number}", queue, priority, b"%d" % number)


def to_message(item: Item) -> Message:
    """Return the message of an item."""
    return Message(item.id, item.queue, item.envelope, item.priority, MAX_DELIVERIES)


def _stands(clock: VirtualClock) -> bool:
    first, start = clock.now(), time.monotonic()
    while time.monotonic() - start < 0.001:
        threading.Event().wait(0.001)
    return clock.now() == first
