"""Clients of a namespace of the test's own, on the server that listens or on one of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from taskq.clock import SystemClock
from taskq.ids import new_id
from taskq.url import Url
from taskq_amqp.broker import AmqpBroker
from taskq_amqp.options import Options
from taskq_amqp.target import AmqpTarget
from tests.rabbitmq_servers import RabbitmqServer, shared_rabbitmq


class Place:
    """One namespace, which is removed at the end."""

    def __init__(self, url: str) -> None:
        self.url = Url.parse(url).replace(namespace=f"test-{new_id()}")
        self.clients: list[AmqpBroker] = []

    def open(self, **options: str) -> AmqpBroker:
        url = self.url.replace(query={**self.url.query, **options})
        self.clients.append(AmqpBroker(Options.of(url), SystemClock()))
        return self.clients[-1]

    def remove(self) -> None:
        for client in self.clients:
            client.close()
        target = AmqpTarget(self.url)
        target.wipe()


@pytest.fixture
def place() -> Iterator[Place]:
    place = Place(shared_rabbitmq())
    yield place
    place.remove()


@pytest.fixture
def place_on() -> Iterator[Callable[[RabbitmqServer], Place]]:
    """Make a namespace on a server of the test's own, whose end removes it."""
    places: list[Place] = []

    def make(server: RabbitmqServer) -> Place:
        places.append(Place(server.url))
        return places[-1]

    yield make
    for place in places:
        for client in place.clients:
            client.close()
