"""Producers that fork, have many threads, and meet servers that refuse or hang."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from taskq.errors import EnqueueError
from taskq.ids import new_id
from tests.chaos.conftest import OpenArena
from tests.chaos.harness import ROOT, Arena
from tests.chaos.sizes import size_on
from tests.servers import Server
from tests.waiting import until

pytestmark = pytest.mark.chaos

PATIENCE = 0.5
TIMES = 10
FLEET: dict[str, Any] = {"concurrency": 4}


@pytest.mark.parametrize("how", ["fork", "spawn"])
def test_children_of_a_producer_with_many_threads_lose_and_mix_up_nothing(
    arena: Arena, full: bool, how: str
) -> None:
    share = size_on(arena.url, full=full, small=128, part=300, whole={"sqlite": 1000})
    send_from_children(arena, share, how)


def send_from_children(arena: Arena, share: int, how: str) -> None:
    """Let a producer and its children send; hold them and the broker to what they say."""
    arena.start_fleet(2, **FLEET)
    command = [sys.executable, "-m", "tests.chaos.producer", arena.url, str(arena.folder)]
    began = time.monotonic()

    subprocess.run([*command, str(share), how], cwd=ROOT, check=True, timeout=240)
    reports = [json.loads(path.read_text()) for path in arena.folder.glob("producer-*.json")]
    sent = {id: value for report in reports for id, value in report["sent"]}
    arena.await_results(list(sent), timeout=120)

    verdict = arena.verdict(list(sent))
    print(f"\n{arena.app.broker_url.scheme}, {how}: {verdict}; {time.monotonic() - began:.1f} s")
    assert [report["wrong"] for report in reports] == [[]] * 5
    assert len(sent) == 4 * share + 1
    assert not verdict.breaches(), f"{verdict}\n{arena.logs()}"
    assert {id: arena.app.AsyncResult(id).result for id in sent} == sent


class Attempts:
    """Sends one task again and again, and notes what it was told."""

    def __init__(self, arena: Arena) -> None:
        self.arena = arena
        self.accepted: list[str] = []
        self.unknown: list[str] = []
        self.unsent: list[str] = []
        self.longest = 0.0

    def run(self, times: int = TIMES) -> None:
        for _ in range(times):
            id = new_id()
            began = time.monotonic()
            try:
                self.arena.app.send_task("echo", (id,), task_id=id)
            except EnqueueError as error:
                known = {"unknown": error.unknown, "unsent": error.unsent}
                assert known in ({"unknown": (id,), "unsent": ()}, {"unknown": (), "unsent": (id,)})
                (self.unknown if error.unknown else self.unsent).append(id)
            else:
                self.accepted.append(id)
            self.longest = max(self.longest, time.monotonic() - began)

    def verify(self) -> None:
        """Hold the broker to what it said, then send again what it was not sure of."""
        app = self.arena.app
        print(
            f"\n{len(self.accepted)} accepted, {len(self.unknown)} unknown, "
            f"{len(self.unsent)} unsent; longest {self.longest:.2f} s"
        )
        assert self.longest <= PATIENCE + 1
        assert app.broker.locate(self.accepted).keys() == set(self.accepted)
        assert not app.broker.locate(self.unsent)
        for id in self.unknown:
            app.send_task("echo", (id,), task_id=id)
        ids = self.accepted + self.unknown
        assert self.arena.left() == len(ids)
        self.arena.start(**FLEET)
        self.arena.await_results(ids, timeout=20)
        assert Counter(s.id for s in self.arena.ledger.starts()) == Counter(ids)
        assert {id: app.AsyncResult(id).result for id in ids} == {id: id for id in ids}


@pytest.fixture
def attempts(server: Server, open_arena: OpenArena) -> Attempts:
    attempts = Attempts(open_arena(server.url, enqueue_timeout=PATIENCE))
    attempts.run(times=1)
    return attempts


def test_enqueue_says_in_time_that_its_server_is_down(server: Server, attempts: Attempts) -> None:
    server.kill()
    attempts.run()
    server.start()

    assert len(attempts.unsent) == TIMES
    attempts.verify()


def test_enqueue_says_in_time_that_its_server_hangs(server: Server, attempts: Attempts) -> None:
    server.freeze()
    attempts.run()
    server.thaw()

    assert not attempts.accepted[1:]
    attempts.verify()


def test_enqueue_does_not_lie_while_its_server_restarts(server: Server, attempts: Attempts) -> None:
    over = threading.Event()

    def bounce() -> None:
        try:
            for _ in range(TIMES):
                before = len(attempts.accepted)
                server.kill()
                server.start()
                # A slow machine is not to be hit again before it is over the last one.
                until(lambda before=before: len(attempts.accepted) > before, "one is accepted")
        finally:
            over.set()

    bouncer = threading.Thread(target=bounce)
    bouncer.start()
    while not over.is_set():
        attempts.run()
    bouncer.join()

    assert len(attempts.accepted) >= TIMES
    attempts.verify()


def test_enqueue_says_in_time_that_its_database_is_locked(
    tmp_path: Path, open_arena: OpenArena
) -> None:
    path = tmp_path / "tasks.db"
    attempts = Attempts(open_arena(f"sqlite:///{path}", enqueue_timeout=PATIENCE))
    attempts.run(times=1)

    with closing(sqlite3.connect(path, isolation_level=None)) as foreign:
        foreign.execute("BEGIN IMMEDIATE")
        attempts.run()
        foreign.execute("ROLLBACK")

    assert len(attempts.unsent) == TIMES
    attempts.verify()
