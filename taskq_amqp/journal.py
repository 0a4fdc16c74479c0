"""Reading a stream in the order of its entries."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from typing import Any, Final, NamedTuple, Self

from pika import spec

from taskq.clock import Seconds
from taskq.errors import BrokerError
from taskq_amqp.transport.channel import Channel
from taskq_amqp.transport.connection import Connection
from taskq_amqp.transport.wire import Delivered, offset_of

AT_ONCE: Final = 1000
"""Entries that are on their way without being acknowledged."""
_numbers = itertools.count(1)


class Line(NamedTuple):
    """One entry, and its place in the stream."""

    offset: int
    body: bytes


class Journal:
    """A stream from some place on, read by one thread on a channel of its own.

    Use it as a context manager.
    """

    def __init__(self, connection: Connection, stream: str, since: object, deadline: float) -> None:
        """Begin to read.

        Args:
            since: an offset, or an instant (`datetime`); see "x-stream-offset".

        Raises:
            BrokerError: it cannot be read.
        """
        self._channel = connection.channel(deadline)
        self._changed = threading.Condition()
        self._came: list[Line] = []
        self._count = 0
        self._channel.closed = lambda _: self._notify()
        tag = b"j%d" % next(_numbers)
        self._channel.sinks[tag] = self._take
        try:
            start(self._channel, stream, tag, since, deadline)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        with contextlib.suppress(BrokerError):
            self._channel.end(time.monotonic() + 1)

    def read(self, wait: Seconds) -> list[Line]:
        """Return what has come since the last call; wait for it at most so long.

        Raises:
            BrokerError: nothing will come any more.
        """
        with self._changed:
            if not self._came and self._channel.error is None:
                self._changed.wait(max(wait, 0.0))
            came, self._came = self._came, []
        if not came and self._channel.error is not None:
            raise self._channel.error
        return came

    def _take(self, event: Delivered) -> None:
        self._count += 1
        if self._count % (AT_ONCE // 2) == 0:
            self._channel.acknowledge_all(event.tag)
        with self._changed:
            self._came.append(Line(offset_of(event.properties), event.body))
            self._changed.notify()

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify()


def start(channel: Channel, stream: str, tag: bytes, since: Any, deadline: float) -> None:
    """Have the entries of a stream pushed, from a place on; raises as `Channel.call`."""
    channel.call(
        spec.Basic.Qos(prefetch_count=AT_ONCE),
        spec.Basic.Consume(0, stream, tag.decode(), arguments={"x-stream-offset": since}),
        deadline=deadline,
    )
