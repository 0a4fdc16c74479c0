"""Records in streams: how they are spread, written, and made into one result.

All results of a namespace are in `SHARDS` streams, each id in the one that its
hash names. A stream only grows at its end, so whoever wants the record of an id
reads what was appended about it, in order, and folds it (`later`). Retention is
the server's own, and housekeeping only: a record ends by its own time to live.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from typing import Any, Final, TypeAlias

import msgspec

from taskq.clock import MICROSECONDS, Seconds, Timestamp, from_microseconds
from taskq.contract.results import ResultRecord
from taskq.errors import DecodeError
from taskq_amqp.names import VERSION
from taskq_amqp.transport.publisher import Parcel

SHARDS: Final = 8
"""Part of the layout: another number is another version."""
ARGUMENTS: Final[dict[str, Any]] = {
    "x-queue-type": "stream",
    "x-max-age": "1D",
    "x-max-length-bytes": 1_000_000_000,
    "x-stream-max-segment-size-bytes": 20_000_000,
}
"""None is a setting's, since arguments can never be changed. A policy overrides them.
What is older or more goes a whole segment at a time, when a new one is begun."""
NOT_FINAL: Final = "RETRY"
SUCCESS: Final = "SUCCESS"

PARCEL_BYTES: Final = 1 << 16
PARCEL_RECORDS: Final = 500
LONGEST_TTL: Final[Seconds] = 100 * 365 * 86_400.0

_RECORDS: Final = b"\x01"
_MARK: Final = b"\x00"
_VERSION_AT: Final = 14
_CANONICAL: Final = 36
"""Characters of a UUID."""


class Entry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What one append says of one id."""

    id: str
    run: int
    state: str
    """Empty: the record is forgotten."""
    stored: int
    """When, in microseconds, by the clock of the client that did it."""
    ttl: int
    payload: bytes

    @property
    def end(self) -> int:
        return self.stored + self.ttl

    def alive(self, now: int) -> bool:
        """Say whether it can be read at an instant."""
        return bool(self.state) and now < self.end

    def record(self) -> ResultRecord:
        return ResultRecord(
            self.id, self.run, self.state, self.payload, from_microseconds(self.ttl)
        )


_decoder: Final = msgspec.msgpack.Decoder(list[Entry])
_encoder: Final = msgspec.msgpack.Encoder()


def stored(record: ResultRecord, now: int) -> Entry:
    """Return the entry that keeps a record from now on."""
    ttl = round(min(max(record.ttl, 0.0), LONGEST_TTL) * MICROSECONDS)
    return Entry(record.id, record.run, record.state, now, ttl, record.payload)


def forgotten(id: str, now: int) -> Entry:
    """Return the entry that ends whatever is known of an id."""
    return Entry(id, 0, "", now, 0, b"")


def later(old: Entry | None, new: Entry) -> Entry:
    """Return what holds after an entry was appended to what held before (R2, R3, R5)."""
    if old is not None and new.state and old.run > new.run and old.alive(new.stored):
        return old
    return new


Chain: TypeAlias = tuple[Entry, ...]
"""What of all that was appended about an id may still decide what holds, in order."""


def joined(chain: Chain, new: Entry) -> Chain:
    """Return a chain with one more entry, less what can decide nothing any more.

    What came before the chain may not be known. So an entry is kept beside a newer
    one of a lower run, which holds if the older one never came to hold; even one
    that has ended, since it ended what was before it. Nearly every chain has one entry.
    """
    if not new.state:
        return (new,)
    while chain and chain[-1].run <= new.run:
        # A tombstone stays: it ends whatever came before the chain.
        if not chain[-1].state:
            break
        chain = chain[:-1]
    return (*chain, new)


def verdict(chain: Chain) -> Entry | None:
    """Return the entry that holds at the end of a chain."""
    held: Entry | None = None
    for entry in chain:
        held = later(held, entry)
    return held


def shard_of(id: str) -> int:
    """Return the number of the stream that an id belongs to."""
    return zlib.crc32(id.encode()) % SHARDS


def stream_of(namespace: str, shard: int) -> str:
    """Return the name of a stream."""
    return f"{VERSION}/{namespace}/results/{shard}"


def born(id: str) -> Timestamp | None:
    """Return when an id was made, if it tells (a UUID of version 7, RFC 9562)."""
    if len(id) != _CANONICAL or id[_VERSION_AT] != "7":
        return None
    try:
        return int(id[:8] + id[9:13], 16) / 1000
    except ValueError:
        return None


# -- On the wire


def parcels(namespace: str, entries: Iterable[Entry]) -> list[Parcel]:
    """Return entries as messages: those of a shard together, in their order."""
    shards: dict[int, list[Entry]] = {}
    for entry in entries:
        shards.setdefault(shard_of(entry.id), []).append(entry)
    found: list[Parcel] = []
    for shard, chosen in shards.items():
        stream = stream_of(namespace, shard)
        found += [Parcel("", stream, pack(part)) for part in _parts(chosen)]
    return found


def _parts(entries: Sequence[Entry]) -> Iterable[Sequence[Entry]]:
    first = size = 0
    for number, entry in enumerate(entries):
        full = size + len(entry.payload) > PARCEL_BYTES or number - first >= PARCEL_RECORDS
        if full and number > first:
            yield entries[first:number]
            first, size = number, 0
        size += len(entry.payload)
    yield entries[first:]


def pack(entries: Sequence[Entry]) -> bytes:
    """Return entries as one message."""
    return _RECORDS + _encoder.encode(entries)


def mark(token: bytes) -> bytes:
    """Return a message that says nothing; who meets his own has read all before it."""
    return _MARK + token


def token_of(body: bytes) -> bytes | None:
    """Return the token of a mark, None if it is none."""
    return body[1:] if body[:1] == _MARK else None


def unpack(body: bytes) -> list[Entry]:
    """Read a message.

    Raises:
        DecodeError: it is not one of ours, or of a version that is newer.
    """
    if body[:1] != _RECORDS:
        raise DecodeError("no records of a version that is known here")
    try:
        return _decoder.decode(memoryview(body)[1:])
    except msgspec.MsgspecError as error:
        raise DecodeError(f"no result records: {error}") from error
