"""What the broker does about messages that other transactions have locked."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from taskq.clock import SystemClock
from taskq_sql import schema
from taskq_sql.broker import SqlBroker
from taskq_sql.dialects.choice import dialect_of
from taskq_sql.engine import Database, open_database
from tests.integration.sql.conftest import sends
from tests.integration.sql.databases import empty_database
from tests.waiting import until

WAITING = {
    "postgresql": "SELECT count(*) FROM pg_locks WHERE NOT granted",
    "mariadb": "SELECT count(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'",
}
ONE = text("SELECT id FROM taskq_message WHERE id = 'm7' FOR UPDATE")
CLAIMS = 100
"""Far more than fit into half a second with pauses that grow, far fewer than without."""


@pytest.fixture(params=["postgresql", "mariadb"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    with empty_database(request.param, tmp_path) as url:
        schema.make(dialect_of(url))
        database = open_database(url, SystemClock())
        yield database
        database.close()


def waits(database: Database) -> bool:
    kind = "postgresql" if database.dialect.family == "postgresql" else "mariadb"
    (((count),),) = database.read(lambda session: session.rows(WAITING[kind], {}))
    return bool(count)


def test_a_purge_goes_on_though_somebody_takes_what_it_had_in_view(database: Database) -> None:
    broker = SqlBroker(database)
    broker.send(sends(*(f"m{number}" for number in range(1200))))
    purged: list[int] = []
    purge = threading.Thread(target=lambda: purged.append(broker.purge("default")))

    engine = database.dialect.engine()
    with engine.connect().execution_options(isolation_level="READ COMMITTED") as other:
        other.execute(ONE)
        purge.start()
        until(lambda: waits(database), "the purge waits for the lock")
        other.execute(text("DELETE FROM taskq_message WHERE id = 'm7'"))
        other.commit()
    purge.join()
    engine.dispose()

    assert purged == [1199]
    assert broker.stats() == []


def test_a_claim_pauses_while_all_there_is_is_locked(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = SqlBroker(database)
    broker.send(sends("m7"))
    claims: list[object] = []
    transact = Database.transact

    def count(self: Database, work: object, **options: object) -> object:
        claims.append(work)
        return transact(self, work, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Database, "transact", count)
    engine = database.dialect.engine()
    with engine.connect().execution_options(isolation_level="READ COMMITTED") as other:
        other.execute(ONE)
        assert broker.reserve(["default"], limit=1, lease=30, wait=0.5) == []
        assert 1 < len(claims) < CLAIMS
        other.rollback()
    engine.dispose()

    assert len(broker.reserve(["default"], limit=1, lease=30)) == 1
