"""Many processes on one file: nothing locked out, nothing lost, nothing doubled."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from taskq.clock import SystemClock
from taskq.contract.delivery import State
from taskq.contract.results import ResultRecord
from taskq.contract.settlement import Ack
from taskq.errors import Closed
from taskq.url import Url
from taskq_sql import plugin
from tests.integration.sql.conftest import Open, open_broker, sends

PROCESSES = 6
SHARE = 60
FORK = multiprocessing.get_context("fork")
SPAWN = multiprocessing.get_context("spawn")

WRITER = """
import sys
from pathlib import Path
from tests.integration.sql.conftest import open_broker, sends
broker = open_broker(Path(sys.argv[1]))
for number in range(100_000):
    ids = [f"{sys.argv[2]}-{number}-{part}" for part in range(5)]
    broker.send(sends(*ids))
    print(*ids, flush=True)
"""


def contend(path: Path, share: int, done: multiprocessing.Queue[list[str]]) -> None:
    broker = open_broker(path)
    for number in range(SHARE):
        broker.send(sends(f"{share}-{number}"))
    mine: list[str] = []
    while deliveries := broker.reserve(["default"], limit=7, lease=60, wait=0.2):
        assert broker.settle([Ack(delivery) for delivery in deliveries]) == []
        mine += [delivery.id for delivery in deliveries]
    broker.close()
    done.put(mine)


def test_six_processes_that_start_at_once_share_the_work(path: Path, opened: Open) -> None:
    done: multiprocessing.Queue[list[str]] = SPAWN.Queue()
    workers = [SPAWN.Process(target=contend, args=(path, n, done)) for n in range(PROCESSES)]

    for worker in workers:
        worker.start()
    taken = Counter(id for _ in workers for id in done.get(timeout=60))
    for worker in workers:
        worker.join(timeout=10)

    assert [worker.exitcode for worker in workers] == [0] * PROCESSES
    assert taken == Counter(f"{n}-{m}" for n in range(PROCESSES) for m in range(SHARE))
    assert opened(path).stats() == []


def test_a_foreign_writer_delays_and_never_fails(
    path: Path, opened: Open, foreign: sqlite3.Connection
) -> None:
    broker = opened(path)
    broker.check()
    stop = threading.Event()

    def hog() -> None:
        while not stop.is_set():
            foreign.execute("BEGIN IMMEDIATE")
            stop.wait(0.5)
            foreign.execute("ROLLBACK")
            time.sleep(0.02)

    thread = threading.Thread(target=hog)
    thread.start()
    rounds = 0
    try:
        end = time.monotonic() + 2.5
        while time.monotonic() < end:
            broker.send(sends(f"{rounds}"))
            (delivery,) = broker.reserve(["default"], limit=1, lease=30, wait=5)
            assert broker.settle([Ack(delivery)]) == []
            rounds += 1
    finally:
        stop.set()
        thread.join()

    assert rounds >= 2


def in_child(work: Callable[[], None]) -> int | None:
    child = FORK.Process(target=work)
    child.start()
    child.join(timeout=20)
    return child.exitcode


def test_a_child_opens_its_own_connections_and_harms_no_others(path: Path, opened: Open) -> None:
    broker = opened(path)
    broker.send(sends("parent"))
    (held,) = broker.reserve(["default"], limit=1, lease=30)

    def child() -> None:
        broker.send(sends("child"))
        assert broker.settle([Ack(held)]) == []
        broker.close()

    assert in_child(child) == 0
    assert broker.settle([Ack(held)]) == [held]
    assert broker.locate(["parent", "child"]) == {"child": State.READY}
    broker.send(sends("later"))
    assert opened(path).stats()[0].ready == 2


def test_what_a_child_sends_outlives_the_connections_of_its_parent(
    path: Path, opened: Open
) -> None:
    broker = opened(path)
    broker.send(sends("parent"))
    broker.stats()
    closed, seen = FORK.Event(), FORK.Event()

    def child() -> None:
        broker.send(sends("child"))
        seen.set()
        assert closed.wait(10)
        broker.send(sends("later"))

    process = FORK.Process(target=child)
    process.start()
    assert seen.wait(10)
    broker.close()
    opened(path).stats()
    closed.set()
    process.join(timeout=20)

    assert process.exitcode == 0
    assert set(opened(path).locate(["parent", "child", "later"])) == {"parent", "child", "later"}


def test_forks_while_threads_send_lose_and_mix_up_nothing(path: Path, opened: Open) -> None:
    broker = opened(path, synchronous="off")
    broker.send(sends("first"))
    stop = threading.Event()
    told: list[str] = []

    def send(name: str) -> None:
        for number in range(100_000):
            broker.send(sends(f"{name}-{number}"))
            told.append(f"{name}-{number}")
            if stop.is_set():
                return

    threads = [threading.Thread(target=send, args=(f"t{n}",)) for n in range(2)]
    for thread in threads:
        thread.start()
    codes = [in_child(lambda n=n: broker.send(sends(f"child-{n}"))) for n in range(8)]
    stop.set()
    for thread in threads:
        thread.join(timeout=20)

    told += [f"child-{n}" for n in range(8)]
    assert codes == [0] * 8
    assert set(opened(path).locate(told)) == set(told)


def test_a_child_forked_inside_a_transaction_neither_hangs_nor_commits_it(
    path: Path, opened: Open
) -> None:
    broker = opened(path)
    broker.send(sends("before"))
    codes: list[int | None] = []

    def child() -> None:
        assert set(broker.locate(["before", "open"])) == {"before"}

    def work(session: object) -> None:
        broker._insert(session, sends("open"))
        codes.append(in_child(child))

    broker._database.transact(work)

    assert codes == [0]
    assert set(broker.locate(["before", "open"])) == {"before", "open"}


def test_a_killed_writer_leaves_a_sound_file_with_all_it_was_told(path: Path, opened: Open) -> None:
    told: list[str] = []

    for attempt in range(5):
        command = [sys.executable, "-c", WRITER, str(path), str(attempt)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            told += writer.stdout.readline().split()
            time.sleep(0.02 * attempt)
            writer.send_signal(signal.SIGKILL)
            lines = [line for line in writer.stdout if line.endswith("\n")]
            told += [id for line in lines for id in line.split()]

    broker = opened(path)
    assert set(broker.locate(told)) == set(told)
    assert broker.stats()[0].ready % 5 == 0
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()


def test_a_transaction_whose_process_is_killed_never_happened(path: Path, opened: Open) -> None:
    broker = opened(path)
    broker.send(sends("before"))

    def child() -> None:
        def work(session: object) -> None:
            broker._insert(session, sends(*(f"half-{n}" for n in range(500))))
            os.kill(os.getpid(), signal.SIGKILL)

        broker._database.transact(work)

    assert in_child(child) == -signal.SIGKILL
    assert broker.stats()[0].ready == 1
    broker.send(sends("after"))
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()


def test_threads_of_one_client_share_the_work(path: Path, opened: Open) -> None:
    broker = opened(path, synchronous="off")
    broker.send(sends(*(str(n) for n in range(400))))
    taken: list[str] = []

    def drain() -> None:
        while deliveries := broker.reserve(["default"], limit=5, lease=60):
            assert broker.settle([Ack(delivery) for delivery in deliveries]) == []
            taken.extend(delivery.id for delivery in deliveries)

    threads = [threading.Thread(target=drain) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)

    assert Counter(taken) == Counter(str(n) for n in range(400))


def test_a_wait_is_woken_by_the_same_process_at_once(path: Path, opened: Open) -> None:
    waiting, sending = opened(path), opened(path)
    waiting.check()
    waiting._worked -= 3600
    sent: list[float] = []

    def send() -> None:
        sending.send(sends("a"))
        sent.append(time.monotonic())

    timer = threading.Timer(0.05, send)
    timer.start()
    (delivery,) = waiting.reserve(["default"], limit=1, lease=30, wait=5)

    timer.join()
    assert delivery.id == "a"
    assert time.monotonic() - sent[0] < 0.1


def test_a_result_wait_is_woken_by_a_settlement(path: Path, opened: Open) -> None:
    broker = opened(path)
    results = plugin.taskq_open_results(Url.parse(f"sqlite:///{path}"), SystemClock())
    assert results is not None
    broker.send(sends("a"))
    (delivery,) = broker.reserve(["default"], limit=1, lease=30)
    record = ResultRecord("a", 0, "SUCCESS", b"1", 60)

    timer = threading.Timer(0.3, broker.settle, [[Ack(delivery, record)]])
    timer.start()
    began = time.monotonic()
    found = results.wait(["a", "b"], timeout=5)

    assert found["a"].payload == b"1"
    assert time.monotonic() - began < 0.35
    timer.join()
    results.close()


def test_closing_ends_a_wait(path: Path, opened: Open) -> None:
    broker = opened(path)
    broker.check()
    caught: list[Exception] = []

    def wait() -> None:
        try:
            broker.reserve(["default"], limit=1, lease=1, wait=20)
        except Closed as error:
            caught.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.1)
    broker.close()
    thread.join(timeout=1)

    assert not thread.is_alive()
    assert len(caught) == 1
