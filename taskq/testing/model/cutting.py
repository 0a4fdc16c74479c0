"""What becomes of leases that are tied to a connection when it is lost, or may be.

A client has more than one connection, and nobody can tell from outside which of
them a fault has hit. So after it each lease of that client still holds, or the
server has given its message back: it is cut. The next settlement or extension
tells, or a claim that finds it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection

from taskq.clock import Seconds
from taskq.testing.model.copies import Copies, Grip
from taskq.testing.model.entry import Entry, Span, Where, backoff, earliest
from taskq.testing.model.reach import take_back
from taskq.testing.model.spec import Spec


def cut_off(spec: Spec, client: int, now: Span) -> None:
    """Take in that a client has lost its connections, for good or for a moment."""
    _each(spec, client, lambda way: [_cut(way, now)])
    for copies in spec.copies.values():
        copies.cut_off(client)


def shake(spec: Spec, client: int, now: Span) -> None:
    """Take in that a client may have lost a connection."""
    _each(spec, client, lambda way: [way, _cut(way, now)])
    for copies in spec.copies.values():
        copies.shaken(client)


def _each(spec: Spec, client: int, change: Callable[[Entry], list[Entry]]) -> None:
    """Change every way in which the client has a lease that is tied to its connection."""
    for id in [] if spec.timed else list(spec.entries):
        ways: list[Entry] = []
        for way in spec.ways(id):
            mine = way.where is Where.LEASED and way.holder == client
            ways += change(way) if mine else [way]
        spec.suppose(id, ways)


def claim_in_limbo(
    spec: Spec, queues: Collection[str], lease: Seconds, now: Span, *, client: int
) -> None:
    """Take in a claim whose answer was lost, where leases are tied to connections.

    What it took it may hold until its lease ends, and what it moved, back from
    the client itself or to its rest, there may be two of.
    """
    shake(spec, client, now)
    reclaim_in_limbo(spec, now, client=client)
    for entry in spec.of(queues):
        copies = spec.copies.get(entry.id)
        if copies is not None:
            copies.most *= 2 if spec.doubles else 1
            copies.looked(lease, now, by=client)
            copies.claimed_unseen(client, now.plus(lease))
            continue
        ways = spec.ways(entry.id)
        if spec.doubles and any(way.where is Where.CUT for way in ways):
            until = now.plus(lease)
            blur(spec, entry, now, most=2, due=until).claimed_unseen(client, until)
            continue
        spec.suppose(entry.id, [new for way in ways for new in _perhaps(way, lease, now, client)])


def reclaim_in_limbo(spec: Spec, now: Span, *, client: int) -> None:
    """Take in that a client may have taken back what it has lost, and died at it."""
    for copies in spec.copies.values():
        copies.most += copies.lapsed(now, client) if spec.doubles else 0
    for entry in list(spec.entries.values()):
        lapsed = [way for way in spec.ways(entry.id) if way.lapsed(now, client)]
        if lapsed and spec.doubles:
            blur(spec, entry, now, most=2, due=now.plus(backoff(lapsed[0].losses + 1)))
    take_back(spec, now, client)


def _perhaps(way: Entry, lease: Seconds, now: Span, client: int) -> list[Entry]:
    """Return what may be true of a message after a claim whose answer was lost."""
    if way.where is Where.CUT:
        found = way.copy()
        found.find(now, lease)
        return [way, found]
    if way.where is not Where.WAITING or (way.due is not None and way.due.pending(now)):
        return [way]
    taken = way.copy()
    taken.where, taken.holder, taken.tied = Where.LEASED, client, True
    taken.until, taken.delivery = now.plus(lease), None
    return [way, taken, _cut(taken, now)]


def _cut(way: Entry, now: Span) -> Entry:
    cut = way.copy()
    cut.cut(now)
    return cut


def blur(spec: Spec, entry: Entry, now: Span, *, most: int, due: Span | None = None) -> Copies:
    """Take in that there may be as many copies of a message, the first of which is due then."""
    ways = spec.ways(entry.id)
    there = [way for way in ways if way.where is not Where.GONE]
    copies = Copies(
        entry.message,
        entry.tokens,
        most,
        earliest(*([due] if due else []), *(_comes(way, now) for way in there)),
        owed=len(there) == len(ways) and all(way.sure for way in ways),
        envelopes={way.message.envelope for way in ways},
        grips={
            way.delivery.token: Grip(way.holder, way.until, sure=False)
            for way in there
            if way.delivery is not None
        },
    )
    for way in there:
        if way.where is Where.LEASED and way.delivery is None:
            copies.claimed_unseen(way.holder, way.until)
    spec.blur(entry, copies)
    return copies


def _comes(way: Entry, now: Span) -> Span:
    """Return when a message may come at the earliest if nothing but time passes."""
    match way.where:
        case Where.LEASED:
            return way.until
        case Where.WAITING:
            return way.due or now
    # Only a claim that finds it sets a time, and an operator who wakes the dead.
    return Span(math.inf, math.inf)
