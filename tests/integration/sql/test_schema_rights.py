"""`taskq sql upgrade` of somebody who may not do everything on the server."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from taskq.cli.main import cli
from taskq.clock import SystemClock
from taskq.contract.message import Message, Send
from taskq.contract.results import ResultRecord
from taskq.contract.settlement import Ack, Dead
from taskq.url import Url
from taskq_sql import schema
from taskq_sql.dialects.choice import dialect_of
from taskq_sql.plugin import taskq_open_broker, taskq_open_results
from tests.integration.sql.databases import SERVERS, connected, empty_database
from tests.sql_servers import SHARED_POSTGRESQL

OWNER = Url.parse(SHARED_POSTGRESQL).username


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Url]:
    """The URL of a user that may do nothing in a database of PostgreSQL yet."""
    user = f"taskq_tests_{uuid.uuid4().hex}"
    with empty_database("postgresql", tmp_path) as url, connected(url) as connection:
        connection.exec_driver_sql(f"CREATE ROLE {user} LOGIN")
        yield url.replace(username=user, query={**url.query, "schema": "jobs"})
        connection.exec_driver_sql(f"DROP OWNED BY {user} CASCADE")
        connection.exec_driver_sql(f"DROP ROLE {user}")


def as_owner(url: Url, command: str) -> None:
    with connected(url.replace(username=OWNER)) as connection:
        connection.exec_driver_sql(command)


def upgrade(url: Url) -> Result:
    return CliRunner().invoke(cli, ["sql", "upgrade", url.reveal()], prog_name="taskq")


def test_who_may_not_make_the_schema_is_told_which_right_is_missing(database: Url) -> None:
    result = upgrade(database)

    assert result.exit_code == 4
    assert "permission denied for database" in result.stderr
    assert "to who makes them CREATE" in result.stderr


def test_a_schema_that_is_there_needs_no_right_to_the_database(database: Url) -> None:
    as_owner(database, f"CREATE SCHEMA jobs AUTHORIZATION {database.username}")

    assert upgrade(database).exit_code == 0, upgrade(database).output
    assert schema.find(dialect_of(database)).usable


def test_who_may_not_look_into_the_schema_is_told_so(database: Url) -> None:
    as_owner(database, "CREATE SCHEMA jobs")
    owned = database.replace(username=OWNER)
    schema.make(dialect_of(owned))

    result = CliRunner().invoke(cli, ["sql", "check", database.reveal()], prog_name="taskq")

    assert result.exit_code == 4
    assert "USAGE of their schema" in result.stderr


@pytest.mark.parametrize("kind", SERVERS)
def test_whoever_may_read_and_write_the_rows_needs_no_other_right(
    kind: str, tmp_path: Path
) -> None:
    with empty_database(kind, tmp_path) as owned:
        assert upgrade(owned).exit_code == 0
        with plain_user(owned) as url:
            broker = taskq_open_broker(url, SystemClock())
            results = taskq_open_results(url, SystemClock())
            assert broker is not None
            assert results is not None

            broker.send([Send(Message("a", "q", b"")), Send(Message("b", "q", b""))])
            one, other = broker.reserve(["q"], limit=2, lease=30)
            record = ResultRecord("a", 0, "SUCCESS", b"1", 60)

            assert broker.settle([Ack(one, record), Dead(other, "REJECTED", "no")]) == []
            assert results.fetch(["a"])["a"].payload == b"1"
            assert broker.purge_dead("q") == 1
            assert broker.stats() == []
            broker.close()
            results.close()


@contextlib.contextmanager
def plain_user(owned: Url) -> Iterator[Url]:
    """Lend a user that has the rights that the documentation names."""
    user = f"taskq{uuid.uuid4().hex[:12]}"
    rights = "SELECT, INSERT, UPDATE, DELETE"
    if owned.scheme == "postgresql":
        make = [
            f"CREATE ROLE {user} LOGIN",
            f"GRANT {rights} ON ALL TABLES IN SCHEMA public TO {user}",
        ]
        end = [f"DROP OWNED BY {user}", f"DROP ROLE {user}"]
    else:
        database = owned.path.removeprefix("/")
        make = [f"CREATE USER {user}", f"GRANT {rights} ON {database}.* TO {user}"]
        end = [f"DROP USER {user}"]
    with connected(owned) as connection:
        for statement in make:
            connection.exec_driver_sql(statement)
        try:
            yield owned.replace(username=user, password="")
        finally:
            for statement in end:
                connection.exec_driver_sql(statement)
