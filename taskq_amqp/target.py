"""How the conformance kit breaks and empties RabbitMQ."""

from __future__ import annotations

import atexit
import contextlib
import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Final

import pika
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import AMQPError

from taskq.clock import Seconds, VirtualClock
from taskq.contract.broker import Broker
from taskq.contract.results import Results
from taskq.errors import TaskqError
from taskq.plugins import Plugins
from taskq.testing.faults import Fault
from taskq.testing.target import Restart, UrlTarget
from taskq.url import Url
from taskq_amqp.broker import AmqpBroker
from taskq_amqp.names import STEPS, Names
from taskq_amqp.options import PORT, Options
from taskq_amqp.posting import Going
from taskq_amqp.records import unpack
from taskq_amqp.results.streams import SHARDS, stream_of
from taskq_amqp.transport.connection import Connection

POOL: Final = 2
"""So many namespaces rest before one of them is used again."""
LARGE: Final = 100
"""A namespace with more queues is removed: a server may open just 1,024 files, by default,
and keeps two of them for each quorum queue."""
MOMENT: Final[Seconds] = 5.0
"""How long the server may take to give back what a client held that is gone."""

PASSING: Final[Seconds] = 0.003
CALM: Final = 3
LOOK: Final[Seconds] = 0.01
"""If it looks the same `CALM` times, so far apart, it has given back what it had to."""


class MovingClock(VirtualClock):
    """A clock that takes the server's delayed messages along when it jumps.

    RabbitMQ's own time cannot be moved. What waits there for the end of a step
    is taken out, and sent on to where it would be at the new time.
    """

    def __init__(self, target: AmqpTarget) -> None:
        super().__init__()
        self._target = target

    def advance(self, seconds: Seconds) -> None:
        super().advance(seconds)
        if seconds:
            self._target.move_delayed()


class AmqpTarget(UrlTarget):
    """A namespace in a virtual host.

    The clients of a breakable example can be broken over ``amqp://`` only: over
    ``amqps://`` the server's certificate does not fit the proxy.
    """

    allowed_denials = frozenset({"unique_ids", "locate", "server_time", "timed_leases"})
    processes = True

    def __init__(
        self, url: str | Url, plugins: Plugins | None = None, *, restart: Restart | None = None
    ) -> None:
        super().__init__(url, plugins, restart=restart)
        self._mover: AmqpBroker | None = None
        self._connection: pika.BlockingConnection | None = None
        self._breaking: Connection | None = None
        self._pool: deque[str] = deque()

    @property
    def address(self) -> tuple[str, int] | None:
        if self.url.scheme != "amqp":
            return None
        return self.url.host or "localhost", self.url.port or PORT

    @property
    def server(self) -> str:
        connection = self._connect()
        try:
            said = connection._impl.server_properties or {}
        finally:
            connection.close()
        version = said.get("version", b"")
        text = version.decode() if isinstance(version, bytes) else version
        return f"RabbitMQ {text}".strip()

    def new_clock(self) -> VirtualClock:
        return MovingClock(self)

    def crash(self, broker: Broker) -> None:
        assert isinstance(broker, AmqpBroker)
        client = broker.open()
        held = client.holdings.count()
        before = {queue: self._ready(queue) for queue in held}
        super().crash(broker)
        client.abandon()
        # The server gives back what it held by and by.
        deadline = time.monotonic() + MOMENT
        while time.monotonic() < deadline and any(
            self._ready(queue) < before[queue] + count for queue, count in held.items()
        ):
            time.sleep(0.002)

    def break_next(self, client: Broker | Results, fault: Fault, *, skip: int = 0) -> None:
        super().break_next(client, fault, skip=skip)
        if isinstance(client, AmqpBroker) and client.open().holdings.count():
            self._breaking = client.open().lines.consuming

    def restart(self) -> None:
        self._leave()
        super().restart()

    def calm(self) -> None:
        broken, self._breaking = self._breaking, None
        if broken is None or broken.error is None:
            return
        # Nobody is told what a server is about to give back: wait until nothing changes.
        mover, same, before = self._moving(), 0, self._moving().stats()
        while same < CALM:
            time.sleep(LOOK)
            now = mover.stats()
            same, before = same + 1 if now == before else 0, now

    def _ready(self, queue: str) -> int:
        mover = self._moving()
        return next((line.ready for line in mover.stats() if line.queue == queue), 0)

    def move_delayed(self) -> None:
        """Bring delayed messages to where they are at the time of the example's clock."""
        client = self._moving().open()
        found: list[tuple[int, Going, int]] = []
        with self._channel() as channel:
            empty = 0
            while empty < 2:
                before = len(found)
                for name in self._filled(client.overview.delayed()):
                    found += self._taken(channel, name)
                empty = empty + 1 if len(found) == before else 0
                if found:
                    # What was on its way from one step to the next is there now.
                    time.sleep(PASSING)
            found.sort(key=lambda one: one[0])
            goings = [going for _, going, _ in found]
            client.post.send(goings, client.lines.deadline()).check()
            for _, _, tag in found:
                channel.basic_ack(tag)

    def _taken(self, channel: BlockingChannel, name: str) -> list[tuple[int, Going, int]]:
        """Take all there is in one queue: when it is due, where it goes, and its tag."""
        found: list[tuple[int, Going, int]] = []
        while True:
            method, _, body = channel.basic_get(name)
            if method is None or body is None:
                return found
            *_, level, queue = method.routing_key.split(".", STEPS + 1)
            record = unpack(body)
            delay = max(record.due / 1_000_000 - time.time() - self.clock.offset, 0.0)
            going = Going(record, queue, returned=bool(int(level) % 2), delay=delay)
            found.append((record.due, going, method.delivery_tag))

    def footprint(self) -> list[str]:
        filled = self._filled(self._moving().open().overview.made())
        return [f"{name}: {count} messages" for name, count in filled.items()]

    def _filled(self, names: Sequence[str]) -> dict[str, int]:
        """Return those of the server's queues that hold anything, and how much."""
        client = self._moving().open()
        counts = client.overview.counts(names, client.lines.deadline())
        return {name: count for name, count in zip(names, counts, strict=True) if count}

    # -- Namespaces, which are used again: making one costs more than an example

    def begin(self, *, breakable: bool = False) -> VirtualClock:
        clock = super().begin(breakable=breakable)
        if len(self._pool) >= POOL:
            self.url = self.url.replace(namespace=self._pool.popleft())
            # What a client held that died came back after the namespace was emptied.
            self._empty()
        return clock

    def put_away(self) -> None:
        """Empty the namespace, to be used again; remove one that has grown large."""
        if self.url.namespace in self._pool:
            return
        if len(self._moving().open().overview.made()) > LARGE:
            self.wipe()
            return
        self._empty()
        if not self._pool:
            atexit.register(self._tidy_up)
        self._pool.append(self.url.namespace)

    def wipe(self) -> None:
        names = Names(self.url.namespace)
        made = self._moving().open().overview.made()
        with self._channel() as channel:
            for name in (*made, *names.fixed_queues, *self._results_streams()):
                channel.queue_delete(name)
            for name in names.exchanges:
                channel.exchange_delete(name)
        self._leave()

    def _leave(self) -> None:
        """Close what the target itself has open."""
        mover, self._mover = self._mover, None
        if mover is not None:
            mover.close()
        connection, self._connection = self._connection, None
        if connection is not None:
            # Pika would write a page about one that is lost.
            with contextlib.suppress(AMQPError):
                connection.close()

    def _tidy_up(self) -> None:
        """Remove what was to be used again."""
        with contextlib.suppress(TaskqError, AMQPError, OSError):
            while self._pool:
                self.url = self.url.replace(namespace=self._pool.popleft())
                self.wipe()

    def _empty(self) -> None:
        made = self._moving().open().overview.made()
        with self._channel() as channel:
            for name in self._filled(made):
                channel.queue_purge(name)
            # Nothing can be taken out of a stream.
            for name in (Names(self.url.namespace).workers, *self._results_streams()):
                channel.queue_delete(name)

    def _results_streams(self) -> list[str]:
        return [stream_of(self.url.namespace, shard) for shard in range(SHARDS)]

    def _moving(self) -> AmqpBroker:
        """Return a client of the target's own, of the present namespace."""
        mover = self._mover
        if mover is None or mover.namespace != self.url.namespace:
            if mover is not None:
                mover.close()
            mover = self._mover = AmqpBroker(Options.of(self.url), self.clock)
        return mover

    @contextlib.contextmanager
    def _channel(self) -> Iterator[BlockingChannel]:
        """Lend a channel of the target's own, which no example can break."""
        connection = self._connection
        if connection is None or not connection.is_open:
            connection = self._connection = self._connect()
        try:
            channel = connection.channel()
        except AMQPError:
            connection = self._connection = self._connect()
            channel = connection.channel()
        yield channel
        channel.close()

    def _connect(self) -> pika.BlockingConnection:
        options = Options.of(self.url)
        host, port = options.addresses[0]
        credentials = pika.PlainCredentials(options.username, options.password)
        try:
            return pika.BlockingConnection(
                pika.ConnectionParameters(
                    host, port, options.virtual_host, credentials, heartbeat=0
                )
            )
        except AMQPError as error:
            raise ConnectionError(f"cannot connect to {self.url}: {error!r}") from error
