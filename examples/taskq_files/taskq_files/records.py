"""What is kept, and how it is written down: rows by id, and what became of them.

A `Change` is all that one step did. The sum of all changes is the namespace, and a
namespace is itself a change from nothing; so there is one format for both.
"""

from __future__ import annotations

import heapq
import itertools
from collections import defaultdict
from collections.abc import Mapping
from typing import Final, TypeAlias, TypeVar

import msgspec

from taskq.clock import Timestamp
from taskq.contract.delivery import Heartbeat, State
from taskq.contract.message import Message
from taskq.contract.results import ResultRecord

Row = TypeVar("Row")


class Entry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A message and the broker's record of it. A change makes a new one."""

    message: Message
    sent: Timestamp
    expires: Timestamp | None
    state: State = State.READY
    since: Timestamp = 0.0
    """When it is due, its lease ends, or it died: whichever its state is about."""
    returned: bool = False
    """Lost or released: belongs before all others of its priority."""
    order: int = 0
    """Its place among the others."""
    token: str = ""
    """Of its latest lease."""
    code: str = ""
    detail: str = ""
    retries: int = 0
    losses: int = 0
    releases: int = 0
    run: int = 0
    first_released: Timestamp | None = None

    @property
    def rank(self) -> tuple[float, ...]:
        """What sorts it among those of its queue and state; the lowest comes first."""
        if self.state is State.READY:
            return (-self.message.priority, not self.returned, self.order)
        return (self.since, self.order)


Kept: TypeAlias = tuple[Timestamp, ResultRecord]
"""A result, and until when it can be read."""
Alive: TypeAlias = tuple[Timestamp, Heartbeat]
"""A worker, and until when it is listed."""


class Change(msgspec.Struct, array_like=True):
    """What one step did: rows that are new or other than before; None for dropped ones."""

    messages: Mapping[str, Entry | None]
    results: Mapping[str, Kept | None]
    workers: Mapping[str, Alive | None]

    def __bool__(self) -> bool:
        return bool(self.messages or self.results or self.workers)


encode: Final = msgspec.msgpack.Encoder().encode
decode: Final = msgspec.msgpack.Decoder(Change).decode


class Table(dict[str, Row]):
    """Rows by id. Changed by `put` alone, which keeps the changes until they are written."""

    def __init__(self) -> None:
        self.changes: dict[str, Row | None] = {}

    def put(self, id: str, row: Row | None) -> None:
        """Add or replace a row; None drops it."""
        self.changes[id] = row
        self.take_in({id: row})

    def take_in(self, changes: Mapping[str, Row | None]) -> None:
        """Make changes that are written already."""
        for id, row in changes.items():
            if row is None:
                self.pop(id, None)
            else:
                self[id] = row


class Messages(Table[Entry]):
    """The messages, and a line of them for each queue and state.

    Who leaves a line stays in its heap until he reaches the front.
    """

    def __init__(self) -> None:
        super().__init__()
        self.last = 0
        """The highest place there is."""
        self._lines: defaultdict[tuple[str, State], list[tuple[tuple[float, ...], int, Entry]]]
        self._lines = defaultdict(list)
        self._count = itertools.count()

    def take_in(self, changes: Mapping[str, Entry | None]) -> None:
        super().take_in(changes)
        for entry in filter(None, changes.values()):
            self.last = max(self.last, entry.order)
            line = self._lines[entry.message.queue, entry.state]
            heapq.heappush(line, (entry.rank, next(self._count), entry))

    def first(self, queue: str, state: State) -> Entry | None:
        """Return the message at the front of a line."""
        line = self._lines[queue, state]
        while line and self.get(line[0][-1].message.id) is not line[0][-1]:
            heapq.heappop(line)
        return line[0][-1] if line else None
