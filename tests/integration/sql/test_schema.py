"""A SQLite file gets its tables by itself, and each range is read from one index."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from taskq.errors import NotSupported
from taskq_sql.statements.sqlite import SQLITE
from tests.integration.sql.conftest import Open, sends


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
RANGES = ["select_ready", "select_lost", "select_due", "outlook", "oldest_ready",
          "select_waiting", "select_old_dead", "select_dead", "next_queue", "count"]  # fmt: skip


@pytest.mark.parametrize("name", RANGES)
def test_each_range_is_read_from_the_one_index(
    name: str, path: Path, opened: Open, foreign: sqlite3.Connection
) -> None:
    opened(path).stats()

    query = "EXPLAIN QUERY PLAN " + getattr(SQLITE, name)
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


@pytest.mark.parametrize("name", ["select_held", "locate", "select_dead_ids"])
def test_messages_are_found_by_id_without_a_scan(
    name: str, path: Path, opened: Open, foreign: sqlite3.Connection
) -> None:
    opened(path).stats()

    query = "EXPLAIN QUERY PLAN " + getattr(SQLITE, name)
    plan = [row[3] for row in foreign.execute(query, PLACE)]

    assert not any(line.startswith(("SCAN taskq", "SCAN m")) for line in plan), plan
    assert any("taskq_message_id (namespace=? AND id=?)" in line for line in plan), plan
