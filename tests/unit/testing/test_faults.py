"""A connection that exists only in the imagination breaks as a real one does."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator

import pytest

from taskq.clock import SystemClock
from taskq.contract.broker import Broker
from taskq.contract.capabilities import Capabilities
from taskq.contract.delivery import Delivery, State
from taskq.contract.results import Results
from taskq.contract.settlement import Ack
from taskq.errors import Closed, ConnectionFailed, OutcomeUnknown, SendError
from taskq.memory.broker import MemoryBroker
from taskq.memory.server import MemoryServer
from taskq.plugins import Plugins
from taskq.testing.faults import Fault, FaultyBroker, FaultyResults
from taskq.testing.laws.case import beat, item, record

LOCAL = {"interrupt", "close"}
"""What a client does by itself."""
OVER_OTHERS = {"schedule", "ack", "nack", "dead"}
BROKER_CALLS: dict[str, Callable[[Broker], object]] = {
    "send": lambda broker: broker.send([item("x")]),
    "reserve": lambda broker: broker.reserve(["q"], limit=1, lease=30),
    "settle": lambda broker: broker.settle([Ack(_nobodys())]),
    "extend": lambda broker: broker.extend([_nobodys()], lease=30),
    "poll_schedule": lambda broker: broker.poll_schedule(),
    "recover_expired": lambda broker: broker.recover_expired(),
    "expire_dead": lambda broker: broker.expire_dead(older_than=1),
    "send_heartbeat": lambda broker: broker.send_heartbeat(beat("w", "1"), ttl=5),
    "list_alive_workers": lambda broker: broker.list_alive_workers(),
    "stats": lambda broker: broker.stats(),
    "locate": lambda broker: broker.locate(["x"]),
    "dead_letters": lambda broker: broker.dead_letters("q"),
    "requeue_dead": lambda broker: broker.requeue_dead("q", ["x"]),
    "purge_dead": lambda broker: broker.purge_dead("q"),
    "purge": lambda broker: broker.purge("q"),
    "check": lambda broker: broker.check(),
}
RESULTS_CALLS: dict[str, Callable[[Results], object]] = {
    "store": lambda results: results.store([record("x")]),
    "fetch": lambda results: results.fetch(["x"]),
    "wait": lambda results: results.wait(["x"], timeout=0),
    "forget": lambda results: results.forget(["x"]),
    "expire": lambda results: results.expire(),
}


def _nobodys() -> Delivery:
    return Delivery(item("nobody").message, "token", 0.0, 1.0)


@pytest.fixture
def plugins() -> Plugins:
    return Plugins()


@pytest.fixture
def real(plugins: Plugins) -> Iterator[Broker]:
    broker = plugins.open_broker("memory://")
    yield broker
    broker.close()


@pytest.fixture
def broker(real: Broker) -> FaultyBroker:
    return FaultyBroker(real)


@pytest.fixture
def results(plugins: Plugins) -> FaultyResults:
    return FaultyResults(plugins.open_results("memory://"))


def claim(broker: Broker, *ids: str) -> list[Delivery]:
    broker.send([item(id) for id in ids])
    return broker.reserve(["q"], limit=len(ids), lease=30)


@pytest.mark.parametrize(
    ("contract", "calls"), [(Broker, BROKER_CALLS), (Results, RESULTS_CALLS)], ids=["b", "r"]
)
def test_every_method_of_the_contract_is_among_the_calls(
    contract: type, calls: dict[str, object]
) -> None:
    public = {
        name
        for name, _ in inspect.getmembers(contract, inspect.isfunction)
        if not name.startswith("_")
    }

    assert public - LOCAL - OVER_OTHERS == set(calls)


@pytest.mark.parametrize("name", BROKER_CALLS)
def test_every_call_of_a_broker_breaks_once(broker: FaultyBroker, name: str) -> None:
    call = BROKER_CALLS[name]
    expected = {Fault.BEFORE: ConnectionFailed, Fault.AFTER: OutcomeUnknown}

    for fault, error in expected.items():
        broker.break_next(fault)
        with pytest.raises(SendError if name == "send" else error, match="the connection broke"):
            call(broker)
        call(broker)


@pytest.mark.parametrize("name", RESULTS_CALLS)
def test_every_call_of_a_result_store_breaks_once(results: FaultyResults, name: str) -> None:
    call = RESULTS_CALLS[name]
    expected = {Fault.BEFORE: ConnectionFailed, Fault.AFTER: OutcomeUnknown}

    for fault, error in expected.items():
        results.break_next(fault)
        with pytest.raises(error, match="the connection broke"):
            call(results)
        call(results)


def test_what_breaks_before_has_not_happened(broker: FaultyBroker, real: Broker) -> None:
    (delivery,) = claim(broker, "a")

    broker.break_next(Fault.BEFORE)
    with pytest.raises(SendError) as caught:
        broker.send([item("b"), item("c")])
    broker.break_next(Fault.BEFORE)
    with pytest.raises(ConnectionFailed):
        broker.settle([Ack(delivery)])

    assert (caught.value.sent, caught.value.unknown) == ((), ())
    assert caught.value.unsent == ("b", "c")
    assert real.locate(["a", "b", "c"]) == {"a": State.PROCESSING}


def test_what_breaks_after_has_happened(broker: FaultyBroker, real: Broker) -> None:
    (delivery,) = claim(broker, "a")

    broker.break_next(Fault.AFTER)
    with pytest.raises(SendError) as caught:
        broker.send([item("b"), item("c")])
    broker.break_next(Fault.AFTER)
    with pytest.raises(OutcomeUnknown):
        broker.settle([Ack(delivery)])

    assert (caught.value.sent, caught.value.unsent) == ((), ())
    assert caught.value.unknown == ("b", "c")
    assert real.locate(["a", "b", "c"]) == {"b": State.READY, "c": State.READY}


def test_a_send_that_breaks_in_the_middle_sorts_its_ids_rightly(
    broker: FaultyBroker, real: Broker
) -> None:
    ids = ["a", "b", "c", "d", "e"]
    broker.break_next(Fault.MIDDLE)

    with pytest.raises(SendError) as caught:
        broker.send([item(id) for id in ids])

    assert caught.value.sent == ("a", "b")
    assert caught.value.unknown == ("c",)
    assert caught.value.unsent == ("d", "e")
    assert set(real.locate(ids)) == {"a", "b", "c"}


@pytest.mark.parametrize(
    ("ids", "sent", "unknown", "unsent"),
    [("abab", "a", "b", ""), ("aab", "a", "", "b"), ("abbc", "a", "b", "c")],
)
def test_an_id_sent_twice_in_a_broken_batch_is_named_once(
    broker: FaultyBroker, ids: str, sent: str, unknown: str, unsent: str
) -> None:
    broker.break_next(Fault.MIDDLE)

    with pytest.raises(SendError) as caught:
        broker.send([item(id) for id in ids])

    error = caught.value
    assert (error.sent, error.unknown, error.unsent) == (
        tuple(sent),
        tuple(unknown),
        tuple(unsent),
    )


@pytest.mark.parametrize("size", [1, 2, 3])
def test_half_of_a_batch_and_at_least_one_is_done_in_the_middle(
    broker: FaultyBroker, real: Broker, size: int
) -> None:
    deliveries = claim(broker, *(f"m{number}" for number in range(size)))
    broker.break_next(Fault.MIDDLE)

    with pytest.raises(OutcomeUnknown):
        broker.settle([Ack(delivery) for delivery in deliveries])

    assert real.stats()[0].processing if size > 1 else not real.stats()
    left = {delivery.id for delivery in deliveries} & set(real.locate(["m0", "m1", "m2"]))
    assert len(left) == size // 2


def test_half_of_the_records_are_stored_in_the_middle(results: FaultyResults) -> None:
    results.break_next(Fault.MIDDLE)

    with pytest.raises(OutcomeUnknown):
        results.store([record(id) for id in "abcd"])

    assert set(results.fetch(["a", "b", "c", "d"])) == {"a", "b"}


def test_what_is_no_batch_is_done_whole_in_the_middle(broker: FaultyBroker, real: Broker) -> None:
    broker.send([item("a"), item("b")])
    broker.break_next(Fault.MIDDLE)

    with pytest.raises(OutcomeUnknown):
        broker.purge("q")

    assert real.stats() == []


def test_the_short_forms_break_with_the_call_they_make(broker: FaultyBroker, real: Broker) -> None:
    one, two, three = claim(broker, "a", "b", "c")
    calls: list[Callable[[], bool]] = [
        lambda: broker.ack(one),
        lambda: broker.nack(two),
        lambda: broker.dead(three, code="failed"),
    ]

    for call in calls:
        broker.break_next(Fault.AFTER)
        with pytest.raises(OutcomeUnknown, match="settle"):
            call()
    broker.break_next(Fault.BEFORE)
    with pytest.raises(SendError):
        broker.schedule(item("d").message, eta=0.0)

    assert real.locate(["a", "b", "c", "d"]) == {"b": State.READY, "c": State.DEAD}


def test_skip_counts_calls_and_healing_disarms(broker: FaultyBroker) -> None:
    broker.break_next(Fault.BEFORE, skip=1)
    broker.break_next(Fault.BEFORE, skip=2)

    broker.stats()
    with pytest.raises(ConnectionFailed):
        broker.stats()
    broker.heal()

    broker.stats()


def test_what_asks_no_server_cannot_break(broker: FaultyBroker) -> None:
    broker.send([item("a")])
    broker.break_next(Fault.BEFORE)

    broker.send([])
    broker.settle([])
    broker.extend([], lease=1)
    broker.reserve([], limit=1, lease=1)
    broker.interrupt()

    assert broker.reserve(["q"], limit=1, lease=30) == []
    with pytest.raises(ConnectionFailed):
        broker.stats()


def test_a_closed_client_is_closed_and_not_broken(
    broker: FaultyBroker, results: FaultyResults
) -> None:
    broker.break_next(Fault.BEFORE)
    results.break_next(Fault.BEFORE)

    broker.close()
    results.close()

    for call in BROKER_CALLS.values():
        with pytest.raises(Closed):
            call(broker)
    for ask in RESULTS_CALLS.values():
        with pytest.raises(Closed):
            ask(results)


def test_a_plan_is_asked_at_every_call_by_name(real: Broker, plugins: Plugins) -> None:
    asked: list[str] = []

    def plan(name: str) -> Fault | None:
        asked.append(name)
        return Fault.BEFORE if name == "stats" else None

    broker = FaultyBroker(real, plan)
    results = FaultyResults(plugins.open_results("memory://"), plan)
    for name, call in BROKER_CALLS.items():
        if name == "stats":
            with pytest.raises(ConnectionFailed):
                call(broker)
        else:
            call(broker)
    for ask in RESULTS_CALLS.values():
        ask(results)

    assert asked == [*BROKER_CALLS, *RESULTS_CALLS]


def test_what_is_armed_goes_before_the_plan(real: Broker) -> None:
    broker = FaultyBroker(real, lambda _: Fault.AFTER)
    broker.break_next(Fault.BEFORE)

    with pytest.raises(ConnectionFailed):
        broker.stats()
    with pytest.raises(OutcomeUnknown):
        broker.stats()


def test_errors_of_the_broker_itself_come_through(broker: FaultyBroker) -> None:
    broker.break_next(Fault.AFTER)

    with pytest.raises(ValueError, match="waiting"):
        broker.purge("q", states=frozenset({State.DEAD}))


def test_a_decorated_broker_declares_what_the_broker_does() -> None:
    class Denying(MemoryBroker):
        capabilities = Capabilities(locate=False)

    denying = FaultyBroker(Denying(MemoryServer(SystemClock())))

    assert denying.capabilities == Capabilities(locate=False)
