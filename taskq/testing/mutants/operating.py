"""Brokers that maintain, show and keep wrongly."""

# ruff: noqa: D101 - the name of a mutant says what is wrong with it
from __future__ import annotations

from collections.abc import Sequence

import msgspec

from taskq.clock import Seconds
from taskq.contract.delivery import (
    WAITING,
    Command,
    DeadLetter,
    Heartbeat,
    QueueStats,
    State,
)
from taskq.contract.message import Message
from taskq.memory.broker import MemoryBroker
from taskq.memory.server import Entry


class NewestDeadFirst(MemoryBroker):
    def dead_letters(
        self, queue: str, /, *, limit: int = 100, after: DeadLetter | None = None
    ) -> list[DeadLetter]:
        return super().dead_letters(queue, limit=limit, after=after)[::-1]


class ListsAllTheDead(MemoryBroker):
    def dead_letters(
        self, queue: str, /, *, limit: int = 100, after: DeadLetter | None = None
    ) -> list[DeadLetter]:
        return super().dead_letters(queue, limit=max(limit, 1000), after=after)


class ListsTheSamePage(MemoryBroker):
    def dead_letters(
        self,
        queue: str,
        /,
        *,
        limit: int = 100,
        after: DeadLetter | None = None,  # noqa: ARG002 - what is wrong with it
    ) -> list[DeadLetter]:
        return super().dead_letters(queue, limit=limit)


class RequeueDoesNothing(MemoryBroker):
    def requeue_dead(self, queue: str, ids: Sequence[str], /) -> int:
        return len(set(ids) & set(self._open().queue(queue).dead))


class RequeueKeepsCounters(MemoryBroker):
    def requeue_dead(self, queue: str, ids: Sequence[str], /) -> int:
        old = {id: (e.retries, e.losses) for id, e in self._open().queue(queue).dead.items()}
        count = super().requeue_dead(queue, ids)
        for id in set(ids) & set(old):
            entry = self._server.messages[id]
            entry.retries, entry.losses = old[id]
        return count


class RequeueForgetsTheExpiry(MemoryBroker):
    def requeue_dead(self, queue: str, ids: Sequence[str], /) -> int:
        for id, entry in self._open().queue(queue).dead.items():
            if id in ids:
                entry.expires = None
        return super().requeue_dead(queue, ids)


class RequeueKeepsResults(MemoryBroker):
    def requeue_dead(self, queue: str, ids: Sequence[str], /) -> int:
        kept = dict(self._open().results)
        count = super().requeue_dead(queue, ids)
        self._server.results.update(kept)
        return count


class PurgeTakesTheLeased(MemoryBroker):
    def purge(self, queue: str, /, *, states: frozenset[State] = WAITING) -> int:
        count = super().purge(queue, states=states)
        entries = list(self._server.messages.values())
        for entry in entries:
            if entry.message.queue == queue and entry.state is State.PROCESSING:
                self._server.drop(entry)
        return count


class PurgeIgnoresStates(MemoryBroker):
    def purge(self, queue: str, /, *, states: frozenset[State] = WAITING) -> int:
        return super().purge(queue, states=states | WAITING)


class PurgedComeBack(MemoryBroker):
    def purge(self, queue: str, /, *, states: frozenset[State] = WAITING) -> int:
        kept = dict(self._open().messages)
        count = super().purge(queue, states=states)
        self._server.messages.update(kept)
        return count


class StatsForgetTheLeased(MemoryBroker):
    def stats(self) -> list[QueueStats]:
        return [msgspec.structs.replace(line, processing=0) for line in super().stats()]


class LocateInvents(MemoryBroker):
    def locate(self, ids: Sequence[str], /) -> dict[str, State]:
        return dict.fromkeys(ids, State.READY) | super().locate(ids)


class WorkersLiveForEver(MemoryBroker):
    def send_heartbeat(self, beat: Heartbeat, /, *, ttl: Seconds) -> list[Command]:
        return super().send_heartbeat(beat, ttl=ttl * 1000)


class WorksAfterClose(MemoryBroker):
    def close(self) -> None:
        self.interrupt()


class PollsOneQueue(MemoryBroker):
    def poll_schedule(self, *, limit: int = 1000) -> int:
        with self._open().changed:
            queues = list(self._server.queues.values())[:1]
            return sum(self._server.promote(queue, limit) for queue in queues)


class RecoversNothing(MemoryBroker):
    def recover_expired(self, *, limit: int = 1000) -> int:
        return super().recover_expired(limit=min(limit, 0))


class LeavesACounter(MemoryBroker):
    def send_heartbeat(self, beat: Heartbeat, /, *, ttl: Seconds) -> list[Command]:
        commands = super().send_heartbeat(beat, ttl=ttl)
        self._server.messages["counter"] = self._server.messages.pop("counter", _nobody())
        return commands


class DropsAllTheDead(MemoryBroker):
    def expire_dead(self, *, older_than: Seconds, limit: int = 1000) -> int:
        return super().expire_dead(older_than=min(older_than, -1), limit=limit)


class DropsMoreThanItsLimit(MemoryBroker):
    def expire_dead(self, *, older_than: Seconds, limit: int = 1000) -> int:
        return super().expire_dead(older_than=older_than, limit=max(limit, 1000))


class DropsMoreThanItTells(MemoryBroker):
    def expire_dead(self, *, older_than: Seconds, limit: int = 1000) -> int:
        return min(limit, super().expire_dead(older_than=older_than, limit=max(limit, 1000)))


def _nobody() -> Entry:
    return Entry(Message("counter", "counter", b""), 0.0, None)
