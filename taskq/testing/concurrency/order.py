"""The rules that compare messages: what a claim passed over.

Whether a message was ready at the server's step of a claim is certain only if
it was ready before the call, and not claimed by anybody before it returned. A
call that names it, in vain even, may hold it for as long as it takes: a claim
made meanwhile may pass it over.
"""

from __future__ import annotations

import enum
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from math import inf
from typing import Final

from taskq.contract.message import HIGHEST, LOWEST
from taskq.testing.concurrency.excerpt import excerpt, of_claim
from taskq.testing.concurrency.history import Claimed, Got, History, Instant
from taskq.testing.concurrency.life import Life
from taskq.testing.record import Ledger

Level = tuple[str, int]
"""A queue and a priority."""


class Kind(enum.Enum):
    """Why a message can be claimed."""

    NEW = enum.auto()
    RETRIED = enum.auto()
    RELEASED = enum.auto()
    LOST = enum.auto()
    """For the first time: there is no backoff."""
    AGAIN = enum.auto()
    """Lost once more: it rests before it can be claimed."""


@dataclass(frozen=True, slots=True)
class Wait:
    """A time in which a message could certainly be claimed, or perhaps, if lost again."""

    start: Instant
    end: Instant
    life: Life
    kind: Kind
    holder: str = ""
    """Who lost it; where leases are tied to connections, only his client takes it back."""


class Waits:
    """The waits of one level, to be asked which lasted over a whole call."""

    def __init__(self, waits: Sequence[Wait]) -> None:
        ordered = sorted(waits, key=lambda wait: wait.start)
        self._starts = [wait.start for wait in ordered]
        self._longest: list[Wait] = list(accumulate(ordered, _longer))

    def over(self, call: Claimed) -> Life | None:
        """Return a message that waited before, while and after the call was made."""
        # Instants that are equal, as those of a coarse clock are, say nothing of an order.
        begun = bisect_left(self._starts, call.before)
        if not begun or self._longest[begun - 1].end <= call.after:
            return None
        return self._longest[begun - 1].life


def _longer(one: Wait, other: Wait) -> Wait:
    return one if one.end >= other.end else other


_NOBODY = Waits([])


def check_order(
    history: History, lives: Mapping[str, Life], ledger: Ledger, *, timed: bool = True
) -> None:
    """Put the order of claims to the test. Laws: L1, L3, L5, L8, L9, L10, L14."""
    claims = [call for call in history.calls if isinstance(call, Claimed)]
    order = _Order(ledger, history.start, lives.values(), timed=timed)
    order.producers(claims, lives)
    for claim in claims:
        order.answer(claim)
        order.queues(claim)
        order.lost(claim)
        order.levels(claim)


def _waits(life: Life) -> Iterator[Wait]:
    """Yield when a message could certainly be claimed, and no call had to do with it."""
    calls = [call for lease in life.leases for call, _ in (*lease.settlements, *lease.extensions)]
    calls.sort(key=lambda call: call.before)
    for wait in _whole_waits(life):
        start = wait.start
        for call in calls if wait.kind is not Kind.AGAIN else ():
            if call.after > start and call.before < wait.end:
                yield replace(wait, start=start, end=call.before)
                start = call.after
        if start < wait.end:
            yield replace(wait, start=start)


def _whole_waits(life: Life) -> Iterator[Wait]:
    if life.sent is not None:
        first = life.leases[0].claim.before if life.leases else inf
        yield Wait(life.sent.after, first, life, Kind.NEW)
    for lease, follower in zip(life.leases, [*life.leases[1:], None], strict=False):
        end = inf if follower is None else follower.claim.before
        accepted = lease.accepted
        if accepted is None and not lease.got.losses:
            yield Wait(lease.over, end, life, Kind.LOST, lease.claim.who)
        elif accepted is None:
            yield Wait(
                lease.until, inf if follower is None else follower.claim.after, life, Kind.AGAIN
            )
        elif not accepted[1].delay:
            kind = _RETURNED.get(accepted[1].kind)
            if kind is not None:
                yield Wait(accepted[0].after, end, life, kind)


_RETURNED: Final = {"retry": Kind.RETRIED, "release": Kind.RELEASED}


class _Order:
    """The rules, written into one ledger."""

    def __init__(
        self, ledger: Ledger, start: Instant, lives: Iterable[Life], *, timed: bool
    ) -> None:
        self._ledger = ledger
        self._start = start
        waits = [wait for life in lives for wait in _waits(life)]
        self._ready = _by_level(wait for wait in waits if wait.kind not in {Kind.LOST, Kind.AGAIN})
        self._released = _by_level(wait for wait in waits if wait.kind is Kind.RELEASED)
        self._timed = timed
        self._lost = self._by_holder(wait for wait in waits if wait.kind is Kind.LOST)
        self._again: defaultdict[str, list[Wait]] = defaultdict(list)
        for wait in waits:
            if wait.kind is Kind.AGAIN and wait.life.item is not None:
                self._again[wait.life.item.queue].append(wait)

    def _by_holder(self, waits: Iterable[Wait]) -> dict[str, dict[Level, Waits]]:
        """Return waits by whoever may end them, if leases do not end by time: else anybody."""
        found: defaultdict[str, list[Wait]] = defaultdict(list)
        for wait in waits:
            found["" if self._timed else wait.holder].append(wait)
        return {holder: _by_level(some) for holder, some in found.items()}

    def _passed(self, law: str, life: Life | None, claim: Claimed, what: str) -> None:
        text = ""
        if life is not None:
            about = excerpt(life, self._start)
            text = f"{what}\n  {of_claim(claim, self._start)}\n  passed over {about}"
        self._ledger.check(law, life is None, text)

    def queues(self, claim: Claimed) -> None:
        """A claim leaves nothing ready in front of what it takes, or if it has room left."""
        room = len(claim.got) < claim.limit
        taken: dict[str, int] = {}
        for got in claim.got:
            taken[got.queue] = min(got.priority, taken.get(got.queue, HIGHEST))
        for place, queue in enumerate(claim.queues):
            later = any(name in taken for name in claim.queues[place + 1 :])
            if not room and not later and queue not in taken:
                break
            least = LOWEST if room or later else taken[queue] + 1
            law = "L1" if room else "L8"
            passed = _over(self._ready, claim, queue, least)
            self._passed(law, passed, claim, "a claim left a message that was ready")

    def lost(self, claim: Claimed) -> None:
        """A claim with room left returns what was lost for the first time."""
        # It may look at no more than `limit` lost messages, and some of them have to rest.
        resting = sum(
            wait.start <= claim.after and claim.before <= wait.end
            for queue in claim.queues
            for wait in self._again[queue]
        )
        if len(claim.got) + resting < claim.limit:
            lost = self._lost.get("" if self._timed else claim.who, {})
            left = (_over(lost, claim, queue, LOWEST) for queue in claim.queues)
            passed = next((life for life in left if life is not None), None)
            self._passed("L5", passed, claim, "a claim left a message whose lease had ended")

    def levels(self, claim: Claimed) -> None:
        """What was released comes before what was never delivered."""
        for level in {(got.queue, got.priority) for got in claim.got if not got.steps}:
            passed = self._released.get(level, _NOBODY).over(claim)
            self._passed("L10", passed, claim, "a new message was taken before a released one")

    def answer(self, claim: Claimed) -> None:
        """An answer is no longer than asked for, and in the order of queues and priorities."""
        if not claim.got:
            return
        line = f"\n  {of_claim(claim, self._start)}"
        self._ledger.check("L3", len(claim.got) <= claim.limit, f"more came than the limit{line}")
        strange = [_place(got) for got in claim.got if got.queue not in claim.queues]
        what = f"{strange[0]} came, whose queue was not asked for{line}" if strange else ""
        self._ledger.check("L14", not strange, what)
        ranks = [(claim.queues.index(got.queue), -got.priority) for got in claim.got]
        for (front, behind), (one, other) in zip(pairwise(ranks), pairwise(claim.got), strict=True):
            what = f"{_place(one)} stands before {_place(other)} in an answer{line}"
            self._ledger.check("L8", front <= behind, what)

    def producers(self, claims: Sequence[Claimed], lives: Mapping[str, Life]) -> None:
        """What one producer sent comes the first time in the order it was sent."""
        groups: defaultdict[tuple[str, Level], list[Life]] = defaultdict(list)
        for life in lives.values():
            if life.item is not None and life.sent is not None and life.number >= 0:
                level = life.item.queue, life.item.priority
                groups[life.sent.who, level].append(life)
        for group in groups.values():
            self._sequence(sorted(group, key=lambda life: life.number))
        for claim in claims:
            self._within(claim, lives)

    def _sequence(self, group: Sequence[Life]) -> None:
        """No claim of a later message ends before the first claim of an earlier one begins."""
        came = [life for life in group if life.leases]
        earliest: Life | None = None
        for life in reversed(came):
            if earliest is not None:
                overtaken = _first(earliest).after < _first(life).before
                self._overtaken(life, earliest, overtaken=overtaken)
            if earliest is None or _first(life).after < _first(earliest).after:
                earliest = life

    def _within(self, claim: Claimed, lives: Mapping[str, Life]) -> None:
        """One answer keeps the order."""
        fresh: defaultdict[tuple[str, Level], list[Life]] = defaultdict(list)
        for got in claim.got:
            life = lives[got.id]
            if life.sent is not None and life.number >= 0 and not got.steps:
                fresh[life.sent.who, (got.queue, got.priority)].append(life)
        for group in fresh.values():
            for front, behind in pairwise(group):
                overtaken = front.number > behind.number
                self._overtaken(behind, front, overtaken=overtaken)

    def _overtaken(self, life: Life, by: Life, *, overtaken: bool) -> None:
        text = ""
        if overtaken:
            text = f"{life.id} was sent first and came later than {by.id}:"
            text += "".join(f"\n  {excerpt(one, self._start)}" for one in (life, by))
        self._ledger.check("L9", not overtaken, text)


def _by_level(waits: Iterable[Wait]) -> dict[Level, Waits]:
    levels: defaultdict[Level, list[Wait]] = defaultdict(list)
    for wait in waits:
        if wait.life.item is not None:
            levels[wait.life.item.queue, wait.life.item.priority].append(wait)
    return {level: Waits(found) for level, found in levels.items()}


def _over(waits: Mapping[Level, Waits], claim: Claimed, queue: str, least: int) -> Life | None:
    """Return a message of a queue, no less urgent, that waited over a whole claim."""
    levels = [waits.get((queue, level), _NOBODY) for level in range(least, HIGHEST + 1)]
    return next((life for one in levels if (life := one.over(claim)) is not None), None)


def _first(life: Life) -> Claimed:
    return life.leases[0].claim


def _place(got: Got) -> str:
    return f"{got.id} (queue {got.queue}, priority {got.priority})"
