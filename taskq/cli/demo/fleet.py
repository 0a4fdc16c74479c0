"""The demo's worker processes: started, counted, killed, taken down."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from taskq.clock import Seconds
from taskq.errors import TaskqError
from taskq.url import Url

FAREWELL: Final[Seconds] = 10.0
"""How long workers have to end after SIGTERM, all together."""
TAIL: Final = 15
"""Lines of a worker's log that are shown if it failed."""


class WorkersGone(TaskqError):
    """All workers ended before the work was done."""


class Fleet:
    """Worker processes of the demo. Leaving the context ends them all."""

    def __init__(self, url: Url, logs: Path, arguments: list[str], names: list[str]) -> None:
        self._logs = logs
        self._environment = {
            **os.environ,
            # In the environment, not among the arguments: those can be read by every user.
            "TASKQ_BROKER_URL": url.reveal(),
            "TASKQ_RESULT_URL": url.reveal(),
            # Old sources are full of what newer compilers warn of.
            "PYTHONWARNINGS": "ignore",
        }
        self._arguments = arguments
        self._names = names
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        try:
            for name in self._names:
                with _held_signals():
                    self._processes[name] = self._start(name)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end()

    def kill(self, name: str) -> None:
        """End a worker by SIGKILL: it cannot give anything back."""
        self._processes[name].kill()
        self._processes[name].wait()

    def check(self) -> None:
        """Return if any worker lives.

        Raises:
            WorkersGone: none does; shows the end of the last one's log.
        """
        if all(process.poll() is not None for process in self._processes.values()):
            name = self._names[-1]
            lines = self._log(name).read_text("utf-8", "replace").splitlines()[-TAIL:]
            code = self._processes[name].returncode
            shown = "\n".join(lines)
            raise WorkersGone(f"all workers ended; {name} with code {code}:\n{shown}")

    def _end(self) -> None:
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            try:
                process.wait(FAREWELL)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _start(self, name: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "taskq", "-A", "taskq.cli.demo.tasks", "worker"]
        with self._log(name).open("wb") as log:
            return subprocess.Popen(  # noqa: S603 - our own command line
                [*command, "-n", name, *self._arguments],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def _log(self, name: str) -> Path:
        return self._logs / f"{name}.log"


@contextlib.contextmanager
def _held_signals() -> Iterator[None]:
    """Deliver signals that end the program afterwards, so that no child is born unrecorded."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _: held.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    for late in held:
        signal.raise_signal(late)
