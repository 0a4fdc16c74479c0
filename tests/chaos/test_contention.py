"""Many processes on one database: nobody is told of a lock, nothing is lost or done twice."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.conftest import OpenArena
from tests.chaos.harness import ROOT, Arena
from tests.servers import missing
from tests.sql_servers import MariadbServer, find_mariadb, has_snapshot_isolation
from tests.waiting import until

pytestmark = pytest.mark.chaos

CONSUMERS = 6
PRODUCERS = 2


class Crowd:
    """Those who contend, in processes of their own."""

    def __init__(self, url: str, folder: Path) -> None:
        self._url = url
        self._folder = folder
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, role: str, number: int, count: int = 0) -> None:
        """Start one; it waits for `go`."""
        command = [sys.executable, "-m", "tests.chaos.contender", self._url, str(self._folder)]
        process = subprocess.Popen([*command, role, str(number), str(count)], cwd=ROOT)
        self._processes[f"{role}-{number}"] = process

    def go(self) -> None:
        """Let all begin at once."""
        ready = self._folder.glob
        until(lambda: len(list(ready("*.ready"))) == len(self._processes), "all are ready", 60)
        (self._folder / "go").touch()

    def await_end(self, role: str, timeout: float) -> list[dict[str, Any]]:
        """Wait until all of a role have ended well; return their reports."""
        mine = {name: one for name, one in self._processes.items() if name.startswith(role)}
        for process in mine.values():
            assert process.wait(timeout) == 0
        return [json.loads((self._folder / f"{name}.json").read_text()) for name in mine]

    def close(self) -> None:
        """Kill those that are left."""
        for process in self._processes.values():
            process.kill()
            process.wait()


def test_six_processes_that_contend_see_no_lock_and_share_the_work(
    url: str, open_arena: OpenArena, tmp_path: Path, full: bool
) -> None:
    contend(open_arena(url), tmp_path, 20_000 if full else 1500)


def test_nor_where_mariadb_isolates_snapshots_as_it_does_not_elsewhere(
    open_arena: OpenArena, tmp_path: Path, full: bool
) -> None:
    shared = find_mariadb() or missing("mariadb", "no server, and no programs to start one")
    setting = "OFF" if has_snapshot_isolation(shared) else "ON"
    with MariadbServer(f"--innodb-snapshot-isolation={setting}") as server:
        server.make_tables()
        contend(open_arena(server.url), tmp_path, 5000 if full else 1500)


def contend(arena: Arena, tmp_path: Path, count: int) -> None:
    """Let six consumers, two producers and one that looks after the rest have a database."""
    broker, url = arena.app.broker, arena.url
    crowd = Crowd(url, tmp_path)
    try:
        for number in range(CONSUMERS):
            crowd.start("consume", number)
        for number in range(PRODUCERS):
            crowd.start("send", number, count // PRODUCERS)
        crowd.start("look_after", 0)
        crowd.go()
        began = time.monotonic()
        producers = crowd.await_end("send", 240)
        until(lambda: not broker.stats(), "all is concluded", 240)
        took = time.monotonic() - began
        (tmp_path / "over").touch()
        consumers = crowd.await_end("consume", 60)
        (keeper,) = crowd.await_end("look_after", 60)
    finally:
        crowd.close()

    shares = [len(report["done"]) for report in consumers]
    done = Counter(id for report in consumers for id in report["done"])
    sent = [id for report in producers for id in report["done"]]
    print(f"\n{url.partition(':')[0]}: {count} in {took:.1f} s, shares {shares}, {keeper['done']}")
    assert [report["errors"] for report in (*producers, *consumers, keeper)] == [[]] * 9
    assert [report["lost"] for report in consumers] == [[]] * CONSUMERS
    assert len(sent) == count
    assert done == Counter(sent)
    assert min(shares) >= count / CONSUMERS / 5
