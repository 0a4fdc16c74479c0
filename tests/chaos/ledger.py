"""What really ran: one line per start and end, written by the tasks themselves.

A line is one `write` to a file opened for appending, so lines of many
processes never mix, and what a killed process wrote stays written. Times are
of CLOCK_MONOTONIC, which all processes of a machine share.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from taskq.app.request import Request

START, FINISH, DEATH = "start", "finish", "death"


class Entry(NamedTuple):
    """One line."""

    at: int
    """Nanoseconds."""
    pid: int
    thread: int
    event: str
    id: str = "-"
    run: int = 0
    losses: int = 0


class Ledger:
    """The file of one test. Write in any process; read in one thread of the test's."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._out = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._read = 0
        self._entries: list[Entry] = []
        self._open: dict[tuple[int, int], Entry] = {}

    def close(self) -> None:
        os.close(self._out)

    # -- Writing

    @contextmanager
    def run(self, request: Request) -> Iterator[None]:
        """Note that a run starts, and that it finishes, unless it raises."""
        self._note(START, request)
        yield
        self._note(FINISH, request)

    def note_start(self, request: Request) -> None:
        """Note the start of a run that is not going to finish."""
        self._note(START, request)

    def note_death(self, pid: int) -> None:
        """Note that a process has ended, and its runs with it."""
        self._write(Entry(time.monotonic_ns(), pid, 0, DEATH))

    def _note(self, event: str, request: Request) -> None:
        thread = threading.get_native_id()
        now = time.monotonic_ns()
        self._write(Entry(now, os.getpid(), thread, event, request.id, request.run, request.losses))

    def _write(self, entry: Entry) -> None:
        os.write(self._out, (" ".join(map(str, entry)) + "\n").encode())

    # -- Reading

    def entries(self) -> list[Entry]:
        """Return all entries so far, in the order they were written."""
        with self.path.open("rb") as file:
            file.seek(self._read)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in whole.decode().splitlines():
            at, pid, thread, event, id, run, losses = line.split()
            entry = Entry(int(at), int(pid), int(thread), event, id, int(run), int(losses))
            self._entries.append(entry)
            if event == START:
                self._open[entry.pid, entry.thread] = entry
            elif event == FINISH:
                self._open.pop((entry.pid, entry.thread), None)
        return self._entries

    def running(self, pid: int) -> list[Entry]:
        """Return the starts of a process that have no finish, whether it lives or not."""
        self.entries()
        return [start for start in self._open.values() if start.pid == pid]

    def starts(self, id: str | None = None) -> list[Entry]:
        """Return the starts of one task, or of all."""
        return [e for e in self.entries() if e.event == START and id in (None, e.id)]

    def finished(self) -> set[str]:
        """Return the ids of tasks that have finished at least once."""
        return {entry.id for entry in self.entries() if entry.event == FINISH}
