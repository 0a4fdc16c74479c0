"""Result stores that are wrong."""

# ruff: noqa: D101 - the name of a mutant says what is wrong with it
from __future__ import annotations

from collections.abc import Sequence

import msgspec

from taskq.clock import Seconds
from taskq.contract.results import ResultRecord
from taskq.memory.results import MemoryResults
from taskq.memory.server import MemoryServer


class ReadOnce(MemoryResults):
    def fetch(self, ids: Sequence[str], /) -> dict[str, ResultRecord]:
        found = super().fetch(ids)
        self.forget(list(found))
        return found


class LowerRunOverwrites(MemoryServer):
    def keep_result(self, record: ResultRecord) -> None:
        self.results[record.id] = (self.clock.now() + record.ttl, record)


class ResultsLiveForEver(MemoryServer):
    def keep_result(self, record: ResultRecord) -> None:
        super().keep_result(record)
        self.results[record.id] = (self.clock.now() + 1e6, self.results[record.id][1])


class WaitNeverWakes(MemoryResults):
    def wait(self, ids: Sequence[str], /, *, timeout: Seconds) -> dict[str, ResultRecord]:
        found = super().wait(ids, timeout=0)
        if found or not timeout:
            return found
        super().wait(["nothing.is.here"], timeout=timeout)
        return super().wait(ids, timeout=0)


class WaitReturnsRetries(MemoryResults):
    def wait(self, ids: Sequence[str], /, *, timeout: Seconds) -> dict[str, ResultRecord]:
        return self.fetch(ids) or super().wait(ids, timeout=timeout)


class ExpireCountsWhatItKeeps(MemoryResults):
    def expire(self, limit: int = 1000, /) -> int:
        kept = dict(self._open().results)
        count = super().expire(limit)
        self._server.results.update(kept)
        return count


class ForgetsNothing(MemoryResults):
    def forget(self, ids: Sequence[str], /) -> None:
        super().forget(ids[:0])


class FetchesOne(MemoryResults):
    def fetch(self, ids: Sequence[str], /) -> dict[str, ResultRecord]:
        return dict(list(super().fetch(ids).items())[:1])


class ResultsWorkAfterClose(MemoryResults):
    def close(self) -> None:
        """Go on as if nothing had happened."""


class TruncatesPayloads(MemoryServer):
    def keep_result(self, record: ResultRecord) -> None:
        super().keep_result(msgspec.structs.replace(record, payload=record.payload[:4]))
