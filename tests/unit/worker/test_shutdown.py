"""However a worker ends, nothing is lost and nothing counts against a task."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from taskq.contract.delivery import Delivery
from taskq.errors import ConnectionFailed
from taskq.worker.worker import Exit

from .bench import QUEUE, Bench, Running, eventually, running

FAREWELL = 0.4
"""As the tests have it; two seconds in life."""


@pytest.fixture(autouse=True)
def short_farewell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taskq.worker.worker.FAREWELL", FAREWELL)


class Long:
    """A task that runs until the test lets it end."""

    def __init__(self, bench: Bench) -> None:
        self.go = threading.Event()
        self.started = threading.Semaphore(0)
        self.ended = threading.Semaphore(0)
        self.lost: list[bool] = []

        @bench.app.task(name="long")
        def long() -> str:
            self.started.release()
            self.go.wait(10)
            self.lost.append(long.request.lost)
            self.ended.release()
            return "done"

        self.task = long

    def await_start(self, count: int) -> None:
        for _ in range(count):
            assert self.started.acquire(timeout=3)


@pytest.fixture
def long(live: Bench) -> Iterator[Long]:
    long = Long(live)
    yield long
    long.go.set()


def claim(bench: Bench) -> list[Delivery]:
    """Claim as another worker would."""
    return bench.app.open_broker().reserve([QUEUE], limit=100, lease=30.0)


def test_a_warm_end_finishes_what_runs_and_gives_back_the_rest_at_once(
    live: Bench, long: Long
) -> None:
    results = [long.task.delay() for _ in range(6)]
    work = Running(live.app, concurrency=2, prefetch=2, prefetch_max=2)
    long.await_start(2)
    eventually(lambda: live.stats().processing == 4)
    work.worker.stop()

    # Long before the running ones end, what waited can be had by others.
    eventually(lambda: live.stats().ready == 4)
    given_back = claim(live)
    assert len(given_back) == 4
    assert sorted(d.releases for d in given_back) == [0, 0, 1, 1]
    assert {(d.retries, d.losses, d.run) for d in given_back} == {(0, 0, 0)}

    long.go.set()
    assert work.join() == Exit.WARM
    done = live.app.results.fetch([result.id for result in results])
    assert {record.state for record in done.values()} == {"SUCCESS"}
    assert len(done) == 2
    assert live.app.broker.list_alive_workers() == []


def test_a_worker_is_listed_while_it_lives(live: Bench, long: Long) -> None:
    with running(live.app, concurrency=3, name="w1", heartbeat_interval=0.05):
        long.task.delay()
        long.await_start(1)

        (beat,) = eventually(
            lambda: [b for b in live.app.broker.list_alive_workers() if b.running == 1]
        )
        assert (beat.worker, beat.concurrency, beat.queues) == ("w1", 3, (QUEUE,))
        assert (beat.pid, beat.pool, beat.done) == (os.getpid(), "threads", 0)
        long.go.set()


@pytest.mark.parametrize("grace", [0.1, 10.0])
def test_a_cold_end_gives_running_tasks_back_and_tells_them(
    live: Bench, long: Long, grace: float
) -> None:
    long.task.delay()
    work = Running(live.app, concurrency=1, shutdown_grace=grace)
    long.await_start(1)
    start = time.monotonic()
    work.worker.stop()
    if grace > 1:
        work.worker.stop()

    assert work.join() == Exit.COLD
    assert time.monotonic() - start < 0.1 + FAREWELL
    (delivery,) = claim(live)
    assert (delivery.releases, delivery.retries, delivery.losses) == (1, 0, 0)

    long.go.set()
    assert long.ended.acquire(timeout=2)
    assert long.lost == [True]


def test_a_broker_that_is_gone_does_not_keep_a_worker(live: Bench, long: Long) -> None:
    def down(*args: object, **kwargs: object) -> None:
        raise ConnectionFailed("no route")

    long.task.delay()
    work = Running(live.app, concurrency=1)
    long.await_start(1)
    names = ("reserve", "settle", "extend", "send_heartbeat", "poll_schedule", "recover_expired")
    live.script.hooks = dict.fromkeys(names, down)
    start = time.monotonic()
    long.go.set()

    assert work.stop() == Exit.WARM
    assert time.monotonic() - start < FAREWELL + 0.5


def test_a_broker_that_hangs_does_not_keep_a_worker(live: Bench, long: Long) -> None:
    hang = threading.Event()
    long.task.delay()
    work = Running(live.app, concurrency=1, shutdown_grace=0.2)
    long.await_start(1)
    names = ("settle", "extend", "send_heartbeat", "poll_schedule", "recover_expired")
    live.script.hooks = dict.fromkeys(names, lambda *args, **kwargs: hang.wait(10))
    start = time.monotonic()

    assert work.stop() == Exit.COLD
    assert time.monotonic() - start < 0.2 + FAREWELL + 0.3
    hang.set()


def test_a_client_that_was_closed_under_it_stops_the_worker_in_order(
    live: Bench, long: Long
) -> None:
    long.task.delay()
    work = Running(live.app, concurrency=1, shutdown_grace=0.1)
    long.await_start(1)

    live.app.broker.close()

    assert work.join() == Exit.BROKEN
    long.go.set()
    assert long.ended.acquire(timeout=3)
    assert long.lost == [True]


def test_under_full_load_a_stop_loses_nothing_and_doubles_nothing(live: Bench) -> None:
    ran: list[int] = []

    @live.app.task(name="short", ignore_result=True)
    def short(n: int) -> None:
        ran.append(n)

    live.app.bulk([short.s(n) for n in range(5000)])
    work = Running(live.app, concurrency=4)
    eventually(lambda: len(ran) > 500)
    assert work.stop() == Exit.WARM

    stats = live.stats()
    assert (stats.processing, stats.dead) == (0, 0)
    assert len(ran) + stats.ready == 5000
    with running(live.app, concurrency=4):
        eventually(lambda: live.empty)
    assert sorted(ran) == list(range(5000))


def test_a_slot_that_dies_stops_the_worker(live: Bench, caplog: pytest.LogCaptureFixture) -> None:
    @live.app.task(name="one")
    def one() -> int:
        return 1

    work = Running(live.app, concurrency=1)
    work.worker.tuner.clocks[0].busy = None  # type: ignore[assignment]
    result = one.delay()

    assert work.join() == Exit.BROKEN
    assert "a slot died: TypeError" in caplog.text
    assert result.get(timeout=0) == 1


# In a process of its own

PROGRAM = """
import signal, sys, time
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
    # Ignored if the tests run under nohup or in the background.
    signal.signal(number, signal.SIG_DFL)
from taskq import TaskQ
from taskq.worker.options import WorkerOptions
from taskq.worker.worker import Exit, Worker

app = TaskQ("p", broker="memory://")

@app.task(name="work")
def work(seconds):
    print("started", flush=True)
    time.sleep(seconds)
    print("done", flush=True)

work.delay({seconds})
worker = Worker(app, WorkerOptions(pool="{pool}", concurrency=1, shutdown_grace={grace}))
code = worker.run()
print("exit", int(code), flush=True)
sys.exit(code)
"""


def launch(tmp_path: Path, **values: object) -> subprocess.Popen[str]:
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(PROGRAM.format(**values)))
    process = subprocess.Popen(
        [sys.executable, str(program)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line == "started\n":
            return process
    raise AssertionError("the program ended early")


@pytest.mark.parametrize(
    ("pool", "number"),
    [("threads", signal.SIGTERM), ("solo", signal.SIGINT), ("threads", signal.SIGHUP)],
)
def test_a_signal_lets_the_running_task_finish(
    tmp_path: Path, pool: str, number: signal.Signals
) -> None:
    process = launch(tmp_path, seconds=0.2, pool=pool, grace=25)
    os.kill(process.pid, number)
    output, _ = process.communicate(timeout=8)

    assert output == "done\nexit 0\n"
    assert process.returncode == Exit.WARM


@pytest.mark.parametrize("pool", ["threads", "solo"])
def test_a_second_signal_ends_it_at_once(tmp_path: Path, pool: str) -> None:
    process = launch(tmp_path, seconds=60, pool=pool, grace=25)
    start = time.monotonic()
    for _ in range(2):
        os.kill(process.pid, signal.SIGTERM)
        time.sleep(0.05)
    output, _ = process.communicate(timeout=8)

    assert process.returncode == Exit.COLD
    assert "done" not in output
    assert time.monotonic() - start < 2


def test_sigquit_ends_it_at_once(tmp_path: Path) -> None:
    process = launch(tmp_path, seconds=60, pool="threads", grace=25)
    os.kill(process.pid, signal.SIGQUIT)
    output, _ = process.communicate(timeout=8)

    assert process.returncode == Exit.COLD
    assert "done" not in output


@pytest.mark.parametrize("pool", ["threads", "solo"])
def test_a_task_that_ignores_the_grace_does_not_keep_the_process(tmp_path: Path, pool: str) -> None:
    process = launch(tmp_path, seconds=60, pool=pool, grace=0.2)
    start = time.monotonic()
    os.kill(process.pid, signal.SIGTERM)
    process.communicate(timeout=8)

    assert process.returncode == Exit.COLD
    assert time.monotonic() - start < 0.2 + 2
