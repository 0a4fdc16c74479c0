"""The broker: each method of the contract is one step on the namespace."""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Sequence
from typing import assert_never

from msgspec.structs import replace

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
from taskq.contract.settlement import Ack, Dead, Release, Retry, Settlement
from taskq.errors import Closed, ConnectionFailed, OutcomeUnknown, SendError, ServerRefused
from taskq_files.namespace import Namespace
from taskq_files.records import Entry
from taskq_files.store import Store

LONGEST_IDLE: Seconds = 1.0


class _Interrupted(Exception):
    """The owner wants no more messages."""


class FilesBroker(Broker):
    """A broker over files of one machine. Every method may be called from any thread."""

    def __init__(self, store: Store) -> None:
        self._store = store
        # Plain flags, not events: a child may be forked while an event's lock is held.
        self._interrupted = False
        self._closed = False

    def __repr__(self) -> str:
        return f"FilesBroker({str(self._store.folder)!r})"

    # -- Producer

    def send(self, items: Sequence[Send], /, *, timeout: Seconds = 10.0) -> None:
        ids = [item.message.id for item in items]
        try:
            with self._store.step(self._check_open, timeout=timeout) as namespace:
                for item in items:
                    namespace.accept(item)
        except (ConnectionFailed, ServerRefused) as error:
            refused = isinstance(error, ServerRefused)
            raise SendError(str(error), unsent=ids, refused=refused) from error
        except OutcomeUnknown as error:
            raise SendError(str(error), unknown=ids) from error

    # -- Consumer

    def reserve(
        self, queues: Sequence[str], /, *, limit: int, lease: Seconds, wait: Seconds = 0.0
    ) -> list[Delivery]:
        deadline = time.monotonic() + wait
        try:
            while True:
                # Taken first, so that what changes after the claim ends the nap.
                stamp = self._store.stamp()
                with self._store.step(self._check_claiming) as namespace:
                    claimed = self._claim(namespace, queues, limit, lease)
                    change = namespace.next_change(queues)
                    idle = LONGEST_IDLE if change is None else change - namespace.now
                left = deadline - time.monotonic()
                if claimed or left <= 0:
                    return claimed
                self._store.wait(stamp, min(idle, left, LONGEST_IDLE), self._check_claiming)
        except _Interrupted:
            return []

    def _claim(
        self, namespace: Namespace, queues: Sequence[str], limit: int, lease: Seconds
    ) -> list[Delivery]:
        # All messages of a claim share a token: none of them is claimed twice by it.
        token = secrets.token_hex(8)
        claimed: list[Delivery] = []
        for queue in queues:
            namespace.reclaim(queue, limit)
            namespace.promote(queue, limit)
            claimed.extend(namespace.claim(queue, limit - len(claimed), lease, token))
        return claimed

    def settle(self, settlements: Sequence[Settlement], /) -> list[Delivery]:
        lost: list[Delivery] = []
        with self._store.step(self._check_open) as namespace:
            for settlement in settlements:
                entry = namespace.held(settlement.delivery)
                if entry is None:
                    lost.append(settlement.delivery)
                else:
                    self._conclude(namespace, entry, settlement)
        return lost

    def _conclude(self, namespace: Namespace, entry: Entry, settlement: Settlement) -> None:
        match settlement:
            case Ack(result=result, send=successors):
                namespace.messages.put(entry.message.id, None)
                namespace.keep(result)
                for item in successors:
                    namespace.accept(item)
            case Retry(delay=delay, envelope=envelope, result=result):
                message = entry.message
                if envelope is not None:
                    message = replace(message, envelope=envelope)
                retries, run = entry.retries + 1, entry.run + 1
                entry = replace(entry, message=message, retries=retries, run=run, returned=False)
                namespace.place(entry, namespace.now + delay)
                namespace.keep(result)
            case Release(delay=delay):
                first = entry.first_released or namespace.now
                releases = entry.releases + 1
                entry = replace(entry, releases=releases, returned=True, first_released=first)
                namespace.place(entry, namespace.now + delay)
            case Dead(code=code, detail=detail, result=result):
                namespace.bury(entry, code, detail)
                namespace.keep(result)
            case _:
                assert_never(settlement)

    def extend(self, deliveries: Sequence[Delivery], /, *, lease: Seconds) -> Extension:
        lost: list[Delivery] = []
        with self._store.step(self._check_open) as namespace:
            for delivery in deliveries:
                entry = namespace.held(delivery)
                if entry is None:
                    lost.append(delivery)
                else:
                    namespace.put(replace(entry, since=namespace.now + lease))
        return Extension(lost=lost, cancelled=[])

    def interrupt(self) -> None:
        self._check_open()
        self._interrupted = True

    # -- Maintenance

    def poll_schedule(self, *, limit: int = 1000) -> int:
        moved = 0
        with self._store.step(self._check_open) as namespace:
            for queue in namespace.queues():
                moved += namespace.promote(queue, limit - moved)
        return moved

    def recover_expired(self, *, limit: int = 1000) -> int:
        moved = 0
        with self._store.step(self._check_open) as namespace:
            for queue in namespace.queues():
                moved += namespace.reclaim(queue, limit - moved)
        return moved

    def expire_dead(self, *, older_than: Seconds, limit: int = 1000) -> int:
        with self._store.step(self._check_open) as namespace:
            horizon = namespace.now - older_than
            dead = [entry for queue in namespace.queues() for entry in namespace.dead(queue)]
            return _drop(namespace, [entry for entry in dead if entry.since < horizon][:limit])

    # -- Registry

    def send_heartbeat(self, beat: Heartbeat, /, *, ttl: Seconds) -> list[Command]:
        with self._store.step(self._check_open) as namespace:
            workers = namespace.workers
            workers.put(beat.incarnation, (namespace.now + ttl, beat))
            for key in [key for key, (end, _) in workers.items() if end <= namespace.now]:
                workers.put(key, None)
        return []

    def list_alive_workers(self) -> list[Heartbeat]:
        with self._store.step(self._check_open) as namespace:
            alive = [beat for end, beat in namespace.workers.values() if end > namespace.now]
        return sorted(alive, key=lambda beat: (beat.worker, beat.incarnation))

    # -- Inspector

    def stats(self) -> list[QueueStats]:
        with self._store.step(self._check_open) as namespace:
            messages = namespace.messages
            counts = Counter((entry.message.queue, entry.state) for entry in messages.values())
            found: list[QueueStats] = []
            for queue in namespace.queues():
                first = messages.first(queue, State.READY)
                age = None if first is None else namespace.now - first.sent
                numbers = {state.value: counts[queue, state] for state in State}
                found.append(QueueStats(queue, **numbers, oldest_ready=age))
        return found

    def locate(self, ids: Sequence[str], /) -> dict[str, State]:
        with self._store.step(self._check_open) as namespace:
            messages = namespace.messages
            return {id: messages[id].state for id in ids if id in messages}

    def dead_letters(
        self, queue: str, /, *, limit: int = 100, after: DeadLetter | None = None
    ) -> list[DeadLetter]:
        with self._store.step(self._check_open) as namespace:
            dead = namespace.dead(queue)
        if after is not None:
            seen = (after.died, after.message.id)
            dead = [entry for entry in dead if (entry.since, entry.message.id) > seen]
        return [_letter(entry) for entry in dead[:limit]]

    def requeue_dead(self, queue: str, ids: Sequence[str], /) -> int:
        with self._store.step(self._check_open) as namespace:
            dead = _named(namespace.dead(queue), ids)
            for entry in dead:
                again = Entry(entry.message, entry.sent, entry.expires, run=entry.run + 1)
                namespace.place(again, namespace.now)
                namespace.results.put(entry.message.id, None)
        return len(dead)

    def purge_dead(self, queue: str, ids: Sequence[str] | None = None, /) -> int:
        with self._store.step(self._check_open) as namespace:
            dead = namespace.dead(queue)
            return _drop(namespace, dead if ids is None else _named(dead, ids))

    def purge(self, queue: str, /, *, states: frozenset[State] = WAITING) -> int:
        if not states <= WAITING:
            raise ValueError(f"purge drops waiting messages only, not {sorted(states - WAITING)}")
        with self._store.step(self._check_open) as namespace:
            here = (entry for entry in namespace.messages.values() if entry.message.queue == queue)
            return _drop(namespace, [entry for entry in here if entry.state in states])

    # -- Life cycle

    def check(self) -> list[str]:
        with self._store.step(self._check_open):
            return self._store.warnings()

    def close(self) -> None:
        self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise Closed

    def _check_claiming(self) -> None:
        self._check_open()
        if self._interrupted:
            raise _Interrupted


def _named(entries: Sequence[Entry], ids: Sequence[str]) -> list[Entry]:
    wanted = frozenset(ids)
    return [entry for entry in entries if entry.message.id in wanted]


def _drop(namespace: Namespace, entries: Sequence[Entry]) -> int:
    for entry in entries:
        namespace.messages.put(entry.message.id, None)
    return len(entries)


def _letter(entry: Entry) -> DeadLetter:
    return DeadLetter(
        message=entry.message,
        code=entry.code,
        detail=entry.detail,
        died=entry.since,
        retries=entry.retries,
        losses=entry.losses,
        releases=entry.releases,
        run=entry.run,
    )
