"""A broker that does nothing yet: copy this, and replace one method after the other.

`check` and `close` are as the kit needs them before it can say anything.
"""

from __future__ import annotations

from collections.abc import Sequence

from taskq.clock import Clock, Seconds
from taskq.contract.broker import Broker
from taskq.contract.delivery import (
    WAITING,
    Command,
    DeadLetter,
    Delivery,
    Extension,
    Heartbeat,
    QueueStats,
    State,
)
from taskq.contract.message import Send
from taskq.contract.settlement import Settlement
from taskq.url import Url


class MyBroker(Broker):
    """A broker over … (say what)."""

    def __init__(self, url: Url, clock: Clock) -> None:
        self._url = url
        self._clock = clock

    def send(self, items: Sequence[Send], /, *, timeout: Seconds = 10.0) -> None:
        raise NotImplementedError

    def reserve(
        self, queues: Sequence[str], /, *, limit: int, lease: Seconds, wait: Seconds = 0.0
    ) -> list[Delivery]:
        raise NotImplementedError

    def settle(self, settlements: Sequence[Settlement], /) -> list[Delivery]:
        raise NotImplementedError

    def extend(self, deliveries: Sequence[Delivery], /, *, lease: Seconds) -> Extension:
        raise NotImplementedError

    def interrupt(self) -> None:
        raise NotImplementedError

    def poll_schedule(self, *, limit: int = 1000) -> int:
        raise NotImplementedError

    def recover_expired(self, *, limit: int = 1000) -> int:
        raise NotImplementedError

    def expire_dead(self, *, older_than: Seconds, limit: int = 1000) -> int:
        raise NotImplementedError

    def send_heartbeat(self, beat: Heartbeat, /, *, ttl: Seconds) -> list[Command]:
        raise NotImplementedError

    def list_alive_workers(self) -> list[Heartbeat]:
        raise NotImplementedError

    def stats(self) -> list[QueueStats]:
        raise NotImplementedError

    def locate(self, ids: Sequence[str], /) -> dict[str, State]:
        raise NotImplementedError

    def dead_letters(
        self, queue: str, /, *, limit: int = 100, after: DeadLetter | None = None
    ) -> list[DeadLetter]:
        raise NotImplementedError

    def requeue_dead(self, queue: str, ids: Sequence[str], /) -> int:
        raise NotImplementedError

    def purge_dead(self, queue: str, ids: Sequence[str] | None = None, /) -> int:
        raise NotImplementedError

    def purge(self, queue: str, /, *, states: frozenset[State] = WAITING) -> int:
        raise NotImplementedError

    def check(self) -> list[str]:
        return []

    def close(self) -> None:
        pass
