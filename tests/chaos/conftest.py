"""Arenas on each backend, and servers to bounce; nothing outlives its test."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from taskq.ids import new_id
from taskq.plugins import Plugins
from taskq.url import Url
from tests.chaos.harness import Arena
from tests.servers import RedisServer, Server, missing, shared_redis
from tests.sql_servers import (
    MariadbServer,
    PostgresqlServer,
    find_mariadb,
    find_postgresql,
    make_tables,
)

OpenArena: TypeAlias = Callable[..., Arena]
StartServer: TypeAlias = Callable[[str], Server]
BACKENDS = ["sqlite", "redis", "postgresql", "mariadb"]
SERVERS = ["redis", "postgresql", "mariadb"]


@pytest.fixture(scope="session")
def full() -> bool:
    """Say whether to run the long form: TASKQ_CHAOS=full."""
    return os.environ.get("TASKQ_CHAOS") == "full"


@pytest.fixture(params=BACKENDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Return the URL of an empty namespace on each backend in turn."""
    with empty_namespace(request.param, tmp_path) as url:
        yield url


@contextlib.contextmanager
def empty_namespace(kind: str, folder: Path) -> Iterator[str]:
    """Lend the URL of a namespace that nobody else uses."""
    if kind == "sqlite":
        yield f"sqlite:///{folder / 'tasks.db'}"
        return
    named = Url.parse(_shared(kind)).replace(namespace=f"chaos-{new_id()}")
    if kind != "redis":
        make_tables(named.reveal())
    yield named.reveal()
    target = Plugins().target(named)
    target.wipe()


def _shared(kind: str) -> str:
    match kind:
        case "redis":
            return shared_redis()
        case "postgresql":
            return find_postgresql() or missing(kind, "no server, and no programs to start one")
    return find_mariadb() or missing(kind, "no server, and no programs to start one")


@pytest.fixture
def open_arena(tmp_path: Path) -> Iterator[OpenArena]:
    """Return a function that opens an arena on a URL."""
    with contextlib.ExitStack() as stack:

        def opener(url: str, **settings: Any) -> Arena:
            return stack.enter_context(
                contextlib.closing(Arena(url, tmp_path / "arena", **settings))
            )

        yield opener


@pytest.fixture
def arena(url: str, open_arena: OpenArena) -> Arena:
    """Return an arena on each backend in turn, with default settings."""
    return open_arena(url)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartServer]:
    """Return a function that starts a server of a module's own, once of each kind."""
    started: dict[str, Server] = {}
    with contextlib.ExitStack() as stack:

        def start(kind: str) -> Server:
            if kind not in started:
                started[kind] = stack.enter_context(_new(kind, tmp_path_factory))
            return started[kind]

        yield start


def _new(kind: str, folders: pytest.TempPathFactory) -> Server:
    """Return a server that loses nothing it has accepted."""
    match kind:
        case "redis":
            return RedisServer(folders.mktemp("redis"), fsync="always")
        case "postgresql":
            return PostgresqlServer()
    return MariadbServer()


@pytest.fixture
def start_server(servers: StartServer) -> StartServer:
    """Return a function that lends a server that is empty, and the test's own for its time."""

    def start(kind: str) -> Server:
        server = servers(kind)
        server.restore()
        return server

    return start


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest, start_server: StartServer) -> Server:
    """Return a server of the test's own, of each kind in turn."""
    return start_server(request.param)
