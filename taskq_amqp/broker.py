"""The broker over RabbitMQ."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import ClassVar

from taskq.clock import Clock, Seconds
from taskq.contract.broker import Broker
from taskq.contract.capabilities import Capabilities
from taskq.contract.delivery import (
    WAITING,
    Command,
    DeadLetter,
    Delivery,
    Extension,
    Heartbeat,
    QueueStats,
    State,
)
from taskq.contract.message import Send
from taskq.contract.settlement import Settlement
from taskq.errors import BrokerError, Closed, NotSupported, SendError
from taskq_amqp.claims import PLENTY
from taskq_amqp.client import Client
from taskq_amqp.health import inspect_server
from taskq_amqp.options import Options
from taskq_amqp.results.store import AmqpResults
from taskq_amqp.settling import sending
from taskq_amqp.transport.publisher import send_error


class AmqpBroker(Broker):
    """A client of one namespace in one virtual host."""

    capabilities: ClassVar[Capabilities] = Capabilities(
        unique_ids=False, locate=False, server_time=False, timed_leases=False
    )

    def __init__(self, options: Options, clock: Clock) -> None:
        self.namespace = options.url.namespace
        self._clock = clock
        self._results = AmqpResults(options, clock)
        self._client = Client(options, clock, self._results.store)

    # -- Producer

    def send(self, items: Sequence[Send], /, *, timeout: Seconds = 10.0) -> None:
        client = self.open()
        deadline = time.monotonic() + timeout
        wall = client.post.wall()
        ids = [item.message.id for item in items]
        goings = [sending(item, self._clock, wall) for item in items]
        try:
            report = client.post.send(goings, deadline)
        except Closed:
            raise
        except BrokerError as error:
            raise SendError(f"none of {len(ids)} messages was sent: {error}", unsent=ids) from error
        if not report.complete:
            raise send_error(ids, report) from report.error

    # -- Consumer

    def reserve(
        self, queues: Sequence[str], /, *, limit: int, lease: Seconds, wait: Seconds = 0.0
    ) -> list[Delivery]:
        client = self.open()
        names = list(dict.fromkeys(queues))
        if not names or limit <= 0 or client.claims.ended:
            return []
        deadline = client.lines.deadline()
        try:
            client.catalog.begin(deadline)
            client.census.join(deadline)
            return client.claims.reserve(names, limit=limit, lease=lease, wait=wait)
        except BrokerError:
            # Not every way out of a wait can tell that the owner has closed the client.
            self.open()
            raise

    def settle(self, settlements: Sequence[Settlement], /) -> list[Delivery]:
        return self.open().settling.settle(settlements)

    def extend(self, deliveries: Sequence[Delivery], /, *, lease: Seconds) -> Extension:
        return self.open().settling.extend(deliveries, lease)

    def interrupt(self) -> None:
        self.open().claims.end()

    # -- Maintenance

    def poll_schedule(self, *, limit: int = 1000) -> int:  # noqa: ARG002 - the server does it
        self.open()
        return 0

    def recover_expired(self, *, limit: int = 1000) -> int:
        client = self.open()
        return client.claims.reclaim(None, limit, client.lines.deadline())

    def expire_dead(self, *, older_than: Seconds, limit: int = 1000) -> int:
        return self.open().letters.expire(older_than, limit)

    # -- Registry

    def send_heartbeat(self, beat: Heartbeat, /, *, ttl: Seconds) -> list[Command]:
        self.open().registry.tell(beat, ttl)
        return []

    def list_alive_workers(self) -> list[Heartbeat]:
        return self.open().registry.alive()

    # -- Inspector

    def stats(self) -> list[QueueStats]:
        return self.open().overview.stats()

    def locate(self, ids: Sequence[str], /) -> dict[str, State]:  # noqa: ARG002 - whatever they are
        self.open()
        raise NotSupported("RabbitMQ finds no message by its id")

    def dead_letters(
        self, queue: str, /, *, limit: int = 100, after: DeadLetter | None = None
    ) -> list[DeadLetter]:
        client = self.open()
        return client.letters.page(queue, limit, after) if limit > 0 else []

    def requeue_dead(self, queue: str, ids: Sequence[str], /) -> int:
        return self.open().letters.requeue(queue, ids, self._results.forget)

    def purge_dead(self, queue: str, ids: Sequence[str] | None = None, /) -> int:
        wanted = None if ids is None else set(ids)
        return self.open().letters.drop(
            queue, lambda letter: wanted is None or letter.record.id in wanted, PLENTY
        )

    def purge(self, queue: str, /, *, states: frozenset[State] = WAITING) -> int:
        if not states <= WAITING:
            raise ValueError("only scheduled and ready messages can be purged")
        return self.open().overview.purge(queue, states)

    # -- Life cycle

    def check(self) -> list[str]:
        client = self.open()
        deadline = client.lines.deadline()
        sentences = inspect_server(client.lines, deadline)
        client.catalog.refresh(deadline)
        return sentences

    def close(self) -> None:
        self._results.close()
        if self._client.pid == os.getpid():
            self._client.close()
        else:
            self._client.lines.closed = True

    def open(self) -> Client:
        """Return what this process has; a forked child begins anew.

        Raises:
            Closed: the owner has closed the client.
        """
        if self._client.pid != os.getpid():
            self._client = self._client.afresh()
        if self._client.lines.closed:
            raise Closed
        return self._client
