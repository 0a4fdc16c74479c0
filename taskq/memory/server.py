"""What a server would keep: the messages of one namespace, moved under one lock.

Nothing here waits or takes the lock; `taskq.memory.broker` does both. Heaps
hold entries that may have moved on since; each is checked when it surfaces.
"""

from __future__ import annotations

import heapq
import itertools
import threading
from collections import deque
from typing import Final

from taskq.clock import Clock, Seconds, Timestamp
from taskq.contract.delivery import Delivery, Heartbeat, State
from taskq.contract.message import HIGHEST, Message, Send
from taskq.contract.results import ResultRecord

LONGEST_BACKOFF: Final[Seconds] = 60.0


class Entry:
    """A message and the broker's record of it."""

    __slots__ = (
        "code", "detail", "died", "expires", "first_released", "lease_until", "losses",
        "message", "releases", "retries", "returned", "run", "sent", "since", "state", "token",
    )  # fmt: skip

    def __init__(self, message: Message, sent: Timestamp, expires: Timestamp | None) -> None:
        self.message = message
        self.sent = sent
        self.expires = expires
        self.state = State.READY
        self.since: Timestamp = sent
        """When it becomes ready, if scheduled."""
        self.returned = False
        """Goes to the head of its level when it becomes ready."""
        self.token = ""
        self.lease_until: Timestamp = 0.0
        self.code = self.detail = ""
        self.died: Timestamp = 0.0
        self.retries = self.losses = self.releases = self.run = 0
        self.first_released: Timestamp | None = None


class Queue:
    """The messages of one queue, by state."""

    def __init__(self) -> None:
        self.ready: list[deque[Entry]] = [deque() for _ in range(HIGHEST + 1)]
        self.scheduled: list[tuple[Timestamp, int, Entry]] = []
        self.leased: list[tuple[Timestamp, int, Entry, str]] = []
        self.dead: dict[str, Entry] = {}


class MemoryServer:
    """One namespace. Every method is called with `changed` held."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.changed = threading.Condition()
        self.messages: dict[str, Entry] = {}
        self.queues: dict[str, Queue] = {}
        self.workers: dict[str, tuple[Timestamp, Heartbeat]] = {}
        self.results: dict[str, tuple[Timestamp, ResultRecord]] = {}
        self._order = itertools.count()
        self._tokens = itertools.count(1)

    # -- Moving one message

    def accept(self, item: Send) -> bool:
        """Take in a message; False if its id exists."""
        message = item.message
        now = self.clock.now()
        if message.id in self.messages or self.result(message.id) is not None:
            return False
        expires = item.expires if item.ttl is None else now + item.ttl
        entry = self.messages[message.id] = Entry(message, now, expires)
        self.place(entry, item.eta if item.eta is not None else now + item.delay)
        return True

    def place(self, entry: Entry, due: Timestamp) -> None:
        """Make the message ready, or scheduled if `due` is still to come."""
        queue = self.queue(entry.message.queue)
        entry.token = ""
        if due > self.clock.now():
            entry.state, entry.since = State.SCHEDULED, due
            heapq.heappush(queue.scheduled, (due, next(self._order), entry))
            return
        entry.state = State.READY
        level = queue.ready[entry.message.priority]
        if entry.returned:
            level.appendleft(entry)
        else:
            level.append(entry)

    def lease(self, entry: Entry, seconds: Seconds) -> Delivery:
        """Hand the message out."""
        now = self.clock.now()
        entry.state, entry.token = State.PROCESSING, str(next(self._tokens))
        self.hold(entry, seconds)
        return Delivery(
            message=entry.message,
            token=entry.token,
            claimed=now,
            lease_until=entry.lease_until,
            retries=entry.retries,
            losses=entry.losses,
            releases=entry.releases,
            run=entry.run,
            expired=entry.expires is not None and entry.expires <= now,
            first_released=entry.first_released,
        )

    def hold(self, entry: Entry, seconds: Seconds) -> None:
        """Let the lease end `seconds` from now."""
        entry.lease_until = self.clock.now() + seconds
        item = (entry.lease_until, next(self._order), entry, entry.token)
        heapq.heappush(self.queue(entry.message.queue).leased, item)

    def held(self, delivery: Delivery) -> Entry | None:
        """Return the entry if the delivery's lease was not lost."""
        entry = self.messages.get(delivery.message.id)
        if entry is None or entry.state is not State.PROCESSING or entry.token != delivery.token:
            return None
        return entry

    def lose(self, entry: Entry) -> None:
        """Take the message back from a holder whose lease has ended."""
        entry.losses += 1
        entry.run += 1
        if entry.losses >= entry.message.max_deliveries:
            self.bury(entry, "worker_lost", f"{entry.losses} leases ended without a settlement")
            return
        entry.returned = True
        backoff = min(2.0 ** (entry.losses - 2), LONGEST_BACKOFF) if entry.losses > 1 else 0.0
        self.place(entry, self.clock.now() + backoff)

    def bury(self, entry: Entry, code: str, detail: str) -> None:
        """Make the message a dead letter."""
        entry.state, entry.token = State.DEAD, ""
        entry.code, entry.detail, entry.died = code, detail, self.clock.now()
        self.queue(entry.message.queue).dead[entry.message.id] = entry

    def drop(self, entry: Entry) -> None:
        """Forget the message."""
        del self.messages[entry.message.id]

    # -- Moving what time has moved

    def promote(self, queue: Queue, limit: int) -> int:
        """Make up to `limit` due messages ready, the earliest first."""
        moved = 0
        now = self.clock.now()
        while moved < limit and queue.scheduled and queue.scheduled[0][0] <= now:
            due, _, entry = heapq.heappop(queue.scheduled)
            if self._exists(entry, State.SCHEDULED) and entry.since == due:
                self.place(entry, due)
                moved += 1
        return moved

    def reclaim(self, queue: Queue, limit: int) -> int:
        """Take back up to `limit` messages whose lease has ended."""
        moved = 0
        now = self.clock.now()
        while moved < limit and queue.leased and queue.leased[0][0] <= now:
            end, _, entry, token = heapq.heappop(queue.leased)
            current = self._exists(entry, State.PROCESSING) and entry.token == token
            if current and entry.lease_until == end:
                self.lose(entry)
                moved += 1
        return moved

    def take(self, queue: Queue, limit: int) -> list[Entry]:
        """Remove and return up to `limit` ready messages, the most urgent first."""
        taken: list[Entry] = []
        for level in reversed(queue.ready):
            while level and len(taken) < limit:
                entry = level.popleft()
                if self._exists(entry, State.READY):
                    taken.append(entry)
        return taken

    def next_change(self, names: list[str]) -> Timestamp | None:
        """Return the earliest due time or lease end in these queues."""
        heaps = ((q.scheduled, q.leased) for q in (self.queue(name) for name in names))
        instants = [heap[0][0] for pair in heaps for heap in pair if heap]
        return min(instants, default=None)

    # -- Looking

    def queue(self, name: str) -> Queue:
        found = self.queues.get(name)
        if found is None:
            found = self.queues[name] = Queue()
        return found

    def result(self, id: str) -> ResultRecord | None:
        """Return the result if there is one and its time is not over."""
        found = self.results.get(id)
        return found[1] if found is not None and found[0] > self.clock.now() else None

    def keep_result(self, record: ResultRecord) -> None:
        """Store a result unless there is one of a higher run."""
        existing = self.result(record.id)
        if existing is None or existing.run <= record.run:
            self.results[record.id] = (self.clock.now() + record.ttl, record)

    def _exists(self, entry: Entry, state: State) -> bool:
        return entry.state is state and self.messages.get(entry.message.id) is entry
