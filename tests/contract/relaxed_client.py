"""The two connections of a relaxed client: one publishes, the other consumes and asks.

What is handed out over the second is given back by the server when that one is
lost. Either breaks on demand, at the next exchange whichever of them makes it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar

from taskq.clock import Timestamp
from taskq.errors import ConnectionFailed, OutcomeUnknown
from taskq.memory.server import Entry
from taskq.testing.faults import Fault, Trigger
from tests.contract.relaxed_server import RelaxedServer

Answer = TypeVar("Answer")
Item = TypeVar("Item")


class Broken(Exception):
    """A connection broke in an exchange."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault)
        self.fault: Final = fault


@dataclass(slots=True, eq=False)
class Held:
    """A lease: only this client knows when it ends."""

    entry: Entry
    until: Timestamp


class Connections:
    """What a client holds, and how it talks to the server. Used under the server's lock."""

    def __init__(self, server: RelaxedServer) -> None:
        self._server = server
        self._trigger = Trigger()
        self._held: dict[str, Held] = {}
        self._consuming: dict[str, Entry] = {}
        """What the server has handed out to the connection that consumes."""
        self._stale = False
        """The server has ended the connections, and the client has not noticed."""
        self._happened = False
        server.clients.append(self)

    def break_next(self, fault: Fault, *, skip: int = 0) -> None:
        self._trigger.break_next(fault, skip=skip)

    def heal(self) -> None:
        self._trigger.heal()

    def cut(self) -> None:
        """Lose the connection that consumes."""
        with self._server.changed:
            self._server.give_back(self._consuming)
            self._held.clear()

    def end_connections(self) -> None:
        """Lose both, without a word: the next exchange finds out."""
        self.cut()
        self._stale = True

    @contextlib.contextmanager
    def _call(self, name: str) -> Iterator[None]:
        """Make a call of several exchanges; an error says whether anything has happened."""
        with self._server.changed:
            self._server.promote_all()
            self._happened = False
            try:
                yield
            except Broken as broken:
                if broken.fault is Fault.BEFORE and not self._happened:
                    raise ConnectionFailed(f"{name}: a connection broke") from broken
                raise OutcomeUnknown(f"{name}: a connection broke in the midst") from broken
            finally:
                self._server.changed.notify_all()

    def _ask(self, whole: Callable[[], Answer], part: Callable[[], object] | None = None) -> Answer:
        """Make an exchange on the connection that consumes."""
        try:
            return self._exchange(whole, part)
        except Broken:
            self.cut()
            raise

    def _exchange(
        self, whole: Callable[[], Answer], part: Callable[[], object] | None = None
    ) -> Answer:
        """Make an exchange; if it breaks in the middle, `part` is carried out in its place."""
        fault = self._trigger.pull()
        if self._stale:
            self._stale, fault = False, Fault.BEFORE
        if fault is Fault.BEFORE:
            raise Broken(fault)
        if fault is Fault.MIDDLE and part is not None:
            part()
        else:
            answer = whole()
        self._happened = True
        if fault is not None:
            raise Broken(fault)
        return answer

    def _publish(self, copies: Sequence[Callable[[], None]]) -> None:
        """Bring in copies, successors and results, and have them confirmed."""
        if copies:
            self._exchange(partial(do, copies), partial(do, half(copies)))

    def _ack(self, entries: Sequence[Entry]) -> None:
        """End originals."""

        def ack(some: Sequence[Entry]) -> None:
            self._server.ack(self._consuming, some)

        if entries:
            self._ask(partial(ack, entries), partial(ack, half(entries)))
            gone = [token for token, held in self._held.items() if held.entry in entries]
            for token in gone:
                del self._held[token]

    def _move(self, entries: Sequence[Entry], copies: Sequence[Callable[[], None]]) -> None:
        """Bring in copies of messages, then end the originals."""
        self._publish(copies)
        self._ack(entries)


def do(effects: Sequence[Callable[[], None]]) -> None:
    for effect in effects:
        effect()


def half(items: Sequence[Item]) -> Sequence[Item]:
    """Return the first half of a batch, at least one."""
    return items[: (len(items) + 1) // 2]
