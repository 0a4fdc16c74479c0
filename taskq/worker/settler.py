"""Concludes deliveries in batches: whatever has gathered while the last batch was under way."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Sequence
from typing import Final

import msgspec

from taskq.clock import Seconds
from taskq.contract.broker import Consumer
from taskq.contract.delivery import Delivery
from taskq.contract.results import ResultRecord, Results
from taskq.contract.settlement import Release, Settlement
from taskq.errors import BrokerError, ServerRefused
from taskq.worker.outage import Outage
from taskq.worker.service import OnDeath, Service
from taskq.worker.shelf import Shelf

log = logging.getLogger(__name__)

BATCH: Final = 1000
IDLE_WAIT: Final[Seconds] = 1.0
REFUSALS: Final = 5
"""How often a single settlement may be refused before its lease is left to end."""


class Settler(Service):
    """The settle loop. `put` may be called from any thread.

    A batch that fails is tried again until the broker answers: the token sees
    to it that nothing is concluded twice, and a lease that nobody reclaimed
    can be settled even after its end.
    """

    name = "settle"

    def __init__(
        self,
        broker: Consumer,
        results: Results | None,
        shelf: Shelf,
        lease: Seconds,
        *,
        outage: Outage,
        on_death: OnDeath,
    ) -> None:
        super().__init__(outage, on_death)
        self._broker = broker
        self._results = results
        self._shelf = shelf
        self._lease = lease
        self._gathered: queue.SimpleQueue[Settlement | None] = queue.SimpleQueue()
        self._batch: list[Settlement] = []
        self._refusals = 0
        self._empty = threading.Event()
        self.put = self._gathered.put
        self.settled = 0
        """How many deliveries were concluded; lost ones not counted."""

    def stop(self) -> None:
        super().stop()
        self._gathered.put(None)

    def flush(self, timeout: Seconds) -> bool:
        """Wait until everything put so far is concluded; say whether that was reached."""
        deadline = time.monotonic() + timeout
        while not (self._gathered.empty() and not self._batch):
            self._empty.clear()
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            self._gathered.put(None)
            self._empty.wait(min(left, 0.05))
        return True

    def run_once(self) -> Seconds:
        if not self._batch:
            self._gather()
        if self._batch:
            try:
                self._settle(self._batch)
            except ServerRefused:
                self._isolate()
            self._batch = []
            self._refusals = 0
        self._empty.set()
        return 0.0

    def _gather(self) -> None:
        batch = self._batch
        try:
            item = self._gathered.get(timeout=IDLE_WAIT)
            while True:
                if item is not None:
                    batch.append(item)
                if len(batch) >= BATCH:
                    return
                item = self._gathered.get_nowait()
        except queue.Empty:
            return

    def _settle(self, batch: Sequence[Settlement]) -> None:
        lost = self._conclude(batch)
        self._shelf.forget([settlement.delivery for settlement in batch])
        self.settled += len(batch) - len(lost)
        if lost:
            self._report(lost, batch)

    def _conclude(self, batch: Sequence[Settlement]) -> list[Delivery]:
        if self._results is None:
            return self._broker.settle(batch)
        return self._conclude_apart(batch, self._results)

    def _conclude_apart(self, batch: Sequence[Settlement], results: Results) -> list[Delivery]:
        """Conclude where results live in another store: confirm leases, store, then settle.

        A crash in between leaves the message to run again, with a higher run,
        whose result then replaces this one.
        """
        lost = self._broker.extend([s.delivery for s in batch], lease=self._lease).lost
        gone = {id(delivery) for delivery in lost}
        held = [settlement for settlement in batch if id(settlement.delivery) not in gone]
        records = [r for r in map(_record, held) if r is not None]
        if records:
            results.store(records)
        return lost + self._broker.settle([_without_record(s) for s in held])

    def _isolate(self) -> None:
        """Settle one by one what was refused as a batch, so that one cannot block the others."""
        for settlement in self._batch:
            try:
                self._settle([settlement])
            except ServerRefused as error:
                self._refusals += 1
                if self._refusals < REFUSALS:
                    self._batch = self._batch[self._batch.index(settlement) :]
                    raise
                self._refusals = 0
                self._shelf.forget([settlement.delivery])
                log.error(  # noqa: TRY400 - the server's sentence says it all
                    "task %s could not be concluded and will run again: %s",
                    settlement.delivery.id,
                    error,
                )
            except BrokerError:
                self._batch = self._batch[self._batch.index(settlement) :]
                raise

    def _report(self, lost: Sequence[Delivery], batch: Sequence[Settlement]) -> None:
        gone = {id(delivery) for delivery in lost}
        for settlement in batch:
            if id(settlement.delivery) not in gone or isinstance(settlement, Release):
                continue
            log.warning(
                "task %s: the lease was lost, its conclusion was refused",
                settlement.delivery.id,
                extra={"task_id": settlement.delivery.id},
            )


def _record(settlement: Settlement) -> ResultRecord | None:
    return None if isinstance(settlement, Release) else settlement.result


def _without_record(settlement: Settlement) -> Settlement:
    if isinstance(settlement, Release) or settlement.result is None:
        return settlement
    return msgspec.structs.replace(settlement, result=None)
