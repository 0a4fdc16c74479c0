"""Claiming, and moving what time has moved: the steps of `reserve` and of maintenance.

Each function is one bounded step within its caller's transaction.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from taskq.clock import Seconds, from_microseconds
from taskq.contract.delivery import Delivery
from taskq.contract.message import Message
from taskq_sql.engine import Session
from taskq_sql.moves import lost, micro, seconds

_NEVER: Final[Seconds] = 1e9


class Outlook(NamedTuple):
    """What a look without locks found in one queue."""

    queue: str
    ready: bool
    due: bool
    lost: bool
    next: Seconds
    """Until time alone makes something claimable."""

    @property
    def claimable(self) -> bool:
        return self.ready or self.due or self.lost


def look(session: Session, namespace: str, queues: Sequence[str]) -> list[Outlook]:
    """Return what a claim could find in each queue."""
    return [_look(session, namespace, queue) for queue in queues]


def _look(session: Session, namespace: str, queue: str) -> Outlook:
    parameters = {"namespace": namespace, "queue": queue}
    ((ready, due, end),) = session.rows(session.sql.outlook, parameters)
    instants = [instant for instant in (due, end) if instant is not None]
    return Outlook(
        queue,
        ready=bool(ready),
        due=due is not None and due <= session.now,
        lost=end is not None and end <= session.now,
        next=from_microseconds(min(instants) - session.now) if instants else _NEVER,
    )


def claim(
    session: Session, namespace: str, outlooks: Sequence[Outlook], *, limit: int, lease: Seconds
) -> list[Delivery]:
    """Claim from the queues in order, after moving what is due and what was lost."""
    for outlook in outlooks:
        if outlook.lost:
            reclaim(session, namespace, outlook.queue, limit)
        if outlook.due:
            promote(session, namespace, outlook.queue, limit)
    until = session.now + micro(lease)
    nonce = os.urandom(8).hex()
    deliveries: list[Delivery] = []
    for outlook in outlooks:
        if outlook.claimable and len(deliveries) < limit:
            room = limit - len(deliveries)
            deliveries += _lease(session, namespace, outlook.queue, room, until, nonce)
    return deliveries


def _lease(
    session: Session, namespace: str, queue: str, limit: int, until: int, token: str
) -> list[Delivery]:
    place = {"namespace": namespace, "queue": queue, "limit": limit}
    rows = session.rows(session.sql.select_ready, place)
    taken = session.array([row[0] for row in rows])
    session.run(session.sql.lease, {"array": taken, "until": until, "token": token})
    now, claimed, ends = session.now, from_microseconds(session.now), from_microseconds(until)
    return [
        Delivery(
            Message(id, queue, envelope, priority, max_deliveries),
            token,
            claimed,
            ends,
            retries,
            losses,
            releases,
            run,
            expires is not None and expires <= now,
            seconds(first_released),
        )
        for (
            _,
            id,
            envelope,
            priority,
            max_deliveries,
            expires,
            retries,
            losses,
            releases,
            run,
            first_released,
        ) in rows
    ]


def reclaim(session: Session, namespace: str, queue: str, limit: int) -> int:
    """Take back up to `limit` messages whose lease has ended; return how many."""
    found = session.rows(
        session.sql.select_lost,
        {"namespace": namespace, "queue": queue, "now": session.now, "limit": limit},
    )
    session.run(
        session.sql.move,
        [
            lost(seq, priority, losses + 1, max_deliveries, session.now)
            for seq, priority, losses, max_deliveries in found
        ],
    )
    return len(found)


def promote(session: Session, namespace: str, queue: str, limit: int) -> int:
    """Make up to `limit` due messages ready; return how many."""
    return session.run(
        session.sql.promote,
        {"namespace": namespace, "queue": queue, "now": session.now, "limit": limit},
    )


def queues(session: Session, namespace: str) -> Iterator[str]:
    """Yield the names of queues that hold anything, sorted, one seek in the index for each."""
    queue: str | None = ""
    while True:
        parameters = {"namespace": namespace, "queue": queue}
        ((queue,),) = session.rows(session.sql.next_queue, parameters)
        if queue is None:
            return
        yield queue
