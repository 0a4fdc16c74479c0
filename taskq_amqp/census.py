"""Asking all who hold messages how many they hold, since the server does not tell.

Each holder consumes from one queue in which there is never anything, so that
the server knows how many there are, and listens to a fanout exchange on a queue
of its own. Its reading thread answers, whatever its tasks are at.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from typing import Final

import msgspec
from pika import spec

from taskq.clock import Seconds
from taskq.errors import TaskqError
from taskq_amqp.holdings import Holdings
from taskq_amqp.names import Names
from taskq_amqp.transport.channel import Channel
from taskq_amqp.transport.lines import Lines
from taskq_amqp.transport.publisher import Fate, Parcel
from taskq_amqp.transport.wire import Delivered

PATIENCE: Final[Seconds] = 1.0
"""How long a holder may take to answer. One that is frozen is not counted."""
TAG: Final = b"census"


class Census:
    """One client's part in it: it answers once it holds something, and may ask. Thread-safe."""

    def __init__(self, lines: Lines, names: Names, holdings: Holdings) -> None:
        self._lines = lines
        self._names = names
        self._holdings = holdings
        self._lock = threading.Lock()
        self._channel: Channel | None = None
        self._decode = msgspec.json.Decoder(dict[str, int]).decode

    def join(self, deadline: float) -> None:
        """Answer from now on, on the connection that consumes."""
        connection = self._lines.consumer(deadline)
        channel = self._channel
        if channel is not None and channel.error is None and channel.connection is connection:
            return
        with self._lock:
            channel = connection.channel(deadline)
            channel.sinks[TAG] = self._answer
            mine = self._own_queue(channel, deadline)
            channel.call(
                spec.Queue.Bind(0, mine, self._names.ask, ""),
                spec.Basic.Consume(0, mine, TAG.decode(), no_ack=True),
                spec.Basic.Consume(0, self._names.holders, "holder"),
                deadline=deadline,
            )
            self._channel = channel

    def _own_queue(self, channel: Channel, deadline: float) -> str:
        declare = spec.Queue.Declare(0, "", exclusive=True, auto_delete=True)
        name: str = channel.call(declare, deadline=deadline)[0].queue
        return name

    def _answer(self, event: Delivered) -> None:
        """Tell who asks. In the reading thread, which must not wait for anything.

        Not on this connection: a server that is short of memory would read no
        acknowledgements from it any more.
        """
        answer = Parcel("", event.body.decode(), msgspec.json.encode(self._holdings.count()))
        publisher = self._lines.publishing
        if publisher is not None:
            publisher.tell(answer, time.monotonic() + 0.1)
        else:
            # Connecting takes its time.
            threading.Thread(target=self._connect_and_tell, args=(answer,), daemon=True).start()

    def _connect_and_tell(self, answer: Parcel) -> None:
        deadline = time.monotonic() + PATIENCE
        with contextlib.suppress(TaskqError):
            self._lines.publisher(deadline).tell(answer, deadline)

    def ask(self, deadline: float) -> dict[str, int]:
        """Return how many messages of each queue are held by all."""
        channel = self._lines.consumer(deadline).channel(deadline)
        try:
            return self._ask(channel, deadline)
        finally:
            channel.end(deadline)

    def _ask(self, channel: Channel, deadline: float) -> dict[str, int]:
        came = threading.Condition()
        answers: list[bytes] = []

        def take(event: Delivered) -> None:
            with came:
                answers.append(event.body)
                came.notify()

        mine = self._own_queue(channel, deadline)
        channel.sinks[TAG] = take
        [holders] = channel.call(
            spec.Basic.Consume(0, mine, TAG.decode(), no_ack=True),
            spec.Queue.Declare(0, self._names.holders, passive=True),
            deadline=deadline,
        )
        expected = holders.consumer_count
        total: Counter[str] = Counter()
        if not expected:
            return total
        question_to_all = Parcel(self._names.ask, "", mine.encode())
        report = self._lines.publisher(deadline).publish([question_to_all], deadline)
        if Fate.HOMELESS in report.fates:
            # Whoever was counted has gone meanwhile.
            return total
        report.check()
        end = min(deadline, time.monotonic() + PATIENCE)
        with came:
            while len(answers) < expected and channel.error is None:
                left = end - time.monotonic()
                if left <= 0:
                    break
                came.wait(left)
            for answer in answers:
                total.update(self._decode(answer))
        return total
