"""The broker over `taskq.memory.server`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final, assert_never

import msgspec

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
from taskq.errors import Closed
from taskq.memory.server import Entry, MemoryServer

LONGEST_NAP: Seconds = 1.0
ONE_PROCESS: Final = (
    "memory:// keeps tasks in this process only: no other process can send or see any, and they "
    "end with it; name another broker for anything but tests"
)


class MemoryBroker(Broker):
    """A broker in the memory of this process. Nothing survives its end, or a fork."""

    def __init__(self, server: MemoryServer) -> None:
        self._server = server
        self._interrupted = False
        self._closed = False

    def __repr__(self) -> str:
        return "MemoryBroker()"

    # -- Producer

    def send(self, items: Sequence[Send], /, *, timeout: Seconds = 10.0) -> None:  # noqa: ARG002 - never waits
        with (server := self._open()).changed:
            for item in items:
                server.accept(item)
            server.changed.notify_all()

    # -- Consumer

    def reserve(
        self, queues: Sequence[str], /, *, limit: int, lease: Seconds, wait: Seconds = 0.0
    ) -> list[Delivery]:
        deadline = time.monotonic() + wait
        with (server := self._open()).changed:
            while not self._interrupted:
                deliveries = self._claim(server, queues, limit, lease)
                left = deadline - time.monotonic()
                if deliveries or left <= 0:
                    return deliveries
                change = server.next_change(list(queues))
                nap = LONGEST_NAP if change is None else change - server.clock.now()
                server.changed.wait(max(0.0, min(nap, left, LONGEST_NAP)))
                self._check_open()
            return []

    def _claim(
        self, server: MemoryServer, queues: Sequence[str], limit: int, lease: Seconds
    ) -> list[Delivery]:
        claimed: list[Delivery] = []
        for name in queues:
            queue = server.queue(name)
            server.reclaim(queue, limit)
            server.promote(queue, limit)
            taken = server.take(queue, limit - len(claimed))
            claimed.extend(server.lease(entry, lease) for entry in taken)
        return claimed

    def settle(self, settlements: Sequence[Settlement], /) -> list[Delivery]:
        lost: list[Delivery] = []
        with (server := self._open()).changed:
            for settlement in settlements:
                entry = server.held(settlement.delivery)
                if entry is None:
                    lost.append(settlement.delivery)
                else:
                    self._conclude(server, entry, settlement)
            server.changed.notify_all()
        return lost

    def _conclude(self, server: MemoryServer, entry: Entry, settlement: Settlement) -> None:
        match settlement:
            case Ack():
                server.drop(entry)
                if settlement.result is not None:
                    server.keep_result(settlement.result)
                for item in settlement.send:
                    server.accept(item)
            case Retry():
                self._retry(server, entry, settlement)
            case Release():
                now = server.clock.now()
                entry.releases += 1
                entry.returned = True
                entry.first_released = entry.first_released or now
                server.place(entry, now + settlement.delay)
            case Dead():
                server.bury(entry, settlement.code, settlement.detail)
                if settlement.result is not None:
                    server.keep_result(settlement.result)
            case _:
                assert_never(settlement)

    def _retry(self, server: MemoryServer, entry: Entry, retry: Retry) -> None:
        entry.retries += 1
        entry.run += 1
        entry.returned = False
        if retry.envelope is not None:
            entry.message = msgspec.structs.replace(entry.message, envelope=retry.envelope)
        if retry.result is not None:
            server.keep_result(retry.result)
        server.place(entry, server.clock.now() + retry.delay)

    def extend(self, deliveries: Sequence[Delivery], /, *, lease: Seconds) -> Extension:
        lost: list[Delivery] = []
        with (server := self._open()).changed:
            for delivery in deliveries:
                entry = server.held(delivery)
                if entry is None:
                    lost.append(delivery)
                else:
                    server.hold(entry, lease)
        return Extension(lost=lost, cancelled=[])

    def interrupt(self) -> None:
        with (server := self._open()).changed:
            self._interrupted = True
            server.changed.notify_all()

    # -- Maintenance

    def poll_schedule(self, *, limit: int = 1000) -> int:
        moved = 0
        with (server := self._open()).changed:
            for queue in server.queues.values():
                moved += server.promote(queue, limit - moved)
            server.changed.notify_all()
        return moved

    def recover_expired(self, *, limit: int = 1000) -> int:
        moved = 0
        with (server := self._open()).changed:
            for queue in server.queues.values():
                moved += server.reclaim(queue, limit - moved)
            server.changed.notify_all()
        return moved

    def expire_dead(self, *, older_than: Seconds, limit: int = 1000) -> int:
        with (server := self._open()).changed:
            horizon = server.clock.now() - older_than
            old = [e for q in server.queues.values() for e in q.dead.values() if e.died < horizon]
            for entry in old[:limit]:
                self._drop_dead(server, entry)
            return len(old[:limit])

    # -- Registry

    def send_heartbeat(self, beat: Heartbeat, /, *, ttl: Seconds) -> list[Command]:
        with (server := self._open()).changed:
            now = server.clock.now()
            server.workers[beat.incarnation] = (now + ttl, beat)
            over = [key for key, (end, _) in server.workers.items() if end <= now]
            for key in over:
                del server.workers[key]
        return []

    def list_alive_workers(self) -> list[Heartbeat]:
        with (server := self._open()).changed:
            now = server.clock.now()
            alive = [beat for end, beat in server.workers.values() if end > now]
        return sorted(alive, key=lambda beat: (beat.worker, beat.incarnation))

    # -- Inspector

    def stats(self) -> list[QueueStats]:
        counts: dict[str, dict[State, int]] = {}
        with (server := self._open()).changed:
            for entry in server.messages.values():
                states = counts.setdefault(entry.message.queue, dict.fromkeys(State, 0))
                states[entry.state] += 1
            return [
                QueueStats(
                    queue=name,
                    ready=states[State.READY],
                    scheduled=states[State.SCHEDULED],
                    processing=states[State.PROCESSING],
                    dead=states[State.DEAD],
                    oldest_ready=self._age_of_next(server, name),
                )
                for name, states in sorted(counts.items())
            ]

    def _age_of_next(self, server: MemoryServer, queue: str) -> Seconds | None:
        for level in reversed(server.queue(queue).ready):
            for entry in level:
                if entry.state is State.READY:
                    return server.clock.now() - entry.sent
        return None

    def locate(self, ids: Sequence[str], /) -> dict[str, State]:
        with (server := self._open()).changed:
            return {id: server.messages[id].state for id in ids if id in server.messages}

    def dead_letters(
        self, queue: str, /, *, limit: int = 100, after: DeadLetter | None = None
    ) -> list[DeadLetter]:
        with (server := self._open()).changed:
            letters = [_letter(entry) for entry in server.queue(queue).dead.values()]
        letters.sort(key=_by_age)
        if after is not None:
            letters = [letter for letter in letters if _by_age(letter) > _by_age(after)]
        return letters[:limit]

    def requeue_dead(self, queue: str, ids: Sequence[str], /) -> int:
        moved = 0
        with (server := self._open()).changed:
            for id in ids:
                entry = server.queue(queue).dead.pop(id, None)
                if entry is None:
                    continue
                entry.retries = entry.losses = entry.releases = 0
                entry.run += 1
                entry.returned = False
                entry.first_released = None
                server.results.pop(id, None)
                server.place(entry, server.clock.now())
                moved += 1
            server.changed.notify_all()
        return moved

    def purge_dead(self, queue: str, ids: Sequence[str] | None = None, /) -> int:
        with (server := self._open()).changed:
            dead = server.queue(queue).dead
            doomed = [
                dead[id] for id in (dead if ids is None else dict.fromkeys(ids)) if id in dead
            ]
            for entry in doomed:
                self._drop_dead(server, entry)
        return len(doomed)

    def purge(self, queue: str, /, *, states: frozenset[State] = WAITING) -> int:
        if not states <= WAITING:
            raise ValueError(f"purge drops waiting messages only, not {sorted(states - WAITING)}")
        with (server := self._open()).changed:
            doomed = [
                entry
                for entry in server.messages.values()
                if entry.message.queue == queue and entry.state in states
            ]
            for entry in doomed:
                server.drop(entry)
        return len(doomed)

    def _drop_dead(self, server: MemoryServer, entry: Entry) -> None:
        del server.queue(entry.message.queue).dead[entry.message.id]
        server.drop(entry)

    # -- Life cycle

    def check(self) -> list[str]:
        self._check_open()
        return [ONE_PROCESS]

    def close(self) -> None:
        self._closed = True
        with self._server.changed:
            self._server.changed.notify_all()

    def _check_open(self) -> None:
        if self._closed:
            raise Closed

    def _open(self) -> MemoryServer:
        self._check_open()
        return self._server


def _by_age(letter: DeadLetter) -> tuple[float, str]:
    return (letter.died, letter.message.id)


def _letter(entry: Entry) -> DeadLetter:
    return DeadLetter(
        message=entry.message,
        code=entry.code,
        detail=entry.detail,
        died=entry.died,
        retries=entry.retries,
        losses=entry.losses,
        releases=entry.releases,
        run=entry.run,
    )
