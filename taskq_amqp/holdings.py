"""What a client holds: deliveries that are neither settled nor lost."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec

from taskq.clock import Seconds, Timestamp
from taskq.contract.delivery import Delivery
from taskq_amqp.records import Record
from taskq_amqp.transport.channel import Channel


class Held(msgspec.Struct, gc=False, eq=False):
    """One delivery and where it was delivered."""

    token: str
    queue: str
    record: Record
    channel: Channel
    tag: int
    until: Timestamp
    """When its lease ends, by the client's clock."""
    since: float = msgspec.field(default_factory=time.monotonic)
    """When it was delivered, on the monotonic clock."""
    settling: bool = False
    """Somebody is about to conclude it."""

    @property
    def alive(self) -> bool:
        """Whether the server still holds it for us."""
        return self.channel.error is None


class Holdings:
    """All that one client holds. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[str, Held] = {}

    def add(self, found: Iterable[Held]) -> None:
        with self._lock:
            self._held.update((held.token, held) for held in found)

    def grip(self, deliveries: Sequence[Delivery]) -> tuple[list[Held], list[int]]:
        """Take what is still held, for one caller alone; tell which are lost, by index."""
        taken: list[Held] = []
        lost: list[int] = []
        with self._lock:
            for index, delivery in enumerate(deliveries):
                held = self._held.get(delivery.token)
                if held is not None and not held.alive:
                    del self._held[delivery.token]
                    held = None
                if held is None or held.settling or held.record.id != delivery.id:
                    lost.append(index)
                else:
                    held.settling = True
                    taken.append(held)
        return taken, lost

    def lapsed(self, now: Timestamp, queues: Iterable[str] | None, limit: int) -> list[Held]:
        """Take those whose lease has ended, for one caller alone."""
        wanted = None if queues is None else set(queues)
        found: list[Held] = []
        with self._lock:
            for held in self._held.values():
                if len(found) >= limit:
                    break
                over = held.until <= now and not held.settling and held.alive
                if over and (wanted is None or held.queue in wanted):
                    held.settling = True
                    found.append(held)
        return found

    def next_end(self, queues: Iterable[str]) -> Timestamp | None:
        """Return when the first of the leases in these queues ends."""
        wanted = set(queues)
        with self._lock:
            ends = [h.until for h in self._held.values() if h.queue in wanted and h.alive]
        return min(ends, default=None)

    def extend(self, taken: Iterable[Held], now: Timestamp, lease: Seconds) -> None:
        with self._lock:
            for held in taken:
                held.until = now + lease
                held.settling = False

    def keep(self, taken: Iterable[Held]) -> None:
        """Let go of the grip: they are still held."""
        with self._lock:
            for held in taken:
                held.settling = False

    def drop(self, taken: Iterable[Held]) -> None:
        """Take in that they are settled, or lost."""
        with self._lock:
            for held in taken:
                self._held.pop(held.token, None)

    def count(self) -> dict[str, int]:
        """Return how many are held of each queue."""
        with self._lock:
            return dict(Counter(held.queue for held in self._held.values() if held.alive))

    def clear(self) -> None:
        with self._lock:
            self._held.clear()
