"""Redis killed, stopped, cut off and hung under its workers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.chaos.conftest import OpenArena
from tests.chaos.harness import Arena
from tests.servers import RedisServer
from tests.waiting import until

pytestmark = pytest.mark.chaos

LEASE = 3.0
GRACE = 1.0
FLEET: dict[str, Any] = {"concurrency": 4, "visibility_timeout": LEASE, "shutdown_grace": GRACE}
StartRedis = Callable[..., RedisServer]


def send_patiently(arena: Arena, ids: list[str], count: int) -> None:
    """Send tasks one by one, whatever the server does meanwhile."""
    for number in range(count):
        ids += arena.send([arena.call("work", 0.02, number % 2 == 0)])


def kill_and_restart(server: RedisServer) -> None:
    server.kill()
    server.start()


def stop_and_restart(server: RedisServer) -> None:
    server.stop()
    server.start()


@pytest.mark.parametrize(
    ("fsync", "bounce"),
    [
        pytest.param("always", kill_and_restart, id="kill -9"),
        pytest.param("everysec", stop_and_restart, id="SHUTDOWN"),
        pytest.param("everysec", RedisServer.cut, id="CLIENT KILL"),
    ],
)
def test_workers_and_producers_outlive_their_server(
    start_redis: StartRedis,
    open_arena: OpenArena,
    fsync: str,
    bounce: Callable[[RedisServer], object],
) -> None:
    server = start_redis(fsync=fsync)
    arena = open_arena(server.url, enqueue_timeout=20.0)
    arena.start_fleet(2, **FLEET)
    ids: list[str] = []
    sender = threading.Thread(target=send_patiently, args=(arena, ids, 400))
    sender.start()

    for number in range(4):
        arena.await_finished(80 * number + 20)
        bounce(server)
    sender.join(60)
    arena.await_results(ids, timeout=30)

    verdict = arena.verdict(ids)
    print(f"\n{bounce.__name__}: {verdict}")
    assert len(ids) == 400
    assert not verdict.breaches(), f"{verdict}\n{arena.dead()}\n{arena.logs()}"
    assert [worker.code for worker in arena.workers] == [None, None]
    assert arena.left() == 0


def test_a_worker_that_starts_before_its_server_works_once_that_is_up(
    start_redis: StartRedis, open_arena: OpenArena
) -> None:
    server = start_redis()
    arena = open_arena(server.url)
    server.stop()
    worker = arena.start(**FLEET).await_ready()
    worker.await_log("broker out of reach")

    server.start()
    ids = arena.send([arena.call("echo", "x") for _ in range(10)])
    arena.await_results(ids, timeout=10)

    assert not arena.verdict(ids).breaches(), arena.logs()


@pytest.mark.parametrize("trouble", ["stop", "freeze"])
@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
def test_a_worker_ends_in_time_though_its_server_does_not_answer(
    start_redis: StartRedis, open_arena: OpenArena, trouble: str, busy: bool
) -> None:
    server = start_redis()
    arena = open_arena(server.url)
    worker = arena.start(**FLEET).await_ready()
    if busy:
        arena.send([arena.call("work", 30.0, False)])
        worker.await_task()

    getattr(server, trouble)()
    asked = time.monotonic()
    worker.terminate()
    code = worker.await_end(GRACE + 10)
    took = time.monotonic() - asked

    print(f"\n{trouble}, {'busy' if busy else 'idle'}: ended with {code} after {took:.1f} s")
    assert code == (3 if busy else 0), worker.log
    assert took <= GRACE + 2, worker.log


def test_threads_files_and_memory_stay_flat(start_redis: StartRedis, open_arena: OpenArena) -> None:
    server = start_redis()
    arena = open_arena(server.url)
    worker = arena.start(**FLEET).await_ready()

    samples = []
    for _ in range(5):
        ids = arena.send([arena.call("brief", number % 10 == 0) for number in range(1000)])
        arena.await_results(ids, timeout=30)
        until(lambda: arena.left() == 0, "all are concluded")
        samples.append((worker.threads(), worker.files(), worker.memory()))
        stop_and_restart(server)

    threads, files, memory = zip(*samples, strict=True)
    print(f"\nthreads {threads}, files {files}, memory {memory} KiB")
    assert max(threads) <= threads[0]
    assert max(files) <= files[0] + 4
    assert memory[-1] <= memory[1] + 8 * 1024
