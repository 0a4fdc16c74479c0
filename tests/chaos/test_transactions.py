"""Programs and workers that are killed in the middle of their own transactions."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from tests.chaos.business import Business, engine_of
from tests.chaos.conftest import empty_namespace
from tests.chaos.harness import QUEUE, Arena
from tests.chaos.seller import End, end_of, sell, tasks_of
from tests.chaos.sizes import size_on
from tests.chaos.test_kills import FLEET
from tests.waiting import until

pytestmark = pytest.mark.chaos

SELLERS = 4
COMMITTED = {End.COMMIT: True, End.ROLLBACK: False, End.KILL_EARLY: False, End.KILL_LATE: False}
"""Whether a transaction must be found; one killed at its commit may be or not."""


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with empty_namespace(request.param, tmp_path) as url:
        yield url


@pytest.fixture
def business(url: str) -> Iterator[Business]:
    engine: Engine = engine_of(url, os.getpid())
    table = Business(engine, f"sales_{os.getpid()}_{time.monotonic_ns()}")
    table.create()
    yield table
    table.drop()
    engine.dispose()


def test_tasks_exist_exactly_for_what_was_committed(
    arena: Arena, business: Business, full: bool
) -> None:
    total = size_on(arena.url, full=full, small=120, part=400, whole={"postgresql": 1000})
    arena.app.broker.stats()  # the tables exist from here on
    began = time.monotonic()

    deaths = sell_all(arena.url, business, total)

    rows = business.rows()
    found = set(_drain(arena))
    ends = [end_of(number) for number in range(total)]
    expected = {
        id for number in range(total) if f"sale-{number}" in rows for id in tasks_of(number)
    }
    late = [n for n, end in enumerate(ends) if end is End.KILL_AT_COMMIT]
    in_time = sum(f"sale-{number}" in rows for number in late)
    print(
        f"\n{arena.app.broker_url.scheme}: {total} transactions, {len(rows)} committed, "
        f"{deaths} processes killed, {in_time} of {len(late)} after their commit; "
        f"{len(found)} tasks; {time.monotonic() - began:.1f} s"
    )
    assert found == expected
    assert {n: f"sale-{n}" in rows for n, end in enumerate(ends) if end in COMMITTED} == {
        n: COMMITTED[end] for n, end in enumerate(ends) if end in COMMITTED
    }
    assert deaths == sum(end.name.startswith("KILL") for end in ends)


def sell_all(url: str, business: Business, total: int, database: str | None = None) -> int:
    """Let some processes carry out all transactions; return how many of them were killed."""
    fork = multiprocessing.get_context("fork")
    share = total // SELLERS
    deaths = 0
    left = {n: range(n * share, (n + 1) * share) for n in range(SELLERS)}
    running: dict[int, tuple[Any, int]] = {}
    business.engine.dispose()
    while left or running:
        for n, numbers in list(left.items()):
            if n not in running:
                process = fork.Process(
                    target=sell,
                    args=(url, business.name, numbers.start, numbers.stop, database),
                )
                process.start()
                running[n] = (process, numbers.start)
        for n, (process, first) in list(running.items()):
            process.join(0.02)
            if process.exitcode is None:
                continue
            del running[n]
            numbers = left.pop(n)
            if process.exitcode == 0:
                continue
            assert process.exitcode == -signal.SIGKILL
            deaths += 1
            killed = next(k for k in range(first, numbers.stop) if end_of(k).name.startswith("K"))
            if killed + 1 < numbers.stop:
                left[n] = range(killed + 1, numbers.stop)
    return deaths


def _drain(arena: Arena) -> Iterator[str]:
    """Take everything there is from the broker; yield the ids."""
    while claim := arena.app.broker.reserve([QUEUE], limit=500, lease=600):
        yield from (delivery.id for delivery in claim)


def test_an_effect_is_there_exactly_if_its_task_is_gone(
    arena: Arena, business: Business, full: bool
) -> None:
    count, kills = size_on(
        arena.url, full=full, small=(150, 4), part=(400, 8), whole={"postgresql": (1000, 20)}
    )
    ids = arena.send([arena.call("sale", business.name) for _ in range(count)])
    arena.start_fleet(2, **FLEET)
    began = time.monotonic()
    looks: list[list[str]] = []

    def done(share: float) -> bool:
        looks.append(business.with_message())
        return len(business.rows()) >= count * share

    for number in range(kills):
        until(lambda share=0.9 * number / kills: done(share), "effects", 60)
        victim = arena.await_busy()
        arena.workers.remove(victim)
        victim.kill()
        arena.start(**FLEET)
    until(lambda: done(1.0), "all effects", 120)
    arena.await_results(ids, timeout=60)

    errors = [r.state for r in arena.results(ids).values() if r.state != "SUCCESS"]
    runs = len(arena.ledger.starts())
    print(
        f"\n{arena.app.broker_url.scheme}: {count} completions, {runs} runs, {kills} workers "
        f"killed, {len(looks)} looks; {time.monotonic() - began:.1f} s"
    )
    assert looks == [[]] * len(looks)
    assert business.rows() == set(ids)
    assert (len(arena.results(ids)), errors) == (count, []), arena.logs()
    assert arena.left() == 0
