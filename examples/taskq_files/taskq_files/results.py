"""The result store, in the same journal as the messages."""

from __future__ import annotations

import time
from collections.abc import Sequence

from taskq.clock import Seconds
from taskq.contract.results import ResultRecord, Results
from taskq.errors import Closed
from taskq_files.store import Store

LONGEST_IDLE: Seconds = 1.0


class FilesResults(Results):
    """Results in files of one machine. Every method may be called from any thread."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._closed = False

    def __repr__(self) -> str:
        return f"FilesResults({str(self._store.folder)!r})"

    def store(self, records: Sequence[ResultRecord], /) -> None:
        with self._store.step(self._check_open) as namespace:
            for record in records:
                namespace.keep(record)

    def fetch(self, ids: Sequence[str], /) -> dict[str, ResultRecord]:
        with self._store.step(self._check_open) as namespace:
            found = {id: namespace.result(id) for id in ids}
        return {id: record for id, record in found.items() if record is not None}

    def wait(self, ids: Sequence[str], /, *, timeout: Seconds) -> dict[str, ResultRecord]:
        deadline = time.monotonic() + timeout
        while True:
            # Taken first, so that what is stored after the look ends the nap.
            stamp = self._store.stamp()
            records = self.fetch(ids)
            found = {id: record for id, record in records.items() if record.state != "RETRY"}
            left = deadline - time.monotonic()
            if found or left <= 0:
                return found
            self._store.wait(stamp, min(left, LONGEST_IDLE), self._check_open)

    def forget(self, ids: Sequence[str], /) -> None:
        with self._store.step(self._check_open) as namespace:
            for id in ids:
                namespace.results.put(id, None)

    def expire(self, limit: int = 1000, /) -> int:
        with self._store.step(self._check_open) as namespace:
            results = namespace.results
            over = [id for id, (end, _) in results.items() if end <= namespace.now][:limit]
            for id in over:
                results.put(id, None)
        return len(over)

    def close(self) -> None:
        self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise Closed
