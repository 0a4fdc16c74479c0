"""Appending to the streams of results, confirmed, by one connection."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from pika import spec

from taskq.errors import BrokerError, Closed, ConnectionFailed, OutcomeUnknown
from taskq_amqp.options import Options
from taskq_amqp.preparation import MOMENT, Preparation, coming, make_streams
from taskq_amqp.transport.connection import Connection
from taskq_amqp.transport.publisher import Fate, Parcel, Publisher, Report


class Appending:
    """What one process appends by. Thread-safe."""

    def __init__(self, options: Options, preparation: Preparation) -> None:
        self._options = options
        self._preparation = preparation
        self._made: set[str] = set()
        self._lock = threading.Lock()
        """Held by who connects."""
        self._connection: Connection | None = None
        self._publisher: Publisher | None = None
        self._closed = False

    def send(self, going: Sequence[Parcel], deadline: float) -> None:
        """Publish, and return when all is confirmed; make the streams that are not there.

        Raises:
            BrokerError: not all is; what its class says is true of the whole.
        """
        pause = MOMENT
        while True:
            try:
                return self._send(going, deadline)
            except BrokerError as error:
                if isinstance(error, OutcomeUnknown) and time.monotonic() >= deadline:
                    self._give_up()
                # What was appended already may be appended again.
                if not coming(error) or time.monotonic() + pause > deadline:
                    raise
            threading.Event().wait(pause)
            pause *= 2

    def close(self) -> None:
        self._closed = True
        self._give_up()

    def _end_if_closed(self) -> None:
        """End a connection that was made while `close` did not see it."""
        if self._closed:
            self._give_up()

    def _give_up(self) -> None:
        """Close the connection; the next call makes another.

        What is not confirmed in time may never be: a channel that met a stream while
        it came up with its server can go on sending to where nobody is.
        """
        if self._connection is not None:
            self._connection.close()

    def _send(self, going: Sequence[Parcel], deadline: float) -> None:
        report = self._publish(going, deadline)
        homeless = [at for at, fate in enumerate(report.fates) if fate is Fate.HOMELESS]
        if homeless:
            self._made -= {going[at].key for at in homeless}
            try:
                again = self._publish([going[at] for at in homeless], deadline)
            except BrokerError as error:
                again = Report([Fate.UNSENT] * len(homeless), error)
            for at, fate in zip(homeless, again.fates, strict=True):
                report.fates[at] = fate
            report.error = again.error or report.error
        report.check()

    def _publish(self, going: Sequence[Parcel], deadline: float) -> Report:
        publisher = self._open(deadline)
        missing = {parcel.key for parcel in going} - self._made
        if missing:
            connection = publisher.channel.connection
            make_streams(connection, sorted(missing), self._preparation, deadline)
            self._made |= missing
        return publisher.publish(going, deadline)

    def _open(self, deadline: float) -> Publisher:
        if not self._lock.acquire(timeout=max(deadline - time.monotonic(), 0.0)):
            raise ConnectionFailed("no time is left to connect")
        try:
            if self._closed:
                raise Closed
            publisher, connection = self._publisher, self._connection
            if publisher is not None and publisher.channel.error is None:
                return publisher
            if connection is None or connection.error is not None:
                if connection is not None:
                    connection.close()
                connection = self._connection = Connection(self._options, "append", deadline)
                self._end_if_closed()
            channel = connection.channel(deadline)
            channel.call(spec.Confirm.Select(), deadline=deadline)
            publisher = self._publisher = Publisher(channel)
            return publisher
        finally:
            self._lock.release()
