"""Publishing with confirms in flight.

A batch is written in one go, and the caller waits until the server has said of
each message that it has it: confirmed, refused, or returned because no queue
was there. Confirms are those of RabbitMQ, numbered from 1 in each channel.
"""

from __future__ import annotations

import collections
import contextlib
import enum
import threading
import time
from collections.abc import Sequence
from typing import Final, NamedTuple

from taskq.errors import BrokerError, ConnectionFailed, OutcomeUnknown, SendError, ServerRefused
from taskq_amqp.transport.channel import Channel
from taskq_amqp.transport.wire import Confirmed, Returned, address, content

CHUNK: Final = 1 << 16
"""About so many bytes are given to the system at once."""
LOOK: Final = 0.02
"""Seconds between two looks whether the server takes messages again."""


class Parcel(NamedTuple):
    """A body and where it goes."""

    exchange: str
    key: str
    body: bytes


class Fate(enum.Enum):
    """What became of a parcel."""

    SENT = enum.auto()
    HOMELESS = enum.auto()
    """No queue was there for it."""
    REFUSED = enum.auto()
    UNSENT = enum.auto()
    UNKNOWN = enum.auto()


class Report:
    """What became of the parcels of one call."""

    __slots__ = ("error", "fates")

    def __init__(self, fates: list[Fate], error: BrokerError | None) -> None:
        self.fates = fates
        self.error = error
        """Why not all were sent, where one reason tells of them."""

    @property
    def complete(self) -> bool:
        return all(fate is Fate.SENT for fate in self.fates)

    def check(self) -> None:
        """Raise unless all were sent.

        Raises:
            OutcomeUnknown: some were, or may have been.
            ConnectionFailed: none was, for want of a connection or of time.
            ServerRefused: the server refused them all.
        """
        if self.complete:
            return
        reason = str(self.error or "the server refused a message")
        kinds = set(self.fates)
        if kinds <= {Fate.UNSENT}:
            raise ConnectionFailed(reason) from self.error
        if kinds <= {Fate.UNSENT, Fate.REFUSED, Fate.HOMELESS}:
            raise ServerRefused(reason) from self.error
        raise OutcomeUnknown(reason) from self.error


class _Batch:
    """Parcels on their way, in order."""

    def __init__(self, parcels: Sequence[Parcel], first: int) -> None:
        self.parcels = parcels
        self.first = first
        self.size = len(parcels)
        self.fates: list[Fate | None] = [None] * self.size
        self.homeless: set[int] = set()
        self.error: BrokerError | None = None
        self.left = self.size
        self._low = 0
        self._over = threading.Lock()
        self._over.acquire()

    def settle(self, index: int, fate: Fate) -> None:
        if self.fates[index] is None:
            lost = fate is Fate.SENT and index in self.homeless
            self.fates[index] = Fate.HOMELESS if lost else fate
            self.left -= 1

    def up_to(self, index: int, fate: Fate) -> None:
        for each in range(self._low, min(index + 1, self.size)):
            self.settle(each, fate)
        self._low = max(self._low, min(index + 1, self.size))

    def cut(self, size: int) -> None:
        """Take in that from there on nothing was written."""
        for index in range(size, self.size):
            self.settle(index, Fate.UNSENT)
        self.size = size

    def end(self) -> None:
        if self._over.locked():
            self._over.release()

    def wait(self, deadline: float) -> bool:
        return self._over.acquire(timeout=max(deadline - time.monotonic(), 0.0))


class Publisher:
    """One channel in confirm mode. Thread-safe."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self._next = 1
        self._open: collections.deque[_Batch] = collections.deque()
        self._lock = threading.Lock()
        channel.confirmed = self._confirm
        channel.returned = self._return
        channel.closed = self._lose

    def publish(
        self, parcels: Sequence[Parcel], deadline: float, *, tokens: Sequence[Parcel] = ()
    ) -> Report:
        """Send parcels in order; return what became of each by the deadline.

        `tokens` are sent behind them, and nobody asks what becomes of those. While
        the server takes nothing, by an alarm, nothing is written.
        """
        if not parcels:
            return Report([], None)
        try:
            self._await_alarm(deadline)
            batch = self._write(parcels, deadline)
            if tokens:
                with contextlib.suppress(BrokerError):
                    self._write(tokens, deadline)
        except (ConnectionFailed, OutcomeUnknown) as error:
            return Report([Fate.UNSENT] * len(parcels), error)
        if not batch.wait(deadline) and batch.left:
            batch.error = batch.error or self._overdue()
        fates = [fate or Fate.UNKNOWN for fate in batch.fates]
        return Report(fates, batch.error)

    def tell(self, parcel: Parcel, deadline: float) -> None:
        """Send one parcel if it can be sent at once, and do not ask what becomes of it."""
        if not self.channel.connection.blocked:
            with contextlib.suppress(BrokerError):
                self._write([parcel], deadline)

    def _await_alarm(self, deadline: float) -> None:
        connection = self.channel.connection
        while connection.blocked:
            if time.monotonic() >= deadline or connection.error is not None:
                raise ConnectionFailed(
                    f"{connection.name} takes no messages now: {connection.blocked}"
                )
            time.sleep(LOOK)

    def _overdue(self) -> BrokerError:
        connection = self.channel.connection
        if connection.blocked:
            return OutcomeUnknown(f"{connection.name} takes no messages now: {connection.blocked}")
        return OutcomeUnknown(f"{connection.name} did not confirm in time")

    def _write(self, parcels: Sequence[Parcel], deadline: float) -> _Batch:
        channel = self.channel
        with channel.connection.writing(deadline) as write:
            if channel.error is not None:
                raise ConnectionFailed(str(channel.error)) from channel.error
            with self._lock:
                batch = _Batch(parcels, self._next)
                self._next += len(parcels)
                self._open.append(batch)
            written = count = 0
            try:
                for packed, count in self._packed(parcels):
                    write(packed)
                    written += count
            except ConnectionFailed as error:
                # Of this piece nothing was written, so the numbers go on from here.
                with self._lock:
                    self._next = batch.first + written
                    batch.error = error
                    batch.cut(written)
                    if not batch.left:
                        batch.end()
            except OutcomeUnknown as error:
                with self._lock:
                    batch.error = error
                    for index in range(written + count, batch.size):
                        batch.settle(index, Fate.UNSENT)
                    batch.end()
        return batch

    def _packed(self, parcels: Sequence[Parcel]) -> list[tuple[bytes, int]]:
        """Return the frames of all parcels, in pieces, each with its number of parcels."""
        number, frame_max = self.channel.number, self.channel.connection.frame_max
        addresses: dict[tuple[str, str], bytes] = {}
        pieces: list[tuple[bytes, int]] = []
        frames: list[bytes] = []
        size = 0
        for exchange, key, body in parcels:
            to = addresses.get((exchange, key))
            if to is None:
                to = addresses[exchange, key] = address(number, exchange, key)
            frames.append(to)
            frames.append(content(number, body, frame_max))
            size += len(to) + len(body) + 32
            if size >= CHUNK:
                pieces.append((b"".join(frames), len(frames) // 2))
                frames, size = [], 0
        if frames:
            pieces.append((b"".join(frames), len(frames) // 2))
        return pieces

    # -- What the server says, in the reading thread

    def _confirm(self, event: Confirmed) -> None:
        fate = Fate.SENT if event.accepted else Fate.REFUSED
        with self._lock:
            for batch in list(self._open):
                index = event.tag - batch.first
                if index < 0:
                    break
                if event.multiple:
                    batch.up_to(index, fate)
                elif index < batch.size:
                    batch.settle(index, fate)
                if not batch.left:
                    batch.end()
            while self._open and not self._open[0].left:
                self._open.popleft()

    def _return(self, event: Returned) -> None:
        # A return has no number; it comes before the confirm of the same message.
        with self._lock:
            for batch in self._open:
                for index, parcel in enumerate(batch.parcels):
                    open_ = batch.fates[index] is None and index not in batch.homeless
                    if open_ and parcel.key == event.key and parcel.body == event.body:
                        batch.homeless.add(index)
                        return

    def _lose(self, error: BrokerError) -> None:
        with self._lock:
            while self._open:
                batch = self._open.popleft()
                batch.error = batch.error or error
                batch.end()


def send_error(ids: Sequence[str], report: Report) -> SendError:
    """Return the error that tells what became of each message."""
    by = {fate: [id for id, f in zip(ids, report.fates, strict=True) if f is fate] for fate in Fate}
    unsent = {Fate.UNSENT, Fate.REFUSED, Fate.HOMELESS}
    return SendError(
        f"{len(by[Fate.SENT])} of {len(ids)} messages were certainly sent: "
        f"{report.error or 'the server refused some'}",
        sent=by[Fate.SENT],
        unsent=[id for id, f in zip(ids, report.fates, strict=True) if f in unsent],
        unknown=by[Fate.UNKNOWN],
        refused=bool(by[Fate.REFUSED]) and not by[Fate.UNKNOWN],
    )
