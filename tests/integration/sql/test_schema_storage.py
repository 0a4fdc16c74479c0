"""How PostgreSQL keeps a table of which every row is soon changed, and soon deleted."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection

from taskq.clock import SystemClock
from taskq.contract.message import Message, Send
from taskq.contract.settlement import Ack
from taskq.url import Url
from taskq_sql import schema
from taskq_sql.dialects.choice import dialect_of
from taskq_sql.plugin import taskq_open_broker
from taskq_sql.statements.postgresql import POSTGRESQL
from tests.integration.sql.databases import connected, empty_database
from tests.waiting import until

FILL = """
    INSERT INTO taskq_message
        (namespace, id, queue, state, level, at, head, priority, max_deliveries, sent, envelope)
    SELECT 'taskq', 'id-' || g || '-{state}', 'q', {state}, 0, g, 0, 5, 3, 1, 'envelope'
    FROM generate_series(1, {count}) AS g"""
READS = ("outlook", "select_ready", "select_lost", "select_due", "select_waiting",
         "select_old_dead", "oldest_ready")  # fmt: skip
VALUES = {
    "namespace": "'taskq'", "queue": "'q'", "id": "'a'", "limit": "10", "state": "1",
    "now": "1000000000", "before": "1000000000", "died": "1",
}  # fmt: skip


@pytest.fixture
def url(tmp_path: Path) -> Iterator[Url]:
    with empty_database("postgresql", tmp_path) as empty:
        schema.make(dialect_of(empty))
        yield empty


@pytest.fixture
def database(url: Url) -> Iterator[Connection]:
    with connected(url) as connection:
        # When it comes by is not for a test to guess.
        connection.exec_driver_sql("ALTER TABLE taskq_message SET (autovacuum_enabled = off)")
        yield connection


def options(database: Connection, table: str) -> dict[str, str]:
    query = f"SELECT reloptions FROM pg_class WHERE oid = '{table}'::regclass"
    (found,) = database.exec_driver_sql(query).one()
    return dict(option.split("=") for option in found or [])


def plan(database: Connection, name: str) -> str:
    sentence = getattr(POSTGRESQL, name)
    for key, value in VALUES.items():
        sentence = sentence.replace(f":{key}", value)
    return "\n".join(row[0] for row in database.exec_driver_sql(f"EXPLAIN {sentence}"))


def test_dead_rows_are_removed_by_their_number_and_not_by_their_share(
    database: Connection,
) -> None:
    message, outbox = options(database, "taskq_message"), options(database, "taskq_outbox")
    del message["autovacuum_enabled"]

    assert message == outbox | {"fillfactor": "70"}
    assert outbox == {
        "autovacuum_vacuum_scale_factor": "0",
        "autovacuum_vacuum_threshold": "5000",
        "autovacuum_vacuum_cost_delay": "0",
        "autovacuum_analyze_scale_factor": "0",
        "autovacuum_analyze_threshold": "1000",
    }
    assert options(database, "taskq_result") == {
        "autovacuum_vacuum_scale_factor": "0.02",
        "autovacuum_vacuum_threshold": "5000",
    }
    assert options(database, "taskq_worker") == {}


@pytest.mark.parametrize(
    ("before", "after"),
    [([], [1, 0]), ([1], [0, 2]), ([0], [1, 2]), ([3], [1]), ([2], [3, 1])],
)
def test_statistics_of_another_moment_do_not_mislead(
    before: list[int], after: list[int], database: Connection
) -> None:
    for state in before:
        database.exec_driver_sql(FILL.format(state=state, count=2000))
    database.exec_driver_sql("ANALYZE taskq_message")
    database.exec_driver_sql("DELETE FROM taskq_message")
    for state in after:
        database.exec_driver_sql(FILL.format(state=state, count=10_000))

    for name in READS:
        found = plan(database, name)

        assert "taskq_message_place" in found, f"{name}: {found}"
        assert not {"Seq Scan", "Aggregate", "Sort"} & set(re.findall(r"[A-Z]\w+(?: Scan)?", found))


def test_a_plan_made_for_a_small_table_does_not_read_all_of_a_large_one(
    url: Url, database: Connection
) -> None:
    """Prepared statements keep plans until the next vacuum, which takes a minute to come."""
    database.exec_driver_sql(FILL.format(state=3, count=30))
    database.exec_driver_sql("VACUUM ANALYZE taskq_message")
    broker = taskq_open_broker(url, SystemClock())
    assert broker is not None

    def work(first: int) -> None:
        for number in range(first, first + 10):
            broker.send([Send(Message(f"m{number}", "q", b""))])
            deliveries = broker.reserve(["q"], limit=1, lease=30)
            broker.extend(deliveries, lease=30)
            assert broker.settle([Ack(delivery) for delivery in deliveries]) == []

    for _ in range(10):
        assert broker.reserve(["q"], limit=1, lease=30) == []
    work(0)
    database.exec_driver_sql(FILL.format(state=1, count=20_000))
    work(10)
    broker.close()

    def counted() -> bool:
        query = "SELECT n_tup_del FROM pg_stat_user_tables WHERE relname = 'taskq_message'"
        return bool(database.exec_driver_sql(query).scalar_one() == 20)

    until(counted, "what the broker's sessions did")
    query = "SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = 'taskq_message'"
    assert database.exec_driver_sql(query).scalar_one() < 20_000
