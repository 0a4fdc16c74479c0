"""What somebody sees who starts a worker on a database that it may not fit."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from taskq.clock import SystemClock
from taskq.url import Url
from taskq_sql import schema
from taskq_sql.dialects.choice import dialect_of
from taskq_sql.plugin import taskq_open_broker
from tests.integration.sql.databases import KINDS, SERVERS, connected, empty_database

SHOP = """
from taskq import TaskQ

app = TaskQ("shop", broker={broker!r})

@app.task(name="add")
def add(x: int, y: int) -> int:
    return x + y
"""


@pytest.fixture(params=KINDS)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Url]:
    """A database with the tables of this version, under a prefix."""
    with empty_database(request.param, tmp_path) as empty:
        url = empty.replace(query={**empty.query, "prefix": "shop_"})
        if request.param == "sqlite":
            broker = taskq_open_broker(url, SystemClock())
            assert broker is not None
            broker.check()
            broker.close()
        else:
            schema.make(dialect_of(url))
        yield url


def taskq(folder: Path, url: Url, *arguments: str) -> list[str]:
    """Return the command line of a project on this broker."""
    (folder / "shop.py").write_text(SHOP.format(broker=url.reveal()))
    return [sys.executable, "-m", "taskq", "-A", "shop", "--workdir", str(folder), *arguments]


def make_newer(url: Url, *, reader: int) -> None:
    """Change the schema as a later version would, for programs of schema `reader` and later."""
    with connected(url) as connection:
        connection.exec_driver_sql(f"UPDATE shop_schema SET number = 7, reader = {reader}")


def refusal(folder: Path, url: Url) -> str:
    """Return what a worker says that ends at once, in one line."""
    done = subprocess.run(
        taskq(folder, url, "worker"), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    (said,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    return said


@pytest.mark.parametrize("kind", SERVERS)
def test_without_tables_a_worker_names_the_command_that_makes_them(
    kind: str, tmp_path: Path
) -> None:
    with empty_database(kind, tmp_path) as url:
        said = refusal(tmp_path, url)

    assert "no tables called taskq_" in said
    assert "taskq sql upgrade" in said


def test_a_worker_refuses_a_newer_schema_that_it_cannot_read(database: Url, tmp_path: Path) -> None:
    make_newer(database, reader=7)

    said = refusal(tmp_path, database)

    assert "has schema 7" in said
    assert "upgrade taskq-sql" in said


def test_a_worker_works_on_a_newer_schema_that_allows_it(database: Url, tmp_path: Path) -> None:
    make_newer(database, reader=schema.NUMBER)
    worker = subprocess.Popen(
        taskq(tmp_path, database, "worker", "-c", "1"), stderr=subprocess.PIPE
    )

    call = ["call", "add", "-a", "[1, 2]", "--wait", "--timeout", "30", "--json"]
    done = subprocess.run(
        taskq(tmp_path, database, *call), capture_output=True, text=True, timeout=60, check=False
    )
    worker.send_signal(signal.SIGTERM)
    _, log = worker.communicate(timeout=30)

    assert done.returncode == 0, f"{done.stderr}\n{log.decode()}"
    assert json.loads(done.stdout)["value"] == 3
    assert worker.returncode == 0
