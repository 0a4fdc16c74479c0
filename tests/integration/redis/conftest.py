from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from taskq.clock import SystemClock
from taskq.url import Url
from taskq_redis.broker import RedisBroker
from taskq_redis.client import Client
from taskq_redis.options import Options
from taskq_redis.results import RedisResults
from tests.integration.redis.redis_server import Server
from tests.servers import missing


@pytest.fixture(scope="session")
def executable() -> None:
    if shutil.which("redis-server") is None:
        missing("redis", "redis-server is not installed")


@pytest.fixture
def server(executable: None, tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def admin(server: Server) -> Iterator[Client]:
    client = Client(Options.of(server.url()))
    yield client
    client.close()


OpenBroker = Callable[..., RedisBroker]


@pytest.fixture
def open_broker() -> Iterator[OpenBroker]:
    brokers: list[RedisBroker] = []

    def open_one(url: Url | str) -> RedisBroker:
        brokers.append(RedisBroker(Options.of(Url.parse(url)), SystemClock()))
        return brokers[-1]

    yield open_one
    for broker in brokers:
        broker.close()


@pytest.fixture
def broker(server: Server, open_broker: OpenBroker) -> RedisBroker:
    return open_broker(server.url(timeout="2"))


@pytest.fixture
def results(server: Server) -> Iterator[RedisResults]:
    store = RedisResults(Options.of(server.url(timeout="2")), SystemClock())
    yield store
    store.close()
