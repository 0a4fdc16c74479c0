"""What a client does while others hold the lock on its file."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from taskq.errors import ConnectionFailed, SendError
from taskq_sql.session import Session
from tests.integration.sql.conftest import Open, sends


@contextmanager
def locked(foreign: sqlite3.Connection) -> Iterator[None]:
    """Hold the file's lock; not for ever, so that who waits too long does end."""
    foreign.execute("BEGIN IMMEDIATE")
    timer = threading.Timer(20, foreign.execute, ["ROLLBACK"])
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        if foreign.in_transaction:
            foreign.execute("ROLLBACK")


def test_a_claim_gives_up_on_a_lock_when_the_time_of_a_call_is_over(
    path: Path, opened: Open, foreign: sqlite3.Connection
) -> None:
    broker = opened(path, timeout=0.2)
    broker.send(sends("a"))

    with locked(foreign), pytest.raises(ConnectionFailed, match="stayed locked"):
        broker.reserve(["default"], limit=1, lease=30)

    (delivery,) = broker.reserve(["default"], limit=1, lease=30)
    assert delivery.id == "a"


def test_a_client_that_gives_up_on_another_of_its_process_leaves_it_the_lock(
    path: Path, opened: Open
) -> None:
    one, two = opened(path), opened(path, timeout=0.2)

    def during(session: Session) -> None:
        with pytest.raises(SendError, match="stayed locked"):
            two.send(sends("b"))
        one._insert(session, sends("a"))

    one._database.transact(during)

    two.send(sends("c"))
    assert set(one.locate(["a", "b", "c"])) == {"a", "c"}
