"""Programs and relays that are killed between a database and a broker that is none."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from taskq.plugins import Plugins
from taskq.url import Url
from taskq_sql.dialects.choice import dialect_of
from tests.chaos.business import Business, engine_of
from tests.chaos.conftest import OpenArena, empty_namespace
from tests.chaos.harness import QUEUE, ROOT
from tests.chaos.ledger import FINISH
from tests.chaos.seller import End, end_of, tasks_of
from tests.chaos.sizes import size_on
from tests.chaos.test_kills import FLEET
from tests.chaos.test_transactions import COMMITTED, sell_all
from tests.waiting import until

pytestmark = pytest.mark.chaos


class RelayProcess:
    """One relay, as an operator starts it."""

    def __init__(self, ends: Ends, *options: str) -> None:
        command = [sys.executable, "-m", "taskq", "outbox", "relay", ends.database, ends.broker]
        self.log = ends.folder / f"relay-{time.monotonic_ns()}.log"
        with self.log.open("wb") as out:
            self.process = subprocess.Popen([*command, *options], stdout=out, stderr=out, cwd=ROOT)

    def await_ready(self) -> RelayProcess:
        until(lambda: "carrying from" in self.log.read_text(), "a relay is ready")
        return self

    def freeze(self) -> None:
        """Let it stand still; return when it does."""
        self.process.send_signal(signal.SIGSTOP)
        stat = Path(f"/proc/{self.process.pid}/stat")
        until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T", "a relay stands")

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)


class Ends(NamedTuple):
    """Where tasks come from and go to."""

    database: str
    broker: str
    folder: Path

    def waiting(self) -> list[str]:
        """Return the ids of the tasks in the outbox, whoever has locked what."""
        query = text("SELECT id FROM taskq_outbox WHERE namespace = :namespace")
        namespace = {"namespace": Url.parse(self.broker).namespace}
        with dialect_of(Url.parse(self.database)).engine().connect() as connection:
            return list(connection.execute(query, namespace).scalars())


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def ends(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ends]:
    with (
        empty_namespace("redis", tmp_path) as broker,
        empty_namespace(request.param, tmp_path) as database,
    ):
        yield Ends(database, broker, tmp_path)
        named = Url.parse(database).replace(namespace=Url.parse(broker).namespace)
        Plugins().target(named).wipe()


@pytest.fixture
def business(ends: Ends) -> Iterator[Business]:
    engine = engine_of(ends.database, os.getpid())
    # The tables exist from here on.
    Plugins().open_broker(ends.database).stats()
    table = Business(engine, f"sales_{os.getpid()}_{time.monotonic_ns()}")
    table.create()
    yield table
    table.drop()
    engine.dispose()


class Relays:
    """Two relays, one of which is killed and replaced again and again."""

    def __init__(self, ends: Ends, *options: str) -> None:
        self._ends = ends
        self._options = options
        self._random = random.Random(7)
        self.alive = [RelayProcess(ends, *options).await_ready() for _ in range(2)]
        self.left: list[int] = []
        """How many tasks were in the outbox, at each kill."""
        self.in_flight: set[str] = set()
        """In the outbox when a relay was killed: the broker may have had them already."""

    def strike(self, victim: int | None = None) -> None:
        """Kill one of them, or a certain one, while both stand still; start another."""
        for relay in self.alive:
            relay.freeze()
        waiting = self._ends.waiting()
        self.left.append(len(waiting))
        self.in_flight |= set(waiting)
        self.alive.pop(self._random.randrange(2) if victim is None else victim).kill()
        self.alive[0].thaw()
        self.alive.append(RelayProcess(self._ends, *self._options).await_ready())

    def stop(self) -> list[int]:
        """Tell them to end; return their exit codes."""
        for relay in self.alive:
            relay.process.terminate()
        return [relay.process.wait(20) for relay in self.alive]

    def close(self) -> None:
        for relay in self.alive:
            relay.kill()


@pytest.fixture
def relays(ends: Ends, business: Business) -> Iterator[Relays]:
    relays = Relays(ends, "--batch", "20")
    yield relays
    relays.close()


def _sell_beside(answer: Connection, ends: Ends, business: Business, total: int) -> None:
    answer.send(sell_all(ends.broker, business, total, ends.database))


def test_tasks_run_exactly_for_what_was_committed(
    ends: Ends, business: Business, relays: Relays, open_arena: OpenArena, full: bool
) -> None:
    total = size_on(ends.database, full=full, small=120, part=400, whole={"postgresql": 1000})
    fork = multiprocessing.get_context("fork")
    told, answer = fork.Pipe(duplex=False)
    business.engine.dispose()
    program = fork.Process(target=_sell_beside, args=(answer, ends, business, total))
    began = time.monotonic()
    program.start()
    # Without results nothing but its row tells that a task has run.
    arena = open_arena(ends.broker, task_ignore_result=True)
    arena.start_fleet(2, **FLEET)

    while program.is_alive():
        relays.strike()
        program.join(random.uniform(0, 0.5))
    deaths = told.recv()
    rows = business.rows()
    expected = {id for n in range(total) if f"sale-{n}" in rows for id in tasks_of(n)}
    until(lambda: not ends.waiting(), "the outbox is empty", 60)
    until(lambda: expected <= arena.ledger.finished(), "all committed tasks ran", 60)
    until(lambda: not arena.left(), "the broker is empty")

    runs = Counter(entry.id for entry in arena.ledger.entries() if entry.event == FINISH)
    doubles = sorted(id for id, count in runs.items() if count > 1)
    print(
        f"\n{Url.parse(ends.database).scheme}: {total} transactions, {len(rows)} committed, "
        f"{deaths} programs and {len(relays.left)} relays killed; {len(expected)} tasks, "
        f"{len(relays.in_flight)} in the outbox at kills, run twice: {doubles}; "
        f"{time.monotonic() - began:.1f} s"
    )
    assert runs.keys() == expected
    assert set(doubles) <= relays.in_flight
    assert deaths == sum(end_of(n).name.startswith("KILL") for n in range(total))
    assert {n: f"sale-{n}" in rows for n in range(total) if end_of(n) in COMMITTED} == {
        n: COMMITTED[end_of(n)] for n in range(total) if end_of(n) is not End.KILL_AT_COMMIT
    }
    assert relays.stop() == [0, 0]


def test_tasks_arrive_in_their_order_though_relays_are_replaced(
    ends: Ends, business: Business, open_arena: OpenArena
) -> None:
    count = 10_000
    arena = open_arena(ends.broker)
    sent: list[str] = []
    for _ in range(count // 500):
        with Session(business.engine) as session:
            calls = [arena.call("echo", str(number)) for number in range(500)]
            sent += [result.id for result in arena.app.bulk(calls, session=session)]
            session.commit()
    began = time.monotonic()
    relays = Relays(ends, "--batch", "10")
    try:
        until(lambda: arena.left() >= count / 8, "some have arrived")
        # Whichever carried, the next one takes over.
        relays.strike(victim=0)
        relays.strike(victim=0)
        until(lambda: not ends.waiting(), "the outbox is empty", 60)
    finally:
        relays.close()

    arrived: list[str] = []
    while claim := arena.app.broker.reserve([QUEUE], limit=1000, lease=600):
        arrived += [delivery.id for delivery in claim]
    print(
        f"\n{Url.parse(ends.database).scheme}: {count} rows, rows left at kills: {relays.left}; "
        f"{time.monotonic() - began:.1f} s"
    )
    assert relays.left[0] > 0
    assert arrived == sent
