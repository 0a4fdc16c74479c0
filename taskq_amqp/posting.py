"""Where a message goes, and how it gets there confirmed."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from typing import Final, NamedTuple

from taskq.clock import Clock, Seconds
from taskq.errors import BrokerError
from taskq_amqp.catalog import DEAD, LATER, READY, Catalog
from taskq_amqp.names import LONGEST, STEPS, Names, level_of, route, units_of
from taskq_amqp.records import Letter, Record, micro
from taskq_amqp.transport.lines import Lines
from taskq_amqp.transport.publisher import Fate, Parcel, Report

TOKENS: Final = 16
"""So many who wait are woken by one batch at most."""
TRIES: Final = 3
"""How often what found no queue is sent, with the queue made anew each time."""


class Going(NamedTuple):
    """A message on its way to one of its queue's places."""

    what: Record | Letter
    queue: str
    returned: bool = False
    """Before all others of its priority."""
    delay: Seconds = 0.0


class Post:
    """Sends messages to their places. Thread-safe."""

    def __init__(self, lines: Lines, catalog: Catalog, names: Names, clock: Clock) -> None:
        self._lines = lines
        self._catalog = catalog
        self._names = names
        self._clock = clock

    def wall(self) -> Seconds:
        """Return this machine's time, which instants in records are meant by."""
        return time.time() + self._clock.offset

    def send(self, goings: Sequence[Going], deadline: float) -> Report:
        """Send in order; say what became of each.

        Raises:
            BrokerError: nothing was sent.
        """
        report = self._publish(goings, deadline)
        for _ in range(TRIES - 1):
            again = [index for index, fate in enumerate(report.fates) if fate is Fate.HOMELESS]
            if not again:
                break
            self._catalog.forget_made()
            try:
                more = self._publish([goings[index] for index in again], deadline)
            except BrokerError as error:
                report.error = report.error or error
                break
            for index, fate in zip(again, more.fates, strict=True):
                report.fates[index] = fate
            report.error = report.error or more.error
        return report

    def _publish(self, goings: Sequence[Going], deadline: float) -> Report:
        parcels = [self._parcel(going, deadline) for going in goings]
        prompt = Counter(
            going.queue
            for going in goings
            if going.delay <= 0 and not isinstance(going.what, Letter)
        )
        tokens = [
            Parcel("", self._names.wake(queue), b"")
            for queue, count in prompt.items()
            for _ in range(min(count, TOKENS))
        ]
        publisher = self._lines.publisher(deadline)
        return publisher.publish(parcels, deadline, tokens=tokens)

    def _parcel(self, going: Going, deadline: float) -> Parcel:
        what, queue, returned, delay = going
        if isinstance(what, Letter):
            self._catalog.need(DEAD, 0, queue, deadline)
            return Parcel("", self._names.dead(queue), what.pack())
        level = level_of(what.priority, returned=returned)
        units = units_of(delay)
        what.due = micro(self.wall() + delay) if units else 0
        what.rest = micro(delay - LONGEST) if delay > LONGEST else 0
        if not units:
            self._catalog.need(READY, level, queue, deadline)
            return Parcel("", self._names.ready(queue, level), what.pack())
        self._catalog.arrive(level, queue, deadline)
        for step in range(STEPS):
            if units >> step & 1:
                self._catalog.need(LATER, step, queue, deadline)
        first = self._names.step(units.bit_length() - 1)
        return Parcel(first, route(units, level, queue), what.pack())


def lost(record: Record, queue: str, now: int, rest: Seconds) -> Going:
    """Return where a message goes whose lease has ended without a settlement.

    It rests for `rest` seconds, and from the second loss on for as long as every
    backend lets it rest: 1, 2, 4 … 60 s.
    """
    record.losses += 1
    record.run += 1
    if record.losses >= record.max_deliveries:
        detail = f"{record.losses} leases ended without an end of the task"
        return Going(Letter(record, "worker_lost", detail, now), queue)
    backoff = 0.0 if record.losses < 2 else min(60.0, 2.0 ** min(record.losses - 2, 6))
    return Going(record, queue, returned=True, delay=rest + backoff)
