"""What a call that failed may have done, as far as its error leaves it open."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from taskq.clock import Seconds
from taskq.contract.delivery import Delivery, State
from taskq.contract.message import Send
from taskq.contract.settlement import Ack, Release, Settlement
from taskq.errors import SendError
from taskq.testing.model.cutting import blur
from taskq.testing.model.entry import Entry, Span, Where
from taskq.testing.model.operating import requeue, revive
from taskq.testing.model.spec import Spec


def check_send_error(
    spec: Spec, items: Sequence[Send], error: SendError, now: Span, *, producer: int
) -> None:
    """Take in a send that failed: what it says of each id has to be the truth. Law: L2."""
    ids = [item.message.id for item in items]
    told = [*error.sent, *error.unsent, *error.unknown]
    spec.ledger.check(
        "L2", sorted(told) == sorted(ids), f"the error tells of {sorted(told)}, not {sorted(ids)}"
    )
    for item in items:
        id = item.message.id
        if id in error.unsent or not spec.free(id, now):
            continue
        spec.sent([item], now, producer=producer)
        spec.entries[id].sure = id in error.sent


def clear_cut(spec: Spec, queues: Collection[str], now: Span) -> bool:
    """Say whether a claim of these queues may fail without leaving too much open."""
    return not any(entry.lapsed(now) or entry.ghost for entry in spec.of(queues))


def claim_in_doubt(spec: Spec, queues: Collection[str], lease: Seconds, now: Span) -> list[Entry]:
    """Take in a claim whose answer was lost; return what it may have leased."""
    haunted = [
        entry
        for entry in spec.of(queues)
        if entry.where is Where.WAITING and (entry.due is None or not entry.due.pending(now))
    ]
    for entry in haunted:
        entry.ghost = now.plus(lease)
    return haunted


def settled_in_doubt(
    spec: Spec,
    settlements: Sequence[Settlement],
    lost: Sequence[Delivery],
    now: Span,
    *,
    client: int,
) -> list[Settlement]:
    """Take in a batch that was settled, in doubt, and settled again; return what took effect.

    What the first attempt has done, the second returns as lost. `now` covers
    both, and no lease may have ended meanwhile. Laws: L4, L30.
    """
    told = {(delivery.id, delivery.token) for delivery in lost}
    taken: dict[tuple[str, str], Settlement] = {}
    with spec.step():
        for settlement in settlements:
            delivery = settlement.delivery
            key = (delivery.id, delivery.token)
            if key in taken:
                continue
            if not spec.timed:
                _repeated(spec, settlement, now, client, held=key not in told)
                continue
            held = spec.entries[delivery.id].delivery
            if held is not None and held.token == delivery.token:
                spec.apply(settlement, now, client)
                taken[key] = settlement
            else:
                spec.ledger.check("L4", key in told, f"{delivery.id}: a stale token was accepted")
    return list(taken.values())


def _repeated(spec: Spec, settlement: Settlement, now: Span, client: int, *, held: bool) -> None:
    """Take in a settlement that was in doubt, and whether its lease held when it was repeated.

    Where leases are tied to connections, one that is returned as lost may have been
    carried out, or have been cut before.
    """
    id, token = settlement.delivery.id, settlement.delivery.token
    ways = spec.ways(id)
    mine = [way for way in ways if way.delivery is not None and way.delivery.token == token]
    copies = spec.copies.get(id)
    if not mine and (copies is None or token not in copies.grips):
        spec.ledger.check("L4", not held, f"{id}: a stale token was accepted")
        return
    if copies is None and spec.doubles and not isinstance(settlement, Ack):
        copies = blur(spec, mine[0], now, most=1)
    if copies is not None:
        copies.repeated(settlement, now, held=held)
        spec.forget_copies(id)
    else:
        rest = [way for way in ways if way not in mine]
        done = [way.copy() for way in mine]
        for way in done:
            spec.conclude(way, settlement, now)
        for way in mine:
            way.cut(now)
        spec.suppose(id, done if held else [*rest, *mine, *done])
    _effects(spec, settlement, now, client, held=held)


def _effects(spec: Spec, settlement: Settlement, now: Span, client: int, *, held: bool) -> None:
    """Take in a result and successors that were sent once or twice; or, unless held, perhaps."""
    if not isinstance(settlement, Release) and settlement.result is not None:
        if held:
            spec.store(settlement.result, now)
        else:
            spec.results.doubt(settlement.delivery.id, settlement.result.run)
    if not isinstance(settlement, Ack):
        return
    spec.sent(settlement.send, now, producer=client)
    for item in settlement.send:
        successor = spec.entries[item.message.id]
        if not held:
            successor.sure = False
        elif spec.doubles:
            blur(spec, successor, now, most=2)
    if not held and settlement.delivery.id not in spec.copies:
        spec.debts[settlement.delivery.id] = [item.message.id for item in settlement.send]


def requeued_in_doubt(
    spec: Spec, queue: str, ids: Collection[str], found: dict[str, State], now: Span
) -> None:
    """Take in a requeue whose answer was lost, by what `locate` found right after it."""
    dead = [entry for entry in spec.dead(queue) if entry.id in ids]
    requeue(spec, [entry for entry in dead if found.get(entry.id) is not State.DEAD], now)


def requeued_in_limbo(spec: Spec, queue: str, ids: Collection[str], now: Span) -> None:
    """Take in a requeue whose answer was lost, where nothing can be located.

    What was requeued may be among the dead letters still.
    """
    for entry in spec.dead(queue):
        if entry.id not in ids:
            continue
        spec.results.doubt(entry.id)
        if spec.doubles:
            blur(spec, entry, now, most=1).listed = 1
        else:
            back = entry.copy()
            revive(spec, back, now)
            spec.suppose(entry.id, [*spec.ways(entry.id), back])
    for id in ids:
        if id in spec.copies:
            spec.copies[id].requeued_in_doubt(now)
            spec.results.doubt(id)


def purged_in_limbo(spec: Spec, queue: str, ids: Collection[str]) -> None:
    """Take in that dead letters may have been dropped; the next list of them tells."""
    for entry in spec.dead(queue):
        if entry.id in ids:
            for way in spec.ways(entry.id):
                way.sure = False
    for id in ids:
        if id in spec.copies:
            spec.copies[id].dropped_in_doubt()


def pay_debts(spec: Spec) -> None:
    """Take in that the successors of an ack exist, now that it certainly was done. Law: L16."""
    for id, successors in list(spec.debts.items()):
        if not all(way.where is Where.GONE for way in spec.ways(id)):
            continue
        del spec.debts[id]
        for successor in successors:
            for way in spec.ways(successor):
                if not way.sure and way.where is not Where.BLURRED:
                    way.sure, way.reason = True, "L16"
