"""Brokers that lose and settle wrongly."""

# ruff: noqa: D101 - the name of a mutant says what is wrong with it
from __future__ import annotations

from collections.abc import Sequence

import msgspec

from taskq.clock import Seconds, Timestamp
from taskq.contract.delivery import (
    Delivery,
    Extension,
    State,
)
from taskq.contract.settlement import Ack, Release, Retry, Settlement
from taskq.memory.broker import MemoryBroker
from taskq.memory.server import Entry, MemoryServer


class ReclaimsToTheTail(MemoryServer):
    def lose(self, entry: Entry) -> None:
        super().lose(entry)
        if entry.state is State.READY:
            entry.returned = False
            self.queue(entry.message.queue).ready[entry.message.priority].rotate(-1)


class NoBackoff(MemoryServer):
    def lose(self, entry: Entry) -> None:
        super().lose(entry)
        if entry.state is State.SCHEDULED:
            self.place(entry, 0.0)


class BackoffAtOnce(MemoryServer):
    def place(self, entry: Entry, due: Timestamp) -> None:
        first = entry.losses == 1 and entry.returned and entry.state is State.PROCESSING
        super().place(entry, due + 2 if first else due)


class LossNotCounted(MemoryServer):
    def lose(self, entry: Entry) -> None:
        super().lose(entry)
        if entry.losses == 1:
            entry.losses = 0


class LossesCountReleases(MemoryServer):
    def lose(self, entry: Entry) -> None:
        entry.releases += 1
        super().lose(entry)


class OneDeliveryTooMany(MemoryServer):
    def lose(self, entry: Entry) -> None:
        if entry.losses + 1 == entry.message.max_deliveries:
            entry.message = msgspec.structs.replace(
                entry.message, max_deliveries=entry.message.max_deliveries + 1
            )
        super().lose(entry)


class OneDeliveryTooFew(MemoryServer):
    def lose(self, entry: Entry) -> None:
        super().lose(entry)
        if entry.state is not State.DEAD and entry.losses + 1 == entry.message.max_deliveries:
            self.bury(entry, "worker_lost", "too early")


class IgnoresTokens(MemoryServer):
    def held(self, delivery: Delivery) -> Entry | None:
        entry = self.messages.get(delivery.id)
        return entry if entry is not None and entry.state is State.PROCESSING else None


class AcksById(MemoryServer):
    def held(self, delivery: Delivery) -> Entry | None:
        return self.messages.get(delivery.id)


class ExtendRevivesLostLeases(MemoryBroker):
    def extend(self, deliveries: Sequence[Delivery], /, *, lease: Seconds) -> Extension:
        with self._open().changed:
            for delivery in deliveries:
                entry = self._server.messages.get(delivery.id)
                if entry is not None and entry.state is State.PROCESSING:
                    self._server.hold(entry, lease)
        return super().extend(deliveries, lease=lease)


class AckLeavesTheMessage(MemoryBroker):
    def _conclude(self, server: MemoryServer, entry: Entry, settlement: Settlement) -> None:
        if isinstance(settlement, Ack) and not settlement.send:
            entry.token = "acked"  # noqa: S105 - no password
            server.hold(entry, 10)
            return
        super()._conclude(server, entry, settlement)


class DelayedRetryIsDropped(MemoryBroker):
    def _retry(self, server: MemoryServer, entry: Entry, retry: Retry) -> None:
        super()._retry(server, entry, retry)
        if retry.delay:
            server.drop(entry)


class RetryNotCounted(MemoryBroker):
    def _retry(self, server: MemoryServer, entry: Entry, retry: Retry) -> None:
        super()._retry(server, entry, retry)
        entry.retries -= 1


class RetryKeepsItsRun(MemoryBroker):
    def _retry(self, server: MemoryServer, entry: Entry, retry: Retry) -> None:
        super()._retry(server, entry, retry)
        entry.run -= 1


class RetryKeepsItsEnvelope(MemoryBroker):
    def _retry(self, server: MemoryServer, entry: Entry, retry: Retry) -> None:
        super()._retry(server, entry, msgspec.structs.replace(retry, envelope=None))


class RetryEmptiesTheEnvelope(MemoryBroker):
    def _retry(self, server: MemoryServer, entry: Entry, retry: Retry) -> None:
        envelope = retry.envelope or b""
        super()._retry(server, entry, msgspec.structs.replace(retry, envelope=envelope))


class RetryToTheHead(MemoryBroker):
    def _retry(self, server: MemoryServer, entry: Entry, retry: Retry) -> None:
        super()._retry(server, entry, retry)
        if entry.state is State.READY:
            server.queue(entry.message.queue).ready[entry.message.priority].rotate(1)


class ReleaseToTheTail(MemoryBroker):
    def _conclude(self, server: MemoryServer, entry: Entry, settlement: Settlement) -> None:
        super()._conclude(server, entry, settlement)
        if isinstance(settlement, Release) and entry.state is State.READY:
            server.queue(entry.message.queue).ready[entry.message.priority].rotate(-1)


class ResultThoughLost(MemoryBroker):
    def settle(self, settlements: Sequence[Settlement], /) -> list[Delivery]:
        with self._open().changed:
            for settlement in settlements:
                if isinstance(settlement, Ack) and settlement.result is not None:
                    self._server.keep_result(settlement.result)
        return super().settle(settlements)


class SuccessorsThoughLost(MemoryBroker):
    def settle(self, settlements: Sequence[Settlement], /) -> list[Delivery]:
        with self._open().changed:
            for settlement in settlements:
                for item in settlement.send if isinstance(settlement, Ack) else ():
                    self._server.accept(item)
        return super().settle(settlements)


class SuccessorsForgotten(MemoryBroker):
    def _conclude(self, server: MemoryServer, entry: Entry, settlement: Settlement) -> None:
        if isinstance(settlement, Ack):
            settlement = msgspec.structs.replace(settlement, send=())
        super()._conclude(server, entry, settlement)


class SecondSettlementHolds(MemoryBroker):
    def settle(self, settlements: Sequence[Settlement], /) -> list[Delivery]:
        lost = super().settle(settlements)
        firsts = [s.delivery.token for s in settlements if s.delivery not in lost]
        again = [s.delivery.token for s in settlements]
        return [d for d in lost if again.count(d.token) == 1 and d.token not in firsts]


class OneLostLosesAll(MemoryBroker):
    def settle(self, settlements: Sequence[Settlement], /) -> list[Delivery]:
        with self._open().changed:
            if any(self._server.held(one.delivery) is None for one in settlements):
                return [one.delivery for one in settlements]
        return super().settle(settlements)
