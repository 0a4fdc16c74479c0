"""The checks of one claim: what `reserve` returned against what it had to.

Three questions, in this order: was everything that came allowed to come, did
everything come that had to, and in the right order.
"""

from __future__ import annotations

from collections.abc import Collection
from itertools import combinations, product

from taskq.contract.delivery import Delivery
from taskq.testing.model.entry import Entry, Place, Where
from taskq.testing.model.reach import Claim, Reach, pass_by, reach_of
from taskq.testing.model.spec import Spec
from taskq.testing.record import Ledger


def check_claim(spec: Spec, claim: Claim) -> None:
    """Compare a claim with the model, and take in what it gives away.

    Laws: L1, L3 to L14, L18.
    """
    ledger = spec.ledger
    single = [id for id in (delivery.id for delivery in claim.got) if id not in spec.copies]
    followed = {id for id in single if id in spec.entries and spec.certain(spec.entries[id])}
    ledger.check("L3", len(claim.got) <= claim.limit, f"{len(claim.got)} came of {claim.limit}")
    ledger.check("L3", len(set(single)) == len(single), "one message came twice in a claim")
    _check_withheld(spec, claim)
    reach = {queue: reach_of(spec, queue, claim) for queue in claim.queues}
    ready = {queue: _ready(spec, queue, claim, reach[queue]) for queue in claim.queues}
    reclaimed = [] if claim.filled or not spec.timed else _surely_reclaimed(spec, claim)
    _check_complete(ledger, claim, [entry for queue in claim.queues for entry in ready[queue]])
    for delivery in claim.got:
        _take(spec, claim, delivery)
    _check_order(spec, claim, ready, followed)
    for entry in reclaimed:
        if entry.id not in claim.ids:
            entry.reclaim(claim.now)
    if not spec.timed:
        pass_by(spec, claim, reach)


def _check_withheld(spec: Spec, claim: Claim) -> None:
    """Check that nothing came that had to stay away."""
    for delivery in claim.got:
        known = spec.entries.get(delivery.id)
        here = known is not None and known.message.queue in claim.queues
        spec.ledger.check("L14", here, f"{delivery.id} is not in {claim.queues}")
    gone = False
    for entry in filter(spec.certain, spec.of(claim.queues)):
        law = entry.withheld(claim.now, claim.holder)
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
        case Where.CUT:
            return "its holder lost the connection, and nobody has let it rest"
        case Where.GONE | Where.BLURRED:
            return "it was concluded or purged"


def _surely_reclaimed(spec: Spec, claim: Claim) -> list[Entry]:
    """Return the lost messages that a claim with room left must have found."""
    found: list[Entry] = []
    for queue in claim.queues:
        lapsed = [entry for entry in spec.of([queue]) if entry.lapsed(claim.now)]
        if len(lapsed) <= claim.limit:
            found.extend(entry for entry in lapsed if entry.lost(claim.now))
    return found


def _ready(spec: Spec, queue: str, claim: Claim, reach: Reach) -> list[Entry]:
    """Return what certainly can be claimed, as far as the claim has to look."""
    entries = filter(spec.certain, spec.of([queue]))
    return [entry for entry in entries if reach.ready(entry, claim)]


def _check_complete(ledger: Ledger, claim: Claim, ready: list[Entry]) -> None:
    """Check that an answer with room left holds all that was ready."""
    for entry in ready if not claim.filled else []:
        law = "L5" if entry.where is Where.LEASED else entry.reason
        ledger.check(law, entry.id in claim.ids, f"{entry.id} is ready, and was not returned")


def _take(spec: Spec, claim: Claim, delivery: Delivery) -> None:
    """Check what one delivery says, and lease its message."""
    copies = spec.copies.get(delivery.id)
    if copies is not None:
        copies.claimed(delivery, claim.lease, claim.now, by=claim.holder, ledger=spec.ledger)
        return
    entry = spec.entries[delivery.id]
    spec.narrow(delivery.id, lambda way, ledger: _lease(spec, way, claim, delivery, ledger))
    entry.tokens.add(delivery.token)
    spec.debts.pop(delivery.id, None)


def _lease(spec: Spec, entry: Entry, claim: Claim, delivery: Delivery, ledger: Ledger) -> None:
    now, id = claim.now, entry.id
    law = entry.withheld(now, claim.holder)
    if law is not None:
        ledger.check(law, False, f"{id} came: {_why(entry)}")
    if entry.ghost is not None:
        entry.unmask(real=delivery.run != entry.run)
        if entry.where is Where.LEASED:
            over = not entry.until.pending(now)
            ledger.check("L3", over, f"{id} came: it is leased, by a claim whose answer was lost")
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
    entry.where, entry.delivery, entry.sure, entry.due = Where.LEASED, delivery, True, None
    entry.holder = claim.holder
    spec.lease(entry, claim.lease, now)


def _check_first_release(ledger: Ledger, entry: Entry, delivery: Delivery) -> None:
    first = delivery.first_released
    if entry.first_released is None:
        ledger.check("L11", first is None, f"{entry.id}: first released at {first}, but never was")
    else:
        right = first is not None and entry.first_released.holds(first)
        ledger.check("L11", right, f"{entry.id}: first released at {first}")


def _check_expiry(ledger: Ledger, entry: Entry, claim: Claim, delivery: Delivery) -> None:
    if entry.expires is None or entry.expires.pending(claim.now):
        ledger.check("L18", not delivery.expired, f"{entry.id}: said to have expired")
    elif entry.expires.passed(claim.now):
        ledger.check("L18", delivery.expired, f"{entry.id}: has expired, and is not said to have")


def _check_order(
    spec: Spec, claim: Claim, ready: dict[str, list[Entry]], followed: Collection[str]
) -> None:
    """Check that nothing was passed over that ranks before what came.

    Of what is not `followed` nobody knows where in its level it stood.
    """
    came = [spec.entries[delivery.id] for delivery in claim.got]
    ranks = [claim.queues.index(entry.message.queue) for entry in came]
    if came:
        spec.ledger.check("L8", ranks == sorted(ranks), f"queues {claim.queues} came as {ranks}")
    for rank, queue in enumerate(claim.queues):
        here = [(e, e.place) for e in came if e.message.queue == queue and e.id in followed]
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
