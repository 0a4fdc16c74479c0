"""Brokers that send and claim wrongly."""

# ruff: noqa: D101 - the name of a mutant says what is wrong with it
from __future__ import annotations

from collections.abc import Sequence

import msgspec

from taskq.clock import Seconds
from taskq.contract.delivery import (
    Delivery,
)
from taskq.contract.message import Send
from taskq.contract.settlement import Settlement
from taskq.errors import SendError
from taskq.memory.broker import MemoryBroker
from taskq.memory.server import Entry, MemoryServer, Queue


class LosesEverySeventh(MemoryServer):
    def accept(self, item: Send) -> bool:
        return not item.message.id.endswith("7") and super().accept(item)


class MisnamesWhatWasSent(MemoryBroker):
    def send(self, items: Sequence[Send], /, *, timeout: Seconds = 10.0) -> None:
        super().send(items, timeout=timeout)
        if timeout == 0:
            raise SendError(unsent=[item.message.id for item in items])


class NewestFirst(MemoryBroker):
    def send(self, items: Sequence[Send], /, *, timeout: Seconds = 10.0) -> None:
        super().send(items[::-1], timeout=timeout)


class ResendOverwrites(MemoryServer):
    def accept(self, item: Send) -> bool:
        entry = self.messages.get(item.message.id)
        if entry is not None:
            entry.message = item.message
        return super().accept(item)


class ResendAfterResult(MemoryServer):
    def accept(self, item: Send) -> bool:
        kept = self.results.pop(item.message.id, None)
        accepted = super().accept(item)
        if kept is not None:
            self.results[item.message.id] = kept
        return accepted


class LowersPriorities(MemoryServer):
    def accept(self, item: Send) -> bool:
        message = msgspec.structs.replace(item.message, max_deliveries=5)
        return super().accept(msgspec.structs.replace(item, message=message))


class IgnoresTimeLimits(MemoryServer):
    def accept(self, item: Send) -> bool:
        return super().accept(msgspec.structs.replace(item, ttl=None, expires=None))


class DestructiveRead(MemoryServer):
    def hold(self, entry: Entry, seconds: Seconds) -> None:
        entry.lease_until = self.clock.now() + seconds


class LeasesTooShort(MemoryServer):
    def hold(self, entry: Entry, seconds: Seconds) -> None:
        super().hold(entry, seconds / 2)


class TokenReused(MemoryServer):
    def lease(self, entry: Entry, seconds: Seconds) -> Delivery:
        delivery = super().lease(entry, seconds)
        entry.token = entry.message.id
        self.hold(entry, seconds)
        return msgspec.structs.replace(delivery, token=entry.token)


class PromotesEarly(MemoryServer):
    def promote(self, queue: Queue, limit: int) -> int:
        queue.scheduled = [(due - 5, order, entry) for due, order, entry in queue.scheduled]
        for due, _, entry in queue.scheduled:
            entry.since = due
        return super().promote(queue, limit)


class NeverPromotesInAClaim(MemoryBroker):
    def _claim(
        self, server: MemoryServer, queues: Sequence[str], limit: int, lease: Seconds
    ) -> list[Delivery]:
        claimed: list[Delivery] = []
        for name in queues:
            server.reclaim(server.queue(name), limit)
            taken = server.take(server.queue(name), limit - len(claimed))
            claimed.extend(server.lease(entry, lease) for entry in taken)
        return claimed


class PromotesAfterTheClaim(MemoryBroker):
    def _claim(
        self, server: MemoryServer, queues: Sequence[str], limit: int, lease: Seconds
    ) -> list[Delivery]:
        claimed: list[Delivery] = []
        for name in queues:
            queue = server.queue(name)
            server.reclaim(queue, limit)
            taken = server.take(queue, limit - len(claimed))
            server.promote(queue, limit)
            taken += server.take(queue, limit - len(claimed) - len(taken))
            claimed.extend(server.lease(entry, lease) for entry in taken)
        return claimed


class LooksAtOneLostMessage(MemoryServer):
    def reclaim(self, queue: Queue, limit: int) -> int:
        return super().reclaim(queue, min(limit, 1))


class LeastUrgentFirst(MemoryServer):
    def take(self, queue: Queue, limit: int) -> list[Entry]:
        queue.ready.reverse()
        taken = super().take(queue, limit)
        queue.ready.reverse()
        return taken


class QueuesReversed(MemoryBroker):
    def _claim(
        self, server: MemoryServer, queues: Sequence[str], limit: int, lease: Seconds
    ) -> list[Delivery]:
        return super()._claim(server, queues[::-1], limit, lease)


class LastInFirstOut(MemoryServer):
    def take(self, queue: Queue, limit: int) -> list[Entry]:
        for level in queue.ready:
            level.reverse()
        taken = super().take(queue, limit)
        for level in queue.ready:
            level.reverse()
        return taken


class DropsTheExpired(MemoryServer):
    def take(self, queue: Queue, limit: int) -> list[Entry]:
        taken = super().take(queue, limit)
        now = self.clock.now()
        over = [entry for entry in taken if entry.expires is not None and entry.expires <= now]
        for entry in over:
            self.drop(entry)
        return [entry for entry in taken if entry not in over]


class NeverSaysExpired(MemoryServer):
    def lease(self, entry: Entry, seconds: Seconds) -> Delivery:
        return msgspec.structs.replace(super().lease(entry, seconds), expired=False)


class NeverWakes(MemoryBroker):
    def reserve(
        self, queues: Sequence[str], /, *, limit: int, lease: Seconds, wait: Seconds = 0.0
    ) -> list[Delivery]:
        found = super().reserve(queues, limit=limit, lease=lease)
        if found or not wait:
            return found
        super().reserve(["nothing.is.here"], limit=limit, lease=lease, wait=wait)
        return super().reserve(queues, limit=limit, lease=lease)


class InterruptIsNotSticky(MemoryBroker):
    def reserve(
        self, queues: Sequence[str], /, *, limit: int, lease: Seconds, wait: Seconds = 0.0
    ) -> list[Delivery]:
        found = super().reserve(queues, limit=limit, lease=lease, wait=wait)
        self._interrupted = False
        return found


class InterruptStopsSettling(MemoryBroker):
    def settle(self, settlements: Sequence[Settlement], /) -> list[Delivery]:
        if self._interrupted:
            return [settlement.delivery for settlement in settlements]
        return super().settle(settlements)
