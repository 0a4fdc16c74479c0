"""Sending and concluding, within whatever transaction they are called in.

The broker calls these in a transaction of its own; `taskq_sql.transactions` in
one that belongs to somebody else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from taskq.contract.delivery import Delivery
from taskq.contract.message import Send
from taskq.contract.results import ResultRecord
from taskq.contract.settlement import Ack, Release, Settlement
from taskq_sql import moves
from taskq_sql.results import store
from taskq_sql.session import Session

MOST_CLAIMS: Final = 3
"""Of how many claims deliveries are acknowledged one claim after the other: beyond, it is less
work to look which are held."""
Read: TypeAlias = Callable[[Callable[[Session], Sequence[Any]]], Sequence[Any]]
"""Carries out a query on a connection that sees all that is committed."""
Insert: TypeAlias = Callable[[Session, Sequence[Send]], None]
"""How successors are sent."""


def insert(
    session: Session,
    namespace: str,
    items: Sequence[Send],
    place: int,
    read: Read | None = None,
) -> None:
    """Send messages; those that are to be ready join the tail at `place`, a time in microseconds.

    Ids that exist are passed over. `read` looks at what is committed by now,
    where the session itself may see what was committed when it began.
    """
    rows = [moves.sent(item, session.now, place) for item in items]
    common = {"namespace": namespace, "sent": session.now, "token": moves.nonce()}
    session.each(session.sql.send, rows, **common)
    session.woken |= moves.any_ready(rows)
    if not session.exclusive:
        # Another transaction may have concluded what this one waited for.
        ids = [row["id"] for row in rows]

        def find(other: Session) -> Sequence[Any]:
            return other.rows(other.sql.select_concluded, {"array": other.array(ids), **common})

        concluded = find(session) if read is None else read(find)
        session.change(session.sql.unsend, concluded, **common)


class SomeLost(Exception):
    """Not all is held; undo what was done."""


class Acks(NamedTuple):
    """Acknowledgements and nothing else."""

    claims: dict[str, list[str]]
    """Ids by the token of their claim."""
    records: list[ResultRecord]

    @classmethod
    def of(cls, settlements: Sequence[Settlement]) -> Acks | None:
        """Return them if they are of a few claims, and have no successors; else None."""
        claims: dict[str, list[str]] = {}
        records: list[ResultRecord] = []
        for ack in settlements:
            if not isinstance(ack, Ack) or ack.send:
                return None
            claims.setdefault(ack.delivery.token, []).append(ack.delivery.message.id)
            if ack.result:
                records.append(ack.result)
        return cls(claims, records) if len(claims) <= MOST_CLAIMS else None


def acknowledge(session: Session, namespace: str, acks: Acks) -> list[Delivery]:
    """Conclude what was claimed together in one sentence per claim, if all of it is held.

    Raises:
        SomeLost: it is not; `conclude` finds out what is.
    """
    for token, ids in acks.claims.items():
        # In one order for all, so that two who delete the same do not wait for each other.
        array = session.array(sorted(ids))
        held = {"namespace": namespace, "array": array, "token": token}
        if session.run(session.sql.delete_held, held) != len(ids):
            raise SomeLost
    if acks.records:
        store(session, namespace, acks.records)
    return []


def conclude(
    session: Session, namespace: str, settlements: Sequence[Settlement], send: Insert
) -> list[Delivery]:
    """Conclude deliveries with all that follows from it; return those whose lease was lost."""
    held = leases(session, namespace, [settlement.delivery for settlement in settlements])
    lost: list[Delivery] = []
    done: list[int] = []
    moved: list[moves.Move] = []
    records: list[ResultRecord] = []
    successors: list[Send] = []
    for settlement in settlements:
        delivery = settlement.delivery
        seq = held.pop((delivery.message.id, delivery.token), None)
        if seq is None:
            lost.append(delivery)
        elif isinstance(settlement, Ack):
            done.append(seq)
            successors += settlement.send
        else:
            moved.append(moves.concluded(settlement, seq, session.now))
        if seq is not None and not isinstance(settlement, Release) and settlement.result:
            records.append(settlement.result)
    if done:
        session.run(session.sql.delete, {"array": session.array(done)})
    session.each(session.sql.move, moved)
    session.woken |= moves.any_ready(moved)
    if records:
        store(session, namespace, records)
    if successors:
        send(session, successors)
    return lost


def leases(
    session: Session, namespace: str, deliveries: Sequence[Delivery]
) -> dict[tuple[str, str], int]:
    """Return the leases there are on these messages: rows by id and token. Locks them."""
    array = session.array([delivery.message.id for delivery in deliveries])
    rows = session.rows(session.sql.select_held, {"namespace": namespace, "array": array})
    return {(id, token): seq for seq, id, token in rows}
