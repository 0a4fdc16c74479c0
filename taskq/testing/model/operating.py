"""The checks of what an operator does: requeue, purge, expire."""

from __future__ import annotations

from collections.abc import Collection

from taskq.clock import Seconds
from taskq.contract.delivery import State
from taskq.testing.model.copies import Copies
from taskq.testing.model.entry import Entry, Place, Span, Where
from taskq.testing.model.spec import Spec


def check_requeued(spec: Spec, queue: str, ids: Collection[str], count: int, now: Span) -> None:
    """Check how many dead letters were made ready again. Law: L19."""
    dead = [entry for entry in spec.dead(queue) if entry.id in ids]
    least, most = _between(spec, len(dead), ids)
    spec.ledger.check("L19", least <= count <= most, f"requeued {count}, not {least} to {most}")
    requeue(spec, dead, now)
    for copies in _copies(spec, ids):
        copies.requeued(now)
        spec.results.forget(copies.message.id)


def _copies(spec: Spec, ids: Collection[str]) -> list[Copies]:
    """Return those of which there may be more than one, and which are dead letters."""
    return [spec.copies[id] for id in ids if id in spec.copies and spec.copies[id].listed]


def _between(spec: Spec, certain: int, ids: Collection[str]) -> tuple[int, int]:
    """Return how many dead letters there are of these ids; each copy may count, or each id."""
    copies = _copies(spec, ids)
    return certain + len(copies), certain + sum(one.most for one in copies)


def requeue(spec: Spec, dead: Collection[Entry], now: Span) -> None:
    """Take in that dead letters were made ready again."""
    with spec.step():
        for entry in dead:
            for way in spec.ways(entry.id):
                revive(spec, way, now)
            spec.suppose(entry.id, spec.ways(entry.id))
            spec.results.forget(entry.id)


def revive(spec: Spec, entry: Entry, now: Span) -> None:
    """Take in that a dead letter is as new, but for its run."""
    entry.retries = entry.losses = entry.releases = 0
    entry.run += 1
    entry.first_released = None
    entry.wait(Place(order=spec.loose_order(), joined=now), None)


def check_purged_dead(spec: Spec, queue: str, ids: Collection[str] | None, count: int) -> None:
    """Check how many dead letters were dropped. Law: L13."""
    named = [entry.id for entry in spec.of([queue])] if ids is None else ids
    dead = [entry for entry in spec.dead(queue) if entry.id in named]
    least, most = _between(spec, len(dead), named)
    spec.ledger.check("L13", least <= count <= most, f"purged {count}, not {least} to {most}")
    for entry in dead:
        entry.where = Where.GONE
        spec.suppose(entry.id, [entry])
    for copies in _copies(spec, named):
        copies.dropped()
        spec.forget_copies(copies.message.id)


def check_expired_dead(spec: Spec, older_than: Seconds, count: int, now: Span) -> None:
    """Take in which dead letters must have been dropped, and which may. Law: L29."""
    ways = [way for id in spec.entries for way in spec.ways(id) if way.where is Where.DEAD]
    old = [way for way in ways if not way.died.plus(older_than).pending(now)]
    most = len({way.id for way in old}) + sum(one.most for one in spec.copies.values())
    spec.ledger.check("L29", count <= most, f"dropped {count} of {most}")
    for way in old:
        if way.died.plus(older_than).passed(now):
            way.where = Where.GONE
        else:
            way.sure = False
    for copies in spec.copies.values():
        copies.dropped_in_doubt()


def check_purged(spec: Spec, queue: str, states: frozenset[State], count: int, now: Span) -> None:
    """Check how many were purged; what nobody can know has to be located next. Law: L20."""
    blurred = [spec.copies[entry.id] for entry in spec.of([queue]) if entry.id in spec.copies]
    every = {e.id: spec.ways(e.id) for e in spec.of([queue]) if e.id not in spec.copies}
    certain = [
        id
        for id, ways in every.items()
        if all(way.sure and way.states(now) <= states and way.states(now) for way in ways)
    ]
    possible = [id for id, ways in every.items() if any(way.states(now) & states for way in ways)]
    least, most = len(certain), len(possible) + sum(copies.most for copies in blurred)
    spec.ledger.check(
        "L20", least <= count <= most, f"{queue}: purged {count} of {states}, not {least} to {most}"
    )
    for id in certain:
        for way in every[id]:
            way.where = Where.GONE
        spec.suppose(id, every[id])
    perhaps_purged(spec, queue, states, now)


def perhaps_purged(spec: Spec, queue: str, states: frozenset[State], now: Span) -> None:
    """Take in that what waits in these states may have been dropped."""
    for entry in spec.of([queue]):
        if entry.id in spec.copies:
            spec.copies[entry.id].purged()
        for way in spec.ways(entry.id):
            if way.states(now) & states:
                way.sure = False
                spec.forgive(entry.id)
