"""The server of the relaxed broker: it knows connections, copies, and what it gave back."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterable
from typing import Protocol

from msgspec.structs import replace

from taskq.clock import Clock, Seconds, Timestamp
from taskq.contract.delivery import State
from taskq.contract.message import Message, Send
from taskq.memory.server import LONGEST_BACKOFF, Entry, MemoryServer

LOTS = 1_000_000


class Client(Protocol):
    """Whoever has connections that a restart ends."""

    def end_connections(self) -> None: ...


class RelaxedServer(MemoryServer):
    """The in-memory store, in which an id may exist more than once.

    Whoever takes a message has it until he acks it, or until his connection is
    lost. Then it is given back, and marked as delivered once.
    """

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.clients: list[Client] = []
        self.given_back: set[str] = set()
        self.late: list[dict[str, Entry]] = []
        """What lost connections had, and was not given back yet."""
        self.tokens = map(str, itertools.count(1))
        self._numbers = itertools.count()

    # -- Messages

    def inner(self, message: Message) -> Message:
        """Return the message under a name that it has to itself."""
        return replace(message, id=f"{outer(message).id}~{next(self._numbers)}")

    def publish(self, item: Send) -> None:
        """Take in a message, whether or not there is one of this id."""
        self.accept(replace(item, message=self.inner(item.message)))

    def duplicate(self, entry: Entry) -> Entry:
        """Return a copy of a message which nobody can see yet."""
        twin = copy.copy(entry)
        twin.message, twin.token = self.inner(entry.message), ""
        return twin

    def put(self, entry: Entry, due: Timestamp) -> None:
        """Take in a copy, ready or scheduled."""
        self.messages[entry.message.id] = entry
        self.place(entry, due)

    def lost(self, entry: Entry, rest: Seconds) -> None:
        """Take in a copy of what was lost once more; it rests, and then for its backoff."""
        entry.losses += 1
        entry.run += 1
        entry.returned = True
        self.messages[entry.message.id] = entry
        if entry.losses >= entry.message.max_deliveries:
            self.bury(entry, "worker_lost", f"lost {entry.losses} times")
            return
        backoff = min(2.0 ** (entry.losses - 2), LONGEST_BACKOFF) if entry.losses > 1 else 0.0
        self.place(entry, self.clock.now() + rest + backoff)

    def promote_all(self) -> None:
        """Make ready what is due, as a server does by itself."""
        for queue in list(self.queues.values()):
            self.promote(queue, LOTS)

    # -- Connections

    def fetch(self, connection: dict[str, Entry], name: str, limit: int) -> None:
        """Hand out up to `limit` messages of a queue."""
        for entry in self.take(self.queue(name), limit):
            entry.state = State.PROCESSING
            connection[entry.message.id] = entry

    def ack(self, connection: dict[str, Entry], entries: Iterable[Entry]) -> None:
        """Forget what was handed out."""
        for entry in entries:
            del connection[entry.message.id]
            self.given_back.discard(entry.message.id)
            self.drop(entry)

    def give_back(self, connection: dict[str, Entry]) -> None:
        """Put what a lost connection had to where it was before."""
        for entry in reversed(connection.values()):
            entry.state = State.READY
            self.queue(entry.message.queue).ready[entry.message.priority].appendleft(entry)
            self.given_back.add(entry.message.id)
        connection.clear()
        self.changed.notify_all()

    def restarted(self) -> None:
        """End all connections."""
        with self.changed:
            for client in self.clients:
                client.end_connections()


def outer(message: Message) -> Message:
    """Return the message as its sender knows it."""
    return replace(message, id=message.id.partition("~")[0])
