"""The migrations make the tables the statements are written for."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import Connection, create_engine

from taskq.errors import NotSupported
from taskq_sql import schema, statements
from tests.integration.sql.conftest import Open, sends


def columns(connection: Connection) -> dict[str, list[tuple[object, ...]]]:
    """What each table of a SQLite file is made of, less the spelling of its SQL."""
    rows = connection.exec_driver_sql(
        "SELECT m.type || ' ' || m.name, p.name, p.type, p.\"notnull\", p.dflt_value, p.pk "
        "FROM sqlite_master AS m JOIN pragma_table_info(m.name) AS p "
        "UNION ALL SELECT 'index ' || m.name, p.name, '', 0, '', p.seqno "
        "FROM sqlite_master AS m JOIN pragma_index_info(m.name) AS p ORDER BY 1, 2"
    )
    found: dict[str, list[tuple[object, ...]]] = {}
    for name, *column in rows:
        found.setdefault(name, []).append(tuple(column))
    return found


def test_the_migrations_end_at_the_tables_an_empty_database_gets(tmp_path: Path) -> None:
    migrated = create_engine(f"sqlite:///{tmp_path / 'migrated.db'}")
    created = create_engine(f"sqlite:///{tmp_path / 'created.db'}")

    with migrated.begin() as old, created.begin() as new:
        schema.upgrade(old)
        schema.create(new)

        assert columns(old) == columns(new)
        for table in ("taskq_schema", "taskq_alembic"):
            query = f"SELECT * FROM {table}"
            assert old.exec_driver_sql(query).all() == new.exec_driver_sql(query).all()
    migrated.dispose()
    created.dispose()


def test_a_newer_schema_is_used_if_it_allows_that_and_refused_if_not(
    path: Path, opened: Open, foreign: sqlite3.Connection
) -> None:
    opened(path).send(sends("a"))

    foreign.execute("UPDATE taskq_schema SET number = 7, reader = 1")
    assert opened(path).stats()[0].ready == 1

    foreign.execute("UPDATE taskq_schema SET reader = 7")
    with pytest.raises(NotSupported, match=r"has schema 7 .* upgrade taskq-sql"):
        opened(path).stats()


def test_alembic_stays_out_of_who_makes_or_finds_the_tables(path: Path) -> None:
    program = (
        "import sys; from pathlib import Path;"
        "from tests.integration.sql.conftest import open_broker;"
        f"open_broker(Path({str(path)!r})).stats(); assert 'alembic' not in sys.modules"
    )
    for _ in ("makes", "finds"):
        subprocess.run([sys.executable, "-c", program], check=True, timeout=30)


PLACE = {
    "namespace": "taskq", "queue": "q", "limit": 10, "now": 1, "before": 1, "state": 1,
    "died": 1, "id": "a", "array": "[1]", "until": 1, "token": "t",
}  # fmt: skip
RANGES = ["select_ready", "select_lost", "promote", "outlook", "oldest_ready", "purge",
          "expire_dead", "select_dead", "next_queue", "count"]  # fmt: skip


@pytest.mark.parametrize("name", RANGES)
def test_each_range_is_read_from_the_one_index(
    name: str, path: Path, opened: Open, foreign: sqlite3.Connection
) -> None:
    opened(path).stats()

    query = "EXPLAIN QUERY PLAN " + getattr(statements.SQLITE, name)
    plan = [row[3] for row in foreign.execute(query, PLACE)]

    touched = [
        line for line in plan if "taskq_message" in line and "INTEGER PRIMARY KEY" not in line
    ]
    assert touched
    assert all(
        "SEARCH" in line and "INDEX taskq_message_place (namespace=?" in line for line in touched
    ), plan
    assert not any("TEMP B-TREE FOR ORDER BY" in line for line in plan), plan
    if name not in {"count", "next_queue"}:
        assert all("queue=? AND state=?" in line for line in touched), plan


@pytest.mark.parametrize("name", ["select_held", "locate", "requeue", "purge_dead"])
def test_messages_are_found_by_id_without_a_scan(
    name: str, path: Path, opened: Open, foreign: sqlite3.Connection
) -> None:
    opened(path).stats()

    query = "EXPLAIN QUERY PLAN " + getattr(statements.SQLITE, name)
    plan = [row[3] for row in foreign.execute(query, PLACE)]

    assert not any(line.startswith(("SCAN taskq", "SCAN m")) for line in plan), plan
    assert any("taskq_message_id (namespace=? AND id=?)" in line for line in plan), plan
