"""Finding dead letters, and saying what is in them without trusting it."""

from __future__ import annotations

import base64
import pprint
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from taskq.cli.output import escape, instant, shorten
from taskq.clock import from_microseconds
from taskq.contract.delivery import DeadLetter
from taskq.errors import DecodeError, EncodingError, UnknownResult
from taskq.wire import envelope as wire
from taskq.wire.tagged import lower

if TYPE_CHECKING:
    from taskq.contract.broker import Broker
    from taskq.wire.codecs import Codecs
    from taskq.wire.envelope import Envelope

PAGE: Final = 100
BODY_LIMIT: Final = 4000
"""Characters of a body that are shown."""
DUMP_LIMIT: Final = 256
"""Bytes of an undecodable envelope that are shown."""


def dead_letters(broker: Broker, queues: Sequence[str]) -> Iterator[DeadLetter]:
    """Yield the dead letters of these queues, or of all; oldest first in each."""
    for queue in queues or [stats.queue for stats in broker.stats() if stats.dead]:
        last: DeadLetter | None = None
        while page := broker.dead_letters(queue, limit=PAGE, after=last):
            yield from page
            last = page[-1]


def find_letters(
    broker: Broker, queues: Sequence[str], ids: Iterable[str]
) -> dict[str, DeadLetter]:
    """Return the dead letters with these ids.

    Raises:
        UnknownResult: one of them is no dead letter; names it.
    """
    missing = dict.fromkeys(ids)
    found: dict[str, DeadLetter] = {}
    for letter in dead_letters(broker, queues):
        if not missing:
            break
        if letter.message.id in missing:
            del missing[letter.message.id]
            found[letter.message.id] = letter
    if missing:
        raise UnknownResult(
            f"no dead letter has the id {', '.join(missing)}, so nothing was done; "
            "taskq dead list shows which there are"
        )
    return found


def task_of(letter: DeadLetter) -> str:
    """Return the name of a letter's task, or "" where it cannot be read."""
    try:
        return _read(letter)[0].task
    except DecodeError:
        return ""


def summary(letter: DeadLetter) -> dict[str, Any]:
    """Return what there is to say without looking into the body."""
    return {
        "id": letter.message.id,
        "queue": letter.message.queue,
        "task": task_of(letter) or None,
        "code": letter.code,
        "detail": letter.detail,
        "died": letter.died,
        "priority": letter.message.priority,
        "max_deliveries": letter.message.max_deliveries,
        "retries": letter.retries,
        "losses": letter.losses,
        "releases": letter.releases,
        "run": letter.run,
    }


def document(letter: DeadLetter, codecs: Codecs) -> dict[str, Any]:
    """Return all there is to say of a letter, ready for JSON."""
    envelope = letter.message.envelope
    found = summary(letter)
    try:
        header, body = _read(letter)
    except DecodeError as error:
        found["undecodable"] = str(error)
        found["envelope_base64"] = base64.b64encode(envelope).decode()
        return found
    found["envelope"] = msgspec.to_builtins(header)
    try:
        args, kwargs = _arguments(header, body, codecs)
        found["args"], found["kwargs"] = lower(args), lower(kwargs)
    except (DecodeError, EncodingError) as error:
        found["undecodable"] = str(error)
        found["body_base64"] = base64.b64encode(body).decode()
    return found


def describe(letter: DeadLetter, codecs: Codecs) -> str:
    """Return a letter as text for a person; long bodies are cut."""
    facts = summary(letter) | {"died": instant(letter.died), "task": task_of(letter) or "?"}
    lines = [_fact(name, fact) for name, fact in facts.items()]
    try:
        header, body = _read(letter)
    except DecodeError as error:
        return "\n".join([*lines, *_dumped("envelope", error, letter.message.envelope)])
    lines.append(_fact("sent", f"{instant(from_microseconds(header.created))} (sender's clock)"))
    lines += [_fact(f"meta {key}", value) for key, value in header.meta.items()]
    lines += [_fact(f"header {key}", value) for key, value in header.headers.items()]
    try:
        args, kwargs = _arguments(header, body, codecs)
    except DecodeError as error:
        return "\n".join([*lines, *_dumped("arguments", error, body)])
    lines.append("args\n" + shorten(pprint.pformat(args, sort_dicts=False), BODY_LIMIT))
    lines.append("kwargs\n" + shorten(pprint.pformat(kwargs, sort_dicts=False), BODY_LIMIT))
    return "\n".join(lines)


def hexdump(data: bytes) -> list[str]:
    """Return bytes as lines of 16, in hexadecimal and in ASCII."""
    lines: list[str] = []
    for start in range(0, len(data), 16):
        row = data[start : start + 16]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        lines.append(f"  {start:04x}  {row.hex(' '):<47}  {text}")
    return lines


def _fact(name: str, value: object) -> str:
    return escape(f"{name:<15} {value}")


def _read(letter: DeadLetter) -> tuple[Envelope, bytes]:
    # It may be a dead letter for its size; it is in memory already.
    return wire.read(letter.message.envelope, limit=len(letter.message.envelope))


def _arguments(header: Envelope, body: bytes, codecs: Codecs) -> tuple[Any, Any]:
    found = codecs.of(header.type).decode(body)
    if not isinstance(found, list) or len(found) != 2:
        raise DecodeError("the body is not a pair of arguments and keyword arguments")
    return found[0], found[1]


def _dumped(what: str, error: DecodeError, data: bytes) -> list[str]:
    shown = f"the first {DUMP_LIMIT} of " if len(data) > DUMP_LIMIT else ""
    return [
        f"{what} cannot be read: {error}",
        f"{shown}{len(data)} bytes:",
        *hexdump(data[:DUMP_LIMIT]),
    ]
