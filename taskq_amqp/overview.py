"""What there is in a namespace, counted or thrown away."""

from __future__ import annotations

from collections.abc import Sequence

from pika import spec

from taskq.contract.delivery import QueueStats, State
from taskq_amqp.catalog import Catalog
from taskq_amqp.census import Census
from taskq_amqp.letters import Letters
from taskq_amqp.names import Names
from taskq_amqp.transport.lines import Lines
from taskq_amqp.transport.wire import passive


class Overview:
    """An operator's view of one namespace. Thread-safe."""

    def __init__(
        self, lines: Lines, names: Names, catalog: Catalog, census: Census, letters: Letters
    ) -> None:
        self._lines = lines
        self._names = names
        self._catalog = catalog
        self._census = census
        self._letters = letters

    def stats(self) -> list[QueueStats]:
        """Count; see `Broker.stats`. Nobody can look at the next message without taking it."""
        deadline = self._lines.deadline()
        self._catalog.refresh(deadline)
        held = self._census.ask(deadline)
        lines: list[QueueStats] = []
        for queue in self._catalog.queues:
            ready = self._count(self._ready(queue), deadline)
            later = self._count(self._later(queue), deadline)
            dead = self._letters.count(queue) if self._catalog.place(queue).dead else 0
            line = QueueStats(queue, ready, later, held.get(queue, 0), dead)
            if line.ready + line.scheduled + line.processing + line.dead:
                lines.append(line)
        return lines

    def purge(self, queue: str, states: frozenset[State]) -> int:
        """Throw away; see `Broker.purge`."""
        deadline = self._lines.deadline()
        self._catalog.refresh(deadline)
        # From the longest step on, so that what goes down meanwhile is met again.
        queues = self._later(queue) if State.SCHEDULED in states else []
        if State.READY in states:
            queues = [*queues, *self._ready(queue)]
        channel = self._lines.asking(deadline)
        found = [channel.call(spec.Queue.Purge(0, name), deadline=deadline)[0] for name in queues]
        return sum(one.message_count for one in found)

    def delayed(self) -> list[str]:
        """Return the server's queues in which messages wait for their time."""
        self._catalog.refresh(self._lines.deadline())
        return [name for queue in self._catalog.queues for name in self._later(queue)]

    def made(self) -> list[str]:
        """Return the server's queues that were made for what passed through the namespace."""
        found = self.delayed()
        for queue in self._catalog.queues:
            found += self._ready(queue)
            if self._catalog.place(queue).dead:
                found.append(self._names.dead(queue))
        return [*found, *(self._names.lease(owner) for owner in self._catalog.owners)]

    def _ready(self, queue: str) -> list[str]:
        return [self._names.ready(queue, level) for level in self._catalog.place(queue).levels]

    def _later(self, queue: str) -> list[str]:
        steps = self._catalog.place(queue).steps
        return [self._names.later(queue, step) for step in steps]

    def _count(self, queues: Sequence[str], deadline: float) -> int:
        return sum(self.counts(queues, deadline))

    def counts(self, queues: Sequence[str], deadline: float) -> list[int]:
        """Return how many messages there are in each of these queues of the server."""
        channel = self._lines.asking(deadline)
        question = b"".join(passive(channel.number, queue) for queue in queues)
        return [one.message_count for one in channel.ask(question, len(queues), deadline)]
