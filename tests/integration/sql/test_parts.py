"""A call of several transactions that fails after the first does not say that nothing happened."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from taskq.contract.broker import Broker
from taskq.contract.results import Results
from taskq.errors import BrokerError, ConnectionFailed, OutcomeUnknown
from taskq.plugins import Plugins
from taskq.testing.faults import Fault
from taskq.testing.laws.case import item, record
from taskq.testing.target import UrlTarget

QUEUES = ("a", "b", "c")
RECORDS = [record(f"r{number}") for number in range(1100)]


def waiting(target: UrlTarget) -> None:
    broker = target.open()
    broker.send([item("ready"), item("scheduled", delay=50)])


def due(target: UrlTarget) -> None:
    target.open().send([item(queue, queue=queue, delay=5) for queue in QUEUES])
    target.clock.advance(6)


def lost(target: UrlTarget) -> None:
    broker = target.open()
    broker.send([item(queue, queue=queue) for queue in QUEUES])
    broker.reserve(QUEUES, limit=3, lease=5)
    target.clock.advance(6)


def dead(target: UrlTarget) -> None:
    broker = target.open()
    broker.send([item(queue, queue=queue) for queue in QUEUES])
    for delivery in broker.reserve(QUEUES, limit=3, lease=5):
        broker.dead(delivery, code="failed")
    target.clock.advance(6)


def nothing(_: UrlTarget) -> None:
    pass


def look(broker: Broker, results: Results) -> object:
    counts = [(q.queue, q.ready, q.scheduled, q.processing, q.dead) for q in broker.stats()]
    return counts, len(results.fetch([one.id for one in RECORDS]))


@pytest.mark.parametrize(
    ("prepare", "call"),
    [
        (waiting, lambda broker, _: broker.purge("q")),
        (due, lambda broker, _: broker.poll_schedule()),
        (lost, lambda broker, _: broker.recover_expired()),
        (dead, lambda broker, _: broker.expire_dead(older_than=5)),
        (nothing, lambda _, results: results.store(RECORDS)),
    ],
    ids=["purge", "poll_schedule", "recover_expired", "expire_dead", "store"],
)
def test_what_was_done_in_part_is_not_called_undone(
    prepare: Callable[[UrlTarget], None], call: Callable[[Broker, Results], object]
) -> None:
    target = Plugins().target("sqlite://")
    raised = set()
    for skip in range(40):
        target.begin(breakable=True)
        prepare(target)
        broker, results, watcher = target.open(), target.open_results(), target.open()
        before = look(watcher, results)
        broker.stats()
        for client in (broker, results):
            target.break_next(client, Fault.BEFORE, skip=skip)

        try:
            call(broker, results)
        except BrokerError as error:
            raised.add(type(error))
            certain = isinstance(error, ConnectionFailed)
        else:
            certain = False
        target.heal()

        if certain:
            assert look(watcher, results) == before, f"after {skip} statements"
        target.end()

    assert raised == {ConnectionFailed, OutcomeUnknown}
