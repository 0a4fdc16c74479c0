"""How the demo is carried out, from the first task sent to the broker left clean."""

from __future__ import annotations

import contextlib
import itertools
import signal
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn

import msgspec

from taskq.app.application import TaskQ
from taskq.app.signature import Signature
from taskq.cli.demo.analysis import analyse_folder, source_files, summarise
from taskq.cli.demo.collecting import Collector
from taskq.cli.demo.fleet import Fleet
from taskq.cli.demo.progress import Progress
from taskq.cli.demo.report import Kill, Report, Rerun
from taskq.cli.demo.tasks import ANALYSE
from taskq.cli.output import note
from taskq.clock import Seconds
from taskq.errors import BrokerError, ImproperlyConfigured, NotSupported, UnknownScheme
from taskq.ids import new_id
from taskq.url import DEFAULT_NAMESPACE, Url

BATCH: Final = 200
LEASE: Final[Seconds] = 5.0
"""Short, so that a killed worker's tasks come back while somebody is watching."""
LOOK: Final[Seconds] = 0.25
PACE: Final[Seconds] = 0.05
"""Between two looks at the results, so that answers come in handfuls."""


class Plan(msgspec.Struct, frozen=True):
    """What was asked for."""

    broker_url: str | None
    folder: Path
    workers: int = 2
    concurrency: int = 4
    kill: bool = False
    check: bool = False


def default_folder() -> Path:
    """Return where the standard library of this Python lies."""
    return Path(sysconfig.get_path("stdlib"))


def perform(plan: Plan) -> Report:
    """Carry the demo out, and leave nothing behind.

    Raises:
        ImproperlyConfigured: there is nothing to analyse, or workers cannot
            share the broker.
        TaskqError: a task failed, the workers died, or the broker did.
    """
    files = source_files(plan.folder)
    if not files:
        raise ImproperlyConfigured(f"there are no Python files in {plan.folder}")
    with (
        _orderly_end(),
        tempfile.TemporaryDirectory(prefix="taskq-demo-", ignore_cleanup_errors=True) as place,
    ):
        url = demo_url(plan.broker_url, Path(place))
        app = TaskQ("taskq-demo", broker=url.reveal(), results=url.reveal())
        try:
            report = _Play(plan, app, files, Path(place)).run()
        finally:
            app.close()
    return _checked(report, plan) if plan.check else report


def demo_url(named: str | None, place: Path) -> Url:
    """Return the broker to use, in a namespace of its own unless one was named.

    Raises:
        NotSupported: processes cannot share it.
    """
    if named is None:
        return Url.parse(f"sqlite:///{(place / 'demo.db').absolute().as_posix()}")
    url = Url.parse(named)
    if url.scheme == "memory":
        raise NotSupported(
            "memory:// lives in one process and the demo's workers in others; "
            "leave out -b to use an SQLite file"
        )
    return url.replace(namespace=f"demo-{new_id()}") if owns_namespace(url) else url


def owns_namespace(named: str | Url | None) -> bool:
    """Say whether the demo makes a namespace in a broker that is not its own."""
    return named is not None and Url.parse(named).namespace == DEFAULT_NAMESPACE


class _Play:
    """One run: a queue of its own, so that nothing of anybody else's is touched."""

    def __init__(self, plan: Plan, app: TaskQ, files: list[str], place: Path) -> None:
        self._plan = plan
        self._app = app
        self._files = files
        self._place = place
        self._queue = f"demo-{new_id()}"
        self._ids: list[str] = []
        self._kill: Kill | None = None

    def run(self) -> Report:
        plan = self._plan
        self._app.broker.check()
        names = [f"demo-{number}" for number in range(1, plan.workers + 1)]
        lease = ["--visibility-timeout", f"{LEASE:g}"] if plan.kill else []
        arguments = ["-Q", self._queue, "-c", str(plan.concurrency), "--shutdown-grace", "2"]
        fleet = Fleet(self._app.broker_url, self._place, arguments + lease, names)
        try:
            with fleet, Progress(len(self._files)) as progress:
                began = time.monotonic()
                self._send(progress)
                collector = Collector(self._app, self._ids)
                self._collect(collector, fleet, progress)
                elapsed = time.monotonic() - began
        finally:
            self._clean()
        return self._report(collector, elapsed)

    def _send(self, progress: Progress) -> None:
        folder = str(self._plan.folder)
        for paths in _batches(self._files):
            calls: list[Signature[object]] = [
                Signature(self._app, ANALYSE, (folder, path), {}, {"queue": self._queue})
                for path in paths
            ]
            self._ids += [sent.id for sent in self._app.bulk(calls)]
            progress.sent(len(self._ids))

    def _collect(self, collector: Collector, fleet: Fleet, progress: Progress) -> None:
        while collector.missing:
            if not collector.collect(LOOK):
                fleet.check()
            done = len(collector.answers)
            progress.answered(done)
            if self._plan.kill and self._kill is None and collector.missing <= done:
                self._kill_one(collector, fleet, progress)
            time.sleep(PACE)

    def _kill_one(self, collector: Collector, fleet: Fleet, progress: Progress) -> None:
        """Kill the worker that is certain to be at work: the one that has answered most."""
        victim = collector.busiest()
        if victim is None or not collector.missing:
            return
        fleet.kill(victim)
        self._kill = Kill(victim, len(collector.answers))
        progress.say(f"{victim} was killed; its leases end within {LEASE:g} s")

    def _clean(self) -> None:
        app = self._app
        try:
            app.broker.purge(self._queue)
            app.broker.purge_dead(self._queue)
            for ids in _batches(self._ids):
                app.results.forget(ids)
            if owns_namespace(self._plan.broker_url):
                # What a backend keeps for a queue that is empty goes too.
                app.plugins.target(app.broker_url).end()
        except (BrokerError, UnknownScheme) as error:
            note(f"queue {self._queue} at {app.broker_url} may not be gone: {error}")

    def _report(self, collector: Collector, elapsed: Seconds) -> Report:
        answers = collector.answers
        reruns = [
            Rerun(answer.report.path, answer.run, answer.losses, collector.workers[id])
            for id, answer in answers.items()
            if answer.losses
        ]
        return Report(
            broker=str(self._app.broker_url),
            folder=str(self._plan.folder),
            workers=self._plan.workers,
            concurrency=self._plan.concurrency,
            tasks=len(self._ids),
            answers=len(answers),
            elapsed=elapsed,
            per_second=len(answers) / elapsed,
            summary=summarise(answer.report for answer in answers.values()),
            killed=self._kill,
            reruns=tuple(sorted(reruns, key=lambda rerun: rerun.path)),
        )


def _checked(report: Report, plan: Plan) -> Report:
    """Compare with what a plain loop comes to."""
    note("checking with a sequential run over the same files")
    began = time.monotonic()
    same = summarise(analyse_folder(plan.folder)) == report.summary
    return msgspec.structs.replace(report, check=same, check_elapsed=time.monotonic() - began)


def _batches(items: Sequence[str]) -> Iterator[list[str]]:
    rest = iter(items)
    while batch := list(itertools.islice(rest, BATCH)):
        yield batch


@contextlib.contextmanager
def _orderly_end() -> Iterator[None]:
    """Let SIGTERM end the demo as Ctrl-C does: workers first, then what they left."""

    def interrupt(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
