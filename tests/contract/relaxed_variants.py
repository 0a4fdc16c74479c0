"""Right brokers that do otherwise, where nobody can know what another would do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from msgspec.structs import replace

from taskq.clock import Seconds
from taskq.contract.delivery import WAITING, Delivery, QueueStats, State
from taskq.memory.server import Entry
from tests.contract.relaxed import RelaxedBroker
from tests.contract.relaxed_client import Answer, Broken


class LosesBothConnections(RelaxedBroker):
    """A fault of one takes the other along."""

    def _exchange(
        self, whole: Callable[[], Answer], part: Callable[[], object] | None = None
    ) -> Answer:
        try:
            return super()._exchange(whole, part)
        except Broken:
            self.cut()
            raise


class ConnectsAgainByItself(RelaxedBroker):
    """A question that got no answer is asked once more; the leases are lost all the same."""

    def stats(self) -> list[QueueStats]:
        try:
            return super().stats()
        except Exception:
            return super().stats()

    def reserve(
        self, queues: Sequence[str], /, *, limit: int, lease: Seconds, wait: Seconds = 0.0
    ) -> list[Delivery]:
        try:
            return super().reserve(queues, limit=limit, lease=lease, wait=wait)
        except Exception:
            if self._happened:
                raise
            return super().reserve(queues, limit=limit, lease=lease, wait=wait)


class GivesBackLate(RelaxedBroker):
    """The server notices a lost connection when it hands out something for the second time."""

    def cut(self) -> None:
        self._server.late.append(dict(self._consuming))
        self._consuming.clear()
        self._held.clear()

    def _claim(self, queue: str, limit: int, lease: Seconds) -> list[Delivery]:
        got = super()._claim(queue, limit, lease)
        for lost in self._server.late:
            self._server.give_back(lost)
        self._server.late.clear()
        return got


class TakesBackWhereItCan(RelaxedBroker):
    """A claim takes back what its client has lost in any queue, an interrupted one too."""

    def reserve(
        self, queues: Sequence[str], /, *, limit: int, lease: Seconds, wait: Seconds = 0.0
    ) -> list[Delivery]:
        if not self._store._closed:
            with self._call("reserve"):
                self._take_back(self._lapsed(list(self._server.queues)))
        return super().reserve(queues, limit=limit, lease=lease, wait=wait)


class LooksFurther(RelaxedBroker):
    """A claim that is full lets rest what it finds in the same queue besides."""

    def _claim(self, queue: str, limit: int, lease: Seconds) -> list[Delivery]:
        got = super()._claim(queue, limit, lease)
        levels, messages = self._server.queue(queue).ready, self._server.messages
        # What was purged stays in its level until it is come across.
        there = [e for level in levels for e in level if messages.get(e.message.id) is e]
        more = [e for e in there if e.state is State.READY]
        for entry in self._lost_by_others(more):
            levels[entry.message.priority].remove(entry)
            entry.state = State.PROCESSING
            self._consuming[entry.message.id] = entry
            self._let_rest([entry], lease)
        return got


class KeepsTheCutApart(RelaxedBroker):
    """What was given back counts as at work, and no purge takes it."""

    def stats(self) -> list[QueueStats]:
        cut: dict[str, int] = {}
        for id in self._server.given_back & set(self._server.messages):
            entry = self._server.messages[id]
            if entry.state is State.READY:
                cut[entry.message.queue] = cut.get(entry.message.queue, 0) + 1
        return [
            replace(
                line,
                ready=line.ready - cut.get(line.queue, 0),
                processing=line.processing + cut.get(line.queue, 0),
            )
            for line in super().stats()
        ]

    def purge(self, queue: str, /, *, states: frozenset[State] = WAITING) -> int:
        spared: list[Entry] = []
        for id in self._server.given_back & set(self._server.messages):
            entry = self._server.messages[id]
            if entry.state is State.READY:
                entry.state = State.PROCESSING
                spared.append(entry)
        try:
            return super().purge(queue, states=states)
        finally:
            for entry in spared:
                entry.state = State.READY


VARIANTS: Final = (
    LosesBothConnections,
    ConnectsAgainByItself,
    GivesBackLate,
    TakesBackWhereItCan,
    LooksFurther,
    KeepsTheCutApart,
)
