"""What one process knows of the results in the streams, and how it asks for more.

Whoever must know what was stored until now appends a mark and waits until it
comes by: AMQP tells neither how long a stream is nor whether all of it has been
delivered. What came by since is known without asking the server.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence

from taskq.clock import Clock, Timestamp
from taskq.errors import BrokerError, ConnectionFailed, DecodeError, OutcomeUnknown, ServerRefused
from taskq_amqp.options import Options
from taskq_amqp.preparation import MOMENT, Preparation, coming
from taskq_amqp.results.feed import Alarm, Feed, Shard
from taskq_amqp.results.history import look_back
from taskq_amqp.results.streams import Entry, mark, shard_of, token_of, unpack
from taskq_amqp.transport.channel import Channel
from taskq_amqp.transport.lines import refused_as_missing
from taskq_amqp.transport.wire import Delivered, Returned, address, content, offset_of

_log = logging.getLogger(__name__)


class Watch(Alarm):
    """Awaits that something is appended about ids."""

    __slots__ = ("heard", "unsure")

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[str] = []
        self.unsure = False
        """Something may have been missed, so that it is time to look."""


class _Barrier(Alarm):
    """Awaits that marks come by."""

    __slots__ = ("error", "missing")

    def __init__(self, missing: int) -> None:
        super().__init__()
        self.missing = missing
        self.error: BrokerError | None = None

    def passed(self) -> None:
        self.missing -= 1
        if not self.missing:
            self.ring()

    def fail(self, error: BrokerError) -> None:
        self.error = self.error or error
        self.ring()


class Reading:
    """What is read in one process. Thread-safe."""

    def __init__(self, options: Options, clock: Clock, preparation: Preparation) -> None:
        self._feed = Feed(options, clock, preparation, self)
        self._shards = self._feed.shards
        self._lock = self._feed.lock
        self._barriers: dict[bytes, tuple[Shard, _Barrier]] = {}
        self._watches: dict[str, list[Watch]] = {}
        self._numbers = itertools.count(1)
        self._secret = os.urandom(12)

    def close(self) -> None:
        self._feed.close()
        with self._lock:
            self._wake_all()

    # -- Asking

    def peek(self, ids: Sequence[str]) -> dict[str, Entry]:
        """Return what is known without asking the server; {} where that is not certain.

        Certain but for what is under way: what somebody stores or forgets shows a
        moment later.
        """
        found: dict[str, Entry] = {}
        with self._lock:
            for id in ids:
                shard = self._shards[shard_of(id)]
                entry = shard.tail.find(id) if shard.live and not shard.dirty else None
                if entry is not None:
                    found[id] = entry
        return found

    def look(
        self, ids: Sequence[str], deadline: float, *, certain: bool = True
    ) -> dict[str, Entry]:
        """Return what there is of these ids, dead entries included.

        It is all that was stored before the call if that has to be `certain`, else
        what has come until now.

        Raises:
            BrokerError: the server did not answer.
        """
        with self._lock:
            if not certain and self._known(ids):
                return self._find(ids)
        self._feed.begin(urgent=True)
        try:
            failed, pause = 0, MOMENT
            while True:
                try:
                    return self._look(ids, deadline, certain)
                except (ConnectionFailed, OutcomeUnknown, ServerRefused) as error:
                    if isinstance(error, OutcomeUnknown) and time.monotonic() >= deadline:
                        # A consumer that met a stream while it came up with its server
                        # may hear nothing for ever.
                        self._feed.give_up()
                    late = time.monotonic() + pause > deadline
                    if late or self._feed.closed or not _may_repeat(error, failed):
                        raise
                    if coming(error):
                        Alarm().wait(pause)
                        pause *= 2
                    else:
                        failed += 1
        finally:
            self._feed.end(urgent=True)

    def _look(self, ids: Sequence[str], deadline: float, certain: bool) -> dict[str, Entry]:
        groups: dict[int, list[str]] = {}
        for id in ids:
            groups.setdefault(shard_of(id), []).append(id)
        channel = self._feed.attach(groups, deadline)
        with self._lock:
            unsure = [
                self._shards[number]
                for number, group in groups.items()
                if certain or not _knows(self._shards[number], group)
            ]
        if unsure:
            self._pass_marks(channel, unsure, deadline)
        for number, group in groups.items():
            self._search(self._shards[number], group, deadline)
        with self._lock:
            return self._find(ids)

    def _known(self, ids: Iterable[str]) -> bool:
        """Say whether what is not known of ids is not there, but for what is under way."""
        shards = {id: self._shards[shard_of(id)] for id in ids}
        return all(shard.attached and _knows(shard, [id]) for id, shard in shards.items())

    def _find(self, ids: Iterable[str]) -> dict[str, Entry]:
        found = {id: self._shards[shard_of(id)].tail.find(id) for id in ids}
        return {id: entry for id, entry in found.items() if entry is not None}

    def looked_since(self, id: str) -> Timestamp:
        """Return from when on an id was looked for."""
        with self._lock:
            return self._shards[shard_of(id)].tail.looked_since(id)

    def touched(self, ids: Iterable[str]) -> None:
        """Take in that this process has appended something about these ids."""
        with self._lock:
            for number in set(map(shard_of, ids)):
                self._shards[number].dirty = True

    # -- Waiting

    @contextlib.contextmanager
    def watching(self, ids: Sequence[str]) -> Iterator[Watch]:
        """Yield what rings when something is appended about one of these ids."""
        watch = Watch()
        self._feed.begin(urgent=False)
        with self._lock:
            for id in ids:
                self._watches.setdefault(id, []).append(watch)
        try:
            yield watch
        finally:
            with self._lock:
                for id in ids:
                    watches = self._watches[id]
                    watches.remove(watch)
                    if not watches:
                        del self._watches[id]
            self._feed.end(urgent=False)

    def heard(self, watch: Watch) -> dict[str, Entry] | None:
        """Return what was appended since the last call; None if it is time to look."""
        with self._lock:
            heard, watch.heard = watch.heard, []
            if watch.unsure:
                watch.unsure = False
                return None
            return self._find(heard)

    # -- Being certain

    def _pass_marks(self, channel: Channel, shards: Sequence[Shard], deadline: float) -> None:
        """Wait until all that was appended to these streams before has come."""
        barrier = _Barrier(len(shards))
        tokens = {b"%b%d" % (self._secret, next(self._numbers)): shard for shard in shards}
        with self._lock:
            for token, shard in tokens.items():
                self._barriers[token] = shard, barrier
                shard.dirty = False
        try:
            self._send_marks(channel, tokens, deadline)
            in_time = barrier.wait(deadline - time.monotonic())
        finally:
            with self._lock:
                for token, shard in tokens.items():
                    if self._barriers.pop(token, None) is not None:
                        shard.dirty = True
        if barrier.error is not None:
            raise barrier.error
        if not in_time:
            blocked = channel.connection.blocked
            reason = f"takes no messages now: {blocked}" if blocked else "did not answer in time"
            raise OutcomeUnknown(f"{channel.connection.name} {reason}")

    def _send_marks(self, channel: Channel, tokens: Mapping[bytes, Shard], deadline: float) -> None:
        number, frame_max = channel.number, channel.connection.frame_max
        frames = [
            address(number, "", shard.stream) + content(number, mark(token), frame_max)
            for token, shard in tokens.items()
        ]
        channel.write(b"".join(frames), deadline)
        if channel.error is not None:
            # It was lost before anybody could know of the marks.
            raise channel.error

    def _search(self, shard: Shard, ids: Sequence[str], deadline: float) -> None:
        """Look for ids in what was stored before the stretch that is known."""
        with self._lock:
            unknown = [id for id in ids if not shard.tail.covers(id)]
        if not unknown:
            return
        if not shard.scanning.acquire(timeout=max(deadline - time.monotonic(), 0.0)):
            raise OutcomeUnknown("no time is left to look back")
        try:
            connection = self._feed.connection
            look_back(connection, shard.stream, shard.tail, self._lock, unknown, deadline)
        finally:
            shard.scanning.release()

    # -- In the reading thread, with the lock

    def came(self, shard: Shard, event: Delivered) -> bool:
        """Take in a message; say whether anybody has waited for it."""
        try:
            offset = offset_of(event.properties)
            token = token_of(event.body)
            if token is not None:
                return self._marked(shard, token, offset)
            entries = unpack(event.body)
        except DecodeError as error:
            _log.warning("passed over a message in %s: %s", shard.stream, error)
            return False
        shard.tail.take(offset, entries)
        served = False
        if self._watches:
            for entry in entries:
                for watch in self._watches.get(entry.id, ()):
                    watch.heard.append(entry.id)
                    watch.ring()
                    served = True
        return served

    def _marked(self, shard: Shard, token: bytes, offset: int) -> bool:
        _, barrier = self._barriers.pop(token, (shard, None))
        if barrier is not None and offset < shard.tail.next:
            # It is the end of the stream, and lies before what was read of it.
            self._feed.renew(shard)
            barrier.fail(OutcomeUnknown(f"the stream {shard.stream} was made anew"))
            return True
        shard.tail.take(offset, ())
        if barrier is None:
            return False
        shard.live = True
        barrier.passed()
        return True

    def returned(self, event: Returned) -> None:
        """Take in that the stream of a mark is not there."""
        shard, barrier = self._barriers.pop(token_of(event.body) or b"", (None, None))
        if shard is not None and barrier is not None:
            self._feed.renew(shard)
            barrier.fail(OutcomeUnknown(f"the stream {shard.stream} is gone"))

    def lost(self, error: BrokerError) -> None:
        """Take in that some of the streams do not come any more."""
        for _, barrier in self._barriers.values():
            barrier.fail(error)
        self._barriers.clear()
        self._wake_all()

    def _wake_all(self) -> None:
        for watches in self._watches.values():
            for watch in watches:
                watch.unsure = True
                watch.ring()


def _knows(shard: Shard, ids: Sequence[str]) -> bool:
    return shard.live and not shard.dirty and all(map(shard.tail.covers, ids))


def _may_repeat(error: BrokerError, failed: int) -> bool:
    """Say whether to ask again, which is harmless.

    An idle connection may just have ended, or a stream have been deleted.
    """
    if coming(error):
        return True
    refused = isinstance(error, ServerRefused) and not refused_as_missing(error)
    return not failed and not refused
