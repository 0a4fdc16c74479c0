"""Clients that go wrong when their connection breaks, and servers when they restart."""

# ruff: noqa: D101 - the name of a mutant says what is wrong with it
from __future__ import annotations

from collections.abc import Callable, Sequence

from taskq.clock import Seconds
from taskq.contract.delivery import Delivery, Extension
from taskq.contract.message import Send
from taskq.contract.results import ResultRecord
from taskq.contract.settlement import Retry, Settlement
from taskq.errors import ConnectionFailed, OutcomeUnknown, SendError
from taskq.memory.server import MemoryServer
from taskq.testing.faults import Answer, Fault, FaultyBroker, FaultyResults


class CallsTheUnknownUnsent(FaultyBroker):
    def send(self, items: Sequence[Send], /, *, timeout: Seconds = 10.0) -> None:
        try:
            super().send(items, timeout=timeout)
        except SendError as error:
            unsent = [*error.unsent, *error.unknown]
            raise SendError(str(error), sent=error.sent, unsent=unsent) from error


class CallsTheUnsentSent(FaultyBroker):
    def send(self, items: Sequence[Send], /, *, timeout: Seconds = 10.0) -> None:
        try:
            super().send(items, timeout=timeout)
        except SendError as error:
            sent = [*error.sent, *error.unsent]
            raise SendError(str(error), sent=sent, unknown=error.unknown) from error


class BrokenSendNamesNobody(FaultyBroker):
    def send(self, items: Sequence[Send], /, *, timeout: Seconds = 10.0) -> None:
        try:
            super().send(items, timeout=timeout)
        except SendError as error:
            raise OutcomeUnknown(str(error)) from error


class LostAnswerMeansNothingHappened(FaultyBroker):
    def _call(
        self, name: str, whole: Callable[[], Answer], part: Callable[[], object] | None = None
    ) -> Answer:
        try:
            return super()._call(name, whole, part)
        except OutcomeUnknown as error:
            raise ConnectionFailed(str(error)) from error


class LostClaimMeansNothingHappened(FaultyBroker):
    def reserve(
        self, queues: Sequence[str], /, *, limit: int, lease: Seconds, wait: Seconds = 0.0
    ) -> list[Delivery]:
        try:
            return super().reserve(queues, limit=limit, lease=lease, wait=wait)
        except OutcomeUnknown as error:
            raise ConnectionFailed(str(error)) from error


class HalfARetryIsCounted(FaultyBroker):
    def settle(self, settlements: Sequence[Settlement], /) -> list[Delivery]:
        try:
            return super().settle(settlements)
        except ConnectionFailed as error:
            server: MemoryServer = self.broker._server  # type: ignore[attr-defined]
            for one in settlements:
                entry = server.held(one.delivery)
                if isinstance(one, Retry) and entry is not None:
                    entry.retries += 1
            raise OutcomeUnknown(str(error)) from error


class ExtendsNothingWhenRepeated(FaultyBroker):
    def extend(self, deliveries: Sequence[Delivery], /, *, lease: Seconds) -> Extension:
        try:
            return super().extend(deliveries, lease=lease)
        except OutcomeUnknown:
            self.broker.settle([Retry(delivery) for delivery in deliveries])
            raise


class NeverConnectsAgain(FaultyBroker):
    def _next(self, name: str) -> Fault | None:
        fault = super()._next(name)
        if fault is not None and not self._closed:
            self._plan = lambda _: Fault.BEFORE
        return fault


class FailsThreeTimes(FaultyBroker):
    def _next(self, name: str) -> Fault | None:
        fault = super()._next(name)
        if fault is not None and self._plan is None:
            left = [Fault.BEFORE] * 2
            self._plan = lambda _: left.pop() if left else None
        return fault


class RestartForgetsTheReady(MemoryServer):
    def restarted(self) -> None:
        for queue in self.queues.values():
            for entry in [entry for level in queue.ready for entry in level]:
                self.drop(entry)


class RestartEndsLeases(MemoryServer):
    def restarted(self) -> None:
        for entry in list(self.messages.values()):
            if entry.token:
                entry.token = ""
                self.place(entry, 0.0)


class LostStoreMeansNothingHappened(FaultyResults):
    def store(self, records: Sequence[ResultRecord], /) -> None:
        try:
            super().store(records)
        except OutcomeUnknown as error:
            raise ConnectionFailed(str(error)) from error


class ResultsNeverConnectAgain(FaultyResults):
    def _next(self, name: str) -> Fault | None:
        fault = super()._next(name)
        if fault is not None and not self._closed:
            self._plan = lambda _: Fault.BEFORE
        return fault


class RestartForgetsResults(MemoryServer):
    def restarted(self) -> None:
        self.results.clear()
