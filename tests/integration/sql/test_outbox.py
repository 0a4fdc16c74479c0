"""Tasks for Redis that exist exactly if a transaction of the program's was committed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from taskq.errors import ImproperlyConfigured, NotSupported
from tests.integration.sql.databases import KINDS
from tests.integration.sql.shop import DRIVERS, OpenShop, Shop, engine_url, shops

ASYNC_DRIVERS = [
    ("sqlite", "sqlite+aiosqlite"),
    ("postgresql", "postgresql+asyncpg"),
    ("mariadb", "mysql+asyncmy"),
]


@pytest.fixture
def open_shop(tmp_path: Path) -> Iterator[OpenShop]:
    with shops(tmp_path) as opener:
        yield opener


@pytest.fixture(params=KINDS)
def shop(request: pytest.FixtureRequest, open_shop: OpenShop) -> Shop:
    return open_shop(request.param)


# -- Writing


@pytest.mark.parametrize(
    ("kind", "driver"), [(kind, driver) for kind in KINDS for driver in DRIVERS[kind]]
)
def test_a_task_is_carried_exactly_if_its_session_was_committed(
    open_shop: OpenShop, kind: str, driver: str
) -> None:
    shop = open_shop(kind, driver)
    with Session(shop.engine) as session:
        sent = shop.note.apply_async(("a",), session=session)
        shop.app.bulk([shop.note.s("b")], session=session)
        # A file is locked meanwhile.
        assert kind == "sqlite" or shop.carry() == 0
        session.commit()
        shop.note.apply_async(("never",), session=session)
        session.rollback()

    assert shop.carry() == 2
    first, second = shop.arrived()
    assert first.id == sent.id
    assert b'"b"' in second.message.envelope
    assert shop.rows() == 0


@pytest.mark.parametrize(("kind", "driver"), ASYNC_DRIVERS)
def test_coroutines_write_in_their_transactions(
    open_shop: OpenShop, kind: str, driver: str
) -> None:
    async def send() -> list[str]:
        engine = create_async_engine(engine_url(shop.database, driver))
        async with AsyncSession(engine) as session:
            one = await shop.note.aapply_async(("a",), session=session)
            more = await shop.app.abulk([shop.note.s("b"), shop.note.s("c")], session=session)
            await session.commit()
            await shop.note.aapply_async(("never",), session=session)
            await session.rollback()
        await engine.dispose()
        return [result.id for result in [one, *more]]

    shop = open_shop(kind)
    sent = asyncio.run(send())

    assert shop.carry() == 3
    assert shop.ids() == sent


def test_a_large_batch_arrives_whole_and_in_order(shop: Shop) -> None:
    with shop.engine.begin() as connection:
        results = shop.app.bulk([shop.note.s("a") for _ in range(1201)], connection=connection)

    assert shop.carry(batch=100) == 1201
    assert shop.ids() == [result.id for result in results]


def test_what_a_message_is_arrives_as_it_was_sent(shop: Shop) -> None:
    with Session(shop.engine) as session:
        shop.note.apply_async(("ä\0",), session=session, priority=9, queue="other")
        session.commit()
    composed = shop.app.compose(shop.note.s("ä\0"))

    shop.carry()

    (found,) = shop.app.broker.reserve(["other"], limit=9, lease=60)
    assert (found.message.priority, found.message.queue) == (9, "other")
    assert found.message.max_deliveries == composed.message.max_deliveries
    assert "ä".encode() in found.message.envelope


def test_a_delay_counts_from_the_sending_however_late_the_relay(shop: Shop) -> None:
    with Session(shop.engine) as session:
        late = shop.note.apply_async(("a",), countdown=100, session=session)
        early = shop.note.apply_async(("b",), countdown=10, session=session)
        session.commit()
    shop.clock.advance(40)

    assert shop.carry() == 2

    assert shop.ids() == [early.id]
    shop.clock.advance(50)
    assert shop.ids() == []
    shop.clock.advance(20)
    assert shop.ids() == [late.id]


def test_a_time_to_live_counts_from_the_sending_however_late_the_relay(shop: Shop) -> None:
    with Session(shop.engine) as session:
        for seconds in (30, 60, 1000):
            shop.note.apply_async(("a",), expires=seconds, session=session)
        session.commit()
    shop.clock.advance(40)

    assert shop.carry() == 3
    shop.clock.advance(30)

    assert [delivery.expired for delivery in shop.arrived()] == [True, True, False]


def test_in_eager_mode_nothing_is_written(shop: Shop) -> None:
    shop.app.conf.task_always_eager = True
    with Session(shop.engine) as session:
        assert shop.note.apply_async(("a",), session=session).get() == "a"
        session.commit()
    shop.app.conf.task_always_eager = False
    with Session(shop.engine) as session:
        shop.note.apply_async(("b",), session=session)
        session.commit()

    assert shop.rows() == 1


# -- What cannot be


@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
def test_a_server_without_tables_is_told_of_with_the_cure(open_shop: OpenShop, kind: str) -> None:
    shop = open_shop(kind, tables=False)
    cure = r"taskq sql upgrade DATABASE_URL"
    with Session(shop.engine) as session, pytest.raises(ImproperlyConfigured, match=cure):
        shop.note.apply_async(("a",), session=session)
    with pytest.raises(ImproperlyConfigured, match=cure):
        shop.carry()


def test_tables_in_a_file_come_and_go_with_the_transaction(open_shop: OpenShop) -> None:
    shop = open_shop("sqlite")
    with Session(shop.engine) as session:
        shop.app.bulk([shop.note.s("a")], session=session)
        shop.app.bulk([shop.note.s("b")], session=session)
        session.rollback()
        sent = shop.note.apply_async(("c",), session=session)
        session.commit()

    assert shop.carry() == 1
    assert shop.ids() == [sent.id]


def test_complete_wants_the_broker_in_the_same_database(open_shop: OpenShop) -> None:
    shop = open_shop("sqlite")
    with Session(shop.engine) as session:
        joined = shop.app.transactions.join(session)
        with pytest.raises(NotSupported, match="let the broker be the database of the session"):
            joined.settle([])


def test_what_is_no_transaction_is_refused_with_the_cure(open_shop: OpenShop) -> None:
    shop = open_shop("sqlite")
    with pytest.raises(TypeError, match="an Engine has no transaction"):
        shop.note.apply_async(("a",), session=shop.engine)
    with pytest.raises(TypeError, match="a str is no transaction"):
        shop.note.apply_async(("a",), session="session")
