"""Concludes deliveries in batches: whatever has gathered while the last batch was under way."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from taskq.clock import Seconds
from taskq.contract.broker import Consumer
from taskq.contract.delivery import Delivery
from taskq.contract.results import ResultRecord, Results
from taskq.contract.settlement import Release, Settlement
from taskq.errors import BrokerError, OutcomeUnknown, ServerRefused
from taskq.worker.executor import Completed, Outcomes
from taskq.worker.outage import Outage
from taskq.worker.service import OnDeath, Service
from taskq.worker.shelf import Shelf

log = logging.getLogger(__name__)

BATCH: Final = 1000
IDLE_WAIT: Final[Seconds] = 1.0
PAUSES_PER_LEASE: Final = 6
REFUSALS: Final = 5
"""How often one settlement may be refused, by a server that takes others, before its
lease is left to end."""


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
        # A settlement that waits out its own lease lets a finished task run again.
        self.longest_pause = lease / PAUSES_PER_LEASE
        self._gathered: queue.SimpleQueue[Outcomes | threading.Event] = queue.SimpleQueue()
        self._batch: list[Settlement] = []
        self._flushed: list[threading.Event] = []
        self._records: list[ResultRecord] = []
        """Of tasks that were completed in a transaction elsewhere."""
        self._record_refusals = 0
        self._refusals = 0
        self._unsure = False
        """An earlier attempt at this batch may have been carried out."""
        self.put: Callable[[Outcomes], None] = self._gathered.put
        self.settled = 0
        """How many deliveries were concluded; lost ones not counted."""

    @property
    def pending(self) -> int:
        """How many settlements are not yet concluded, and calls of `flush` not yet answered."""
        return len(self._batch) + len(self._records) + self._gathered.qsize()

    def stop(self) -> None:
        super().stop()
        self._gathered.put(threading.Event())

    def flush(self, timeout: Seconds) -> bool:
        """Wait until everything put so far is concluded; say whether that was reached."""
        reached = threading.Event()
        self._gathered.put(reached)
        return reached.wait(timeout)

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
            self._unsure = False
        if self._records and self._results is not None:
            self._store(self._results)
        for reached in self._flushed:
            reached.set()
        self._flushed = []
        return 0.0

    def _gather(self) -> None:
        batch = self._batch
        try:
            item = self._gathered.get(timeout=self.pace.wait(IDLE_WAIT))
            while True:
                if isinstance(item, threading.Event):
                    self._flushed.append(item)
                    return
                if isinstance(item, Completed):
                    self._note(item)
                else:
                    batch.append(item)
                if len(batch) >= BATCH:
                    return
                item = self._gathered.get_nowait()
        except queue.Empty:
            return

    def _store(self, results: Results) -> None:
        """Store what is left of completed tasks; give up what is refused again and again."""
        refusal: ServerRefused | None = None
        try:
            results.store(self._records)
        except ServerRefused as error:
            self._record_refusals += 1
            if self._record_refusals < REFUSALS:
                raise
            refusal = error
        for record in self._records if refusal is not None else ():
            log.error(
                "task %s was completed, but its result could not be stored: %s",
                record.id,
                refusal,
                extra={"task_id": record.id},
            )
        self._records = []
        self._record_refusals = 0

    def _note(self, completed: Completed) -> None:
        """Take in that a task has concluded itself."""
        self._shelf.forget([completed.delivery])
        self.settled += 1
        if completed.record is not None and not completed.stored:
            self._records.append(completed.record)

    def _settle(self, batch: Sequence[Settlement]) -> None:
        try:
            lost = self._conclude(batch)
        except OutcomeUnknown:
            self._unsure = True
            raise
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
        lost: list[Delivery] = []
        with_record = [s.delivery for s in batch if _record(s) is not None]
        if with_record:
            lost = self._broker.extend(with_record, lease=self._lease).lost
            batch = _others(batch, lost)
            results.store([r for r in map(_record, batch) if r is not None])
        rest = [_without_record(settlement) for settlement in batch]
        return lost + self._broker.settle(rest) if rest else lost

    def _isolate(self) -> None:
        """Settle one by one what was refused as a batch, so that one cannot block the others.

        A server that refuses to extend the leases as well refuses everything,
        being full or read-only; that is waited out like any other outage.
        """
        self._broker.extend([s.delivery for s in self._batch], lease=self._lease)
        refused: list[Settlement] = []
        last: ServerRefused | None = None
        for index, settlement in enumerate(self._batch):
            try:
                self._settle([settlement])
            except ServerRefused as error:
                refused.append(settlement)
                last = error
            except BrokerError:
                self._batch = refused + self._batch[index:]
                raise
        self._batch = refused
        if last is not None:
            self._insist(refused, last)

    def _insist(self, refused: Sequence[Settlement], last: ServerRefused) -> None:
        """Raise to try again; after some attempts leave the leases to end."""
        self._refusals += 1
        if self._refusals < REFUSALS:
            raise last
        self._shelf.forget([settlement.delivery for settlement in refused])
        for settlement in refused:
            log.error(
                "task %s could not be concluded and will run again: %s",
                settlement.delivery.id,
                last,
                extra={"task_id": settlement.delivery.id},
            )

    def _report(self, lost: Sequence[Delivery], batch: Sequence[Settlement]) -> None:
        gone = set(map(_key, lost))
        what = "the lease was lost, its conclusion was refused"
        if self._unsure:
            what = "its conclusion was carried out before the connection broke, or is refused now"
        for settlement in batch:
            if _key(settlement.delivery) not in gone or isinstance(settlement, Release):
                continue
            log.log(
                logging.INFO if self._unsure else logging.WARNING,
                "task %s: %s",
                settlement.delivery.id,
                what,
                extra={"task_id": settlement.delivery.id},
            )


def _key(delivery: Delivery) -> tuple[str, str]:
    return delivery.message.id, delivery.token


def _others(batch: Sequence[Settlement], lost: Sequence[Delivery]) -> list[Settlement]:
    """Return the settlements whose deliveries are not among the lost."""
    gone = set(map(_key, lost))
    return [settlement for settlement in batch if _key(settlement.delivery) not in gone]


def _record(settlement: Settlement) -> ResultRecord | None:
    return None if isinstance(settlement, Release) else settlement.result


def _without_record(settlement: Settlement) -> Settlement:
    if isinstance(settlement, Release) or settlement.result is None:
        return settlement
    return msgspec.structs.replace(settlement, result=None)
