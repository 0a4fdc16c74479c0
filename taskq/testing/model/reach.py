"""What a claim had to look at, and what became of that which it did not return.

A claim looks at no fewer messages than it may take, in each of its queues: of
those that are due, of those that were lost, and of those that a lost connection
has given back. Where leases are tied to connections, what it finds of the last
kind it lets rest for its own lease: whoever had them may be at work as long.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from taskq.clock import Seconds
from taskq.contract.delivery import Delivery
from taskq.testing.model.entry import Entry, Span, Where
from taskq.testing.model.spec import Spec


@dataclass(frozen=True, slots=True)
class Claim:
    """One call of `reserve` and its answer."""

    queues: Sequence[str]
    limit: int
    lease: Seconds
    got: Sequence[Delivery]
    now: Span
    holder: int
    """The client that called."""

    @property
    def ids(self) -> set[str]:
        return {delivery.id for delivery in self.got}

    @property
    def filled(self) -> bool:
        return len(self.got) >= self.limit


@dataclass(frozen=True, slots=True)
class Reach:
    """Whether a claim with room left had to look at all there is of one queue."""

    due: bool
    lost: bool
    cut: bool

    def ready(self, entry: Entry, claim: Claim) -> bool:
        """Say whether this certainly can be claimed."""
        now = claim.now
        return (
            self.cut
            and entry.sure
            and entry.ghost is None
            and (
                (entry.where is Where.WAITING and entry.moved)
                or (self.due and entry.overdue(now))
                or (self.lost and entry.lost(now, claim.holder) and entry.losses == 0)
            )
        )


def reach_of(spec: Spec, queue: str, claim: Claim) -> Reach:
    """Return how far a claim had to look in one of its queues."""
    now, limit = claim.now, claim.limit
    every = [spec.ways(entry.id) for entry in spec.of([queue])]
    blurred = sum(spec.copies[ways[0].id].most for ways in every if ways[0].id in spec.copies)
    due = sum(any(way.promotable(now) for way in ways) for ways in every)
    lost = sum(any(way.lapsed(now, claim.holder) for way in ways) for ways in every)
    cut = sum(any(way.where is Where.CUT for way in ways) for ways in every)
    return Reach(
        due=due + blurred <= limit, lost=lost + blurred <= limit, cut=cut + blurred <= limit
    )


def pass_by(spec: Spec, claim: Claim, reach: Mapping[str, Reach]) -> None:
    """Take in what a claim did not return, where leases are tied to connections.

    Laws: L1, L3, L5, L7.
    """
    take_back(spec, claim.now, claim.holder, but=claim.queues)
    for queue in claim.queues:
        for entry in spec.of([queue]):
            if entry.id in spec.copies:
                spec.copies[entry.id].looked(claim.lease, claim.now, by=claim.holder)
            elif entry.id not in claim.ids:
                before = spec.ways(entry.id)
                ways = [new for way in before for new in _after(way, claim, reach[queue])]
                what = f"{entry.id} is ready, and was not returned"
                spec.ledger.check(entry.reason, bool(ways), what)
                spec.suppose(entry.id, ways)


def take_back(spec: Spec, now: Span, by: int, *, but: Sequence[str] = ()) -> None:
    """Take in that a client may have taken back what it has lost, in all queues but some."""
    for entry in list(spec.entries.values()):
        if entry.message.queue in but:
            continue
        if entry.id in spec.copies:
            spec.copies[entry.id].taken_back(now, by=by)
        else:
            spec.reclaim(entry.id, now, by, sure=False)


def _after(way: Entry, claim: Claim, reach: Reach) -> Iterator[Entry]:
    """Yield what may be true after a claim that did not return it; nothing if that is wrong."""
    now, room = claim.now, not claim.filled
    if room and reach.ready(way, claim):
        return
    if way.lapsed(now, claim.holder):
        sure = room and reach.lost and way.lost(now, claim.holder)
        if not sure:
            yield way
        if sure or not room or not reach.lost or way.losses:
            back = way.copy()
            back.reclaim(now)
            yield back
    elif way.where is Where.CUT:
        if not _surely_found(way, claim, reach):
            yield way
        found = way.copy()
        found.find(now, claim.lease)
        yield found
    else:
        yield way


def _surely_found(way: Entry, claim: Claim, reach: Reach) -> bool:
    """Say whether a claim must have found what was cut: it got there before it was full."""
    if not reach.cut or not way.until.passed(claim.now):
        return False
    return not claim.filled or _rank(way.message.queue, way.message.priority, claim) < max(
        _rank(delivery.message.queue, delivery.message.priority, claim) for delivery in claim.got
    )


def _rank(queue: str, priority: int, claim: Claim) -> tuple[int, int]:
    return claim.queues.index(queue), -priority
