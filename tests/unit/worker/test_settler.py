"""Deliveries are concluded in batches, through outages, and beside what is refused."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

import pytest

from taskq.contract.results import ResultRecord
from taskq.contract.settlement import Ack, Release, Settlement
from taskq.errors import BrokerError, Closed, ConnectionFailed, OutcomeUnknown, ServerRefused
from taskq.worker.settler import REFUSALS

from .bench import Bench, eventually


def acks(bench: Bench, *ids: str) -> list[Settlement]:
    """Send and claim messages; return how to conclude them with a result."""
    for id in ids:
        bench.inject(b"", id)
    return [Ack(d, ResultRecord(d.id, d.run, "SUCCESS", b"", 60.0)) for d in bench.claim(len(ids))]


def put(bench: Bench, settlements: Sequence[Settlement]) -> None:
    for settlement in settlements:
        bench.settler.put(settlement)


def step_until_quiet(bench: Bench) -> int:
    """Step the settler through its errors; return how many there were."""
    for errors in range(100):
        try:
            bench.settler.run_once()
        except BrokerError:
            continue
        return errors
    raise AssertionError("it never came through")


def test_what_has_gathered_is_settled_in_one_call(bench: Bench) -> None:
    put(bench, acks(bench, "a", "b", "c"))
    bench.settler.run_once()

    assert bench.script.calls["settle"] == 1
    assert bench.settler.settled == 3
    assert bench.empty


@pytest.mark.parametrize("error", [ConnectionFailed(), OutcomeUnknown()])
def test_a_batch_is_repeated_until_the_broker_answers(bench: Bench, error: BrokerError) -> None:
    bench.script.fail("settle", *[error] * 7)
    put(bench, acks(bench, "a", "b"))

    assert step_until_quiet(bench) == 7
    assert bench.empty
    assert set(bench.app.results.fetch(["a", "b"])) == {"a", "b"}


def test_what_an_attempt_without_an_answer_concluded_is_not_called_lost(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    [ack] = acks(bench, "a")
    attempts = iter((True, False))
    client = bench.app.broker._client  # type: ignore[attr-defined]

    def carried_out(*_: object) -> None:
        if next(attempts):
            client.settle([ack])
            raise OutcomeUnknown

    bench.script.hooks["settle"] = carried_out
    put(bench, [ack])

    with caplog.at_level(logging.INFO):
        assert step_until_quiet(bench) == 1
    assert bench.empty
    [said] = [r for r in caplog.records if r.name == "taskq.worker.settler"]
    assert (said.levelno, "carried out" in said.message) == (logging.INFO, True)


def refuse(bench: Bench, bad: str, times: int = 1000) -> None:
    left = [times]

    def hook(settlements: Sequence[Settlement]) -> None:
        if any(s.delivery.id == bad for s in settlements) and left[0]:
            left[0] -= 1
            raise ServerRefused("no room for that one")

    bench.script.hooks["settle"] = hook


def test_one_refused_settlement_does_not_hold_up_its_neighbours(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    refuse(bench, "bad")
    put(bench, acks(bench, "a", "bad", "c"))
    with pytest.raises(ServerRefused):
        bench.settler.run_once()

    assert bench.app.broker.locate(["a", "bad", "c"]).keys() == {"bad"}

    assert step_until_quiet(bench) == REFUSALS - 2
    assert "task bad could not be concluded and will run again" in caplog.text
    assert bench.shelf.held() == [], "its lease is left to end"
    put(bench, acks(bench, "d"))
    bench.settler.run_once()
    assert bench.app.broker.locate(["d"]) == {}


def test_a_refusal_that_passes_loses_nothing(bench: Bench) -> None:
    refuse(bench, "bad", times=3)
    put(bench, acks(bench, "a", "bad"))
    step_until_quiet(bench)

    assert bench.empty


def test_a_server_that_refuses_everything_is_waited_out(bench: Bench) -> None:
    full = [ServerRefused("out of memory")] * 3 * REFUSALS
    bench.script.fail("settle", *full)
    bench.script.fail("extend", *full)
    put(bench, acks(bench, "a", "b"))

    assert step_until_quiet(bench) >= 3 * REFUSALS
    assert bench.empty


def test_a_conclusion_that_comes_too_late_is_reported_and_changes_nothing(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    late = acks(bench, "late")
    bench.clock.advance(31)
    assert len(bench.claim()) == 1
    put(bench, [*late, Release(late[0].delivery)])
    bench.settler.run_once()

    assert bench.settler.settled == 0
    assert bench.app.results.fetch(["late"]) == {}
    assert caplog.text.count("task late: the lease was lost") == 1


# Results in another store


@pytest.fixture
def apart() -> Bench:
    return Bench(results="scripted://?namespace=elsewhere")


def test_results_elsewhere_are_stored_between_the_lease_and_the_ack(apart: Bench) -> None:
    put(apart, acks(apart, "a", "b"))
    apart.script.log.clear()
    apart.settler.run_once()

    assert apart.script.log == ["extend", "store", "settle"]
    assert set(apart.app.results.fetch(["a", "b"])) == {"a", "b"}
    assert apart.empty


def test_a_lost_lease_stores_no_result_elsewhere(apart: Bench) -> None:
    late = acks(apart, "late")
    apart.clock.advance(31)
    assert len(apart.claim()) == 1
    put(apart, [*late, *acks(apart, "good")])
    apart.settler.run_once()

    assert set(apart.app.results.fetch(["late", "good"])) == {"good"}
    assert apart.settler.settled == 1
    assert apart.stats().processing == 1


def test_without_a_result_no_lease_is_confirmed(apart: Bench) -> None:
    put(apart, [Ack(s.delivery) for s in acks(apart, "a")])
    apart.script.log.clear()
    apart.settler.run_once()

    assert apart.script.log == ["settle"]


def test_nothing_is_acked_while_its_result_cannot_be_stored(apart: Bench) -> None:
    apart.script.fail("store", ConnectionFailed(), OutcomeUnknown())
    put(apart, acks(apart, "a"))
    for _ in range(2):
        with pytest.raises(BrokerError):
            apart.settler.run_once()
        assert apart.stats().processing == 1

    apart.settler.run_once()
    assert apart.empty
    assert set(apart.app.results.fetch(["a"])) == {"a"}


# Flushing, in its thread


def test_a_flush_returns_when_all_that_was_put_before_is_concluded(bench: Bench) -> None:
    bench.settler.start()
    put(bench, acks(bench, *map(str, range(3000))))

    assert bench.settler.flush(5)
    assert bench.empty
    bench.settler.stop()
    assert bench.settler.join(2)


def test_a_flush_says_when_the_broker_did_not_take_it_in_time(bench: Bench) -> None:
    answer = threading.Event()

    def hook(settlements: object) -> None:
        if not answer.is_set():
            raise ConnectionFailed

    bench.script.hooks["settle"] = hook
    bench.settler.start()
    put(bench, acks(bench, "a"))

    assert not bench.settler.flush(0.05)
    answer.set()
    assert bench.settler.flush(5)
    assert bench.empty
    bench.settler.stop()
    assert bench.settler.join(2)


def test_a_closed_client_is_the_settlers_death(bench: Bench) -> None:
    bench.script.fail("settle", Closed())
    bench.settler.start()
    put(bench, acks(bench, "a"))

    (error,) = eventually(lambda: bench.deaths)
    assert isinstance(error, Closed)
    assert bench.settler.join(2)
