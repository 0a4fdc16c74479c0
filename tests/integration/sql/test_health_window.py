"""A claim finds what others are not claiming, however much they hold at the front."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from taskq.clock import SystemClock
from taskq.ids import new_id
from taskq.url import Url
from taskq_sql import schema
from taskq_sql.broker import SqlBroker
from taskq_sql.claim import claim, look
from taskq_sql.dialects.choice import dialect_of
from taskq_sql.engine import open_database
from taskq_sql.session import Session
from tests.integration.sql.conftest import sends
from tests.servers import missing
from tests.sql_servers import find_mariadb, find_postgresql

HELD = 700


@pytest.fixture(params=["postgresql", "mariadb"])
def url(request: pytest.FixtureRequest) -> Url:
    found = find_postgresql() if request.param == "postgresql" else find_mariadb()
    if found is None:
        missing(request.param, "no server, and none can be started")
    named = Url.parse(found).replace(namespace=f"window-{new_id()}")
    schema.make(dialect_of(named))
    return named


@pytest.fixture
def brokers(url: Url) -> Iterator[tuple[SqlBroker, SqlBroker]]:
    with contextlib.ExitStack() as stack:

        def opened() -> SqlBroker:
            broker = SqlBroker(open_database(url, SystemClock()))
            return stack.enter_context(contextlib.closing(broker))

        yield opened(), opened()


def test_a_claim_passes_over_what_another_is_claiming(
    brokers: tuple[SqlBroker, SqlBroker],
) -> None:
    one, two = brokers
    one.send(sends(*(f"m{number}" for number in range(HELD + 5))))

    def during(session: Session) -> list[str]:
        """Claim many, and let the other claim before this is committed."""
        outlooks = look(session, one._namespace, ["default"])
        claim(session, one._namespace, outlooks, limit=HELD, lease=60)
        return [delivery.id for delivery in two.reserve(["default"], limit=10, lease=60)]

    assert one._database.transact(during) == [f"m{HELD + number}" for number in range(5)]
