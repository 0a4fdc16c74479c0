"""A target of results alone: what the kit needs to put streams of results to the test."""

from __future__ import annotations

import time

from pika import spec

from taskq.contract.broker import Broker
from taskq.contract.results import Results
from taskq.errors import BrokerError, ServerRefused
from taskq.testing.target import UrlTarget
from taskq.url import Url
from taskq_amqp.options import PORT, Options
from taskq_amqp.results.store import AmqpResults
from taskq_amqp.results.streams import SHARDS, stream_of
from taskq_amqp.transport.connection import Connection
from tests.waiting import until


class ResultsTarget(UrlTarget):
    """The results in a namespace of a RabbitMQ server."""

    processes = True

    @property
    def address(self) -> tuple[str, int] | None:
        return self.url.host or "localhost", self.url.port or PORT

    def new_broker(self, url: Url) -> Broker:
        raise AssertionError(f"an example of results asks for a broker at {url}")

    def new_results(self, url: Url) -> Results:
        return AmqpResults(Options.of(url), self.clock)

    def _await_server(self) -> None:
        until(self._answers, "the server answers after its restart")

    def _answers(self) -> bool:
        results = AmqpResults(Options.of(self.url), self.clock)
        try:
            return not results.fetch(["nobody"])
        except BrokerError:
            return False
        finally:
            results.close()

    def footprint(self) -> list[str]:
        """Name the streams: they are fixed objects, and the only ones."""
        found = []
        connection = Connection(Options.of(self.url), "footprint", time.monotonic() + 10)
        for shard in range(SHARDS):
            stream = stream_of(self.url.namespace, shard)
            channel = connection.channel(time.monotonic() + 10)
            try:
                channel.call(
                    spec.Queue.Declare(0, stream, passive=True), deadline=time.monotonic() + 10
                )
            except ServerRefused:
                continue
            found.append(stream)
        connection.close()
        return found

    def wipe(self) -> None:
        deadline = time.monotonic() + 10
        connection = Connection(Options.of(self.url), "wipe", deadline)
        channel = connection.channel(deadline)
        names = [stream_of(self.url.namespace, shard) for shard in range(SHARDS)]
        channel.call(*(spec.Queue.Delete(0, name) for name in names), deadline=deadline)
        connection.close()
