"""What a claim locks it takes, or gives free: others pass over what is locked."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from taskq.clock import SystemClock
from taskq.contract.delivery import Delivery
from taskq.contract.message import Message, Send
from taskq.contract.settlement import Release
from taskq.url import Url
from taskq_sql import schema
from taskq_sql.broker import SqlBroker
from taskq_sql.claim import claim, look
from taskq_sql.dialects import Parameters
from taskq_sql.dialects.choice import dialect_of
from taskq_sql.engine import Database, open_database
from taskq_sql.session import Session
from tests.integration.sql.databases import empty_database

QUEUE = "default"
NAMESPACE = "taskq"


class Interrupted(Session):
    """Lets something happen after the first look for what is ready."""

    def __init__(self, session: Session, meanwhile: Callable[[], object]) -> None:
        super().__init__(session.connection, session._dialect, session.offset)
        self._meanwhile: list[Callable[[], object]] = [meanwhile]

    def rows(self, statement: str, parameters: Parameters) -> Sequence[Any]:
        found = super().rows(statement, parameters)
        if statement == self.sql.select_ready and self._meanwhile:
            self._meanwhile.pop()()
        return found


@pytest.fixture(params=["postgresql", "mariadb"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Url]:
    with empty_database(request.param, tmp_path) as url:
        schema.make(dialect_of(url))
        yield url


@pytest.fixture
def database(url: Url) -> Iterator[Database]:
    with closing(open_database(url, SystemClock())) as database:
        yield database


@pytest.fixture
def other(url: Url) -> Iterator[SqlBroker]:
    """Another client of the same database."""
    with closing(SqlBroker(open_database(url, SystemClock()))) as broker:
        yield broker


def send(broker: SqlBroker, *ids: str, priority: int = 5) -> None:
    broker.send([Send(Message(id, QUEUE, b"", priority=priority)) for id in ids])


def names(deliveries: Sequence[Delivery]) -> list[str]:
    return [delivery.id for delivery in deliveries]


def claim_two(session: Session, meanwhile: Callable[[], object]) -> list[str]:
    outlooks = look(session, NAMESPACE, [QUEUE])
    interrupted = Interrupted(session, meanwhile)
    return names(claim(interrupted, NAMESPACE, outlooks, limit=2, lease=60).deliveries)


def test_a_claim_hides_nothing_from_others_when_something_urgent_comes_in_between(
    database: Database, other: SqlBroker
) -> None:
    send(other, "a", priority=5)

    def work(session: Session) -> tuple[list[str], list[str]]:
        mine = claim_two(session, lambda: send(other, "b", "c", priority=9))
        return mine, names(other.reserve([QUEUE], limit=3, lease=60))

    mine, others = database.transact(work)

    assert "a" in mine
    assert sorted(mine + others) == ["a", "b", "c"]


def test_a_claim_is_in_order_though_what_comes_first_is_given_back_in_between(
    database: Database, other: SqlBroker
) -> None:
    send(other, "a", "b")
    first = other.reserve([QUEUE], limit=1, lease=60)

    mine = database.transact(
        lambda session: claim_two(session, lambda: other.settle([Release(one) for one in first]))
    )

    # One that looks once does not see it, and takes nothing else instead.
    assert mine in (["a", "b"], ["b"])


@pytest.mark.parametrize("url", ["mariadb"], indirect=True)
@pytest.mark.parametrize("sweep", ["select_lost", "select_due"])
def test_a_sweep_does_not_keep_locked_what_was_moved_on_before_it_came_to_it(
    database: Database, other: SqlBroker, sweep: str
) -> None:
    """As if others had promoted or released it between the sentence's look and its locks."""
    send(other, "a", "b")

    def work(session: Session) -> list[str]:
        sentence = getattr(session.sql, sweep)
        found_ready, times = re.subn(r"AND state = \d AND level = 0", "AND state = 1", sentence)
        assert times == 1
        place = {"namespace": NAMESPACE, "queue": QUEUE, "now": session.now, "limit": 2}
        assert session.rows(found_ready, place) == []
        return names(other.reserve([QUEUE], limit=2, lease=60))

    assert database.transact(work) == ["a", "b"]
