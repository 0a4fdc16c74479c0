"""Making streams, on a server that may never have had one."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from typing import Final

from pika import spec

from taskq.clock import Seconds
from taskq.errors import BrokerError, ConnectionFailed, ServerRefused
from taskq.ids import new_id
from taskq_amqp.names import VERSION
from taskq_amqp.results.streams import ARGUMENTS
from taskq_amqp.transport.channel import Channel
from taskq_amqp.transport.connection import Connection
from taskq_amqp.transport.lines import refused_as_missing
from taskq_amqp.transport.publisher import Parcel, Publisher

SETTLED: Final = f"{VERSION}/settled"
"""A queue of the virtual host. It holds a message where streams are safe."""
PAUSE: Final[Seconds] = 2.0
_COMING: Final = (
    f"({spec.RESOURCE_ERROR})",
    f"({spec.INTERNAL_ERROR})",
    "replica on the local node",
    "is down or inaccessible",
)
MOMENT: Final[Seconds] = 0.02
"""How long to wait for somebody who is making a stream, before another try."""


class Preparation:
    """Lets a server that never had a stream settle before it gets one that counts.

    RabbitMQ 3.10 writes down with a delay of a second who coordinates streams.
    If it is killed within it, the streams that it has made until then are dead:
    they can neither be used nor made anew. So the first one is made, and deleted,
    for nothing; a queue that holds a message tells everybody that this was done.
    """

    def __init__(self) -> None:
        self.making = threading.Lock()
        """Held by who makes streams: two at once disturb each other."""
        self._done = False
        self._first = ""
        self._made = 0.0

    def ensure(self, connection: Connection, deadline: float) -> None:
        """Return when streams can be made. Once in a server's life it takes `PAUSE`.

        Raises:
            ConnectionFailed: the deadline comes first; the next call goes on from there.
        """
        if self._done:
            return
        channel = connection.channel(deadline)
        settled = spec.Queue.Declare(0, SETTLED, durable=True)
        (about,) = channel.call(settled, deadline=deadline)
        if not about.message_count:
            if not self._first:
                first = f"{VERSION}/first/{new_id()}"
                made = spec.Queue.Declare(0, first, durable=True, arguments=ARGUMENTS)
                channel.call(made, deadline=deadline)
                self._first, self._made = first, time.monotonic()
            over = self._made + PAUSE
            threading.Event().wait(max(min(over, deadline) - time.monotonic(), 0.0))
            if time.monotonic() < over:
                raise ConnectionFailed(
                    f"{connection.name} gets its first stream, and takes a moment to be safe"
                )
            delete = spec.Queue.Delete(0, self._first)
            channel.call(delete, spec.Confirm.Select(), deadline=deadline)
            Publisher(channel).publish([Parcel("", SETTLED, b"")], deadline).check()
        channel.end(deadline)
        self._done = True


def coming(error: BrokerError) -> bool:
    """Say whether an error means that a stream is being made, or comes up with its server.

    Who declares it meanwhile is told that it is there, or that it is down; who
    publishes to it has his connection closed, and who consumes from it his channel.
    """
    return any(sign in str(error) for sign in _COMING)


def make_streams(
    connection: Connection, streams: Iterable[str], preparation: Preparation, deadline: float
) -> None:
    """Make streams that may not be there, on a channel of its own: a refusal closes it.

    Raises:
        ConnectionFailed: one is there, and cannot be reached.
        ServerRefused: somebody else has made one of the name.
    """
    if not preparation.making.acquire(timeout=max(deadline - time.monotonic(), 0.0)):
        raise ConnectionFailed("no time is left to make a stream")
    try:
        preparation.ensure(connection, deadline)
        channel = connection.channel(deadline)
        for stream in streams:
            _make(channel, stream, deadline)
        channel.end(deadline)
    finally:
        preparation.making.release()


def _make(channel: Channel, stream: str, deadline: float) -> None:
    method = spec.Queue.Declare(0, stream, durable=True, arguments=ARGUMENTS)
    try:
        channel.call(method, deadline=deadline)
    except ServerRefused as error:
        if refused_as_missing(error):
            raise ConnectionFailed(f"the stream {stream} is not available: {error}") from error
        if f"({spec.PRECONDITION_FAILED})" in str(error):
            raise ServerRefused(
                f"{error}; something of this name was made by somebody else: "
                "delete it, or choose another namespace"
            ) from error
        raise
