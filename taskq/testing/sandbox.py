"""An application in a sandbox: its own tasks, on a broker and a clock of the test's.

A sandbox moves an application, as a program defines it, to a memory broker
that nobody else sees, where time stands still, and back again. Its worker is
the real one, stepped in the caller's thread (`taskq.testing.stepper`). No
thread is started, nothing sleeps, and no server is contacted.
"""

from __future__ import annotations

import contextlib
import copy
import datetime as dt
import math
import threading
import time
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Final, Self

from taskq.app.application import TaskQ
from taskq.app.settings import seconds
from taskq.app.task import Task
from taskq.clock import Clock, Seconds, Timestamp
from taskq.contract.broker import Broker
from taskq.contract.delivery import State
from taskq.errors import ImproperlyConfigured, TaskqError, TimeoutError  # noqa: A004
from taskq.plugins import Plugins
from taskq.testing.stepper import SteppedWorker
from taskq.testing.workbench import (
    SCHEME,
    UNKNOWN,
    SandboxClock,
    SandboxPlugin,
    Sent,
    Store,
    TaskRun,
    instant_of,
    task_run,
)
from taskq.wire.outcome import READY_STATES
from taskq.worker.eager import OUTCOMES, off_loop

WORKER: Final = "sandbox"
"""What tasks find as their worker's name."""
MOST_RUNS: Final = 20_000
"""Tasks run at one instant, after which one is taken to send itself for ever."""
PATIENCE: Final[Seconds] = 2.0
"""Real time in which something may still happen for somebody who awaits a result."""

_at_work: Final[ContextVar[Sandbox | None]] = ContextVar("taskq_sandbox", default=None)


class WorkerDied(TaskqError):
    """A part of the sandbox's worker died; the log says of what."""


class Sandbox:
    """An application on a memory broker, while a `with` block lasts.

    ::

        with Sandbox(app) as sandbox:
            order.delay(7)
            assert sandbox.sent() == [order.s(7)]
            sandbox.run()
            sandbox.travel(3600)

    Inside, the application's tasks and results are kept in memory and time
    stands still; afterwards its settings, its clock and its plugins are as they
    were. Use it from one thread; tasks may be sent from any.

    Raises:
        ImproperlyConfigured: the application has opened its broker before.
    """

    def __init__(self, app: TaskQ) -> None:
        self.app = app
        self.clock = SandboxClock()
        self._store = Store(self.clock)
        self._thread = threading.get_ident()
        self._lock = threading.Lock()
        self._worker: SteppedWorker | None = None
        self._broker: Broker | None = None
        self._waits: dict[str, float] = {}
        self._stack = contextlib.ExitStack()

    def __repr__(self) -> str:
        return f"<Sandbox of {self.app.name} at {self.now}>"

    # -- Entering and leaving

    def __enter__(self) -> Self:
        app = self.app
        if app.opened:
            raise ImproperlyConfigured(
                f"application {app.name!r} has opened {app.broker_url} before the sandbox: "
                "something used it at import time, in a fixture or outside of a test; send, and "
                "touch app.broker or app.results, only inside, or app.close() first"
            )
        self._thread = threading.get_ident()
        with self._stack as stack:
            stack.callback(_restore, app, app.plugins, app.clock, copy.deepcopy(_values(app)))
            stack.callback(self._end)
            plugins = Plugins()
            plugins.register(SandboxPlugin(self._store, self._work_for))
            app.plugins, app.clock = plugins, self.clock
            app.conf.update(broker_url=f"{SCHEME}://", result_url=f"{SCHEME}://")
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    def _end(self) -> None:
        # In this order: an `aget` that is not over may be at work in another thread.
        self.app.close()
        with self._lock:
            self._dismiss()

    # -- Looking

    @property
    def now(self) -> dt.datetime:
        """What time it is in the sandbox, in UTC."""
        return instant_of(self.clock.now())

    def sent(self, task: Task[..., Any] | str | None = None) -> list[Sent]:
        """Return what was sent since the beginning, in order; of one task, if one is given.

        Each compares equal to the call that sends the same, such as
        `add.s(1, 2)` or `add.s(1, 2).set(countdown=60)`.
        """
        name = task.name if isinstance(task, Task) else task
        with self._store.changed:
            accepted = list(self._store.accepted)
        found = [Sent(self.app, at, item) for at, item in accepted]
        return [one for one in found if name is None or one.task == name]

    # -- Running

    def run(self, *, propagate: bool = True) -> list[TaskRun]:
        """Run what is ready in any queue, and what that sends, until nothing is; return all.

        The default queue goes first, then each in the order of its first use;
        within a queue it is by priority. Time stands still: what is due later,
        a retry for instance, stays where it is. Tasks of other programs are
        left alone. Where an event loop runs in this thread, tasks run in one of
        their own, and the loop waits.

        Raises:
            Exception: what the first task that was given up has raised, after
                all have run; unless `propagate` is False.
            StillBusy: there is no end to it.
        """
        __tracebackhide__ = True
        ran = off_loop(self._work)
        if error := _raised(ran, propagate):
            raise error
        return ran

    def travel(self, duration: Seconds | dt.timedelta, *, propagate: bool = True) -> list[TaskRun]:
        """Let time pass, and run each task when it is due; return all that ran.

        The clock stops at each due time, retry and lease end on the way, in
        their order, and a task that runs finds that it is this instant. So
        `travel(a)` and `travel(b)` do what `travel(a + b)` does. The time in
        between is skipped over; `datetime.now()` knows nothing of it.

        Raises:
            Exception: as `run`; it is the instant then at which that task ran.
            ValueError: `duration` is negative.
            RuntimeError: it was called by a task that runs in the sandbox.
        """
        length = seconds(duration, "duration")
        if length < 0:
            raise ValueError(f"time does not run backwards: travel({length:g})")
        if _at_work.get() is self:
            raise RuntimeError("a task cannot travel while it runs: a run takes no time in here")
        __tracebackhide__ = True
        ran, error = off_loop(self._travel, length, propagate)
        if error is not None:
            raise error
        return ran

    def _travel(
        self, length: Seconds, propagate: bool
    ) -> tuple[list[TaskRun], BaseException | None]:
        ran: list[TaskRun] = []
        # All the way: or somebody who awaits a result might run on it what `travel` is to return.
        with self._alone():
            end = self.clock.after(length)
            while True:
                now = self._drain()
                ran += now
                error = _raised(now, propagate)
                if error is not None or self.clock.now() >= end:
                    return ran, error
                self.clock.move_to(min(self._next_change(), end))

    def _next_change(self) -> Timestamp:
        with self._store.changed:
            change = self._store.next_change(list(self._store.queues))
        return math.inf if change is None else change

    # -- At work

    def _work(self) -> list[TaskRun]:
        """Run all that is ready now."""
        if _at_work.get() is self:
            return self._work_beside()
        with self._alone():
            return self._drain()

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Let this thread alone do the work meanwhile."""
        with self._lock:
            token = _at_work.set(self)
            try:
                yield
            finally:
                _at_work.reset(token)

    def _work_beside(self) -> list[TaskRun]:
        """Run all that is ready while a task of this thread waits, as another slot would."""
        outer, self._worker = self._worker, None
        try:
            return self._drain()
        finally:
            self._dismiss()
            self._worker = outer

    def _drain(self) -> list[TaskRun]:
        ran: list[TaskRun] = []
        while True:
            worker = self._hire()
            for service in ("schedule", "reaper"):
                while worker.step(service) <= 0:
                    pass
            runs = [task_run(self.app, one) for one in worker.run_until_idle(limit=MOST_RUNS)]
            ran += [run for run in runs if run is not None]
            if worker.death is not None:
                raise WorkerDied(f"the sandbox's worker cannot go on: {worker.death}")
            if worker.worker.options.queues == self._queues():
                return ran

    def _hire(self) -> SteppedWorker:
        """Return a worker of every queue there is."""
        queues, broker = self._queues(), self.app.broker
        worker = self._worker
        if worker is None or worker.worker.options.queues != queues or self._broker is not broker:
            self._dismiss()
            # No jitter: a backoff takes all of its bound. No rotation: it would make the order of
            # what is due at one instant depend on how often somebody has looked before.
            worker = SteppedWorker(
                self.app,
                draw=lambda: math.nextafter(1, 0),
                name=WORKER,
                queues=queues,
                queue_order="strict",
            )
            self._worker, self._broker = worker, broker
        return worker

    def _queues(self) -> tuple[str, ...]:
        with self._store.changed:
            return tuple(dict.fromkeys([self.app.conf.task_default_queue, *self._store.queues]))

    def _dismiss(self) -> None:
        if self._worker is not None:
            # It has nothing in its hands; its event loop is closed.
            self._worker.crash()
            self._worker = None

    # -- Somebody waits for a result

    def _work_for(self, ids: Sequence[str]) -> None:
        """Run what is ready for somebody who is about to wait for results.

        Raises:
            TimeoutError: none of these results will come by waiting. In other
                threads than the test's, that is after some patience only: the
                test may be about to do something.
        """
        __tracebackhide__ = True
        others = self._lock.locked() and _at_work.get() is not self
        if others or self._workers_alive():
            return
        off_loop(self._work)
        despair = self._despair(ids)
        if despair is not None and not self._patient(ids[0]):
            raise despair

    def _patient(self, id: str) -> bool:
        if threading.get_ident() == self._thread:
            return False
        since = self._waits.setdefault(id, time.monotonic())
        return time.monotonic() - since < PATIENCE

    def _workers_alive(self) -> bool:
        """Say whether a worker in another thread does the work."""
        with self._store.changed:
            return any(end > self.clock.now() for end, _ in self._store.workers.values())

    def _despair(self, ids: Sequence[str]) -> TimeoutError | None:
        """Return why no result of these ids is to come; None if there is one, or no task."""
        error = None
        with self._store.changed:
            for id in ids:
                entry = self._store.messages.get(id)
                record = self._store.result(id)
                over = record is not None and record.state in READY_STATES
                if over or entry is None or entry.state is State.DEAD:
                    return None
                if entry.state is State.PROCESSING:
                    reason, state = "somebody else holds it", "STARTED"
                elif entry.releases:
                    reason, state = "it is of another program, which has to run it", "PENDING"
                else:
                    left = self.clock.until(entry.since)
                    reason = (
                        f"it is due in {left:.12g} s, and time stands still: "
                        f"travel({math.ceil(left)})"
                    )
                    state = "RETRY" if entry.retries else "PENDING"
                error = TimeoutError(
                    f"task {id} does not run in this sandbox: {reason}", state=state
                )
        return error


def _raised(ran: list[TaskRun], propagate: bool) -> BaseException | None:
    """Return the exception to raise after these runs, if there is one."""
    failed = [run for run in ran if run.dead and run.dead != UNKNOWN] if propagate else []
    meant = [run for run in ran if run.error and not isinstance(run.error, OUTCOMES)]
    first = next(iter(meant or failed), None)
    if first is None or first.error is None:
        return None
    first.error.add_note(f"raised by task {first.call}[{first.id}] in the sandbox")
    if not meant and len(failed) > 1:
        first.error.add_note(f"{len(failed)} tasks were given up; this is the first")
    return first.error


def _values(app: TaskQ) -> dict[str, Any]:
    return {name: getattr(app.conf, name) for name in app.conf.__struct_fields__}


def _restore(app: TaskQ, plugins: Plugins, clock: Clock, settings: dict[str, Any]) -> None:
    app.plugins, app.clock = plugins, clock
    app.conf.update(settings)
