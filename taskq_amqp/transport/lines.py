"""The connections of one client: one to publish, one to consume and to ask.

A server that takes no messages, by an alarm, stops reading from whoever
publishes. What is acknowledged and asked goes another way, and goes on.
"""

from __future__ import annotations

import threading
import time
from typing import Final

from pika import spec

from taskq.errors import BrokerError, Closed, ConnectionFailed
from taskq_amqp.options import Options
from taskq_amqp.transport.channel import Channel
from taskq_amqp.transport.connection import Connection
from taskq_amqp.transport.publisher import Publisher

PUBLISH: Final = "publish"
CONSUME: Final = "consume"


class Lines:
    """Connects when needed, and anew after a loss. Thread-safe, within one process."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.closed = False
        self._lock = threading.Lock()
        self._publisher: Publisher | None = None
        self._consumer: Connection | None = None
        self._asking: Channel | None = None

    def deadline(self) -> float:
        """Return when a call that begins now must end, on the monotonic clock."""
        return time.monotonic() + self.options.timeout

    def publisher(self, deadline: float) -> Publisher:
        """Return the channel to publish on.

        Raises:
            Closed: the client was closed.
            ConnectionFailed: the server is not reached.
            ServerRefused: it refuses the connection.
        """
        self._check_open()
        with _held(self._lock, deadline):
            found = self._publisher
            if found is None or found.channel.error is not None:
                old = found.channel.connection if found else None
                connection = self._again(old, PUBLISH, deadline)
                channel = connection.channel(deadline)
                self._publisher = found = Publisher(channel)
                channel.call(spec.Confirm.Select(), deadline=deadline)
            return found

    def consumer(self, deadline: float) -> Connection:
        """Return the connection to consume on; raises as `publisher`."""
        self._check_open()
        with _held(self._lock, deadline):
            self._consumer = self._again(self._consumer, CONSUME, deadline)
            return self._consumer

    @property
    def publishing(self) -> Publisher | None:
        """The channel to publish on, if it is open."""
        found = self._publisher
        return found if found is not None and found.channel.error is None else None

    @property
    def consuming(self) -> Connection | None:
        """The connection that was made last to consume on, whether it is lost or not."""
        return self._consumer

    def asking(self, deadline: float) -> Channel:
        """Return a channel for questions; raises as `publisher`. One that errs is replaced."""
        consumer = self.consumer(deadline)
        with _held(self._lock, deadline):
            channel = self._asking
            if channel is None or channel.error is not None or channel.connection is not consumer:
                channel = self._asking = consumer.channel(deadline)
            return channel

    def close(self) -> None:
        self.closed = True
        for connection in self._connections():
            connection.close()

    def abandon(self) -> None:
        """Let the connections end as if the process had died."""
        self.closed = True
        for connection in self._connections():
            connection.abandon()

    def _connections(self) -> list[Connection]:
        found = [] if self._consumer is None else [self._consumer]
        if self._publisher is not None:
            found.append(self._publisher.channel.connection)
        return found

    def _check_open(self) -> None:
        if self.closed:
            raise Closed

    def _again(self, old: Connection | None, purpose: str, deadline: float) -> Connection:
        if old is not None and old.error is None:
            return old
        if old is not None:
            old.close()
        connection = Connection(self.options, purpose, deadline)
        if self.closed:
            connection.close()
            raise Closed
        return connection


class _held:  # noqa: N801 - used like a function
    """Hold a lock, if it is to be had in time."""

    def __init__(self, lock: threading.Lock, deadline: float) -> None:
        self._lock = lock
        self._deadline = deadline

    def __enter__(self) -> None:
        if not self._lock.acquire(timeout=max(self._deadline - time.monotonic(), 0.0)):
            raise ConnectionFailed("no time is left to connect")

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def refused_as_missing(error: BrokerError) -> bool:
    """Say whether the server means that a queue or an exchange is not there."""
    return f"({spec.NOT_FOUND})" in str(error)
