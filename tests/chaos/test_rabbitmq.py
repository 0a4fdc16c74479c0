"""Workers on RabbitMQ that are killed, a server that is killed, and one short of memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from taskq.errors import EnqueueError
from taskq.ids import new_id
from tests.chaos.conftest import OpenArena
from tests.chaos.harness import Arena
from tests.chaos.test_kills import mixed_calls
from tests.chaos.test_producers import send_from_children
from tests.chaos.test_servers import ROUND
from tests.rabbitmq_servers import RabbitmqServer
from tests.waiting import until

pytestmark = pytest.mark.chaos

LEASE = 3.0
FLEET: dict[str, Any] = {"concurrency": 4, "visibility_timeout": LEASE, "shutdown_grace": 1.0}
PUBLISHERS = 50
TOLD = "takes no messages now", "did not confirm in time", "takes nothing in time"


@pytest.fixture(scope="module")
def node() -> Iterator[RabbitmqServer]:
    with RabbitmqServer() as node:
        yield node


@pytest.fixture
def server(node: RabbitmqServer) -> RabbitmqServer:
    """Lend a server that is empty."""
    node.restore()
    return node


@pytest.fixture
def arena(server: RabbitmqServer, open_arena: OpenArena) -> Arena:
    return open_arena(server.url, enqueue_timeout=20.0)


def kill(server: RabbitmqServer) -> None:
    server.flush()
    server.kill()
    server.start()


def send_on(arena: Arena, ids: list[str], unknown: list[str], count: int) -> None:
    """Send until so many are accepted. What may have been is not sent again: ids are not unique."""
    while len(ids) < count:
        id = new_id()
        try:
            arena.app.send_task("work", (0.02, len(ids) % 2 == 0), task_id=id)
        except EnqueueError as error:
            unknown += error.unknown
        else:
            ids.append(id)


def test_no_task_is_lost_or_run_in_parallel_when_workers_are_killed(
    arena: Arena, full: bool
) -> None:
    count, kills = (1500, 12) if full else (400, 3)
    ids = arena.send(mixed_calls(arena, count))
    arena.start_fleet(2, **FLEET)

    for number in range(kills):
        arena.await_finished(int(count * 0.9 * number / kills))
        arena.strike()
        arena.start(**FLEET)
    arena.await_results(ids, timeout=60)
    # A result may be that of a run whose end was not told to the server any more.
    until(lambda: arena.left() == 0, "all are concluded", 60)

    verdict = arena.verdict(ids)
    print(f"\namqp: {verdict}; {kills} kills")
    assert not verdict.lost, f"{verdict}\n{arena.dead()}\n{arena.logs()}"
    assert not verdict.parallel, f"{verdict}\n{arena.logs()}"
    assert not verdict.stale, f"{verdict}\n{arena.logs()}"


@pytest.mark.parametrize("how", ["fork", "spawn"])
def test_children_of_a_producer_with_many_threads_lose_and_mix_up_nothing(
    arena: Arena, full: bool, how: str
) -> None:
    send_from_children(arena, 300 if full else 128, how)


@pytest.mark.parametrize(
    "bounce",
    [
        pytest.param(kill, id="kill -9"),
        pytest.param(RabbitmqServer.bounce, id="stop_app, start_app"),
        pytest.param(RabbitmqServer.close_all_connections, id="close_all_connections"),
    ],
)
def test_nothing_is_lost_or_run_in_parallel_when_the_server_goes(
    server: RabbitmqServer, arena: Arena, bounce: Any, full: bool
) -> None:
    rounds = 4 if full else 2
    count = (rounds + 1) * ROUND
    arena.start_fleet(2, **FLEET)
    ids: list[str] = []
    unknown: list[str] = []
    sender = threading.Thread(target=send_on, args=(arena, ids, unknown, count))
    sender.start()

    for number in range(rounds):
        arena.await_finished(ROUND * number + 20)
        bounce(server)
    sender.join(120)
    arena.await_results(ids, timeout=60)
    until(lambda: arena.left() == 0, "all are concluded", 60)

    verdict = arena.verdict(ids)
    print(f"\n{bounce.__name__}: {verdict}; {len(unknown)} perhaps sent")
    assert len(ids) == count
    assert not verdict.lost, f"{verdict}\n{arena.dead()}\n{arena.logs()}"
    assert not verdict.parallel, f"{verdict}\n{arena.logs()}"
    assert [worker.code for worker in arena.workers] == [None, None]


def test_many_publishers_and_a_worker_outlive_alarms(
    server: RabbitmqServer, open_arena: OpenArena, full: bool
) -> None:
    arena = open_arena(server.url, enqueue_timeout=0.5)
    arena.start_fleet(1, **FLEET)
    accepted: list[str] = []
    refused: list[EnqueueError] = []
    waits: list[float] = []
    over = threading.Event()

    def publish() -> None:
        while not over.is_set():
            id = new_id()
            began = time.monotonic()
            try:
                arena.app.send_task("echo", (id,), task_id=id)
            except EnqueueError as error:
                refused.append(error)
            else:
                accepted.append(id)
            waits.append(time.monotonic() - began)
            over.wait(0.1)

    publishers = [threading.Thread(target=publish) for _ in range(PUBLISHERS)]
    for publisher in publishers:
        publisher.start()
    for _ in range(4 if full else 2):
        before = len(accepted)
        until(lambda before=before: len(accepted) > before + PUBLISHERS, "they are accepted")
        told = len(refused)
        server.raise_alarm()
        until(lambda told=told: len(refused) > told + PUBLISHERS, "they are told")
        server.clear_alarm()
    over.set()
    for publisher in publishers:
        publisher.join(30)
    arena.await_results(accepted, timeout=60)

    verdict = arena.verdict(accepted)
    print(
        f"\n{len(accepted)} accepted, {len(refused)} refused, longest {max(waits):.2f} s: {verdict}"
    )
    assert not verdict.lost, f"{verdict}\n{arena.logs()}"
    assert not verdict.parallel
    # No publisher has hung, whatever the server did.
    assert max(waits) < 5
    # Who publishes first after an alarm is not told of it in time.
    said = [next((word for word in TOLD if word in str(error)), str(error)) for error in refused]
    assert set(said) <= set(TOLD)
    assert said.count(TOLD[0]) > PUBLISHERS
    assert "no sign of it" not in arena.workers[0].log
    assert [worker.code for worker in arena.workers] == [None]
