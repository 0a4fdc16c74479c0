"""The checks of one claim: what `reserve` returned against what it had to.

Three questions, in this order: was everything that came allowed to come, did
everything come that had to, and in the right order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, product

from taskq.clock import Seconds
from taskq.contract.delivery import Delivery
from taskq.testing.entry import Entry, Place, Span, Where
from taskq.testing.record import Ledger
from taskq.testing.spec import Spec


@dataclass(frozen=True, slots=True)
class Claim:
    """One call of `reserve` and its answer."""

    queues: Sequence[str]
    limit: int
    lease: Seconds
    got: Sequence[Delivery]
    now: Span

    @property
    def ids(self) -> set[str]:
        return {delivery.id for delivery in self.got}

    @property
    def filled(self) -> bool:
        return len(self.got) >= self.limit


def check_claim(spec: Spec, claim: Claim) -> None:
    """Compare a claim with the model, and take in what it gives away.

    Laws: L1, L3 to L14, L18.
    """
    ledger = spec.ledger
    ledger.check("L3", len(claim.got) <= claim.limit, f"{len(claim.got)} came of {claim.limit}")
    ledger.check("L3", len(claim.ids) == len(claim.got), "one message came twice in a claim")
    _check_withheld(spec, claim)
    ready = {queue: _ready(spec.of([queue]), claim) for queue in claim.queues}
    reclaimed = [] if claim.filled else _surely_reclaimed(spec, claim)
    _check_complete(ledger, claim, [entry for queue in claim.queues for entry in ready[queue]])
    for delivery in claim.got:
        _take(ledger, spec.entries[delivery.id], claim, delivery)
    _check_order(spec, claim, ready)
    for entry in reclaimed:
        if entry.id not in claim.ids:
            entry.reclaim(claim.now)


def _check_withheld(spec: Spec, claim: Claim) -> None:
    """Check that nothing came that had to stay away."""
    for delivery in claim.got:
        known = spec.entries.get(delivery.id)
        here = known is not None and known.message.queue in claim.queues
        spec.ledger.check("L14", here, f"{delivery.id} is not in {claim.queues}")
    gone = False
    for entry in spec.of(claim.queues):
        law = entry.withheld(claim.now)
        if law == "L13":
            gone = True
        if law is not None and (law != "L13" or entry.id in claim.ids):
            spec.ledger.check(law, entry.id not in claim.ids, f"{entry.id} came: {_why(entry)}")
    if gone:
        spec.ledger.check("L13", True, "")


def _why(entry: Entry) -> str:
    match entry.where:
        case Where.WAITING:
            return "its delay or backoff is not over"
        case Where.LEASED:
            return f"it is leased, with {entry.losses} losses"
        case Where.DEAD:
            return "it is dead"
        case Where.GONE:
            return "it was concluded or purged"


def _surely_reclaimed(spec: Spec, claim: Claim) -> list[Entry]:
    """Return the lost messages that a claim with room left must have found."""
    found: list[Entry] = []
    for queue in claim.queues:
        lapsed = [entry for entry in spec.of([queue]) if entry.lapsed(claim.now)]
        if len(lapsed) <= claim.limit:
            found.extend(entry for entry in lapsed if entry.lost(claim.now))
    return found


def _ready(entries: list[Entry], claim: Claim) -> list[Entry]:
    """Return what certainly can be claimed, as far as the claim has to look."""
    now = claim.now
    look_due = sum(entry.unmoved(now) for entry in entries) <= claim.limit
    look_lost = sum(entry.lapsed(now) for entry in entries) <= claim.limit
    return [
        entry
        for entry in entries
        if entry.sure
        and (
            (entry.where is Where.WAITING and entry.moved)
            or (look_due and entry.overdue(now))
            or (look_lost and entry.lost(now) and entry.losses == 0)
        )
    ]


def _check_complete(ledger: Ledger, claim: Claim, ready: list[Entry]) -> None:
    """Check that an answer with room left holds all that was ready."""
    for entry in ready if not claim.filled else []:
        law = "L5" if entry.where is Where.LEASED else entry.reason
        ledger.check(law, entry.id in claim.ids, f"{entry.id} is ready, and was not returned")


def _take(ledger: Ledger, entry: Entry, claim: Claim, delivery: Delivery) -> None:
    """Check what one delivery says, and lease its message."""
    now, id = claim.now, entry.id
    if entry.where is Where.LEASED:
        entry.reclaim(now)
    ledger.check("L14", delivery.message == entry.message, f"{id}: {delivery.message}")
    counters = (delivery.retries, delivery.losses, delivery.releases, delivery.run)
    ledger.check(
        "L11", counters == entry.counters, f"{id}: counts {counters}, not {entry.counters}"
    )
    _check_first_release(ledger, entry, delivery)
    if entry.tokens:
        ledger.check("L4", delivery.token not in entry.tokens, f"{id}: a token came twice")
    _check_expiry(ledger, entry, claim, delivery)
    end = now.plus(claim.lease)
    ledger.check("L3", end.holds(delivery.lease_until), f"{id}: leased to {delivery.lease_until}")
    ledger.check("L3", now.holds(delivery.claimed), f"{id}: claimed at {delivery.claimed}")
    entry.where, entry.delivery, entry.until, entry.sure = Where.LEASED, delivery, end, True
    entry.due = None
    entry.tokens.add(delivery.token)


def _check_first_release(ledger: Ledger, entry: Entry, delivery: Delivery) -> None:
    first = delivery.first_released
    if entry.first_released is None:
        ledger.check("L11", first is None, f"{entry.id}: first released at {first}, but never was")
    else:
        right = first is not None and entry.first_released.holds(first)
        ledger.check("L11", right, f"{entry.id}: first released at {first}")


def _check_expiry(ledger: Ledger, entry: Entry, claim: Claim, delivery: Delivery) -> None:
    if entry.expiry_open:
        return
    if entry.expires is None or entry.expires.pending(claim.now):
        ledger.check("L18", not delivery.expired, f"{entry.id}: said to have expired")
    elif entry.expires.passed(claim.now):
        ledger.check("L18", delivery.expired, f"{entry.id}: has expired, and is not said to have")


def _check_order(spec: Spec, claim: Claim, ready: dict[str, list[Entry]]) -> None:
    """Check that nothing was passed over that ranks before what came."""
    came = [spec.entries[delivery.id] for delivery in claim.got]
    ranks = [claim.queues.index(entry.message.queue) for entry in came]
    if came:
        spec.ledger.check("L8", ranks == sorted(ranks), f"queues {claim.queues} came as {ranks}")
    for rank, queue in enumerate(claim.queues):
        here = [(entry, entry.place) for entry in came if entry.message.queue == queue]
        missing = [(e, _place(e)) for e in ready[queue] if e.id not in claim.ids]
        if missing and max(ranks, default=0) > rank:
            spec.ledger.check("L8", False, f"{missing[0][0].id} waits in {queue}, passed over")
        _check_pairs(spec.ledger, [*combinations(here, 2), *product(here, missing)])


def _place(entry: Entry) -> Place:
    """Return the place of a message that was not returned, reclaimed or not."""
    return Place(returned=True) if entry.where is Where.LEASED else entry.place


def _check_pairs(
    ledger: Ledger, pairs: list[tuple[tuple[Entry, Place], tuple[Entry, Place]]]
) -> None:
    """Check that of each pair the first did not have to stand behind the second."""
    tested: set[str] = set()
    for (first, front), (second, behind) in pairs:
        law = front.rule(behind)
        right = not behind.before(front)
        if first.message.priority != second.message.priority:
            law, right = "L8", first.message.priority > second.message.priority
        if law is not None and right:
            tested.add(law)
        elif law is not None:
            ledger.check(law, False, f"{first.id} was taken before {second.id}")
    for law in sorted(tested):
        ledger.check(law, True, "")
