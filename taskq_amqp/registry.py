"""Which workers are alive: their heartbeats are a stream that all can read.

Whoever asks appends a mark of his own and reads up to it, so that he has read
what everybody had told before.
"""

from __future__ import annotations

import datetime as dt
import time
import uuid
from typing import Final

import msgspec

from taskq.clock import Clock, Seconds, Timestamp
from taskq.contract.delivery import Heartbeat
from taskq.errors import OutcomeUnknown
from taskq_amqp.catalog import Catalog
from taskq_amqp.journal import Journal
from taskq_amqp.names import Names
from taskq_amqp.transport.lines import Lines
from taskq_amqp.transport.publisher import Fate, Parcel

LONGEST: Final[Seconds] = 3600.0
"""How far back heartbeats are read: nobody is listed longer after his last."""


class _Beat(msgspec.Struct, frozen=True):
    """One entry of the stream; one without a beat is a reader's mark."""

    mark: str = ""
    until: Timestamp = 0.0
    beat: Heartbeat | None = None


class Registry:
    """The workers of one namespace. Thread-safe."""

    def __init__(self, lines: Lines, names: Names, catalog: Catalog, clock: Clock) -> None:
        self._lines = lines
        self._names = names
        self._catalog = catalog
        self._clock = clock
        self._encode = msgspec.json.Encoder().encode
        self._decode = msgspec.json.Decoder(_Beat).decode

    def tell(self, beat: Heartbeat, ttl: Seconds) -> None:
        """List a worker as alive for `ttl` seconds."""
        deadline = self._lines.deadline()
        self._catalog.begin(deadline)
        self._append(_Beat(until=self._clock.now() + ttl, beat=beat), deadline)

    def alive(self) -> list[Heartbeat]:
        """Return the last heartbeat of each that is alive, sorted."""
        deadline = self._lines.deadline()
        self._catalog.begin(deadline)
        mark = uuid.uuid4().hex
        self._append(_Beat(mark=mark), deadline)
        last: dict[tuple[str, str], _Beat] = {}
        for entry in self._read(mark, deadline):
            if entry.beat is not None:
                last[entry.beat.worker, entry.beat.incarnation] = entry
        now = self._clock.now()
        beats = [entry.beat for _, entry in sorted(last.items()) if entry.until > now]
        return [beat for beat in beats if beat is not None]

    def _append(self, entry: _Beat, deadline: float) -> None:
        parcel = Parcel("", self._names.workers, self._encode(entry))
        report = self._lines.publisher(deadline).publish([parcel], deadline)
        if Fate.HOMELESS in report.fates:
            self._catalog.rebuild(deadline)
            report = self._lines.publisher(deadline).publish([parcel], deadline)
        report.check()

    def _read(self, mark: str, deadline: float) -> list[_Beat]:
        """Return all up to a mark."""
        since = dt.datetime.fromtimestamp(time.time() - LONGEST, dt.UTC)
        connection = self._lines.consumer(deadline)
        entries: list[_Beat] = []
        with Journal(connection, self._names.workers, since, deadline) as journal:
            while all(entry.mark != mark for entry in reversed(entries)):
                left = deadline - time.monotonic()
                if left <= 0:
                    raise OutcomeUnknown("the server did not tell in time who is alive")
                entries += [self._decode(line.body) for line in journal.read(left)]
        return entries
