"""What keeps the streams coming: one connection, and a consumer for each stream in use.

    asked for                mark came by           LINGER without a question
    ─────────▶ attached ─────────────▶ live ──────────────────────────────▶ detached
                   ▲ from where it ended, or from a little before now          │
                   └───────────────────────────────────────────────────────────┘

What comes was mostly stored by others for others. A thread that gets up for each
message pays more for getting up than for reading; so the reading thread lets
them gather (`_lull`) while many come that nobody waits for.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final, Protocol

from pika import spec

from taskq.clock import Clock, Seconds
from taskq.errors import BrokerError, ConnectionFailed
from taskq_amqp.options import Options
from taskq_amqp.preparation import Preparation, make_streams
from taskq_amqp.results.streams import SHARDS, born, mark, stream_of
from taskq_amqp.results.tail import MARGIN, Tail
from taskq_amqp.transport.channel import Channel
from taskq_amqp.transport.connection import Connection
from taskq_amqp.transport.lines import refused_as_missing
from taskq_amqp.transport.publisher import Fate, Parcel, Publisher
from taskq_amqp.transport.wire import Delivered, Returned, ack, method

WINDOW: Final = 500
"""Messages on their way that are not acknowledged yet."""
LINGER: Final[Seconds] = 5.0
RESUME: Final[Seconds] = 60.0
"""After so long without reading, it is cheaper to begin anew than to catch up."""
OVERLAP: Final[Seconds] = 2.0
"""What is read twice when reading goes on; if it was not enough, it begins anew."""
OLDEST: Final[Seconds] = 120.0
"""How far before now reading begins, at most; further back is looked only when asked."""
PACE: Final[Seconds] = 0.004
"""How long the reading thread lets messages gather while somebody waits."""
IDLE_PACE: Final[Seconds] = 0.05
"""The same while nobody does; whoever begins to ends it."""
BUSY: Final[Seconds] = 0.005
"""Messages that come closer together than this are many."""
FOREIGN: Final = 0.25
"""From this share on of messages that nobody has waited for, others' results set the pace."""
MEMORY: Final = 1 / 16
"""How much the newest message counts in that share (an exponential moving average)."""


class Alarm:
    """Wakes one thread."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def ring(self) -> None:
        with contextlib.suppress(RuntimeError):
            self._lock.release()

    def wait(self, seconds: Seconds) -> bool:
        """Wait for a ring since the last wait; say whether there was one."""
        return self._lock.acquire(timeout=max(seconds, 0.0))


class Shard:
    """One stream."""

    def __init__(self, stream: str) -> None:
        self.stream = stream
        self.tail = Tail()
        self.tag = b""
        """Its consumer, or the last one that it had."""
        self.attached = False
        self.live = False
        """A mark came by since: what is not known is not there, but for what is under way."""
        self.dirty = False
        """This process has appended something, which may not have come by yet."""
        self.left = 0.0
        self.scanning = threading.Lock()


class Listener(Protocol):
    """Who takes what comes. Called in the reading thread, with the lock held."""

    def came(self, shard: Shard, event: Delivered) -> bool:
        """Take in a message; say whether anybody has waited for it."""
        ...

    def returned(self, event: Returned) -> None:
        """Take in that a stream is not there."""
        ...

    def lost(self, error: BrokerError) -> None:
        """Take in that nothing comes any more."""
        ...


class _Line(Connection):
    """A connection whose reading thread has something to do besides."""

    def __init__(
        self,
        options: Options,
        deadline: float,
        lull: Callable[[], None],
        upkeep: Callable[[], None],
    ) -> None:
        self._lull, self._upkeep = lull, upkeep
        super().__init__(options, "results", deadline)

    def _keep_alive(self, heard: float) -> None:
        super()._keep_alive(heard)
        self._upkeep()
        self._lull()


class Feed:
    """The streams of one process. Thread-safe.

    `lock` is held, for a moment, by whoever touches the state of a shard.
    """

    def __init__(
        self, options: Options, clock: Clock, preparation: Preparation, listener: Listener
    ) -> None:
        self._options = options
        self._clock = clock
        self._preparation = preparation
        self._listener = listener
        namespace = options.url.namespace
        self.shards = [Shard(stream_of(namespace, number)) for number in range(SHARDS)]
        self.lock = threading.Lock()
        self.closed = False
        self._made: set[str] = set()
        self._gate = threading.Lock()
        """Held by who connects or attaches."""
        self._line: _Line | None = None
        self._channel: Channel | None = None
        self._anchors: Publisher | None = None
        self._numbers = itertools.count(1)
        self._last_tag = self._acked = 0
        self._acked_at = self._used_at = self._looked = 0.0
        self._users = self._urgent = 0
        self._resting = self._idle = False
        self._foreign = 0.0
        self._hurry = Alarm()

    # -- Use

    def begin(self, *, urgent: bool) -> None:
        """Note that somebody waits, who calls `end` afterwards; the urgent ones for an answer."""
        with self.lock:
            self._users += 1
            self._urgent += urgent
        if self._idle or (urgent and self._resting):
            self._hurry.ring()

    def end(self, *, urgent: bool) -> None:
        with self.lock:
            self._users -= 1
            self._urgent -= urgent
            self._used_at = time.monotonic()

    @property
    def connection(self) -> Connection:
        """The connection that reads.

        Raises:
            ConnectionFailed: there is none.
        """
        line = self._line
        if line is None or line.error is not None:
            raise ConnectionFailed("the connection was closed")
        return line

    def close(self) -> None:
        self.closed = True
        self._hurry.ring()
        self.give_up()

    # -- Attaching

    def attach(self, groups: Mapping[int, Sequence[str]], deadline: float) -> Channel:
        """Consume the streams of these ids, by shard; return the channel that does.

        Raises:
            BrokerError: it is not possible.
        """
        if not self._gate.acquire(timeout=max(deadline - time.monotonic(), 0.0)):
            raise ConnectionFailed("no time is left to connect")
        try:
            channel = self._open(deadline)
            missing = [number for number in groups if not self.shards[number].attached]
            streams = {self.shards[number].stream for number in missing} - self._made
            if streams:
                make_streams(channel.connection, streams, self._preparation, deadline)
                self._made |= streams
            if missing:
                self._anchor(channel, [self.shards[number] for number in missing], deadline)
            for number in missing:
                self._consume(channel, self.shards[number], groups[number], deadline)
            return channel
        finally:
            self._gate.release()

    def give_up(self) -> None:
        """Close the connection; the next call makes another."""
        if self._line is not None:
            self._line.close()

    def renew(self, shard: Shard) -> None:
        """Take in that a stream is not the one that was read."""
        shard.tail.reset()
        shard.attached = shard.live = False
        shard.tag = b""
        self._made.discard(shard.stream)

    def _open(self, deadline: float) -> Channel:
        channel, line = self._channel, self._line
        if channel is not None and channel.error is None:
            return channel
        if line is None or line.error is not None:
            if line is not None:
                line.close()
            line = self._line = _Line(self._options, deadline, self._lull, self._upkeep)
            if self.closed:
                line.close()
        channel = line.channel(deadline)
        channel.cancelled = self._cancelled
        channel.returned = self._returned
        channel.closed = partial(self._lost, channel)
        channel.call(spec.Basic.Qos(prefetch_count=WINDOW), deadline=deadline)
        if self._channel is not None:
            self._lost(self._channel, ConnectionFailed("another connection took its place"))
        with self.lock:
            self._channel = channel
            self._acked = self._last_tag = 0
        return channel

    def _anchor(self, channel: Channel, shards: Sequence[Shard], deadline: float) -> None:
        """Append a mark to streams that are about to be consumed.

        Who consumes from an instant on begins with the first message after it, or
        behind the end if there is none; and RabbitMQ may then pass over what is
        being appended at the time (3.10 did in 19 of 300 tries). Now there is one.
        """
        line, publisher = channel.connection, self._anchors
        if publisher is None or publisher.channel.error or publisher.channel.connection is not line:
            own = line.channel(deadline)
            own.call(spec.Confirm.Select(), deadline=deadline)
            publisher = self._anchors = Publisher(own)
        parcels = [Parcel("", shard.stream, mark(b"")) for shard in shards]
        report = publisher.publish(parcels, deadline)
        for shard, fate in zip(shards, report.fates, strict=True):
            if fate is Fate.HOMELESS:
                self._made.discard(shard.stream)
                raise ConnectionFailed(f"the stream {shard.stream} is gone")
        report.check()

    def _consume(self, channel: Channel, shard: Shard, ids: Sequence[str], deadline: float) -> None:
        tag = b"r%d" % next(self._numbers)
        with self.lock:
            offset = self._offset(shard, ids)
            channel.sinks.pop(shard.tag, None)
            channel.sinks[tag] = partial(self._came, shard, tag)
            shard.tag, shard.attached, shard.live = tag, True, False
        arguments = {"x-stream-offset": offset}
        consume = spec.Basic.Consume(
            0, shard.stream, tag.decode(), nowait=True, arguments=arguments
        )
        try:
            channel.write(method(channel.number, consume), deadline)
        except BrokerError:
            with self.lock:
                shard.attached = False
            raise

    def _offset(self, shard: Shard, ids: Sequence[str]) -> str:
        """Return where to begin to read for these ids: so long before now.

        The server counts it, whose clock may be another.
        """
        # Without what tests have moved it by: the server's time cannot be moved.
        now = self._clock.now() - self._clock.offset
        idle = time.monotonic() - shard.left
        if shard.tail.start >= 0 and idle < RESUME:
            age = int(idle + OVERLAP) + 1
        else:
            shard.tail.reset()
            ages = [now - made for made in map(born, ids) if made is not None]
            age = int(min(max(ages, default=0.0), OLDEST) + MARGIN) + 1
        shard.tail.resume(now - age)
        return f"{age}s"

    # -- In the reading thread

    def _came(self, shard: Shard, tag: bytes, event: Delivered) -> None:
        self._last_tag = event.tag
        with self.lock:
            # What is on its way while a consumer ends may come after all.
            if tag == shard.tag:
                wanted = self._listener.came(shard, event)
                self._foreign += ((not wanted) - self._foreign) * MEMORY

    def _returned(self, event: Returned) -> None:
        with self.lock:
            self._listener.returned(event)

    def _cancelled(self, tag: bytes) -> None:
        with self.lock:
            for shard in self.shards:
                if shard.tag == tag:
                    self.renew(shard)
            self._listener.lost(ConnectionFailed("a stream was deleted"))

    def _lost(self, channel: Channel, error: BrokerError) -> None:
        with self.lock:
            if channel is self._channel:
                self._channel = None
                self._detach()
                self._listener.lost(error)
            if refused_as_missing(error):
                self._made.clear()

    def _detach(self) -> list[bytes]:
        """Note that nothing is consumed any more; return what was."""
        attached = [shard for shard in self.shards if shard.attached]
        for shard in attached:
            shard.attached = shard.live = False
            shard.left = time.monotonic()
        return [shard.tag for shard in attached]

    def _lull(self) -> None:
        """Let messages gather before the next look, if many come that nobody waits for."""
        now = time.monotonic()
        soon = now - self._looked < BUSY
        self._looked = now
        if self._wanted_now():
            return
        idle = not self._users and now - self._used_at > BUSY
        if not idle and not (soon and self._foreign > FOREIGN):
            return
        self._hurry.wait(0)
        self._resting, self._idle = True, idle
        if not self._wanted_now() and not (idle and self._users):
            self._hurry.wait(IDLE_PACE if idle else PACE)
            self._looked = time.monotonic()
        self._resting = self._idle = False

    def _wanted_now(self) -> bool:
        return bool(self._urgent) or self.closed

    def _upkeep(self) -> None:
        """Acknowledge, and stop reading what nobody has asked about for long."""
        now = time.monotonic()
        late = self._last_tag - self._acked
        overdue = late > WINDOW // 4 or (late > 0 and now - self._acked_at > 1)
        idle = 0.0 if self._users else now - self._used_at
        if not overdue and idle < LINGER:
            return
        frames: list[bytes] = []
        with self.lock:
            channel = self._channel
            if channel is None:
                return
            if overdue:
                frames.append(ack(channel.number, self._last_tag, multiple=True))
                self._acked, self._acked_at = self._last_tag, now
            if idle > LINGER and not self._users:
                for tag in self._detach():
                    cancel = spec.Basic.Cancel(tag.decode(), nowait=True)
                    frames.append(method(channel.number, cancel))
                if idle > RESUME:
                    for shard in self.shards:
                        shard.tail.reset()
        if frames:
            with contextlib.suppress(BrokerError):
                channel.write(b"".join(frames), now + 1)
