"""Looking for ids in what was stored before: backwards, in blocks that grow.

For an id that tells when it was made it ends there, or at the bounds: a number
of messages, and time. For any other id it ends where the index is full, or each
new one would be looked for in everything. What is not found is not known to be
absent; the tail remembers how far it was looked.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Sequence
from typing import Final

from pika import spec

from taskq.clock import MICROSECONDS, Timestamp
from taskq.errors import BrokerError, DecodeError
from taskq_amqp.results.streams import Entry, born, token_of, unpack
from taskq_amqp.results.tail import ALWAYS, BUDGET, MARGIN, NEVER, Block, Index, Tail
from taskq_amqp.transport.channel import Channel
from taskq_amqp.transport.connection import Connection
from taskq_amqp.transport.wire import Delivered, offset_of

FIRST_BLOCK: Final = 500
"""Messages; each block has twice as many as the one after it."""
MOST: Final = 100_000
"""Messages of one stream that one search reads."""
SHARE: Final = 0.5
"""Of the time that is left, so much may be spent."""
WINDOW: Final = 500
_numbers = itertools.count()


def look_back(
    connection: Connection,
    stream: str,
    tail: Tail,
    lock: threading.Lock,
    ids: Sequence[str],
    deadline: float,
) -> None:
    """Extend what a tail knows of these ids into the past, as far as the bounds allow.

    Raises:
        BrokerError: the connection was lost.
    """
    now = time.monotonic()
    until = now + SHARE * max(deadline - now, 0.0)
    births = [made for made in map(born, ids) if made is not None]
    need = min(births, default=NEVER) - MARGIN
    plain = len(births) < len(ids)
    wanted = frozenset(ids)
    with lock:
        tail.ask(ids)
        high, since = tail.start, tail.since
    channel = connection.channel(deadline)
    try:
        size, total = FIRST_BLOCK, 0
        while high > 0 and total < MOST and time.monotonic() < until:
            if since <= need and not (plain and not tail.full):
                break
            size = min(size, MOST - total, high)
            block = _Scan(channel, stream, Block(high - size, high, Index()), wanted).run(until)
            if block is None:
                break
            since = min(since, block.since)
            with lock:
                tail.prepend(block, ids)
            total += size
            high = block.low if block.since != ALWAYS else 0
            size *= 2
        with lock:
            tail.answer(ids, ALWAYS if not high else since)
    finally:
        with lock:
            tail.unask(ids)
        with contextlib.suppress(BrokerError):
            channel.end(deadline)


class _Scan:
    """Reads one block."""

    def __init__(self, channel: Channel, stream: str, block: Block, wanted: frozenset[str]) -> None:
        self._channel = channel
        self._stream = stream
        self._block = block
        self._wanted = wanted
        self._first = -1
        self._oldest: Timestamp = NEVER
        self._count = 0
        self._over = threading.Event()

    def run(self, until: float) -> Block | None:
        """Return the block; None if it does not come in time."""
        channel, tag = self._channel, f"past{next(_numbers)}"
        channel.sinks[tag.encode()] = self._take
        channel.closed = lambda _: self._over.set()
        consume = spec.Basic.Consume(
            0, self._stream, tag, arguments={"x-stream-offset": self._block.low}
        )
        channel.call(spec.Basic.Qos(prefetch_count=WINDOW), consume, deadline=until)
        came = self._over.wait(until - time.monotonic())
        if channel.error is not None:
            raise channel.error
        del channel.sinks[tag.encode()]
        channel.call(spec.Basic.Cancel(tag), deadline=until + 1)
        return self._block if came else None

    def _take(self, event: Delivered) -> None:
        if self._over.is_set():
            return
        self._count += 1
        if self._count % (WINDOW // 2) == 0:
            self._channel.acknowledge_all(event.tag)
        block = self._block
        last = False
        with contextlib.suppress(DecodeError):
            offset = offset_of(event.properties)
            last = offset >= block.high - 1
            if self._first < 0:
                self._first = offset
            if offset < block.high and token_of(event.body) is None:
                self._keep(block, offset, unpack(event.body))
        if last:
            self._finish(block)
            self._over.set()

    def _keep(self, block: Block, offset: int, entries: Sequence[Entry]) -> None:
        for entry in entries:
            if self._oldest == NEVER:
                self._oldest = entry.stored / MICROSECONDS
            if block.whole or entry.id in self._wanted:
                block.index.add(offset, entry)
        if block.whole and block.index.size > BUDGET:
            block.whole, block.index = False, block.index.only(self._wanted)

    def _finish(self, block: Block) -> None:
        block.since = self._oldest
        if self._first > block.low or block.low == 0:
            # The server keeps nothing older.
            block.since, block.low = ALWAYS, min(self._first, block.high)
