"""Runs the kit against mutants, several at once, each in a fork of this process.

What takes long to import is imported here, once, and the package under test
never: each fork imports its own broken copy. A fork that works longer on a step
than the unbroken package could ever need is ended.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import shutil
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from tests.mutation.ground import Ground
from tests.mutation.judge import judge
from tests.mutation.mutant import Mutant
from tests.mutation.subjects import ROOT, Subject
from tests.mutation.verdict import Outcome, Verdict

_LEAST: Final = 15.0
_FACTOR: Final = 10.0
"""A step hangs if it takes `_LEAST` seconds and `_FACTOR` times what is normal."""
_MEMORY: Final = 4 << 30
_LOOK: Final = 0.2


class Unfit(Exception):
    """The unbroken package does not pass, so that nothing can be said of broken ones."""


class Told(NamedTuple):
    """What was heard of one mutant in the end."""

    outcome: Outcome
    step: str
    note: dict[str, Any]


class Runner:
    """A few places side by side, in each of which a mutant is judged."""

    def __init__(self, subject: Subject, folder: Path, *, jobs: int) -> None:
        self._subject = subject
        self._places = [_Place(subject, folder / f"place-{n}") for n in range(jobs)]
        self._seconds: dict[str, float] = {}

    def measure(self) -> dict[str, float]:
        """Run every step on the unbroken package; return how long each takes.

        Raises:
            Unfit: one of them fails.
        """
        place = self._places[0]
        place.start(None, {})
        while place.busy:
            select.select([place.pipe], [], [], _LOOK)
            told = place.listen()
            if told is not None and told.outcome != "survived":
                raise Unfit(f"{self._subject.name}, unbroken: {told}\n{place.output}")
        self._seconds = dict(place.seconds)
        return self._seconds

    def run(self, mutants: Iterable[Mutant]) -> Iterator[Verdict]:
        """Yield the verdicts as they come."""
        waiting = iter(mutants)
        for place in self._places:
            self._next(place, waiting)
        while busy := [place for place in self._places if place.busy]:
            select.select([place.pipe for place in busy], [], [], _LOOK)
            for place in busy:
                told = place.listen()
                if told is not None:
                    yield place.verdict(told)
                    self._next(place, waiting)

    def _next(self, place: _Place, waiting: Iterator[Mutant]) -> None:
        mutant = next(waiting, None)
        if mutant is not None:
            place.start(mutant, self._seconds)

    def close(self) -> None:
        """End what is under way, and the servers."""
        for place in self._places:
            place.close()


class _Place:
    """A copy of the package, something to run on, and at most one fork."""

    def __init__(self, subject: Subject, folder: Path) -> None:
        self._subject = subject
        self._tree = folder / "tree"
        self._log = folder / "output.log"
        ground = folder / "ground"
        ground.mkdir(parents=True)
        self._ground: Ground = subject.ground(ground)
        package = Path(subject.package)
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, self._tree / package.name, ignore=ignored)
        if subject.plugin:
            _announce(self._tree, package.name, subject.plugin)
        self._mutant: Mutant | None = None
        self._source = ""
        self._child = 0
        self._step, self._heard = "", b""
        self._begun = self._step_begun = 0.0
        self._normal: dict[str, float] = {}
        self.pipe = -1
        self.seconds: dict[str, float] = {}

    @property
    def busy(self) -> bool:
        return self._child != 0

    @property
    def output(self) -> str:
        """Return the end of what the last fork printed."""
        return self._log.read_text(errors="replace")[-3000:]

    def start(self, mutant: Mutant | None, normal: dict[str, float]) -> None:
        """Judge a mutant, or the unbroken package, in a fork."""
        self._mutant, self._normal = mutant, normal
        url = self._ground.clear()
        if mutant is not None:
            self._source = self._file(mutant).read_text("utf-8")
            self._file(mutant).write_text(mutant.apply(self._source), "utf-8")
        self._step, self._heard, self.seconds = "loading", b"", {}
        self._begun = self._step_begun = time.monotonic()
        self.pipe, told = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        self._child = os.fork()
        if self._child == 0:
            os.close(self.pipe)
            self._judge(url, told)
        os.close(told)
        os.set_blocking(self.pipe, False)

    def _judge(self, url: str, told: int) -> None:
        """Be the fork."""
        try:
            os.setsid()
            # Further processes are to find the copy, and not what is in the checkout.
            os.chdir(self._tree)
            resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
            with self._log.open("wb") as log:
                os.dup2(log.fileno(), 1)
                os.dup2(log.fileno(), 2)

            def tell(note: dict[str, Any]) -> None:
                os.write(told, json.dumps(note).encode() + b"\n")

            judge(self._subject, self._tree, url, seconds=self._normal, tell=tell)
            sys.stdout.flush()
        finally:
            # Without the hooks of this process, whose servers they would stop.
            os._exit(0)

    def listen(self) -> Told | None:
        """Hear what the fork has said; return how it ended, if it has."""
        ended = False
        with contextlib.suppress(BlockingIOError):
            while not ended:
                data = os.read(self.pipe, 1 << 16)
                self._heard += data
                ended = not data
        *lines, self._heard = self._heard.split(b"\n")
        told = None
        for line in lines:
            told = told or self._take(json.loads(line))
        if told is None and ended:
            told = Told("caught", self._step, {"error": "the process died"})
        if told is None and time.monotonic() - self._step_begun > self._allowance():
            told = Told("hung", self._step, {"error": "it does not end"})
        if told is not None:
            self._end()
        return told

    def _take(self, note: dict[str, Any]) -> Told | None:
        if "begin" in note:
            self._step, self._step_begun = note["begin"], time.monotonic()
        elif "ended" in note:
            self.seconds[note["ended"]] = note["seconds"]
        elif "caught" in note:
            return Told("caught", note["caught"], note)
        else:
            return Told("survived", "", note)
        return None

    def _allowance(self) -> float:
        return max(_LEAST, self._normal.get(self._step, 60.0) * _FACTOR)

    def _end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            # The fork leads a group, in which its own children are too.
            os.killpg(self._child, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._child, signal.SIGKILL)
        os.waitpid(self._child, 0)
        self._child = 0
        os.close(self.pipe)
        if self._mutant is not None:
            self._file(self._mutant).write_text(self._source, "utf-8")

    def verdict(self, told: Told) -> Verdict:
        """Return the last mutant's fate."""
        mutant = self._mutant
        assert mutant is not None, "nothing was under way"
        return Verdict(
            mutant,
            mutant.diff(self._source),
            told.outcome,
            told.step,
            told.note.get("law", ""),
            told.note.get("error", ""),
            time.monotonic() - self._begun,
        )

    def _file(self, mutant: Mutant) -> Path:
        package = Path(self._subject.package)
        return self._tree / package.name / Path(mutant.file).relative_to(package)

    def close(self) -> None:
        if self.busy:
            self._end()
        self._ground.close()


def _announce(tree: Path, name: str, plugin: str) -> None:
    """Let a package in the folder `tree` be found as one that is installed."""
    folder = tree / f"{name}-0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0\n")
    (folder / "entry_points.txt").write_text(f"[taskq]\n{plugin}\n")
