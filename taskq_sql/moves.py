"""Where a message goes next, as parameters of statements. Pure: no I/O, no clock.

`at` is the column that `taskq_sql.tables` explains: 0 is the head of a level.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Iterable
from typing import Any, Final, TypeAlias

from taskq.clock import MICROSECONDS, Seconds, to_microseconds
from taskq.contract.delivery import State
from taskq.contract.message import HIGHEST, Send
from taskq.contract.results import ResultRecord
from taskq.contract.settlement import Dead, Release, Retry

Move: TypeAlias = dict[str, Any]


class Number(enum.IntEnum):
    """The states' numbers in the database."""

    SCHEDULED = 0
    READY = 1
    PROCESSING = 2
    DEAD = 3


STATES: Final = {number: State[number.name] for number in Number}
NUMBERS: Final = {state: number for number, state in STATES.items()}
HEAD: Final = 0
WORKER_LOST: Final = "worker_lost"
_FAR: Final[Seconds] = 4e12
"""120,000 years: what is later is as good as this, and fits 64 bits."""
_LONGEST_BACKOFF: Final[Seconds] = 60.0


def nonce() -> str:
    """Return a text that nobody else has: 16 characters of hexadecimal digits."""
    return os.urandom(8).hex()


def micro(value: Seconds) -> int:
    """Return seconds as microseconds that a BIGINT holds, sums included."""
    return to_microseconds(max(-_FAR, min(value, _FAR)))


def sent(send: Send, now: int, place: int) -> Move:
    """Place a new message: at its due time, or at `place` if there is none to wait for."""
    message = send.message
    due, expires = times(send, now)
    waits = due > now
    return {
        "id": message.id,
        "queue": message.queue,
        "state": Number.SCHEDULED.value if waits else Number.READY.value,
        "level": 0 if waits else HIGHEST - message.priority,
        "at": due if waits else place,
        "head": 0,
        "priority": message.priority,
        "max_deliveries": message.max_deliveries,
        "expires": expires,
        "envelope": message.envelope,
    }


def any_ready(moved: Iterable[Move]) -> bool:
    """Say whether any of these messages can be claimed as soon as it is committed."""
    return any(move["state"] == Number.READY.value for move in moved)


def times(send: Send, now: int) -> tuple[int, int | None]:
    """Return the instants at which a message is due and expires."""
    due = now + micro(send.delay) if send.eta is None else micro(send.eta)
    expires = micro(send.expires) if send.expires is not None else None
    if send.ttl is not None:
        expires = now + micro(send.ttl)
    return due, expires


def concluded(settlement: Retry | Release | Dead, seq: int, now: int) -> Move:
    """Move a message as its holder decided. An ack is no move: the row is deleted."""
    priority = settlement.delivery.message.priority
    match settlement:
        case Retry(delay=delay, envelope=envelope):
            move = _waiting(seq, priority, delay, now, head=False)
            return move | {"retries": 1, "run": 1, "envelope": envelope}
        case Release(delay=delay):
            move = _waiting(seq, priority, delay, now, head=True)
            return move | {"releases": 1, "first_released": now}
        case Dead(code=code, detail=detail):
            return _dead(seq, now, code, detail)


def lost(seq: int, priority: int, losses: int, max_deliveries: int, now: int) -> Move:
    """Move a message whose lease has ended; `losses` includes this one."""
    if losses >= max_deliveries:
        move = _dead(seq, now, WORKER_LOST, f"{losses} leases ended without a settlement")
    else:
        move = _waiting(seq, priority, backoff(losses), now, head=True)
    return move | {"losses": 1, "run": 1}


def backoff(losses: int) -> Seconds:
    """Return how long a message rests after its so-many-eth loss."""
    return 0.0 if losses < 2 else min(2.0 ** min(losses - 2, 6), _LONGEST_BACKOFF)


def stored(record: ResultRecord, now: int) -> Move:
    """Keep a result until its time is over."""
    return {
        "id": record.id,
        "run": record.run,
        "state": record.state,
        "ttl": micro(record.ttl),
        "expires": now + micro(record.ttl),
        "payload": record.payload,
    }


def _waiting(seq: int, priority: int, delay: Seconds, now: int, *, head: bool) -> Move:
    if delay > 0:
        return _move(seq, Number.SCHEDULED, level=0, at=now + micro(delay), head=int(head))
    level = HIGHEST - priority
    return _move(seq, Number.READY, level=level, at=HEAD if head else now, head=0)


def _dead(seq: int, now: int, code: str, detail: str) -> Move:
    # An exception's text may hold surrogates, which are no UTF-8 and must not cost the record.
    text = detail.encode("utf-8", "surrogatepass")
    return _move(seq, Number.DEAD, level=0, at=now, head=0) | {"code": code, "detail": text}


def _move(seq: int, state: Number, *, level: int, at: int, head: int) -> Move:
    return {
        "seq": seq,
        "state": state.value,
        "level": level,
        "at": at,
        "head": head,
        "retries": 0,
        "losses": 0,
        "releases": 0,
        "run": 0,
        "first_released": None,
        "envelope": None,
        "code": None,
        "detail": None,
    }


def seconds(value: int | None) -> Seconds | None:
    """Return a nullable column of microseconds as seconds."""
    return None if value is None else value / MICROSECONDS
