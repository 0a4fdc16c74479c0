"""What a broker hands out: deliveries, dead letters, counts and worker lists."""

from __future__ import annotations

import enum
from typing import Final

import msgspec

from taskq.clock import Seconds, Timestamp
from taskq.contract.message import Message


class State(enum.StrEnum):
    """Where a message is. One that is in none of these is gone."""

    SCHEDULED = "scheduled"
    """Waits for its time."""
    READY = "ready"
    PROCESSING = "processing"
    """Leased to a worker."""
    DEAD = "dead"


WAITING: Final = frozenset({State.SCHEDULED, State.READY})


class Delivery(msgspec.Struct, frozen=True):
    """One lease on one message."""

    message: Message
    token: str
    """Opaque. No two deliveries of a message have the same one."""
    claimed: Timestamp
    """When, by the broker's clock."""
    lease_until: Timestamp
    """By the broker's clock. Measure the lease on your own monotonic clock
    from *before* the call that granted it."""
    retries: int = 0
    """How often it was settled with `Retry`."""
    losses: int = 0
    """How many of its leases ended without a settlement."""
    releases: int = 0
    """How often it was settled with `Release`. Informative."""
    run: int = 0
    """Raised by every retry, loss and requeue; never reset."""
    expired: bool = False
    """Its time was over when it was claimed: conclude it without running it."""
    first_released: Timestamp | None = None
    """When it was first released since it was sent or requeued, by the broker's clock."""

    @property
    def id(self) -> str:
        return self.message.id


class Extension(msgspec.Struct, frozen=True):
    """What `extend` found out about leases."""

    lost: list[Delivery]
    """No longer the caller's."""
    cancelled: list[Delivery]
    """Extended, but somebody asked for them to stop. Empty until control exists."""


class DeadLetter(msgspec.Struct, frozen=True):
    """A message that was given up, kept for a person to look at."""

    message: Message
    code: str
    """Why, in one word: failed, retries_exhausted, worker_lost, undecodable, ..."""
    detail: str
    died: Timestamp
    """By the broker's clock."""
    retries: int = 0
    losses: int = 0
    releases: int = 0
    run: int = 0


class QueueStats(msgspec.Struct, frozen=True):
    """How many messages of one queue are in which state."""

    queue: str
    ready: int
    scheduled: int
    processing: int
    dead: int
    oldest_ready: Seconds | None = None
    """Age, since it was sent, of the message that a claim would take next;
    None if nothing is ready, or where `locate` is denied: nobody can look."""


class Heartbeat(msgspec.Struct, frozen=True):
    """What a worker says of itself."""

    worker: str
    """Its name: a label, not an identity."""
    incarnation: str
    """New at every start of a worker. Two with the same name are two workers."""
    host: str
    pid: int
    started: Timestamp
    queues: tuple[str, ...]
    pool: str
    concurrency: int
    running: int = 0
    """Tasks at work now."""
    done: int = 0
    """Deliveries settled since the start."""


class Command(msgspec.Struct, frozen=True):
    """What somebody wants of a worker. Reserved: no broker makes one yet."""

    name: str
    arguments: dict[str, str]
