"""Setting up a SQLite engine of the caller's for sharing its file with workers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import event

from taskq.clock import Seconds

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

TIMEOUT: Seconds = 30.0


def prepare(engine: Any) -> None:
    """Let an engine's transactions take turns with workers on the same SQLite file.

    Its connections use write-ahead logging, wait up to 30 seconds for a lock,
    and are as durable as the broker's (`synchronous = FULL`); each transaction
    takes the write lock when it begins, since one that begins by reading cannot
    always go on to write. Call it once, right after `create_engine` or
    `create_async_engine`. Engines of other databases are left as they are.
    """
    engine = getattr(engine, "sync_engine", engine)
    if engine.dialect.name == "sqlite":
        _prepare(engine)


def _prepare(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def set_up(connection: Any, _record: object) -> None:
        # The driver would begin transactions by itself, some statements too late.
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {round(TIMEOUT * 1000)}")
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
