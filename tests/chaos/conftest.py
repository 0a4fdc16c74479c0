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
from tests.servers import RedisServer, shared_redis

OpenArena: TypeAlias = Callable[..., Arena]


@pytest.fixture(scope="session")
def full() -> bool:
    """Say whether to run the long form: TASKQ_CHAOS=full."""
    return os.environ.get("TASKQ_CHAOS") == "full"


@pytest.fixture(params=["sqlite", "redis"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Return the URL of an empty namespace on each backend in turn."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'tasks.db'}"
        return
    named = Url.parse(shared_redis()).replace(namespace=f"chaos-{new_id()}")
    yield named.reveal()
    target = Plugins().target(named)
    target.wipe()


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


@pytest.fixture
def start_redis(tmp_path: Path) -> Iterator[Callable[..., RedisServer]]:
    """Return a function that starts a Redis server of the test's own."""
    with contextlib.ExitStack() as stack:
        yield lambda **options: stack.enter_context(RedisServer(tmp_path / "redis", **options))
