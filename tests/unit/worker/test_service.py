"""Broker trouble is waited out; anything else stops the worker, which says why."""

from __future__ import annotations

import logging

import pytest

from taskq.errors import ConnectionFailed, ServerRefused
from taskq.worker.outage import LONGEST_PAUSE, Outage
from taskq.worker.service import Service
from taskq.worker.worker import Exit

from .bench import Bench, Running, eventually, running


def test_an_outage_is_logged_once_when_it_begins_and_once_when_all_are_through(
    caplog: pytest.LogCaptureFixture,
) -> None:
    outage = Outage()
    for failures in range(1, 5):
        outage.pause("claim", ConnectionFailed("no route"), failures)
        outage.pause("settle", ConnectionFailed("no route"), failures)
    outage.over("settle")
    assert [record.getMessage() for record in caplog.records] == [
        "broker out of reach, trying again: no route"
    ]

    outage.over("claim")
    assert len(caplog.records) == 2
    assert caplog.messages[1].startswith("broker back after")


def test_pauses_grow_are_bounded_and_differ() -> None:
    outage = Outage()
    pauses = [outage.pause("claim", ConnectionFailed(), n) for n in range(1, 30)]

    assert 0.05 <= pauses[0] <= 0.1
    assert all(0.0 < pause <= LONGEST_PAUSE for pause in pauses)
    assert min(pauses[-10:]) >= LONGEST_PAUSE / 2
    assert len(set(pauses)) == len(pauses)


class Stepped(Service):
    name = "stepped"

    def __init__(self, *errors: BaseException | None) -> None:
        self.deaths: list[BaseException] = []
        super().__init__(Outage(), lambda service, error: self.deaths.append(error))
        self.errors = list(errors)
        self.steps = 0

    def run_once(self) -> float:
        self.steps += 1
        if self.errors and (error := self.errors.pop(0)) is not None:
            raise error
        return 0.001


def test_a_service_repeats_its_step_through_broker_errors() -> None:
    service = Stepped(ConnectionFailed(), ServerRefused(), None)
    service.start()

    eventually(lambda: service.steps > 4)
    service.stop()
    assert service.join(2)
    assert service.deaths == []


def test_any_other_exception_is_a_services_death() -> None:
    error = ZeroDivisionError()
    service = Stepped(error)
    service.start()

    assert service.join(2)
    assert service.deaths == [error]
    assert service.steps == 1


def test_a_worker_outlives_an_outage_and_says_so_twice(
    live: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    down = [True]

    def hook(*args: object, **kwargs: object) -> None:
        if down:
            raise ConnectionFailed("no route")

    @live.app.task(name="one")
    def one() -> int:
        return 1

    result = one.delay()
    names = ("reserve", "settle", "extend", "send_heartbeat", "poll_schedule", "recover_expired")
    live.script.hooks = dict.fromkeys(names, hook)
    caplog.set_level(logging.INFO)
    with running(live.app, concurrency=2, heartbeat_interval=0.1, schedule_poll_interval=0.1):
        # Longer than the settler's idle look, which must not pass for a success.
        eventually(lambda: live.script.calls["reserve"] > 3)
        eventually(lambda: live.script.calls["poll_schedule"] > 3)
        down.clear()
        assert result.get(timeout=5) == 1
        eventually(lambda: "broker back" in caplog.text, 8)

    assert caplog.text.count("broker out of reach") == 1
    assert caplog.text.count("broker back") == 1


@pytest.mark.parametrize(
    ("method", "service"),
    [
        ("reserve", "claim"),
        ("settle", "settle"),
        ("poll_schedule", "schedule"),
        ("recover_expired", "reaper"),
        ("send_heartbeat", "heartbeat"),
    ],
)
def test_a_service_that_dies_stops_the_worker_which_names_it(
    live: Bench,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    service: str,
) -> None:
    monkeypatch.setattr("taskq.worker.worker.FAREWELL", 0.1)

    @live.app.task(name="one")
    def one() -> int:
        return 1

    one.delay()
    live.script.fail(method, RuntimeError("a bug"))
    work = Running(live.app, concurrency=1)

    assert work.join() == Exit.BROKEN
    assert f"service {service} died: RuntimeError('a bug')" in caplog.text


def test_a_client_closed_by_a_task_stops_the_worker(
    live: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taskq.worker.worker.FAREWELL", 0.1)

    @live.app.task(name="close")
    def close() -> None:
        live.app.close()

    close.delay()
    work = Running(live.app, concurrency=1)

    assert work.join() == Exit.BROKEN
