"""The contract of a result store.

A result is a record under a task's id: who wants it knows the id. Stores see
an opaque payload (`taskq.wire.outcome` knows what is in it).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import msgspec

from taskq.clock import Seconds


class ResultRecord(msgspec.Struct, frozen=True, gc=False):
    """What became of a task."""

    id: str
    run: int
    """The `Delivery.run` it comes from; a higher run is newer."""
    state: str
    """SUCCESS, FAILURE, RETRY or REVOKED. RETRY is not final."""
    payload: bytes
    ttl: Seconds
    """How long it can be read, from when it is stored, by the store's clock.
    Informative on what `fetch` and `wait` return."""


class Results(ABC):
    """One client of one result store. Thread-safe, and safe to use after a fork.

    Every method may raise `ConnectionFailed`, `OutcomeUnknown`,
    `ServerRefused` or `Closed`. Repeating any of them is harmless. None waits
    for the server longer than the `timeout` the client was opened with.
    """

    @abstractmethod
    def store(self, records: Sequence[ResultRecord], /) -> None:
        """Keep the records. Those whose id has one of a higher run are ignored.

        Laws: R1, R2, R3, R8.
        """

    @abstractmethod
    def fetch(self, ids: Sequence[str], /) -> dict[str, ResultRecord]:
        """Return the records there are; ids without one are left out.

        Laws: R1, R3, R6.
        """

    @abstractmethod
    def wait(self, ids: Sequence[str], /, *, timeout: Seconds) -> dict[str, ResultRecord]:
        """Return what `fetch` would as soon as there is a record, else `{}`.

        A record in state RETRY does not end the wait and is not returned.
        Waits `timeout` seconds at most; 0 looks once. Law: R4.
        """

    @abstractmethod
    def forget(self, ids: Sequence[str], /) -> None:
        """Drop the records. Law: R5."""

    @abstractmethod
    def expire(self, limit: int = 1000, /) -> int:
        """Drop up to `limit` records past their time; return how many.

        0 is an honest answer of a store that does so by itself. Law: R3.
        """

    @abstractmethod
    def close(self) -> None:
        """Close the client. Idempotent; later calls raise `Closed`. Law: R7."""
