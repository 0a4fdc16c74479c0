"""The program of producers with children: `python -m tests.chaos.producer URL FOLDER SHARE HOW`.

The parent sends a task, and so has a connection, before it forks or spawns. Each
child then sends its share from many threads and checks what it is told about it.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from taskq import TaskQ
from tests.chaos.ledger import Ledger
from tests.chaos.shop import make_app

PROCESSES: Final = 4
THREADS: Final = 32
ASKING: Final = 8
"""One in so many also waits for its result."""


class Share:
    """What one process sends, and what it found wrong."""

    def __init__(self, app: TaskQ, name: str) -> None:
        self.app = app
        self.name = name
        self.sent: list[tuple[str, str]] = []
        self.wrong: list[str] = []

    def send(self, number: int) -> None:
        """Send a task whose id tells its value, and check that the answer is its own."""
        id = value = f"{self.name}-{number}"
        result = self.app.send_task("echo", (value,), task_id=id)
        self.sent.append((result.id, value))
        broker = self.app.broker
        places = broker.locate([id]) if broker.capabilities.locate else {}
        record = self.app.results.fetch([id])
        # Where nothing can be located, it is found only once it has run.
        expected = [{id}] if broker.capabilities.locate else [{id}, set()]
        if result.id != id or {*places, *record} not in expected:
            self.wrong.append(f"{id}: {result.id}, {places}, {record}")
        if number % ASKING == 0 and (answer := result.get(timeout=60)) != value:
            self.wrong.append(f"{id}: answered {answer}")

    def report(self, folder: Path) -> None:
        """Write down what was sent and found."""
        text = json.dumps({"sent": self.sent, "wrong": self.wrong})
        (folder / f"{self.name}.json").write_text(text)


def main(url: str, folder: Path, count: int, how: str) -> int:
    """Send from the parent, then from its children; return how many of them failed."""
    app = make_app(url, Ledger(folder / "ledger"))
    parent = Share(app, "producer-parent")
    parent.send(1)
    parent.report(folder)
    if how == "spawn":
        spawn = multiprocessing.get_context("spawn").Process
        spawned = [spawn(target=_open, args=(n, url, folder, count)) for n in range(PROCESSES)]
        for child in spawned:
            child.start()
        for child in spawned:
            child.join()
        return sum(child.exitcode != 0 for child in spawned)
    children = [_fork(app, number, folder, count) for number in range(PROCESSES)]
    return sum(os.waitpid(pid, 0)[1] != 0 for pid in children)


def _fork(app: TaskQ, number: int, folder: Path, count: int) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        _send(app, number, folder, count)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _open(number: int, url: str, folder: Path, count: int) -> None:
    """Send in a process that has inherited nothing."""
    app = make_app(url, Ledger(folder / "ledger"))
    _send(app, number, folder, count)
    app.close()


def _send(app: TaskQ, number: int, folder: Path, count: int) -> None:
    share = Share(app, f"producer-{number}")
    with ThreadPoolExecutor(THREADS) as threads:
        list(threads.map(share.send, range(count)))
    share.report(folder)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4]))
