from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from taskq.clock import SystemClock
from taskq.contract.broker import Broker
from taskq.contract.message import Message, Send
from taskq.url import Url
from taskq_sql import plugin

Open = Callable[..., Broker]


def open_broker(path: Path, **options: object) -> Broker:
    query = {key: str(value) for key, value in options.items()}
    url = Url.parse(f"sqlite:///{path}").replace(query=query)
    broker = plugin.taskq_open_broker(url, SystemClock())
    assert broker is not None
    return broker


def sends(*ids: str, queue: str = "default") -> list[Send]:
    return [Send(Message(id, queue, b"{}")) for id in ids]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tasks.db"


@pytest.fixture
def opened() -> Iterator[Open]:
    brokers: list[Broker] = []

    def opener(path: Path, **options: object) -> Broker:
        brokers.append(open_broker(path, **options))
        return brokers[-1]

    yield opener
    for broker in brokers:
        broker.close()


@pytest.fixture
def foreign(path: Path) -> Iterator[sqlite3.Connection]:
    """Another program's connection to the same file."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    yield connection
    connection.close()
