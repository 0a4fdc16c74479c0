"""How messages, counters and results are written in Redis.

A record is ``<priority> <max_deliveries> <expires µs or 0> <queue> <sent µs>
<envelope>``, one blank between the parts: a `split` reads it here and a pattern
in Lua, and the envelope stays as it is. No name holds a blank.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, TypeVar

from taskq.clock import Seconds, from_microseconds, to_microseconds
from taskq.contract.delivery import DeadLetter, Delivery
from taskq.contract.message import HIGHEST, LOWEST, Message, Send
from taskq.contract.results import ResultRecord
from taskq.contract.settlement import Ack, Dead, Retry, Settlement
from taskq.names import check_name
from taskq_redis.connection import Argument

CHUNK_ITEMS: Final = 500
CHUNK_BYTES: Final = 1 << 20
"""What one script call carries, so that it does not hold up the server's other
clients. A single item may be larger."""

_FAR: Final[Seconds] = 4e12
"""120,000 years: what is later is as good as this, and Redis can count so far."""

Item = TypeVar("Item")


def chunks(items: Iterable[Item], weigh: Callable[[Item], int]) -> Iterator[list[Item]]:
    """Yield the items in order, in lists that suit one script call."""
    chunk: list[Item] = []
    size = 0
    for item in items:
        weight = weigh(item)
        if chunk and (len(chunk) >= CHUNK_ITEMS or size + weight > CHUNK_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(item)
        size += weight
    if chunk:
        yield chunk


def weigh_send(item: Send) -> int:
    """Return about how many bytes a message brings."""
    return len(item.message.envelope)


def weigh_settlement(settlement: Settlement) -> int:
    """Return about how many bytes a settlement brings."""
    match settlement:
        case Ack(result=None, send=()):
            return 0
        case Ack(result=result, send=successors):
            return _weigh_result(result) + sum(map(weigh_send, successors))
        case Retry(envelope=envelope, result=result):
            return len(envelope or b"") + _weigh_result(result)
        case Dead(detail=detail, result=result):
            return len(detail) + _weigh_result(result)
        case _:
            return 0


def _weigh_result(result: ResultRecord | None) -> int:
    return len(result.payload) if result is not None else 0


def pack_send(item: Send, queue: int) -> tuple[Argument, ...]:
    """Return the arguments of one message; `queue` is the number of its queue.

    Raises:
        InvalidName: its id is not legal.
        ValueError: its priority is not from 0 to 9, or max_deliveries is below 2.
    """
    message = item.message
    check_name(message.id, "task id")
    if not LOWEST <= message.priority <= HIGHEST:
        raise ValueError(f"priority {message.priority} is not from {LOWEST} to {HIGHEST}")
    if message.max_deliveries < 2:
        raise ValueError(f"max_deliveries {message.max_deliveries} is not at least 2")
    due = expires = ""
    if item.eta is not None:
        due = str(span(item.eta))
    elif item.delay > 0:
        due = f"+{span(item.delay)}"
    if item.expires is not None:
        # 0 stands for never.
        expires = str(max(span(item.expires), 1))
    elif item.ttl is not None:
        expires = f"+{span(item.ttl)}"
    return (
        message.id,
        queue,
        message.priority,
        message.max_deliveries,
        due,
        expires,
        message.envelope,
    )


def pack_result(record: ResultRecord) -> tuple[Argument, ...]:
    """Return the arguments of one result."""
    return record.run, record.state, span(record.ttl), record.payload


def pack_reason(code: str, detail: str) -> bytes:
    """Return why a message died; `read_letter` takes it apart."""
    # A traceback may hold half a surrogate pair.
    packed = code.encode("utf-8", "surrogatepass")
    return b"%d %b%b" % (len(packed), packed, detail.encode("utf-8", "surrogatepass"))


def member(delivery: Delivery) -> str:
    """Return the member of PROCESSING that is the proof of this lease."""
    message = delivery.message
    return f"{message.priority}{message.id} {delivery.token}"


def span(seconds: Seconds) -> int:
    """Return a duration, or an instant, in whole microseconds from 0 to far."""
    return to_microseconds(max(0.0, min(seconds, _FAR)))


def read_deliveries(answer: list[Any], *, lease: int, token: str) -> list[Delivery]:
    """Return what a claim handed out. An id without a record is left out."""
    now, ids, records, counters = answer
    claimed, until = from_microseconds(now), from_microseconds(now + lease)
    deliveries = []
    for id, record, counted in zip(ids, records, counters, strict=True):
        if record is None:
            continue
        message, expires = _read_record(id, record)
        expired = expires != 0 and expires <= now
        if counted is None:
            delivery = Delivery(message, token, claimed, until, expired=expired)
        else:
            retries, losses, releases, run, first = map(int, counted.split())
            delivery = Delivery(
                message, token, claimed, until, retries, losses, releases, run, expired,
                from_microseconds(first) if first else None,
            )  # fmt: skip
        deliveries.append(delivery)
    return deliveries


def read_letters(answer: list[list[Any]]) -> list[DeadLetter]:
    """Return the dead letters of one page. An id without a record is left out."""
    return [
        _read_letter(id, died, record, reason)
        for id, died, record, reason in zip(*answer, strict=True)
        if record is not None and reason is not None
    ]


def _read_letter(id: bytes, died: bytes, record: bytes, reason: bytes) -> DeadLetter:
    message, _ = _read_record(id, record)
    retries, losses, releases, run, length, why = reason.split(b" ", 5)
    code, detail = why[: int(length)], why[int(length) :]
    return DeadLetter(
        message,
        code.decode("utf-8", "surrogatepass"),
        detail.decode("utf-8", "surrogatepass"),
        from_microseconds(int(died)),
        int(retries),
        int(losses),
        int(releases),
        int(run),
    )


def _read_record(id: bytes, record: bytes) -> tuple[Message, int]:
    priority, limit, expires, queue, _, envelope = record.split(b" ", 5)
    message = Message(id.decode(), queue.decode(), envelope, int(priority), int(limit))
    return message, int(expires)


def read_result(id: str, value: bytes, now: int) -> ResultRecord | None:
    """Return a stored result, or None if its time is over at `now`."""
    run, state, expires, ttl, payload = value.split(b" ", 4)
    if int(expires) <= now:
        return None
    return ResultRecord(id, int(run), state.decode(), payload, from_microseconds(int(ttl)))
