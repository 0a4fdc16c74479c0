"""Leases are renewed in time, and tasks are told before anybody else can start them."""

from __future__ import annotations

import threading
import time

import pytest

from taskq.app.request import Request
from taskq.errors import ConnectionFailed
from taskq.worker.leases import Fence, LeaseKeeper
from taskq.worker.outage import Outage
from taskq.worker.service import Service
from taskq.worker.shelf import Held

from .bench import Bench, eventually, running

LEASE = 30.0


def ignore(service: Service, error: BaseException) -> None:
    raise AssertionError(f"{service.name} died: {error!r}")


def keeper(bench: Bench) -> LeaseKeeper:
    return LeaseKeeper(bench.app.broker, bench.shelf, LEASE, outage=Outage(), on_death=ignore)


def fence(bench: Bench) -> Fence:
    return Fence(bench.shelf, LEASE, outage=Outage(), on_death=ignore)


def started(bench: Bench, *, left: float, id: str = "m") -> tuple[Held, Request]:
    """Return a run whose lease has `left` seconds to go."""
    bench.inject(b"", id)
    (delivery,) = bench.claim()
    now = time.monotonic()
    held = Held(delivery, now, now + left)
    bench.shelf.record([held])
    bench.shelf.add([held])
    assert bench.shelf.take() is held
    request = Request(id=id, task="t")
    held.start(request)
    return held, request


def test_a_lease_is_renewed_once_a_third_of_it_is_over(bench: Bench) -> None:
    young, _ = started(bench, left=LEASE * 0.7, id="young")
    keeper(bench).run_once()
    assert bench.script.calls["extend"] == 0

    old, _ = started(bench, left=LEASE * 0.65, id="old")
    keeper(bench).run_once()

    assert bench.script.calls["extend"] == 1
    assert old.until == pytest.approx(time.monotonic() + LEASE, abs=1)
    assert young.until < old.until


def test_looks_are_frequent_enough_to_renew_at_half_a_lease(bench: Bench) -> None:
    assert keeper(bench).run_once() <= LEASE / 6
    assert keeper(bench).longest_pause <= LEASE / 6


def test_a_long_task_is_not_reclaimed_while_its_worker_lives(bench: Bench) -> None:
    held, request = started(bench, left=LEASE)
    service = keeper(bench)

    for _ in range(20):
        bench.clock.advance(LEASE / 2)
        held.until = time.monotonic() + LEASE / 2
        service.run_once()
        assert bench.claim() == []

    assert not request.lost
    assert bench.stats().processing == 1


def test_a_task_whose_lease_is_gone_is_told_once(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    _, request = started(bench, left=1.0)
    bench.clock.advance(LEASE + 1)
    assert len(bench.claim()) == 1
    service = keeper(bench)
    service.run_once()
    service.run_once()

    assert request.lost
    assert caplog.text.count("the lease was lost while it ran") == 1
    assert bench.script.calls["extend"] == 1, "what is gone is not asked for again"


def test_a_task_that_was_just_concluded_has_lost_nothing(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    held, request = started(bench, left=1.0)
    held.ended = True
    bench.app.broker.ack(held.delivery)
    keeper(bench).run_once()

    assert not request.lost
    assert caplog.text == ""


def test_a_task_is_told_when_its_lease_could_not_be_renewed(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    _, safe = started(bench, left=LEASE * 0.4, id="safe")
    _, late = started(bench, left=LEASE * 0.3, id="late")
    bench.script.fail("extend", ConnectionFailed())
    with pytest.raises(ConnectionFailed):
        keeper(bench).run_once()
    for _ in range(2):
        fence(bench).run_once()

    assert (safe.lost, late.lost) == (False, True)
    assert caplog.text.count("could not be renewed") == 1


def test_it_is_told_even_while_the_call_that_renews_hangs(live: Bench) -> None:
    hang = threading.Event()
    told = threading.Event()
    live.script.hooks["extend"] = lambda *args, **kwargs: hang.wait(5)

    @live.app.task(name="long", bind=True)
    def long(self: object) -> None:
        eventually(lambda: long.request.lost)
        told.set()

    long.delay()
    start = time.monotonic()
    with running(live.app, concurrency=1, visibility_timeout=0.6):
        assert told.wait(2)
        assert time.monotonic() - start < 0.6 + 0.1 + 0.1
        hang.set()
        eventually(lambda: live.stats().processing == 0)


def test_a_task_longer_than_its_lease_runs_once(live: Bench) -> None:
    runs: list[int] = []

    @live.app.task(name="long", bind=True)
    def long(self: object) -> bool:
        runs.append(1)
        time.sleep(0.9)
        return bool(long.request.lost)

    result = long.delay()
    with running(live.app, concurrency=2, visibility_timeout=0.5):
        assert result.get(timeout=5) is False
    assert runs == [1]
