"""Claiming: from messages that came to deliveries that are handed out."""

from __future__ import annotations

import contextlib
import os
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from taskq.clock import MICROSECONDS, Clock, Seconds
from taskq.contract.delivery import Delivery
from taskq.errors import BrokerError, ConnectionFailed, DecodeError
from taskq_amqp.catalog import Catalog
from taskq_amqp.desk import Desk, Taken
from taskq_amqp.holdings import Held, Holdings
from taskq_amqp.leases import Leases
from taskq_amqp.names import Names
from taskq_amqp.posting import Going, Post, lost
from taskq_amqp.records import Letter, Record, micro, unpack
from taskq_amqp.transport.lines import Lines
from taskq_amqp.transport.publisher import Fate

LONGEST_IDLE: Final[Seconds] = 1.0
"""After this time a waiting claim looks by itself, whether it was woken or not."""
FIRST_LOOK: Final[Seconds] = 0.001
LAST_LOOK: Final[Seconds] = 0.016
"""After a hint a claim looks again after so long, and twice that, up to this."""
PLENTY: Final = 1_000_000


class _Placed(NamedTuple):
    """A delivery, and the level that it was taken from."""

    level: int
    delivery: Delivery

    def urgency(self) -> int:
        return -self.level


class Claims:
    """What one client claims and takes back. Thread-safe."""

    def __init__(
        self,
        lines: Lines,
        names: Names,
        catalog: Catalog,
        post: Post,
        holdings: Holdings,
        leases: Leases,
        clock: Clock,
    ) -> None:
        self._lines = lines
        self._names = names
        self._catalog = catalog
        self._post = post
        self._holdings = holdings
        self._leases = leases
        self._clock = clock
        self._lock = threading.Lock()
        self._idle: list[Desk] = []
        self._busy: set[Desk] = set()
        self._number = 0
        self._mark = (0, "")
        self.ended = False
        """Nothing more is claimed."""
        self._pause = threading.Event()

    def reserve(
        self, queues: Sequence[str], *, limit: int, lease: Seconds, wait: Seconds
    ) -> list[Delivery]:
        """Claim; see `Broker.reserve`."""
        until = time.monotonic() + wait
        soon = 0.0
        while not self.ended:
            found = self._round(queues, limit, lease)
            left = until - time.monotonic()
            if found or left <= 0:
                return found
            if soon:
                # A token may come before what it tells of has been counted.
                self._pause.wait(min(soon, left))
                soon = 2 * soon if soon < LAST_LOOK else 0.0
            elif self._wait(queues, min(left, LONGEST_IDLE)):
                soon = FIRST_LOOK
        return []

    def _round(self, queues: Sequence[str], limit: int, lease: Seconds) -> list[Delivery]:
        deadline = self._lines.deadline()
        self.reclaim(queues, PLENTY, deadline)
        self._leases.look(lease, deadline)
        found: list[Delivery] = []
        with self._at_desk(deadline) as desk:
            for queue in queues:
                if len(found) == limit:
                    break
                found += self._serve(desk, queue, limit - len(found), lease, deadline)
        return found

    def _serve(
        self, desk: Desk, queue: str, most: int, lease: Seconds, deadline: float
    ) -> list[Delivery]:
        """Hand out up to `most` of one queue, as long as there are any to take."""
        found: list[_Placed] = []
        while len(found) < most:
            taken = desk.take(queue, most - len(found), len(self._busy) - 1, deadline)
            if not taken:
                break
            try:
                self._hand_out(desk, taken, lease, deadline, found)
            except BrokerError:
                # What was moved in vain has gone back to where it was.
                if not found:
                    raise
                break
        # What came in while others were taken may be more urgent than they are.
        found.sort(key=_Placed.urgency)
        return [placed.delivery for placed in found]

    def _wait(self, queues: Sequence[str], seconds: Seconds) -> bool:
        """Wait for a hint that there is something; say whether there was one."""
        deadline = self._lines.deadline()
        end = self._holdings.next_end(queues)
        if end is not None:
            seconds = min(seconds, max(end - self._clock.now(), 0.0))
        # One that holds nothing, since a queue that is missing would close its channel.
        with self._at_desk(deadline, empty=True) as desk:
            return not self.ended and desk.wait(queues, seconds, deadline + seconds)

    def _hand_out(
        self,
        desk: Desk,
        taken: Sequence[Taken],
        lease: Seconds,
        deadline: float,
        found: list[_Placed],
    ) -> None:
        """Add deliveries of what is to be started; move the rest to where it belongs."""
        now = self._clock.now()
        held: list[Held] = []
        moves: list[tuple[int, Going]] = []
        for queue, level, event in taken:
            try:
                record = unpack(event.body)
            except DecodeError as error:
                letter = Letter(foreign(event.body, now), error.code, str(error), micro(now))
                moves.append((event.tag, Going(letter, queue)))
                continue
            if event.redelivered:
                # Somebody was given it, and has lost his connection; he may be at it yet.
                moves.append((event.tag, lost(record, queue, micro(now), lease)))
            elif record.rest > 0:
                moves.append((event.tag, Going(record, queue, delay=record.rest / MICROSECONDS)))
            else:
                token = self._token()
                held.append(Held(token, queue, record, desk.channel, event.tag, now + lease))
                found.append(_Placed(level, record.delivery(queue, token, now, now + lease)))
        self._holdings.add(held)
        if moves:
            self._move(desk, moves, deadline)

    def _move(self, desk: Desk, moves: Sequence[tuple[int, Going]], deadline: float) -> None:
        """Send what is not to be started to where it belongs; what cannot be sent goes back."""
        done: list[int] = []
        try:
            report = self._post.send([going for _, going in moves], deadline)
            fates = zip(moves, report.fates, strict=True)
            done = [tag for (tag, _), fate in fates if fate is Fate.SENT]
            desk.channel.acknowledge(done, deadline)
            report.check()
        finally:
            left = [tag for tag, _ in moves if tag not in done]
            if left:
                with contextlib.suppress(BrokerError):
                    desk.channel.give_back(left, max(deadline, time.monotonic() + 1))

    # -- Taking back

    def reclaim(self, queues: Sequence[str] | None, limit: int, deadline: float) -> int:
        """Take back own leases that have ended; return how many."""
        now = self._clock.now()
        lapsed = self._holdings.lapsed(now, queues, limit)
        if not lapsed:
            return 0
        goings = [lost(copy_of(held.record), held.queue, micro(now), 0.0) for held in lapsed]
        self.conclude(lapsed, goings, deadline)
        return len(lapsed)

    def conclude(self, taken: Sequence[Held], goings: Sequence[Going], deadline: float) -> None:
        """Send a copy of each to where it goes, and acknowledge it.

        Raises:
            BrokerError: not all were; those are still held.
        """
        done: list[Held] = []
        try:
            report = self._post.send(goings, deadline)
            done = [h for h, fate in zip(taken, report.fates, strict=True) if fate is Fate.SENT]
            self.acknowledge(done, deadline)
            self._holdings.drop(done)
            report.check()
        finally:
            gone = {held.token for held in done}
            self._holdings.keep(held for held in taken if held.token not in gone)

    def acknowledge(self, done: Sequence[Held], deadline: float) -> None:
        """Acknowledge what is held, channel by channel."""
        by_channel: dict[int, list[Held]] = {}
        for held in done:
            by_channel.setdefault(id(held.channel), []).append(held)
        for group in by_channel.values():
            group[0].channel.acknowledge([held.tag for held in group], deadline)

    # -- Desks

    def end(self) -> None:
        """End waiting claims, and let no more begin. From any thread."""
        self.ended = True
        self._pause.set()
        with self._lock:
            for desk in self._busy:
                desk.wake()

    @contextlib.contextmanager
    def _at_desk(self, deadline: float, *, empty: bool = False) -> Iterator[Desk]:
        """Lend a desk. One that is left in the midst of a call is closed: what came goes back."""
        desk = self._free_desk(deadline, empty)
        try:
            yield desk
        finally:
            with self._lock:
                self._busy.discard(desk)
                if desk.sound:
                    self._idle.append(desk)
            if desk.alive and not desk.sound and (desk.amid or desk.empty):
                with contextlib.suppress(BrokerError):
                    desk.channel.end(max(deadline, time.monotonic() + 1))
                desk.channel.fail(ConnectionFailed("the channel was given up"))

    def _free_desk(self, deadline: float, empty: bool) -> Desk:
        consumer = self._lines.consumer(deadline)
        with self._lock:
            self._idle = [
                desk for desk in self._idle if desk.sound and desk.channel.connection is consumer
            ]
            for desk in self._idle:
                if desk.empty or not empty:
                    self._idle.remove(desk)
                    self._busy.add(desk)
                    return desk
        desk = Desk(consumer.channel(deadline), self._lines, self._names, self._catalog)
        with self._lock:
            self._busy.add(desk)
            if self.ended:
                desk.wake()
        return desk

    def _token(self) -> str:
        pid = os.getpid()
        if self._mark[0] != pid:
            self._mark = (pid, uuid.uuid4().hex[:12])
        self._number += 1
        return f"{self._mark[1]}.{self._number}"


def copy_of(record: Record) -> Record:
    """Return a copy to be changed, since what is held may be moved once more."""
    return Record(*(getattr(record, name) for name in Record.__struct_fields__))


def foreign(body: bytes, now: Seconds) -> Record:
    """Return a record of bytes that are none, so that they are kept."""
    return Record(f"undecodable-{uuid.uuid4().hex}", body, 0, 2, micro(now))
