"""The rules: what becomes of a message when it is sent, claimed, lost or concluded.

A `Namespace` is what a client knows in the midst of a step, at one instant, `now`.
The methods change memory only; `taskq_files.store` writes down what they did.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace

from taskq.clock import Seconds, Timestamp
from taskq.contract.delivery import Delivery, State
from taskq.contract.message import Send
from taskq.contract.results import ResultRecord
from taskq_files.records import Alive, Change, Entry, Kept, Messages, Table

LONGEST_BACKOFF: Final[Seconds] = 60.0


class Namespace:
    """All records, and the moves that the contract allows."""

    now: Timestamp
    """The instant of the step, by the broker's clock."""

    def __init__(self) -> None:
        self.messages = Messages()
        self.results: Table[Kept] = Table()
        self.workers: Table[Alive] = Table()

    # -- Changes as a whole

    def take_in(self, change: Change) -> None:
        """Make a change that is written already."""
        self.messages.take_in(change.messages)
        self.results.take_in(change.results)
        self.workers.take_in(change.workers)

    def changes(self) -> Change:
        """Return what has to be written."""
        return Change(self.messages.changes, self.results.changes, self.workers.changes)

    def whole(self) -> Change:
        """Return everything, as a change from nothing."""
        return Change(self.messages, self.results, self.workers)

    def written(self) -> None:
        """Take in that the changes are written."""
        for table in (self.messages, self.results, self.workers):
            table.changes = {}

    # -- Sending

    def accept(self, item: Send) -> None:
        """Take in a message, unless its id is known."""
        message = item.message
        if message.id in self.messages or self.result(message.id) is not None:
            return
        expires = item.expires if item.ttl is None else self.now + item.ttl
        due = self.now + item.delay if item.eta is None else item.eta
        self.place(Entry(message, sent=self.now, expires=expires), due)

    def place(self, entry: Entry, due: Timestamp) -> None:
        """Put a message in line: it is ready, or scheduled if `due` is still to come."""
        state = State.SCHEDULED if due > self.now else State.READY
        order = self.messages.last + 1
        self.put(replace(entry, state=state, since=due, order=order))

    def put(self, entry: Entry) -> None:
        """Keep a message as it is now."""
        self.messages.put(entry.message.id, entry)

    # -- Claiming

    def claim(self, queue: str, limit: int, lease: Seconds, token: str) -> list[Delivery]:
        """Lease up to `limit` messages of a queue, those at the front of the line."""
        claimed: list[Delivery] = []
        while len(claimed) < limit and (entry := self.messages.first(queue, State.READY)):
            entry = replace(entry, state=State.PROCESSING, since=self.now + lease, token=token)
            self.put(entry)
            claimed.append(self._delivery(entry))
        return claimed

    def _delivery(self, entry: Entry) -> Delivery:
        return Delivery(
            message=entry.message,
            token=entry.token,
            claimed=self.now,
            lease_until=entry.since,
            retries=entry.retries,
            losses=entry.losses,
            releases=entry.releases,
            run=entry.run,
            expired=entry.expires is not None and entry.expires <= self.now,
            first_released=entry.first_released,
        )

    def held(self, delivery: Delivery) -> Entry | None:
        """Return the message if the delivery's lease was not lost."""
        entry = self.messages.get(delivery.id)
        if entry is None or entry.state is not State.PROCESSING or entry.token != delivery.token:
            return None
        return entry

    # -- What time does

    def promote(self, queue: str, limit: int) -> int:
        """Make up to `limit` due messages ready; return how many."""
        for moved in range(limit):
            entry = self.messages.first(queue, State.SCHEDULED)
            if entry is None or entry.since > self.now:
                return moved
            self.place(entry, entry.since)
        return limit

    def reclaim(self, queue: str, limit: int) -> int:
        """Take back up to `limit` messages whose lease has ended; return how many."""
        for moved in range(limit):
            entry = self.messages.first(queue, State.PROCESSING)
            if entry is None or entry.since > self.now:
                return moved
            self._lose(entry)
        return limit

    def _lose(self, entry: Entry) -> None:
        losses = entry.losses + 1
        entry = replace(entry, losses=losses, run=entry.run + 1, returned=True)
        if losses >= entry.message.max_deliveries:
            self.bury(entry, "worker_lost", f"{losses} leases ended without a settlement")
        else:
            self.place(entry, self.now + _backoff(losses))

    def next_change(self, queues: Sequence[str]) -> Timestamp | None:
        """Return when time will next do something to one of these queues."""
        states = (State.SCHEDULED, State.PROCESSING)
        firsts = (self.messages.first(queue, state) for queue in queues for state in states)
        return min((entry.since for entry in firsts if entry is not None), default=None)

    # -- Dead letters and results

    def bury(self, entry: Entry, code: str, detail: str) -> None:
        """Make a message a dead letter."""
        self.put(replace(entry, state=State.DEAD, since=self.now, code=code, detail=detail))

    def dead(self, queue: str) -> list[Entry]:
        """Return the dead letters of a queue, the oldest first."""
        here = (entry for entry in self.messages.values() if entry.message.queue == queue)
        dead = [entry for entry in here if entry.state is State.DEAD]
        return sorted(dead, key=lambda entry: (entry.since, entry.message.id))

    def queues(self) -> list[str]:
        """Return the names of the queues that have messages, sorted."""
        return sorted({entry.message.queue for entry in self.messages.values()})

    def result(self, id: str) -> ResultRecord | None:
        """Return a result, unless there is none or its time is over."""
        until, record = self.results.get(id, (0.0, None))
        return record if until > self.now else None

    def keep(self, record: ResultRecord | None) -> None:
        """Store a result, if one was given, unless there is one of a higher run."""
        if record is None:
            return
        old = self.result(record.id)
        if old is None or old.run <= record.run:
            self.results.put(record.id, (self.now + record.ttl, record))


def _backoff(losses: int) -> Seconds:
    """Return for how long a message rests after its so-many-eth loss."""
    return 0.0 if losses < 2 else min(LONGEST_BACKOFF, 2.0 ** min(losses - 2, 6))
