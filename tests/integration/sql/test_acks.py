"""What was claimed together is acknowledged and extended together, and each for itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from taskq.clock import VirtualClock
from taskq.contract.settlement import Ack
from taskq_sql import schema
from taskq_sql.broker import SqlBroker
from taskq_sql.dialects.choice import dialect_of
from taskq_sql.engine import open_database
from tests.integration.sql.conftest import sends
from tests.integration.sql.databases import KINDS, empty_database


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture(params=KINDS)
def broker(
    request: pytest.FixtureRequest, clock: VirtualClock, tmp_path: Path
) -> Iterator[SqlBroker]:
    with empty_database(request.param, tmp_path) as url:
        schema.make(dialect_of(url))
        with closing(SqlBroker(open_database(url, clock))) as broker:
            yield broker


def test_an_acknowledgement_that_comes_twice_ends_nothing_else_of_its_claim(
    broker: SqlBroker,
) -> None:
    broker.send(sends("a", "b"))
    first, second = broker.reserve(["default"], limit=2, lease=60)
    assert first.token == second.token

    assert broker.settle([Ack(first)]) == []
    assert broker.settle([Ack(first)]) == [first]

    assert list(broker.locate(["a", "b"])) == ["b"]
    assert broker.settle([Ack(second)]) == []


def test_an_extension_moves_no_other_lease_of_its_claim(
    broker: SqlBroker, clock: VirtualClock
) -> None:
    broker.send(sends("a", "b"))
    first, second = broker.reserve(["default"], limit=2, lease=5)

    broker.extend([first], lease=60)
    clock.advance(10)

    assert broker.recover_expired() == 1
    assert broker.settle([Ack(first), Ack(second)]) == [second]
