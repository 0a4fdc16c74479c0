"""Claiming, and moving what time has moved: the steps of `reserve` and of maintenance.

Each function is one bounded step within its caller's transaction.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from taskq.clock import Seconds, from_microseconds
from taskq.contract.delivery import Delivery
from taskq.contract.message import Message
from taskq_sql.dialects import Parameters
from taskq_sql.moves import lost, micro, nonce, seconds
from taskq_sql.reach import Reach
from taskq_sql.session import Session

OTHERS: Final = 2000
"""How many messages a claim passes over at most because others are claiming them.

Only where it must be said beforehand, and only once the first `limit` were not enough.
"""
NOBODY: Final = 0
"""The number of no message, since an empty list cannot be written everywhere."""
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


class Claim(NamedTuple):
    """What was claimed, and how far that came in queues that may hold more."""

    deliveries: list[Delivery]
    reached: dict[str, Reach]


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
) -> Claim:
    """Claim from the queues in order, after moving what is due and what was lost."""
    looked = time.monotonic()
    for outlook in outlooks:
        if outlook.lost:
            reclaim(session, namespace, outlook.queue, limit)
        if outlook.due:
            promote(session, namespace, outlook.queue, limit)
    until = session.now + micro(lease)
    token = nonce()
    made = Claim([], {})
    for outlook in outlooks:
        queue, room = outlook.queue, limit - len(made.deliveries)
        if outlook.claimable and room > 0:
            rows = _first(session, {"namespace": namespace, "queue": queue, "limit": room}, room)
            made.deliveries.extend(_lease(session, queue, rows, until, token))
            settled = not outlook.lost and not outlook.due
            if settled and len(rows) == room and session.sql.select_next:
                start = Reach(looked, session.offset, {})
                made.reached[queue] = start.beyond(rows, session.now)
    return made


def claim_on(
    session: Session, namespace: str, queue: str, reach: Reach, *, limit: int, lease: Seconds
) -> Claim | None:
    """Claim from where claims have come to; None if that would not fill the limit.

    Then the transaction holds locks that nobody needs: roll it back.
    """
    place = {"namespace": namespace, "queue": queue, "limit": limit}
    rows = session.rows(session.sql.select_next, place | reach.spans())
    if len(rows) < limit:
        return None
    deliveries = _lease(session, queue, rows, session.now + micro(lease), nonce())
    return Claim(deliveries, {queue: reach.beyond(rows, session.now)})


def _lease(
    session: Session, queue: str, rows: Sequence[Any], until: int, token: str
) -> list[Delivery]:
    session.change(session.sql.lease, rows, until=until, token=token)
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
            *_,
        ) in rows
    ]


def _first(session: Session, place: Parameters, limit: int) -> Sequence[Any]:
    """Return and lock what comes first of what others are not claiming.

    All that is locked is returned: what is locked and stays is passed over by others.
    """
    sentence = session.sql.select_ready
    if "window" not in sentence:
        return session.rows(sentence, place)
    look = {"window": limit, "array": session.array([NOBODY])}
    rows = session.rows(sentence, place | look)
    if len(rows) == limit:
        return rows
    taken = [NOBODY, *(row[0] for row in rows)]
    look = {"window": limit + OTHERS, "array": session.array(taken)}
    rest = session.rows(sentence, place | look | {"limit": limit - len(rows)})
    # What has come in between, or was given back, may stand before what was found at first.
    return sorted([*rows, *rest], key=_place)


def _place(row: Any) -> tuple[int, int, int]:
    *_, level, at = row
    return level, at, row[0]


def reclaim(session: Session, namespace: str, queue: str, limit: int) -> int:
    """Take back up to `limit` messages whose lease has ended; return how many."""
    found = session.rows(
        session.sql.select_lost,
        {"namespace": namespace, "queue": queue, "now": session.now, "limit": limit},
    )
    session.each(
        session.sql.move,
        [
            lost(seq, priority, losses + 1, max_deliveries, session.now)
            for seq, priority, losses, max_deliveries in found
        ],
    )
    return len(found)


def promote(session: Session, namespace: str, queue: str, limit: int) -> int:
    """Make up to `limit` due messages ready; return how many."""
    found = session.rows(
        session.sql.select_due,
        {"namespace": namespace, "queue": queue, "now": session.now, "limit": limit},
    )
    return session.change(session.sql.promote, found)


def queues(session: Session, namespace: str) -> Iterator[str]:
    """Yield the names of queues that hold anything, sorted, one seek in the index for each."""
    queue: str | None = ""
    while True:
        parameters = {"namespace": namespace, "queue": queue}
        ((queue,),) = session.rows(session.sql.next_queue, parameters)
        if queue is None:
            return
        yield queue
