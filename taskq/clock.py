"""Time, as one object that tests can move.

A broker with a clock of its own (a server) decides leases and due times by
that clock plus `Clock.offset`; a broker without one uses `Clock.now()`. In
production the offset is 0. Tests move it, so that there is one code path.
"""

from __future__ import annotations

import time
from typing import Final, Protocol, TypeAlias

Seconds: TypeAlias = float
"""A duration."""

Timestamp: TypeAlias = float
"""Seconds since the Unix epoch, UTC."""

MICROSECONDS: Final = 1_000_000


class Clock(Protocol):
    """Where a broker without a server's clock gets the time."""

    @property
    def offset(self) -> Seconds:
        """Add this to a server's clock. 0 outside tests."""
        ...

    def now(self) -> Timestamp:
        """Return the present instant."""
        ...


class SystemClock:
    """The machine's clock."""

    offset: Final[Seconds] = 0.0

    def now(self) -> Timestamp:
        return time.time()


class VirtualClock:
    """The machine's clock plus an offset that only `advance` changes.

    With `frozen=True` the machine's part stands still, so that time passes by
    `advance` alone; servers cannot be frozen and ignore that. Thread-safe as
    far as one writer and many readers go.
    """

    def __init__(self, *, frozen: bool = False) -> None:
        self._frozen_at = time.time() if frozen else None
        self.offset: Seconds = 0.0

    def now(self) -> Timestamp:
        base = time.time() if self._frozen_at is None else self._frozen_at
        return base + self.offset

    def advance(self, seconds: Seconds) -> None:
        """Let `seconds` pass. Time does not run backwards."""
        if seconds < 0:
            raise ValueError(f"time does not run backwards: advance({seconds})")
        self.offset += seconds


def to_microseconds(value: Seconds) -> int:
    """Return seconds as whole microseconds, as stores and the wire hold them."""
    return round(value * MICROSECONDS)


def from_microseconds(value: int) -> Seconds:
    """Return whole microseconds as seconds."""
    return value / MICROSECONDS
