"""Results in the broker's database: one row each, deleted once their time is over."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import Final

from taskq.clock import Seconds, from_microseconds
from taskq.contract.results import ResultRecord, Results
from taskq_sql.engine import Database, after
from taskq_sql.moves import stored
from taskq_sql.session import Session

CHUNK: Final = 500
"""Rows per transaction, so that a large batch does not keep others out for long."""
_RETRY: Final = "RETRY"
_FIRST_PAUSE: Final[Seconds] = 0.002
_LONGEST_PAUSE: Final[Seconds] = 0.1
_PATIENCE: Final = 0.1
"""The pause before the next look, as a share of the time waited so far."""


class SqlResults(Results):
    """One client of one namespace's results.

    A wait looks again after a tenth of the time it has waited, between 2 and
    100 ms; a result stored in the same process ends it at once.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._namespace = database.namespace

    def store(self, records: Sequence[ResultRecord], /) -> None:
        self._database.ensure_open()
        for start in range(0, len(records), CHUNK):
            part = records[start : start + CHUNK]
            with after(start):
                self._database.transact(partial(store, namespace=self._namespace, records=part))

    def fetch(self, ids: Sequence[str], /) -> dict[str, ResultRecord]:
        return self._database.read(lambda session: self._fetch(session, ids))

    def wait(self, ids: Sequence[str], /, *, timeout: Seconds) -> dict[str, ResultRecord]:
        started = time.monotonic()
        while True:
            seen = self._database.bell.rung
            records = self.fetch(ids)
            final = {id: record for id, record in records.items() if record.state != _RETRY}
            waited = time.monotonic() - started
            if final or waited >= timeout:
                return final
            pause = min(max(_FIRST_PAUSE, waited * _PATIENCE), _LONGEST_PAUSE)
            self._database.bell.wait(seen, min(pause, timeout - waited))

    def forget(self, ids: Sequence[str], /) -> None:
        def work(session: Session) -> int:
            parameters = {"namespace": self._namespace, "array": session.array(list(ids))}
            return session.run(session.sql.forget, parameters)

        self._database.transact(work)

    def expire(self, limit: int = 1000, /) -> int:
        def work(session: Session) -> int:
            parameters = {"namespace": self._namespace, "now": session.now, "limit": limit}
            over = session.rows(session.sql.select_expired, parameters)
            return session.change(session.sql.forget, over, namespace=self._namespace)

        return self._database.transact(work)

    def close(self) -> None:
        self._database.close()

    def _fetch(self, session: Session, ids: Sequence[str]) -> dict[str, ResultRecord]:
        parameters = {
            "namespace": self._namespace,
            "array": session.array(list(ids)),
            "now": session.now,
        }
        return {
            id: ResultRecord(id, run, state, payload, from_microseconds(ttl))
            for id, run, state, payload, ttl in session.rows(session.sql.fetch, parameters)
        }


def store(session: Session, namespace: str, records: Sequence[ResultRecord]) -> None:
    """Keep the records, as part of the session's transaction."""
    rows = [stored(record, session.now) for record in _latest(records)]
    session.each(session.sql.store, rows, namespace=namespace, now=session.now)


def _latest(records: Sequence[ResultRecord]) -> list[ResultRecord]:
    """Return what is left of records that are stored one after the other."""
    latest: dict[str, ResultRecord] = {}
    for record in records:
        before = latest.get(record.id)
        if before is None or before.run <= record.run or before.ttl <= 0:
            latest[record.id] = record
    return list(latest.values())
