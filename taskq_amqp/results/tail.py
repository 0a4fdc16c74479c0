"""What a client knows of one stream: an unbroken stretch of it, up to where it has read.

    offset  0 ····· low ───────── start ══════════════ next ─────▶
                    looked through       every entry is    not read
                    for some ids         in the index      yet

The index is bounded by its size: what was read longest ago goes first, and the
stretch begins later. How far back it is worth to look for an id depends on
whether the id tells when it was made. If so, what was found before the stretch
is remembered (`Past`), so that asking again costs nothing; if not, the index is
all that there is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Sequence
from typing import Final

from taskq.clock import MICROSECONDS, Seconds, Timestamp
from taskq_amqp.results.streams import Chain, Entry, born, joined, verdict

BUDGET: Final = 8 << 20
"""Bytes of all that is known of one stream, about."""
WEIGHT: Final = 500
"""Bytes that an entry takes besides its payload, about."""
MOST_ASKED: Final = 2000
MARGIN: Final[Seconds] = 30.0
"""So much may the clocks of two machines differ."""
ALWAYS: Final[Timestamp] = float("-inf")
NEVER: Final[Timestamp] = float("inf")


@dataclasses.dataclass(slots=True)
class Past:
    """What stands about an id before the stretch that is known."""

    chain: Chain = ()
    since: Timestamp = ALWAYS
    """From when on it was looked for."""
    done: bool = False


class Index:
    """Chains by id, in the order of what was appended last about each."""

    def __init__(self) -> None:
        self.held: dict[str, tuple[int, Chain]] = {}
        self.size = 0

    def add(self, offset: int, entry: Entry) -> None:
        """Add what stands behind all that is there."""
        old = self.held.pop(entry.id, None)
        if old is None:
            self.held[entry.id] = offset, (entry,)
            self.size += WEIGHT + len(entry.payload)
        else:
            chain = joined(old[1], entry)
            self.held[entry.id] = offset, chain
            self.size += _weight(chain) - _weight(old[1])

    def pop_oldest(self) -> tuple[str, int, Chain]:
        id = next(iter(self.held))
        offset, chain = self.held.pop(id)
        self.size -= _weight(chain)
        return id, offset, chain

    def only(self, ids: Collection[str]) -> Index:
        """Return an index of nothing but these ids."""
        found = Index()
        found.held = {id: held for id, held in self.held.items() if id in ids}
        found.size = sum(_weight(chain) for _, chain in found.held.values())
        return found

    def before(self, newer: Index) -> Index:
        """Return an index of both, of which the other one is the newer."""
        both = Index()
        both.held = {id: held for id, held in self.held.items() if id not in newer.held}
        for id, (offset, chain) in newer.held.items():
            old = self.held.get(id)
            both.held[id] = offset, chain if old is None else _both(old[1], chain)
        both.size = sum(_weight(chain) for _, chain in both.held.values())
        return both


@dataclasses.dataclass(slots=True)
class Block:
    """A stretch that was read to find older entries."""

    low: int
    high: int
    index: Index
    since: Timestamp = NEVER
    whole: bool = True
    """It holds all, and not just what was looked for."""


class Tail:
    """The known stretch of one stream. Not thread-safe."""

    def __init__(self, budget: int = BUDGET) -> None:
        self._budget = budget
        self.reset()

    def reset(self, since: Timestamp = ALWAYS) -> None:
        """Know nothing; what is read next is all that was appended since an instant."""
        self._index = Index()
        self._past: dict[str, Past] = {}
        self.since = since
        self.start = -1
        """The first offset of the stretch; -1 if there is none."""
        self.next = 0
        """The offset behind it."""
        self.full = False
        """There is more before it than the index can hold."""
        self._again: Timestamp | None = None

    def resume(self, since: Timestamp) -> None:
        """Know that what is read next is all since an instant; it may not join up."""
        if self.start < 0:
            self.since = since
        self._again = since

    def take(self, offset: int, entries: Sequence[Entry]) -> None:
        """Add what was read. What is known already is passed over."""
        again, self._again = self._again, None
        if offset < self.next:
            return
        if offset > self.next and self.start >= 0:
            self.reset(NEVER if again is None else again)
        if self.start < 0:
            self.start = offset
        self.next = offset + 1
        index = self._index
        for entry in entries:
            index.add(offset, entry)
        while index.size > self._budget and index.held:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        id, offset, chain = self._index.pop_oldest()
        self.full = True
        self.start = offset + 1
        self.since = max(self.since, chain[-1].stored / MICROSECONDS)
        past = self._past.get(id)
        if past is not None:
            past.chain = _both(past.chain, chain)

    def find(self, id: str) -> Entry | None:
        """Return what is known of an id, dead or alive."""
        held = self._index.held.get(id)
        chain = () if held is None else held[1]
        past = self._past.get(id)
        if past is not None and past.chain:
            chain = _both(past.chain, chain)
        return verdict(chain)

    def looked_since(self, id: str) -> Timestamp:
        """Return from when on an id would have been found; `ALWAYS`, if it is everything."""
        if self.start < 0:
            return NEVER
        past = self._past.get(id)
        if past is not None and past.done:
            return min(past.since, self.since)
        return ALWAYS if self.start == 0 else self.since

    def covers(self, id: str) -> bool:
        """Say whether it is of no use to look further back for an id."""
        if self.start < 0:
            return False
        past = self._past.get(id)
        if self.start == 0 or (past is not None and past.done):
            return True
        made = born(id)
        return self.full if made is None else self.since <= made - MARGIN

    # -- Looking back

    def ask(self, ids: Iterable[str]) -> None:
        """Note that somebody is about to look for ids in the past."""
        for id in ids:
            self._past.setdefault(id, Past())

    def prepend(self, block: Block, ids: Iterable[str]) -> None:
        """Add an older stretch; what is too much for the index is kept for these ids only."""
        joins = block.whole and block.high == self.start
        if joins and self._index.size + block.index.size <= self._budget:
            self._index = block.index.before(self._index)
            self.start, self.since = block.low, min(self.since, block.since)
            return
        self.full = True
        for id in ids:
            held, past = block.index.held.get(id), self._past.get(id)
            if held is not None and past is not None:
                past.chain = _both(held[1], past.chain)

    def answer(self, ids: Iterable[str], since: Timestamp) -> None:
        """Note that these ids were looked for, and from when on."""
        for id in ids:
            past = self._past.get(id)
            if past is not None:
                past.since, past.done = since, True
        while len(self._past) > MOST_ASKED:
            del self._past[next(iter(self._past))]

    def unask(self, ids: Iterable[str]) -> None:
        """Note that the search for these ids came to no end."""
        for id in ids:
            past = self._past.get(id)
            if past is not None and not past.done:
                del self._past[id]


def _both(older: Chain, newer: Chain) -> Chain:
    for entry in newer:
        older = joined(older, entry)
    return older


def _weight(chain: Chain) -> int:
    return sum(WEIGHT + len(entry.payload) for entry in chain)
