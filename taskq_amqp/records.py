"""What a message's body holds: the record, which is ours, and the envelope, which is the sender's.

The record is of a fixed form, so that it is read in one go::

    magic, priority, length of the id, max_deliveries, retries, losses, releases, run,
    sent, due, rest, expires, first_released, id, envelope

Integers are big-endian; instants are microseconds since the Unix epoch, 0 for none.
A dead letter has its reason in front::

    magic, when it died, length of code and detail, code, detail, message
"""

from __future__ import annotations

import struct
from typing import Final

import msgspec

from taskq.clock import MICROSECONDS, Seconds, Timestamp
from taskq.contract.delivery import DeadLetter, Delivery
from taskq.contract.message import Message
from taskq.errors import DecodeError

_RECORD: Final = struct.Struct(">2sBBIIIIIqqqqq")
_LETTER: Final = struct.Struct(">2sqHI")
_MAGIC: Final = b"q1"
_DEAD: Final = b"d1"
_DETAIL_LIMIT: Final = 1 << 20


class Record(msgspec.Struct, gc=False):
    """One message with the broker's own account of it."""

    id: str
    envelope: bytes
    priority: int
    max_deliveries: int
    sent: int
    due: int = 0
    """When it was to come, as far as its sender could tell. The server's steps decide."""
    rest: int = 0
    """How long it is to wait beyond what one way down the steps can last."""
    expires: int = 0
    first_released: int = 0
    retries: int = 0
    losses: int = 0
    releases: int = 0
    run: int = 0

    def pack(self) -> bytes:
        name = self.id.encode()
        fixed = _RECORD.pack(
            _MAGIC,
            self.priority,
            len(name),
            self.max_deliveries,
            self.retries,
            self.losses,
            self.releases,
            self.run,
            self.sent,
            self.due,
            self.rest,
            self.expires,
            self.first_released,
        )
        return b"%b%b%b" % (fixed, name, self.envelope)

    def message(self, queue: str) -> Message:
        return Message(self.id, queue, self.envelope, self.priority, self.max_deliveries)

    def delivery(
        self, queue: str, token: str, claimed: Timestamp, lease_until: Timestamp
    ) -> Delivery:
        """Return what `reserve` hands out."""
        expires, first = self.expires, self.first_released
        return Delivery(
            self.message(queue),
            token,
            claimed,
            lease_until,
            self.retries,
            self.losses,
            self.releases,
            self.run,
            expires != 0 and expires <= claimed * MICROSECONDS,
            first / MICROSECONDS if first else None,
        )


def unpack(body: bytes) -> Record:
    """Read a record.

    Raises:
        DecodeError: it is none.
    """
    try:
        (
            magic,
            priority,
            length,
            max_deliveries,
            retries,
            losses,
            releases,
            run,
            sent,
            due,
            rest,
            expires,
            first_released,
        ) = _RECORD.unpack_from(body)
        end = _RECORD.size + length
        id = body[_RECORD.size : end].decode()
    except (struct.error, UnicodeDecodeError) as error:
        raise DecodeError("this is no message of taskq") from error
    if magic != _MAGIC or len(body) < end or not id or priority > 9:
        raise DecodeError("this is no message of taskq")
    return Record(
        id,
        body[end:],
        priority,
        max_deliveries,
        sent,
        due,
        rest,
        expires,
        first_released,
        retries,
        losses,
        releases,
        run,
    )


class Letter(msgspec.Struct, gc=False):
    """A dead letter: a record, and why it was given up."""

    record: Record
    code: str
    detail: str
    died: int

    def pack(self) -> bytes:
        code = self.code.encode()
        detail = self.detail.encode("utf-8", "replace")[:_DETAIL_LIMIT]
        head = _LETTER.pack(_DEAD, self.died, len(code), len(detail))
        return b"".join((head, code, detail, self.record.pack()))

    def dead_letter(self, queue: str) -> DeadLetter:
        record = self.record
        return DeadLetter(
            record.message(queue),
            self.code,
            self.detail,
            self.died / MICROSECONDS,
            record.retries,
            record.losses,
            record.releases,
            record.run,
        )


def unpack_letter(body: bytes) -> Letter:
    """Read a dead letter.

    Raises:
        DecodeError: it is none.
    """
    try:
        magic, died, code, detail = _LETTER.unpack_from(body)
    except struct.error as error:
        raise DecodeError("this is no dead letter of taskq") from error
    if magic != _DEAD:
        raise DecodeError("this is no dead letter of taskq")
    middle, end = _LETTER.size + code, _LETTER.size + code + detail
    return Letter(
        unpack(body[end:]),
        body[_LETTER.size : middle].decode("utf-8", "replace"),
        body[middle:end].decode("utf-8", "replace"),
        died,
    )


def micro(instant: Seconds) -> int:
    """Return seconds as whole microseconds."""
    return round(instant * MICROSECONDS)
