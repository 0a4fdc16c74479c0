"""A worker that is stepped: the real services, in the caller's thread, at times of his choosing.

Everything is the worker's own code, put together by `taskq.worker.worker.Worker`;
only its pace differs: nothing starts a thread, nothing blocks, and time is the
application's clock. `run_until_idle` is for tests of tasks. Whoever tests the
worker steps its services one by one, and takes a task's start and end apart.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from taskq.app.application import TaskQ
from taskq.app.request import Request
from taskq.clock import Seconds, Timestamp, VirtualClock
from taskq.contract.delivery import Delivery
from taskq.contract.settlement import Ack, Settlement
from taskq.errors import ImproperlyConfigured, TaskqError
from taskq.worker.executor import Completed, Outcomes, Run
from taskq.worker.options import worker_options
from taskq.worker.pace import Pace
from taskq.worker.pool import Slot
from taskq.worker.service import Service
from taskq.worker.shelf import Held
from taskq.worker.worker import Worker

SERVICES: Final = (
    "settle", "leases", "fence", "heartbeat", "schedule", "reaper", "check", "claim",
)  # fmt: skip
MOST_RUNS: Final = 10_000
"""Bound of `run_until_idle`, so that a task which sends itself ends in an error."""


class StillBusy(TaskqError):
    """Tasks kept coming; one of them may send itself. Raise `limit` if there are so many."""


@dataclass(frozen=True, slots=True)
class Ran:
    """What became of one delivery."""

    delivery: Delivery
    settlement: Settlement
    """How the worker concludes it."""
    request: Request | None
    """The run; None if user code was not reached."""
    error: BaseException | None
    """What user code raised, a `Retry` included."""


class SteppedSlot:
    """One slot of a stepped worker. A run lasts from `begin` to `finish`."""

    def __init__(self, worker: Worker, slot: Slot, errors: dict[int, BaseException]) -> None:
        self._shelf = worker.shelf
        self._executor = worker.executor
        self._slot = slot
        self._errors = errors
        self._next: Run | Settlement | None = None
        self.resting = False
        """It found nothing to do, and counts as idle."""
        self.held: Held | None = None
        """What it is at work on."""

    @property
    def request(self) -> Request | None:
        """The run under way; None if there is none, or if user code will not be reached."""
        return self._next.request if isinstance(self._next, Run) else None

    def begin(self) -> bool:
        """Take what waits longest on the shelf and decode it; say whether there was anything."""
        if self.held is not None:
            return False
        if self.resting:
            self._shelf.rise()
        held = self._shelf.take(block=False)
        while held is not None and not held.started:
            self._slot.give_back(held)
            held = self._shelf.take(block=False)
        self.held = held
        self.resting = held is None
        if held is None:
            self._shelf.rest()
            return False
        self._next = self._executor.prepare(held.delivery)
        if isinstance(self._next, Run):
            held.start(self._next.request)
        return True

    def finish(self) -> Ran:
        """Run user code now, and let what it comes to be settled.

        Raises:
            RuntimeError: nothing was begun.
        """
        held, ready = self.held, self._next
        if held is None or ready is None:
            raise RuntimeError("this slot has nothing to finish; call begin() first")
        request = error = None
        outcome: Outcomes
        if isinstance(ready, Run):
            request = ready.request
            outcome = self._executor.call(ready, self._slot.run_coroutine)
            error = self._errors.pop(id(request), None)
        else:
            outcome = ready
        self.held = self._next = None
        self._slot.end(held, outcome)
        if isinstance(outcome, Completed):
            outcome = Ack(outcome.delivery, outcome.record)
        return Ran(held.delivery, outcome, request, error)

    def close(self) -> None:
        """End the slot's event loop, if it has one."""
        self._slot.close()


class SteppedWorker:
    """A worker of `app` that does what it is told, when it is told. Used by one thread.

    The application's clock has to be a `VirtualClock`; whoever drives the
    worker advances it. Options are those of a worker (`WorkerOptions`). Unless
    told otherwise it has one slot and claims one message at a time, so that
    tasks run in exactly the broker's order. `draw` is where jitter comes from.

    Raises:
        ImproperlyConfigured: the clock of `app` cannot be moved, or an option is out of range.
        UnknownOption: there is no such option.
    """

    def __init__(
        self, app: TaskQ, *, draw: Callable[[], float] = random.random, **options: Any
    ) -> None:
        if not isinstance(app.clock, VirtualClock):
            raise ImproperlyConfigured(
                "a stepped worker moves no time of its own: make the application with a clock "
                "that can be moved, TaskQ(…, clock=VirtualClock(frozen=True))"
            )
        if options.get("concurrency") is None:
            options["concurrency"] = 1
        options.setdefault("prefetch_max", options.get("prefetch", 1))
        self._errors: dict[int, BaseException] = {}
        self._now = app.clock.now
        self.worker = Worker(
            app,
            worker_options(options),
            pace=Pace(app.clock.now, draw, blocks=False),
            on_error=self._note,
        )
        self.services: dict[str, Service] = {one.name: one for one in self.worker.services}
        self.due: dict[str, Timestamp] = dict.fromkeys(self.services, self._now())
        """When each service that is alive takes its next step, by the application's clock."""
        self.slots = [SteppedSlot(self.worker, slot, self._errors) for slot in self.worker.slots]
        self.ended = False
        for slot in self.slots:
            slot.begin()

    def _note(self, request: Request, error: BaseException) -> None:
        self._errors[id(request)] = error

    @property
    def death(self) -> str | None:
        """Which part of it died, and of what; None while all live."""
        return self.worker.death

    # -- Stepping

    def step(self, service: str) -> Seconds:
        """Let a service take one step, due or not; return how long it would pause then.

        Infinite if that was its death, or if it has ended.
        """
        if service not in self.services:
            raise ValueError(f"no service {service!r}; there are {', '.join(SERVICES)}")
        if self.ended or service not in self.due:
            return math.inf
        one = self.services[service]
        pause = one.guard(one.step)
        if pause is None or self.ended:
            self.due.pop(service, None)
            return math.inf
        if one.stopping.is_set():
            self._end(one)
            return math.inf
        self.due[service] = self._now() + pause
        return pause

    def run_due(self) -> None:
        """Step every service whose time has come, once."""
        now = self._now()
        for name in [name for name, due in self.due.items() if due <= now]:
            self.step(name)

    def beat(self) -> None:
        """Send a heartbeat."""
        self.step("heartbeat")

    def _end(self, service: Service) -> None:
        """Let a stopped service say its last words, as its thread would."""
        if self.due.pop(service.name, None) is not None:
            service.guard(service.end)

    # -- Running tasks

    def run_until_idle(self, *, limit: int = MOST_RUNS) -> list[Ran]:
        """Claim, run and settle until nothing is ready; return what ran, in order.

        Time stands still meanwhile: what is due later stays where it is. While
        the broker is out of reach this returns what could be done.

        Raises:
            StillBusy: more than `limit` deliveries were run.
        """
        ran: list[Ran] = []
        while not self.ended:
            if self.worker.shelf.room > 0 and self.step("claim") > 0:
                break
            done = self._run_waiting()
            ran.extend(done)
            if (self.worker.settler.pending and self.step("settle") > 0) or not done:
                break
            if len(ran) > limit:
                raise StillBusy(f"over {limit} deliveries were run, and more are ready")
        return ran

    def _run_waiting(self) -> list[Ran]:
        done: list[Ran] = []
        for slot in self.slots:
            while slot.begin():
                done.append(slot.finish())
        return done

    # -- Ending

    def stop(self) -> None:
        """Stop warm: claim no more, settle what has ended, give back the rest, say goodbye.

        Leases stay to end by themselves if the broker does not answer. A run
        between `begin` and `finish` is given back: call `stop_claiming` first,
        and finish it, to let it end.
        """
        if self.ended:
            return
        self.stop_claiming()
        self.worker.abandon()
        settler = self.worker.settler
        while settler.pending and self.step("settle") <= 0:
            pass
        for service in self.services.values():
            service.stop()
            self._end(service)
        self._close()
        self.worker.app.close()

    def stop_claiming(self) -> None:
        """Begin a warm stop: claim no more, and give back what no slot has taken."""
        if not self.worker.claimer.stopping.is_set():
            self.worker.stop_claiming()
            self._end(self.worker.claimer)

    def crash(self) -> None:
        """Die without a word: leases are left to end, settlements are forgotten."""
        self._close()

    def _close(self) -> None:
        self.ended = True
        self.due.clear()
        for slot in self.slots:
            slot.close()
