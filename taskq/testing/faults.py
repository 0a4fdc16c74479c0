"""Connections that break: in which ways, when, and what that looks like without a network.

`Fault` and `Trigger` are for everything that breaks on demand: the proxy
(`taskq.testing.proxy`), a driver, the two decorators here. `FaultyBroker` and
`FaultyResults` stand between a caller and a backend that lives in the same
process and so has no connection that could break.
"""

from __future__ import annotations

import enum
import threading
from collections.abc import Callable, Sequence
from typing import Final, Protocol, TypeAlias, TypeVar

from taskq.clock import Seconds
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
from taskq.contract.results import ResultRecord, Results
from taskq.contract.settlement import Settlement
from taskq.errors import ConnectionFailed, OutcomeUnknown, SendError

Answer = TypeVar("Answer")
Item = TypeVar("Item")


class Fault(enum.StrEnum):
    """Where in an exchange with the server the connection breaks.

    With `BEFORE` nothing happened. With `AFTER` the request was carried out and
    the reply is lost. With `MIDDLE` the reply breaks off, and of a batch a part
    may have been carried out: without a network, a write that ends half-way.
    """

    BEFORE = "before"
    """The request never arrives: nothing happened."""
    AFTER = "after"
    """The request is carried out, the whole reply is lost."""
    MIDDLE = "middle"
    """The request is carried out (a batch perhaps in part), the reply breaks off."""


Plan: TypeAlias = Callable[[str], Fault | None]
"""Asked at every call, with the method's name, whether it breaks.

It runs in the caller's thread, before the call; what else it does (such as to
let time pass) has happened when the call begins.
"""


class Breakable(Protocol):
    """A way to a server that can be broken on demand."""

    def break_next(self, fault: Fault, *, skip: int = 0) -> None:
        """Break the next exchange, or the `skip`-th after it."""
        ...

    def heal(self) -> None:
        """Disarm whatever was armed and has not happened."""
        ...


class Trigger:
    """Counts exchanges, and says which of them break. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen = 0
        self._armed: dict[int, Fault] = {}

    def break_next(self, fault: Fault, *, skip: int = 0) -> None:
        """Break the next exchange, or the `skip`-th after it.

        Several may be armed at once; of two for the same exchange the later counts.

        Raises:
            ValueError: `skip` is below 0.
        """
        if skip < 0:
            raise ValueError(f"skip={skip}: what has happened cannot be broken; 0 is the next")
        with self._lock:
            self._armed[self._seen + skip] = fault

    def heal(self) -> None:
        """Disarm whatever was armed and has not happened."""
        with self._lock:
            self._armed.clear()

    def pull(self) -> Fault | None:
        """Count one exchange; return how it breaks, None if it does not."""
        with self._lock:
            fault = self._armed.pop(self._seen, None)
            self._seen += 1
            return fault


_STORIES: Final = {
    Fault.BEFORE: "the connection broke before the request left",
    Fault.AFTER: "the connection broke before the answer",
    Fault.MIDDLE: "the connection broke in the midst of the answer",
}


class _Faulty:
    """A client whose imagined connection breaks on demand. Thread-safe."""

    def __init__(self, plan: Plan | None) -> None:
        self._plan = plan
        self._trigger = Trigger()
        self._closed = False

    def break_next(self, fault: Fault, *, skip: int = 0) -> None:
        """Break the next exchange, or the `skip`-th after it; see `Trigger.break_next`."""
        self._trigger.break_next(fault, skip=skip)

    def heal(self) -> None:
        """Disarm whatever was armed and has not happened. A plan goes on."""
        self._trigger.heal()

    def _next(self, name: str) -> Fault | None:
        """Return how this exchange breaks, None if it does not."""
        if self._closed:
            return None
        planned = None if self._plan is None else self._plan(name)
        return self._trigger.pull() or planned

    def _call(
        self, name: str, whole: Callable[[], Answer], part: Callable[[], object] | None = None
    ) -> Answer:
        """Return what `whole` returns, or break; in the middle `part` is done in its place."""
        fault = self._next(name)
        if fault is None:
            return whole()
        if fault is Fault.BEFORE:
            raise ConnectionFailed(f"{name}: {_STORIES[fault]}")
        if fault is Fault.MIDDLE and part is not None:
            part()
        else:
            whole()
        raise OutcomeUnknown(f"{name}: {_STORIES[fault]}")

    def _batch(
        self, name: str, call: Callable[[Sequence[Item]], Answer], items: Sequence[Item]
    ) -> Answer:
        """Do a call for many items; nothing is said to a server for none."""
        if not items:
            return call(items)
        return self._call(name, lambda: call(items), lambda: call(_half(items)))


class FaultyBroker(_Faulty, Broker):
    """A broker whose connection breaks on demand; else the one it wraps.

    An exchange is one call that has something to ask of a server: not
    `interrupt` or `close`, no empty batch, no claim after `interrupt`, nothing
    after `close`. BEFORE raises `ConnectionFailed` without calling; AFTER calls,
    then raises `OutcomeUnknown`; MIDDLE does the same with the first half of a
    batch, at least one, and with the whole of what is none. A `send` raises
    `SendError` with the ids sorted accordingly. Errors of the broker itself
    come through. What breaks is decided by `break_next`, else by `plan`.

    As thread-safe as the broker and the plan.
    """

    def __init__(self, broker: Broker, plan: Plan | None = None) -> None:
        self.broker: Final = broker
        # It is declared for classes, and a decorator has its broker's.
        self.capabilities = broker.capabilities  # type: ignore[misc]
        super().__init__(plan)
        self._interrupted = False

    def __repr__(self) -> str:
        return f"FaultyBroker({self.broker!r})"

    # -- Producer

    def send(self, items: Sequence[Send], /, *, timeout: Seconds = 10.0) -> None:
        fault = self._next("send") if items else None
        if fault is None:
            self.broker.send(items, timeout=timeout)
            return
        ids = [item.message.id for item in items]
        if fault is Fault.BEFORE:
            raise _send_error(fault, unsent=ids)
        if fault is Fault.AFTER:
            self.broker.send(items, timeout=timeout)
            raise _send_error(fault, unknown=ids)
        # As if sent one by one: the answer for the last that arrived breaks off.
        arrived = len(_half(items))
        self.broker.send(items[:arrived], timeout=timeout)
        raise _send_error(
            fault, sent=ids[: arrived - 1], unknown=[ids[arrived - 1]], unsent=ids[arrived:]
        )

    # -- Consumer

    def reserve(
        self, queues: Sequence[str], /, *, limit: int, lease: Seconds, wait: Seconds = 0.0
    ) -> list[Delivery]:
        def whole() -> list[Delivery]:
            return self.broker.reserve(queues, limit=limit, lease=lease, wait=wait)

        if self._interrupted or not queues:
            return whole()
        return self._call("reserve", whole)

    def settle(self, settlements: Sequence[Settlement], /) -> list[Delivery]:
        return self._batch("settle", self.broker.settle, settlements)

    def extend(self, deliveries: Sequence[Delivery], /, *, lease: Seconds) -> Extension:
        def extend(batch: Sequence[Delivery]) -> Extension:
            return self.broker.extend(batch, lease=lease)

        return self._batch("extend", extend, deliveries)

    def interrupt(self) -> None:
        self._interrupted = True
        self.broker.interrupt()

    # -- Maintenance

    def poll_schedule(self, *, limit: int = 1000) -> int:
        return self._call("poll_schedule", lambda: self.broker.poll_schedule(limit=limit))

    def recover_expired(self, *, limit: int = 1000) -> int:
        return self._call("recover_expired", lambda: self.broker.recover_expired(limit=limit))

    def expire_dead(self, *, older_than: Seconds, limit: int = 1000) -> int:
        return self._call(
            "expire_dead", lambda: self.broker.expire_dead(older_than=older_than, limit=limit)
        )

    # -- Registry

    def send_heartbeat(self, beat: Heartbeat, /, *, ttl: Seconds) -> list[Command]:
        return self._call("send_heartbeat", lambda: self.broker.send_heartbeat(beat, ttl=ttl))

    def list_alive_workers(self) -> list[Heartbeat]:
        return self._call("list_alive_workers", self.broker.list_alive_workers)

    # -- Inspector

    def stats(self) -> list[QueueStats]:
        return self._call("stats", self.broker.stats)

    def locate(self, ids: Sequence[str], /) -> dict[str, State]:
        return self._batch("locate", self.broker.locate, ids)

    def dead_letters(
        self, queue: str, /, *, limit: int = 100, after: DeadLetter | None = None
    ) -> list[DeadLetter]:
        return self._call(
            "dead_letters", lambda: self.broker.dead_letters(queue, limit=limit, after=after)
        )

    def requeue_dead(self, queue: str, ids: Sequence[str], /) -> int:
        return self._batch("requeue_dead", lambda part: self.broker.requeue_dead(queue, part), ids)

    def purge_dead(self, queue: str, ids: Sequence[str] | None = None, /) -> int:
        if ids is None:
            return self._call("purge_dead", lambda: self.broker.purge_dead(queue))
        return self._batch("purge_dead", lambda part: self.broker.purge_dead(queue, part), ids)

    def purge(self, queue: str, /, *, states: frozenset[State] = WAITING) -> int:
        return self._call("purge", lambda: self.broker.purge(queue, states=states))

    # -- Life cycle

    def check(self) -> list[str]:
        return self._call("check", self.broker.check)

    def close(self) -> None:
        self._closed = True
        self.broker.close()


class FaultyResults(_Faulty, Results):
    """A result store whose connection breaks on demand; see `FaultyBroker`."""

    def __init__(self, results: Results, plan: Plan | None = None) -> None:
        self.results: Final = results
        super().__init__(plan)

    def __repr__(self) -> str:
        return f"FaultyResults({self.results!r})"

    def store(self, records: Sequence[ResultRecord], /) -> None:
        self._batch("store", self.results.store, records)

    def fetch(self, ids: Sequence[str], /) -> dict[str, ResultRecord]:
        return self._batch("fetch", self.results.fetch, ids)

    def wait(self, ids: Sequence[str], /, *, timeout: Seconds) -> dict[str, ResultRecord]:
        return self._batch("wait", lambda part: self.results.wait(part, timeout=timeout), ids)

    def forget(self, ids: Sequence[str], /) -> None:
        self._batch("forget", self.results.forget, ids)

    def expire(self, limit: int = 1000, /) -> int:
        return self._call("expire", lambda: self.results.expire(limit))

    def close(self) -> None:
        self._closed = True
        self.results.close()


def _half(items: Sequence[Item]) -> Sequence[Item]:
    """Return the first half of a batch, at least one."""
    return items[: (len(items) + 1) // 2]


def _send_error(
    fault: Fault,
    *,
    sent: Sequence[str] = (),
    unknown: Sequence[str] = (),
    unsent: Sequence[str] = (),
) -> SendError:
    """Return the error of a send; an id that stands in the batch twice is named once."""
    return SendError(
        f"send: {_STORIES[fault]}",
        sent=list(dict.fromkeys(sent)),
        unknown=[id for id in dict.fromkeys(unknown) if id not in sent],
        unsent=[id for id in dict.fromkeys(unsent) if id not in sent and id not in unknown],
    )
