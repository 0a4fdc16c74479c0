"""The result store over RabbitMQ: records in streams, spread by the hash of their id.

A stream can be read by anybody, any number of times, and pushes what is
appended. It cannot be asked for one id: a client knows what it has read, keeps
reading while it is asked, and looks back for what is older, within bounds.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from taskq.clock import Clock, Seconds, to_microseconds
from taskq.contract.results import ResultRecord, Results
from taskq.errors import BrokerError, Closed
from taskq_amqp.options import Options
from taskq_amqp.preparation import Preparation
from taskq_amqp.results.appending import Appending
from taskq_amqp.results.reading import Reading
from taskq_amqp.results.streams import NOT_FINAL, SUCCESS, Entry, forgotten, parcels, stored

Item = TypeVar("Item")


class AmqpResults(Results):
    """A client of the results in one namespace of one RabbitMQ server.

    One connection appends, made at the first `store`; another one reads, made
    when something is asked for the first time.

    `fetch` is exact. `wait` returns a success that it knows without asking the
    server, which somebody may have replaced or forgotten a moment ago; whatever
    else ends a wait, such as the failure of a task that was just requeued, it asks for.
    """

    def __init__(self, options: Options, clock: Clock) -> None:
        self._options = options
        self._clock = clock
        self._closed = False
        self._here = _Here(options, clock)

    def __repr__(self) -> str:
        return f"AmqpResults({str(self._options.url)!r})"

    def store(self, records: Sequence[ResultRecord], /) -> None:
        self._append(records, [record.id for record in records], stored)

    def forget(self, ids: Sequence[str], /) -> None:
        self._append(ids, ids, forgotten)

    def fetch(self, ids: Sequence[str], /) -> dict[str, ResultRecord]:
        reading = self._open().reading
        if not ids:
            return {}
        return self._alive(self._look(reading, ids, certain=True))

    def wait(self, ids: Sequence[str], /, *, timeout: Seconds) -> dict[str, ResultRecord]:
        deadline = time.monotonic() + timeout
        if not ids or timeout <= 0:
            return _final(self.fetch(ids))
        reading = self._open().reading
        found = _final(self._alive(reading.peek(ids)))
        if found and _only_successes(found):
            return found
        with reading.watching(ids) as watch:
            entries: dict[str, Entry] | None = None
            while True:
                if entries is None:
                    entries = self._look(reading, ids, certain=False)
                found = _final(self._alive(entries))
                if found and not _only_successes(found):
                    found = _final(self.fetch(ids))
                left = deadline - time.monotonic()
                if found or left <= 0:
                    return found
                watch.wait(left)
                self._check_open()
                entries = reading.heard(watch)

    def horizon(self, ids: Iterable[str]) -> Seconds:
        """Return how far back records of these ids were looked for, at least.

        What `fetch` has not found was not stored within so many seconds. Infinite,
        if everything that the server keeps was looked through.
        """
        reading = self._open().reading
        now = self._clock.now()
        return min((now - reading.looked_since(id) for id in ids), default=float("inf"))

    def expire(self, limit: int = 1000, /) -> int:  # noqa: ARG002 - the server does it
        self._check_open()
        return 0

    def close(self) -> None:
        self._closed = True
        self._here.close()

    # -- Reading

    def _look(self, reading: Reading, ids: Sequence[str], *, certain: bool) -> dict[str, Entry]:
        try:
            return reading.look(ids, self._deadline(), certain=certain)
        except BrokerError:
            # What broke may have been broken by `close`.
            self._check_open()
            raise

    def _alive(self, entries: dict[str, Entry]) -> dict[str, ResultRecord]:
        now = to_microseconds(self._clock.now())
        return {id: entry.record() for id, entry in entries.items() if entry.alive(now)}

    # -- What is open

    def _open(self) -> _Here:
        """Return what this process has open; what its parent has is the parent's."""
        self._check_open()
        if self._here.pid != os.getpid():
            self._here = _Here(self._options, self._clock)
        return self._here

    def _check_open(self) -> None:
        if self._closed:
            raise Closed

    def _deadline(self) -> float:
        return time.monotonic() + self._options.timeout

    # -- Appending

    def _append(
        self, items: Sequence[Item], ids: Sequence[str], make: Callable[[Item, int], Entry]
    ) -> None:
        here = self._open()
        if not items:
            return
        now = to_microseconds(self._clock.now())
        entries = [make(item, now) for item in items]
        try:
            here.appending.send(parcels(self._options.url.namespace, entries), self._deadline())
        except BrokerError:
            self._check_open()
            raise
        finally:
            here.reading.touched(ids)


class _Here:
    """What one process has open."""

    def __init__(self, options: Options, clock: Clock) -> None:
        self.pid = os.getpid()
        preparation = Preparation()
        self.appending = Appending(options, preparation)
        self.reading = Reading(options, clock, preparation)

    def close(self) -> None:
        if self.pid == os.getpid():
            self.appending.close()
            self.reading.close()


def _only_successes(found: dict[str, ResultRecord]) -> bool:
    return all(record.state == SUCCESS for record in found.values())


def _final(found: dict[str, ResultRecord]) -> dict[str, ResultRecord]:
    return {id: record for id, record in found.items() if record.state != NOT_FINAL}
