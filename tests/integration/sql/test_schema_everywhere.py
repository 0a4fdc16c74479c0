"""Whoever makes the tables, by whatever way, on whatever database, gets the same."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import Engine, event

from taskq.cli.main import cli
from taskq.clock import SystemClock
from taskq.contract.message import Message, Send
from taskq.contract.results import ResultRecord
from taskq.url import Url
from taskq_sql import schema
from taskq_sql.dialects.choice import dialect_of
from taskq_sql.plugin import taskq_open_broker, taskq_open_results
from tests.integration.sql.databases import (
    KINDS,
    SERVERS,
    connected,
    contents,
    empty_database,
    statements,
)

DEFAULT: dict[str, str] = {}
NAMED = [
    *((kind, DEFAULT) for kind in KINDS),
    *((kind, {"prefix": "shop_"}) for kind in KINDS),
    ("postgresql", {"schema": "jobs"}),
    # A word of SQL, and names as long as they may be.
    ("postgresql", {"schema": "user", "prefix": "p" * 48}),
    ("mariadb", {"prefix": "p" * 48}),
]


def named(url: Url, names: dict[str, str]) -> Url:
    return url.replace(query={**url.query, **names})


def create(url: Url) -> None:
    dialect = dialect_of(url)
    with connected(url) as connection:
        connection.exec_driver_sql(dialect.statements.begin)
        schema.create(connection, dialect.names)
        connection.exec_driver_sql("COMMIT")


def migrate(url: Url) -> None:
    dialect = dialect_of(url)
    with connected(url) as connection:
        if dialect.names.schema:
            connection.exec_driver_sql(f'CREATE SCHEMA "{dialect.names.schema}"')
        connection.exec_driver_sql(dialect.statements.begin)
        schema.upgrade(connection, dialect.names)
        connection.exec_driver_sql("COMMIT")


def feed_the_printed_sql(url: Url) -> None:
    printed = taskq_sql("sql", url)
    with connected(url) as connection:
        for statement in statements(printed):
            connection.exec_driver_sql(statement)


def taskq_sql(command: str, url: Url) -> str:
    result = CliRunner().invoke(cli, ["sql", command, url.reveal()], prog_name="taskq")
    assert result.exit_code == 0, result.output
    return result.stdout


def found(url: Url) -> dict[str, Any]:
    names = dialect_of(url).names
    told = {
        "number": f"SELECT number, reader FROM {names.table('schema')}",
        "revision": f"SELECT version_num FROM {names.table('alembic')}",
    }
    with connected(url) as connection:
        rows = {what: connection.exec_driver_sql(query).all() for what, query in told.items()}
        return {**contents(connection, names.schema), **rows}


@pytest.mark.parametrize(("kind", "names"), NAMED)
def test_each_way_to_make_the_tables_ends_at_the_same_ones(
    kind: str, names: dict[str, str], tmp_path: Path
) -> None:
    ways = [create, migrate] if kind == "sqlite" else [create, migrate, feed_the_printed_sql]
    ends = []
    for way in ways:
        with empty_database(kind, tmp_path) as empty:
            url = named(empty, names)
            way(url)
            ends.append(found(url))
            assert schema.find(dialect_of(url)) == (schema.NUMBER, schema.READER)

    for way, end in zip(ways, ends, strict=True):
        assert end == ends[0], way.__name__


@pytest.mark.parametrize("kind", KINDS)
def test_with_a_prefix_nothing_is_called_otherwise(kind: str, tmp_path: Path) -> None:
    with empty_database(kind, tmp_path) as empty:
        create(named(empty, {"prefix": "shop_"}))
        with connected(empty) as connection:
            everything = repr(contents(connection, None))

    assert "shop_message_place" in everything
    assert "shop_outbox" in everything
    assert "taskq_" not in everything


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        *((kind, {"prefix": "shop_"}) for kind in KINDS),
        ("postgresql", {"schema": "shop"}),
        ("postgresql", {"schema": "user", "prefix": "shop_"}),
    ],
)
def test_two_installations_in_one_database_never_meet(
    kind: str, names: dict[str, str], tmp_path: Path
) -> None:
    with empty_database(kind, tmp_path) as ours:
        theirs = named(ours, names)
        for url in (ours, theirs):
            if kind != "sqlite":
                taskq_sql("upgrade", url)
        one, other = (taskq_open_broker(url, SystemClock()) for url in (ours, theirs))
        results = taskq_open_results(theirs, SystemClock())
        assert one is not None
        assert other is not None
        assert results is not None

        one.send([Send(Message("a", "q", b"ours"))])
        results.store([ResultRecord("a", 0, "SUCCESS", b"1", 60)])

        assert other.stats() == []
        assert other.reserve(["q"], limit=1, lease=30) == []
        (delivery,) = one.reserve(["q"], limit=1, lease=30)
        other.send([Send(Message("b", "q", b"theirs"))])
        assert other.purge("q") == 1
        assert one.extend([delivery], lease=30).lost == []
        for client in (one, other, results):
            client.close()


@pytest.mark.parametrize("names", [DEFAULT, {"prefix": "shop_"}])
@pytest.mark.parametrize("kind", SERVERS)
def test_many_may_make_the_tables_at_once(kind: str, names: dict[str, str], tmp_path: Path) -> None:
    failures: list[BaseException] = []

    def make(url: Url) -> None:
        try:
            schema.make(dialect_of(url))
        except BaseException as error:
            failures.append(error)

    with empty_database(kind, tmp_path) as empty:
        url = named(empty, names)
        threads = [threading.Thread(target=make, args=[url]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=60)
        assert failures == []
        assert schema.find(dialect_of(url)) == (schema.NUMBER, schema.READER)


class _Cut(Exception):
    """The one who makes the tables dies."""


def test_what_was_left_half_made_is_completed(tmp_path: Path) -> None:
    """MariaDB keeps each table for itself, whatever becomes of the transaction."""
    with empty_database("mariadb", tmp_path) as whole:
        schema.make(dialect_of(whole))
        wanted = found(whole)

    deaths = 0
    with empty_database("mariadb", tmp_path) as url:
        while not _make_until(dialect_of(url), 2):
            deaths += 1
            assert schema.find(dialect_of(url)).number == 0
        assert found(url) == wanted
    assert deaths == 6 + 4, "after each table and each index"


def test_of_what_was_left_half_made_nothing_stays_where_all_is_one_transaction(
    tmp_path: Path,
) -> None:
    with empty_database("postgresql", tmp_path) as url:
        with connected(url) as connection:
            empty = contents(connection, None)

        assert not _make_until(dialect_of(url), 6)

        with connected(url) as connection:
            assert contents(connection, None) == empty


def _make_until(dialect: Any, change: int) -> bool:
    """Begin to make the tables, and die before the change of that number; say if it was done."""
    changes = 0

    def count(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        nonlocal changes
        changes += statement.lstrip().startswith(("CREATE", "INSERT INTO taskq_schema"))
        if changes == change:
            raise _Cut

    event.listen(Engine, "before_cursor_execute", count)
    try:
        schema.make(dialect)
    except _Cut:
        return False
    finally:
        event.remove(Engine, "before_cursor_execute", count)
    return True
