"""The record of a run: who called what, when, and what the answer was.

Instants are seconds of the monotonic clock, which all processes of one machine
share. The server carried a call out at some instant from `before` to `after`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypeAlias

import msgspec

from taskq.clock import Seconds

Instant: TypeAlias = float
Key: TypeAlias = tuple[str, str]
"""A delivery: the id of its message, and its token."""


class Item(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A message as it was sent."""

    id: str
    queue: str
    priority: int
    envelope: bytes


class Got(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A delivery as it was returned."""

    id: str
    token: str
    queue: str
    priority: int
    envelope: bytes
    retries: int
    losses: int
    releases: int
    run: int

    @property
    def steps(self) -> int:
        """How many leases the message had before this one."""
        return self.retries + self.losses + self.releases

    @property
    def counters(self) -> tuple[int, int, int]:
        return self.retries, self.losses, self.releases


class Fate(msgspec.Struct, frozen=True, array_like=True):
    """One settlement of a batch, and whether it came back as lost."""

    id: str
    token: str
    kind: str
    """ack, retry, release or dead."""
    lost: bool
    delay: Seconds = 0.0
    envelope: bytes | None = None
    successors: tuple[Item, ...] = ()


class Call(msgspec.Struct, frozen=True, tag=True):
    """One call of one client."""

    who: str
    before: Instant
    after: Instant


class Sent(Call, frozen=True):
    """A `send` that returned."""

    items: list[Item]


class Claimed(Call, frozen=True):
    """A `reserve`, empty-handed or not."""

    queues: tuple[str, ...]
    limit: int
    lease: Seconds
    got: list[Got]


class Settled(Call, frozen=True):
    """A `settle`."""

    fates: list[Fate]
    strange: list[Key] = []
    """Returned as lost though not in the batch, or more often than in it."""


class Extended(Call, frozen=True):
    """An `extend`."""

    lease: Seconds
    kept: list[Key]
    lost: list[Key]
    strange: list[Key] = []
    """Returned as lost though not asked for."""


class Letter(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A dead letter as it was listed at the end."""

    id: str
    code: str
    retries: int
    losses: int
    releases: int
    run: int

    @property
    def counters(self) -> tuple[int, int, int]:
        return self.retries, self.losses, self.releases


AnyCall: TypeAlias = Sent | Claimed | Settled | Extended


class History:
    """All calls of a run, in the order in which they were made, and the dead at its end."""

    def __init__(self, calls: Iterable[AnyCall], letters: Iterable[Letter] = ()) -> None:
        self.calls: Final = sorted(calls, key=lambda call: call.before)
        self.letters: Final = list(letters)

    @property
    def start(self) -> Instant:
        """When the first call was made."""
        return self.calls[0].before if self.calls else 0.0


_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(list[AnyCall])


def pack(calls: list[AnyCall]) -> bytes:
    """Return the calls as bytes for another process."""
    return _encoder.encode(calls)


def unpack(data: bytes) -> list[AnyCall]:
    """Return what `pack` was given."""
    return _decoder.decode(data)
