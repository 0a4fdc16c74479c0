"""One worker process of a simulation: what it can do next, and what keeps it from that."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from taskq import TaskQ
from taskq.contract.delivery import Delivery
from taskq.testing.stepper import SteppedWorker

from .plan import QUEUES, UNKNOWN_GRACE, Outcome, define_tasks

if TYPE_CHECKING:
    from .world import World

KEEPERS: Final = ("leases", "fence")
"""The services that see to leases; what keeps them from it excuses a loss."""
SLACK: Final = 1 / 12
"""Part of a lease by which a service may be late without an excuse for what follows."""
CLAIM_SLACK: Final = 0.25
"""Seconds by which the claim loop may be late without that excuse."""
SLOTS: Final = ("slot0", "slot1", "slot2")
"""How slots are called while they are at work."""
IDLE: Final = (0.001, 0.05, 0.3, 1.0)
"""Seconds between one claim and the next, unless a slot becomes idle."""


@dataclass(slots=True)
class Run:
    """A task at work in a slot. Instants are those of the simulation's clock."""

    delivery: Delivery
    end: float
    outcome: Outcome | None = None


class Node:
    """A worker, its clients, and the troubles of its process."""

    def __init__(self, world: World, name: str) -> None:
        self.name = name
        self.world = world
        self.lease: float = world.lease
        self.crashed = self.stopping = self.ended = False
        self.stop_by = 0.0
        self.asleep_until = 0.0
        """The process is frozen until then."""
        self.idle_until = 0.0
        """A claim that brought nothing waits until then."""
        self.busy: set[str] = set()
        """The parts that are in the middle of a call."""
        self.acting = ""
        """The part that makes a call now."""
        self.sabotage = ""
        """The next call of this name dies of a bug."""
        self.sabotaged: str | None = None
        """The part that died of it."""
        self.started = world.now
        self.stopped = math.inf
        self.crashed_at = math.inf
        self.runs: dict[int, Run] = {}
        self.stalls: dict[str, list[tuple[float, float]]] = {name: [] for name in KEEPERS}
        """When each of these could not do what was due."""
        self.claiming_since = 0.0
        """When the claim loop began the step that it is in, or was last in."""
        self.claim_stalls: list[float] = []
        """When the claim loop came round late."""
        self.failures: list[tuple[float, str]] = []
        """Calls that failed."""

    def start(self) -> None:
        """Start the process, registered with the world before."""
        world = self.world
        app = TaskQ(
            "simulation",
            broker=f"world://{self.name}",
            results=f"results://{self.name}" if world.apart else None,
            clock=world.clock,
            plugins=world.plugins,
            enqueue_timeout=0.001,
            unknown_grace=UNKNOWN_GRACE,
            task_max_deliveries=world.max_deliveries,
        )
        define_tasks(app, self._body)
        self.stepped = SteppedWorker(
            app,
            draw=world.random.random,
            name=self.name,
            queues=QUEUES,
            visibility_timeout=self.lease,
            schedule_poll_interval=5.0,
            **world.draw_options(),
        )
        self.worker = self.stepped.worker

    def _body(self, task: Any) -> Any:
        """Be the code of every task."""
        request = task.request
        same = (request.id, request.run)
        runs = self.runs.values()
        run = next(run for run in runs if (run.delivery.id, run.delivery.run) == same)
        return self.world.play(self.world.plans[request.id], task, run)

    @property
    def usable(self) -> bool:
        """Whether it is at work, and nobody has told it to stop."""
        return not (self.ended or self.stopping)

    # -- What it can do

    def actions(self, now: float) -> Iterator[Callable[[], None]]:
        """Yield what could happen now."""
        if self.ended or now < self.asleep_until:
            return
        busy = self.busy
        for name, due in self.stepped.due.items():
            if due <= now and name not in busy and self._has_work(name, now):
                yield functools.partial(self._step, name)
        waiting = self.worker.shelf.waiting
        for number, slot in enumerate(self.stepped.slots):
            if SLOTS[number] in busy:
                continue
            if slot.held is None:
                if waiting or not slot.resting:
                    yield functools.partial(self._begin, number)
            elif now >= self.runs[number].end:
                yield functools.partial(self._finish, number)
        if self.stopping and not busy and (not self.runs or now >= self.stop_by):
            yield self._end

    def _has_work(self, name: str, now: float) -> bool:
        """Say whether a service that is due would do more than wait."""
        if name == "settle":
            return self.worker.settler.pending > 0
        return name != "claim" or now >= self.idle_until

    def next_instant(self) -> float:
        """Return when it could do something; infinite if it has ended."""
        earliest = math.inf
        if self.ended:
            return earliest
        busy = self.busy
        for name, due in self.stepped.due.items():
            if due >= earliest or name in busy:
                continue
            if name == "claim":
                earliest = min(earliest, max(due, self.idle_until))
            elif name != "settle" or self.worker.settler.pending:
                earliest = due
        for number, run in self.runs.items():
            if run.end < earliest and SLOTS[number] not in busy:
                earliest = run.end
        if self.stopping and not busy:
            earliest = min(earliest, self.stop_by)
        return max(earliest, self.asleep_until)

    # -- What it does

    def _step(self, name: str) -> None:
        now, due = self.world.now, self.stepped.due[name]
        if name == "claim":
            due = max(due, self.idle_until)
            self.claiming_since = now
        self._note_stall(name, due, now)
        with self._acts(name):
            self.stepped.step(name)
        self._note_stall(name, now, self.world.now)
        if self.ended:
            return
        if name == "claim":
            self.world.referee.claim_ended(self)
            self.idle_until = self.world.now + self.world.random.choice(IDLE)

    @contextlib.contextmanager
    def _acts(self, name: str) -> Iterator[None]:
        before, self.acting = self.acting, name
        self.busy.add(name)
        try:
            yield
        finally:
            self.busy.discard(name)
            self.acting = before

    def _note_stall(self, name: str, since: float, until: float) -> None:
        if name == "claim" and until - since > CLAIM_SLACK:
            self.claim_stalls.append(until)
        if until - since > self.lease * SLACK and name in KEEPERS:
            self.stalls[name].append((since, until))

    def _begin(self, number: int) -> None:
        slot = self.stepped.slots[number]
        if not slot.begin():
            return
        assert slot.held is not None
        delivery = slot.held.delivery
        plan = self.world.plans[delivery.id]
        length = plan.duration if slot.request is not None else 0.0
        self.runs[number] = Run(delivery, self.world.now + length)
        self.world.log(self.name, "begin", delivery.id, f"run {delivery.run}")
        self.world.referee.begun(self, slot)
        self.idle_until = self.world.now

    def _finish(self, number: int) -> None:
        run = self.runs[number]
        with self._acts(SLOTS[number]):
            ran = self.stepped.slots[number].finish()
        if self.ended:
            return
        del self.runs[number]
        self.world.log(self.name, "finish", run.delivery.id, type(ran.settlement).__name__)
        self.world.referee.finished(self, run, ran)
        self.idle_until = self.world.now

    # -- Trouble

    def failed_since(self, instant: float) -> bool:
        """Say whether a call failed since then."""
        return any(when >= instant for when, _ in self.failures)

    def stalled_claim(self, since: float) -> bool:
        """Say whether the claim loop was kept from coming round since then."""
        return self.claim_stalls[-1:] >= [since]

    def freeze(self, length: float) -> None:
        """Stand still."""
        self.world.log(self.name, "freezes", f"for {length:g} s")
        self.asleep_until = max(self.asleep_until, self.world.now + length)
        for name in KEEPERS:
            self.stalls[name].append((self.world.now, self.asleep_until))

    def crash(self) -> None:
        """Die at once, in the midst of whatever it is doing."""
        self.crashed = self.ended = True
        self.crashed_at = self.world.now
        self.world.log(self.name, "crashes")
        self.stepped.crash()
        self.runs.clear()

    def stop(self, grace: float) -> None:
        """Begin a warm shutdown."""
        if self.stopping:
            return
        self.stopping = True
        self.stopped = self.world.now
        self.stop_by = self.world.now + grace
        self.world.log(self.name, "stops")
        self.stepped.stop_claiming()

    def _end(self) -> None:
        """End the shutdown."""
        self.world.log(self.name, "ends")
        # The farewell steps them itself.
        self.busy = {*self.stepped.services, "end"}
        self.stepped.stop()
        if not self.crashed:
            self.world.referee.ended(self)
        self.ended = True
        self.runs.clear()
