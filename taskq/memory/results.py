"""The result store over `taskq.memory.server`."""

from __future__ import annotations

import time
from collections.abc import Sequence

from taskq.clock import Seconds
from taskq.contract.results import ResultRecord, Results
from taskq.errors import Closed
from taskq.memory.server import MemoryServer

LONGEST_NAP: Seconds = 1.0


class MemoryResults(Results):
    """Results in the memory of this process."""

    def __init__(self, server: MemoryServer) -> None:
        self._server = server
        self._closed = False

    def __repr__(self) -> str:
        return "MemoryResults()"

    def store(self, records: Sequence[ResultRecord], /) -> None:
        with self._open().changed:
            for record in records:
                self._server.keep_result(record)
            self._server.changed.notify_all()

    def fetch(self, ids: Sequence[str], /) -> dict[str, ResultRecord]:
        with self._open().changed:
            found = {id: self._server.result(id) for id in ids}
        return {id: record for id, record in found.items() if record is not None}

    def wait(self, ids: Sequence[str], /, *, timeout: Seconds) -> dict[str, ResultRecord]:
        deadline = time.monotonic() + timeout
        with self._open().changed:
            while True:
                found = {id: r for id, r in self.fetch(ids).items() if r.state != "RETRY"}
                left = deadline - time.monotonic()
                if found or left <= 0:
                    return found
                self._server.changed.wait(min(left, LONGEST_NAP))

    def forget(self, ids: Sequence[str], /) -> None:
        with self._open().changed:
            for id in ids:
                self._server.results.pop(id, None)

    def expire(self, limit: int = 1000, /) -> int:
        with self._open().changed:
            now = self._server.clock.now()
            over = [id for id, (end, _) in self._server.results.items() if end <= now][:limit]
            for id in over:
                del self._server.results[id]
        return len(over)

    def close(self) -> None:
        self._closed = True
        with self._server.changed:
            self._server.changed.notify_all()

    def _open(self) -> MemoryServer:
        if self._closed:
            raise Closed
        return self._server
