"""Backends that are wrong in ways which generated breakages brought to light (`tests/mutation`)."""

# ruff: noqa: D101 - the name of a mutant says what is wrong with it
from __future__ import annotations

import heapq
import threading
from collections.abc import Sequence

import msgspec

from taskq.clock import Clock, Seconds
from taskq.contract.delivery import Delivery
from taskq.contract.message import Send
from taskq.contract.results import ResultRecord
from taskq.contract.settlement import Ack, Settlement
from taskq.memory.broker import MemoryBroker
from taskq.memory.results import MemoryResults
from taskq.memory.server import Entry, MemoryServer, Queue


class _OneByOne(threading.Condition):
    def notify_all(self) -> None:
        self.notify()


class WakesOneForABatch(MemoryServer):
    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.changed = _OneByOne()


class _Sleepless(threading.Condition):
    def wait(self, timeout: Seconds | None = None) -> bool:
        return super().wait(min(timeout or 0.0, 0.0))


class WaitsByWorking(MemoryServer):
    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.changed = _Sleepless()


class LooksInAllQueues(MemoryBroker):
    def _claim(
        self, server: MemoryServer, queues: Sequence[str], limit: int, lease: Seconds
    ) -> list[Delivery]:
        claimed: list[Delivery] = []
        left = limit
        for queue in server.queues.values():
            left -= server.reclaim(queue, left)
            left -= server.promote(queue, left)
        for name in queues:
            taken = server.take(server.queue(name), limit - len(claimed))
            claimed.extend(server.lease(entry, lease) for entry in taken)
        return claimed


class PromotesInTheOrderSent(MemoryServer):
    def promote(self, queue: Queue, limit: int) -> int:
        now = self.clock.now()
        due = sorted((one for one in queue.scheduled if one[0] <= now), key=lambda one: one[1])
        later = [one for one in queue.scheduled if one not in due[:limit]]
        queue.scheduled = sorted(due[:limit])
        moved = super().promote(queue, limit)
        queue.scheduled += later
        heapq.heapify(queue.scheduled)
        return moved


class SuccessorsRepeatTheirBatch(MemoryBroker):
    def _conclude(self, server: MemoryServer, entry: Entry, settlement: Settlement) -> None:
        if isinstance(settlement, Ack) and settlement.send:
            for level in server.queue(entry.message.queue).ready:
                level.extend(list(level))
        super()._conclude(server, entry, settlement)


class SuccessorsBeforeTheirAck(MemoryBroker):
    def _conclude(self, server: MemoryServer, entry: Entry, settlement: Settlement) -> None:
        if isinstance(settlement, Ack):
            for item in settlement.send:
                server.accept(item)
            settlement = msgspec.structs.replace(settlement, send=())
        super()._conclude(server, entry, settlement)


class NothingCanBeSentAfterClose(MemoryBroker):
    def send(self, items: Sequence[Send], /, *, timeout: Seconds = 10.0) -> None:
        if items:
            super().send(items, timeout=timeout)


class LastRunOfABatchWins(MemoryResults):
    def store(self, records: Sequence[ResultRecord], /) -> None:
        with self._open().changed:
            old = {record.id: self._server.result(record.id) for record in records}
            for record in records:
                kept = old[record.id]
                if kept is None or kept.run <= record.run:
                    self._server.results.pop(record.id, None)
                    self._server.keep_result(record)
            self._server.changed.notify_all()


class IgnoresResultsWithoutTtl(MemoryResults):
    def store(self, records: Sequence[ResultRecord], /) -> None:
        super().store([record for record in records if record.ttl > 0])
