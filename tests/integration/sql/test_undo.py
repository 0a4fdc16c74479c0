"""A transaction that does not come to its end leaves nothing behind, and nobody waiting."""

from __future__ import annotations

from pathlib import Path

import pytest

from taskq.contract.settlement import Ack
from taskq.plugins import Plugins
from taskq.testing.faults import Fault
from taskq.testing.laws.case import item
from taskq.testing.target import UrlTarget
from taskq_sql.session import Session
from tests.integration.sql.conftest import Open, sends


def test_a_program_that_is_interrupted_in_a_transaction_keeps_no_lock(
    path: Path, opened: Open
) -> None:
    broker, other = opened(path), opened(path, timeout=1)

    def interrupted(session: Session) -> None:
        broker._insert(session, sends("a"))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broker._database.transact(interrupted)

    other.send(sends("b"))
    broker.send(sends("c"))
    assert set(broker.locate(["a", "b", "c"])) == {"b", "c"}


def test_acknowledgements_are_judged_one_by_one_though_undoing_them_all_has_failed() -> None:
    target: UrlTarget = Plugins().target("sqlite://")
    target.begin(breakable=True)
    broker = target.open()
    broker.send([item("a"), item("b")])
    gone, held = broker.reserve(["q"], limit=2, lease=60)
    broker.settle([Ack(gone)])
    begin, delete, _rollback = range(3)
    target.break_next(broker, Fault.BEFORE, skip=len((begin, delete)))

    lost = broker.settle([Ack(gone), Ack(held)])

    assert lost == [gone]
    assert broker.locate(["a", "b"]) == {}
    target.end()
