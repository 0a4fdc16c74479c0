"""What claims have left behind does not make the next one dearer, nor hide anything from it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from taskq.clock import VirtualClock
from taskq.contract.delivery import Delivery
from taskq.contract.message import Message, Send
from taskq.contract.settlement import Ack, Release
from taskq.ids import new_id
from taskq.url import Url
from taskq_sql import reach as reach_module
from taskq_sql import schema
from taskq_sql.broker import SqlBroker
from taskq_sql.conclude import insert
from taskq_sql.dialects.choice import dialect_of
from taskq_sql.engine import open_database
from taskq_sql.moves import nonce
from taskq_sql.reach import OLD, Reach
from taskq_sql.session import Session
from taskq_sql.tables import tables
from tests.servers import missing
from tests.sql_servers import find_postgresql

MANY = 20_000
STEP = 100


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    found = find_postgresql()
    if found is None:
        missing("postgresql", "no server, and none can be started")
    # Tables of their own: what is dead in them is up to these tests.
    named = Url.parse(found)
    named = named.replace(query={**named.query, "prefix": f"health_{nonce()}_"})
    dialect = dialect_of(named)
    schema.make(dialect)
    yield named.reveal()
    with contextlib.closing(open_database(named, VirtualClock())) as database:
        database.read(lambda session: tables(dialect.names).metadata.drop_all(session.connection))


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def broker(url: str, clock: VirtualClock) -> Iterator[SqlBroker]:
    named = Url.parse(url).replace(namespace=f"health-{new_id()}")
    with contextlib.closing(SqlBroker(open_database(named, clock))) as broker:
        yield broker


@pytest.fixture
def lasting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let claims go on where they ended for as long as the test lasts."""
    monkeypatch.setattr(reach_module, "LASTS", 600.0)


@pytest.fixture
def pinned(url: str) -> Iterator[None]:
    """Hold a snapshot open, as a dump or a forgotten session does: no vacuum clears anything."""
    parsed = Url.parse(url)
    with psycopg.connect(
        host=parsed.host,
        port=parsed.port,
        user=parsed.username,
        password=parsed.password or None,
        dbname=parsed.path.removeprefix("/"),
    ) as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        connection.execute("SELECT count(*) FROM pg_class")
        yield


def send(broker: SqlBroker, count: int, *, priority: int = 5, name: str = "m") -> None:
    broker.send([Send(Message(f"{name}{n}", "q", b"{}", priority)) for n in range(count)])


def claim(broker: SqlBroker, limit: int) -> list[Delivery]:
    return broker.reserve(["q"], limit=limit, lease=600)


def drain(broker: SqlBroker, count: int) -> None:
    for _ in range(count // STEP):
        assert broker.settle([Ack(delivery) for delivery in claim(broker, STEP)]) == []


def ids(deliveries: list[Delivery]) -> list[str]:
    return [delivery.id for delivery in deliveries]


def pages(broker: SqlBroker, name: str, **parameters: object) -> int:
    """Return how many pages a sentence reads, without keeping what it does."""

    def work(session: Session) -> int:
        explain = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {getattr(session.sql, name)}"
        place = {"namespace": broker._namespace, "queue": "q", "limit": STEP, **parameters}
        session.run("BEGIN", {})
        ((found,),) = session.rows(explain, place)
        session.run("ROLLBACK", {})
        plan: dict[str, Any] = found[0]["Plan"]
        return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])

    return broker._database.read(work)


@pytest.mark.usefixtures("pinned", "lasting")
def test_a_claim_in_a_drain_does_not_read_what_the_drain_has_left_behind(
    broker: SqlBroker, clock: VirtualClock
) -> None:
    send(broker, MANY)
    clock.advance(OLD / 1e6 + 1)
    drain(broker, STEP)
    reach = broker._reached["q"]
    first = pages(broker, "select_next", **reach.spans())

    drain(broker, MANY - 3 * STEP)

    far = broker._reached["q"]
    assert pages(broker, "select_next", **far.spans()) <= 2 * first
    # From the beginning there is that much to read.
    assert pages(broker, "select_ready") > 4 * first


@pytest.mark.usefixtures("lasting")
def test_a_message_that_returned_to_the_head_comes_before_where_claims_have_come_to(
    broker: SqlBroker, clock: VirtualClock
) -> None:
    send(broker, 9)
    clock.advance(60)
    one, two = claim(broker, 2)

    broker.settle([Release(one)])

    assert ids(claim(broker, 2)) == ["m0", "m2"]
    assert ids(claim(broker, 1)) == ["m3"]
    assert two.id == "m1"


@pytest.mark.usefixtures("lasting")
def test_a_more_urgent_message_comes_before_where_claims_have_come_to(
    broker: SqlBroker, clock: VirtualClock
) -> None:
    send(broker, 9)
    clock.advance(60)
    claim(broker, 2)

    send(broker, 2, priority=9, name="urgent")
    send(broker, 1, priority=0, name="idle")

    assert ids(claim(broker, 3)) == ["urgent0", "urgent1", "m2"]


@pytest.mark.usefixtures("lasting")
def test_what_is_due_is_claimed_in_its_place(broker: SqlBroker, clock: VirtualClock) -> None:
    due = [Send(Message(f"due{n}", "q", b"{}"), delay=5.0) for n in range(3)]
    broker.send(due)
    clock.advance(6)
    send(broker, 4)

    # Each claim promotes as many as it wants, so there are more that are due.
    claimed = [ids(claim(broker, 1)) for _ in range(5)]

    assert claimed == [["due0"], ["due1"], ["due2"], ["m0"], ["m1"]]


@pytest.mark.usefixtures("lasting")
def test_a_claim_that_cannot_be_filled_from_there_looks_at_all(
    broker: SqlBroker, clock: VirtualClock
) -> None:
    send(broker, 3)
    clock.advance(60)
    claim(broker, 2)
    # As if it had been sent long ago, and committed just now.
    late = [Send(Message("late", "q", b"{}"))]
    broker._database.transact(lambda session: insert(session, broker._namespace, late, 1))

    assert ids(claim(broker, 2)) == ["late", "m2"]


def test_a_claim_soon_looks_for_what_was_committed_late(
    broker: SqlBroker, clock: VirtualClock
) -> None:
    send(broker, 9)
    clock.advance(60)
    claim(broker, 1)
    reach = broker._reached["q"]
    late = [Send(Message("late", "q", b"{}"))]
    broker._database.transact(lambda session: insert(session, broker._namespace, late, 1))

    broker._reached["q"] = reach._replace(looked=time.monotonic() - reach_module.LASTS)

    assert ids(claim(broker, 1)) == ["late"]


def test_where_claims_have_come_to_is_kept_behind_what_may_still_be_committed() -> None:
    now = 100 * OLD
    reach = Reach(0.0, 0, {})

    urgent = reach.beyond([("seq", 2, now - 5)], now)
    later = urgent.beyond([("seq", 4, 7)], now)
    head = later.beyond([("seq", 6, 0)], now)

    assert urgent.places == {0: now - OLD, 1: now - OLD, 2: now - OLD}
    assert later.places == {0: now - OLD, 1: now - OLD, 2: now - OLD, 3: now - OLD, 4: 7}
    assert 6 not in head.places
    assert later.spans()["levels"] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 6, 7, 8, 9]
