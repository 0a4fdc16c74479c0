"""Real workers in processes of their own, to be killed, frozen and replaced."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from taskq import TaskQ
from taskq.app.signature import Signature
from taskq.contract.delivery import DeadLetter, State
from taskq.contract.message import Message, Send
from taskq.contract.results import ResultRecord
from taskq.errors import SendError
from taskq.ids import new_id
from taskq.plugins import Plugins
from tests.chaos.ledger import Ledger
from tests.chaos.shop import make_app
from tests.chaos.verdict import Verdict, judge
from tests.chaos.worker import Setup
from tests.waiting import until

ROOT: Final = Path(__file__).parents[2]
RECENT: Final = 300
"""How many of its last starts may still have been a killed worker's to conclude."""
UNSURE: Final = 64
"""The same, where a message cannot be found by its id, so that nobody knows for certain."""
QUEUE: Final = "default"
PROBE: Final = "probe"
"""A queue that no worker serves."""


class WorkerProcess:
    """One worker. Whoever collects its end notes the death in the ledger."""

    def __init__(self, setup: Setup, ledger: Ledger, log: Path) -> None:
        self._ledger = ledger
        self._log = log
        command = [sys.executable, "-m", "tests.chaos.worker", msgspec.json.encode(setup).decode()]
        with log.open("wb") as out:
            self._process = subprocess.Popen(command, stdout=out, stderr=out, cwd=ROOT)
        self.pid = self._process.pid
        self._code: int | None = None

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    @property
    def code(self) -> int | None:
        """Its exit code, a negative signal number, or None while it lives."""
        if self._code is None and (code := self._process.poll()) is not None:
            self._code = code
            self._ledger.note_death(self.pid)
        return self._code

    def await_ready(self) -> WorkerProcess:
        """Wait until it claims; return it."""
        until(lambda: "is ready" in self.log or self.code is not None, "a worker is ready")
        assert self.code is None, f"the worker ended at once:\n{self.log}"
        return self

    def await_log(self, text: str, timeout: float = 20.0) -> None:
        """Wait until it has logged `text`."""
        until(lambda: text in self.log, f"{text!r} in the log of worker {self.pid}", timeout)

    def await_end(self, timeout: float) -> int:
        """Wait for its end; return its exit code."""
        until(lambda: self.code is not None, f"the end of worker {self.pid}", timeout)
        assert self.code is not None
        return self.code

    def await_task(self) -> None:
        """Wait until it is in mid-task, by the ledger."""
        until(lambda: self._ledger.running(self.pid), f"worker {self.pid} runs a task")

    def kill(self) -> None:
        """Kill it; return when it is dead."""
        self._process.kill()
        self.await_end(10)

    def freeze(self) -> None:
        """Stop it as a whole, its services too; return when it stands still."""
        os.kill(self.pid, signal.SIGSTOP)
        stat = Path(f"/proc/{self.pid}/stat")
        until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T", "a worker stands")

    def thaw(self) -> None:
        """End `freeze`."""
        os.kill(self.pid, signal.SIGCONT)

    def terminate(self) -> None:
        """Ask it to end; returns at once."""
        self._process.terminate()

    def threads(self) -> int:
        """Return how many threads it has."""
        return len(list(Path(f"/proc/{self.pid}/task").iterdir()))

    def files(self) -> int:
        """Return how many file descriptors it has open."""
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    def memory(self) -> int:
        """Return its resident memory in KiB."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0])


class Arena:
    """One backend, one ledger, one producer, and all the workers started for them."""

    def __init__(self, url: str, folder: Path, **settings: Any) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.url = url
        self.folder = folder
        self.settings = settings
        self.ledger = Ledger(folder / "ledger")
        self.app: TaskQ = make_app(url, self.ledger, plugins=Plugins(), **settings)
        self.workers: list[WorkerProcess] = []
        """Those that are meant to be alive."""
        self.in_flight: set[str] = set()
        self._numbers = itertools.count()
        self._started: list[WorkerProcess] = []

    # -- Workers

    def start(self, *, fault: str | None = None, **options: Any) -> WorkerProcess:
        """Start a worker and return it at once; `await_ready` waits for it."""
        setup = Setup(
            url=self.url,
            ledger=str(self.ledger.path),
            folder=str(self.folder),
            options=options,
            settings=self.settings,
            fault=fault,
        )
        worker = WorkerProcess(
            setup, self.ledger, self.folder / f"worker-{next(self._numbers)}.log"
        )
        self.workers.append(worker)
        self._started.append(worker)
        return worker

    def start_fleet(self, size: int, **options: Any) -> None:
        """Start some workers; return when all are ready."""
        fleet = [self.start(**options) for _ in range(size)]
        for worker in fleet:
            worker.await_ready()

    def await_busy(self) -> WorkerProcess:
        """Wait until a worker is in mid-task; return the one that has served longest.

        Which one is left to chance: another may be starting, or have no work
        because its siblings hold all that is left.
        """

        def busy() -> WorkerProcess | None:
            return next((w for w in self.workers if self.ledger.running(w.pid)), None)

        found = until(busy, "a worker runs a task")
        assert found is not None
        return found

    def strike(self) -> bool:
        """Kill a busy worker, and note what it held; say whether it was hit in mid-task."""
        worker = self.await_busy()
        worker.kill()
        self.workers.remove(worker)
        started = [s.id for s in self.ledger.starts() if s.pid == worker.pid]
        self.in_flight |= self._held(started)
        return bool(self.ledger.running(worker.pid))

    def _held(self, started: list[str]) -> set[str]:
        """Return those that a dead worker had not concluded, or may not have."""
        if not self.app.broker.capabilities.locate:
            return set(started[-UNSURE:])
        places = self.app.broker.locate(started[-RECENT:])
        return {id for id, place in places.items() if place is State.PROCESSING}

    def freeze(self, worker: WorkerProcess) -> None:
        """Freeze a worker at an instant when it locks nobody else out.

        One that stands still in the middle of a transaction keeps SQLite's
        write lock, and with it every other process waiting.
        """

        def frozen() -> bool:
            worker.freeze()
            if self._writable():
                return True
            worker.thaw()
            return False

        until(frozen, f"worker {worker.pid} stands still without a lock")

    def _writable(self) -> bool:
        probe = Send(Message(new_id(), PROBE, b""))
        try:
            self.app.broker.send([probe], timeout=0.2)
        except SendError:
            return False
        self.app.broker.purge(PROBE)
        return True

    def replace_dead(self, **options: Any) -> int:
        """Start a worker for each one that has died; return how many."""
        dead = [worker for worker in self.workers if worker.code is not None]
        for worker in dead:
            self.workers.remove(worker)
            self.start(**options)
        return len(dead)

    # -- Tasks

    def await_finished(self, count: int, timeout: float = 60.0) -> None:
        """Wait until so many tasks have finished, by the ledger."""
        until(lambda: len(self.ledger.finished()) >= count, f"{count} finished", timeout)

    def send(self, calls: Sequence[Signature[Any]]) -> list[str]:
        """Send tasks; return their ids."""
        return [result.id for result in self.app.bulk(calls)]

    def call(self, task: str, *args: Any) -> Signature[Any]:
        """Return a call of one of the tasks of `tests.chaos.shop`."""
        return self.app.tasks[task].s(*args)

    def results(self, ids: Sequence[str]) -> dict[str, ResultRecord]:
        """Return the final results there are."""
        found = self.app.results.fetch(ids)
        return {id: record for id, record in found.items() if record.state != "RETRY"}

    def await_results(self, ids: Sequence[str], timeout: float) -> None:
        """Wait until each task has a result or is dead, or time is over: the verdict tells."""
        deadline = time.monotonic() + timeout
        waiting = list(ids)
        while waiting and time.monotonic() < deadline:
            done = self.app.results.wait(waiting[:1], timeout=0.2)
            if done or self._over(waiting[:1]):
                known = self.results(waiting)
                waiting = [id for id in waiting if id not in known]
                over = self._over(waiting)
                waiting = [id for id in waiting if id not in over]

    def _over(self, ids: Sequence[str]) -> set[str]:
        """Return those that nobody will run any more, whether they have a result or not."""
        if not self.app.broker.capabilities.locate:
            return {letter.message.id for letter in self.dead()}.intersection(ids)
        places = self.app.broker.locate(ids)
        return {id for id in ids if places.get(id) in (None, State.DEAD)}

    def dead(self) -> list[DeadLetter]:
        """Return the dead letters."""
        return self.app.broker.dead_letters(QUEUE, limit=1000)

    def left(self) -> int:
        """Return how many messages are in the queue, whatever their state."""
        return sum(s.ready + s.scheduled + s.processing + s.dead for s in self.app.broker.stats())

    def verdict(self, ids: Sequence[str]) -> Verdict:
        """Judge what became of the tasks."""
        return judge(ids, self.ledger.entries(), self.results(ids), self.in_flight)

    def logs(self) -> str:
        """Return the ends of all workers' logs, for the message of a failure."""
        return "\n".join(f"-- worker {w.pid} ({w.code}):\n{w.log[-2000:]}" for w in self._started)

    # -- Life cycle

    def close(self) -> None:
        """Kill every worker that still lives, and close the producer."""
        for worker in self._started:
            if worker.code is None:
                worker.kill()
        self.app.close()
        self.ledger.close()
