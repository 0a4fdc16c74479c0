"""Assembles a worker, watches it, and takes it down in stages."""

from __future__ import annotations

import contextlib
import enum
import logging
import os
import queue
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Final

from taskq.app.application import TaskQ
from taskq.clock import Seconds
from taskq.contract.delivery import Heartbeat
from taskq.contract.settlement import Release
from taskq.errors import BrokerError, ImproperlyConfigured
from taskq.ids import new_id
from taskq.worker.claimer import Claimer
from taskq.worker.executor import Executor, OnError
from taskq.worker.housekeeping import HeartbeatService, Reaper, SchedulePoll, ServerCheck
from taskq.worker.leases import Fence, LeaseKeeper
from taskq.worker.options import WorkerOptions
from taskq.worker.outage import Outage
from taskq.worker.pace import Pace
from taskq.worker.pool import Slot, ThreadPool
from taskq.worker.service import Service
from taskq.worker.settler import Settler
from taskq.worker.shelf import Shelf
from taskq.worker.tuner import Tuner

log = logging.getLogger(__name__)

SIGNALS: Final = {signal.SIGTERM: 1, signal.SIGINT: 1, signal.SIGHUP: 1, signal.SIGQUIT: 2}
"""How many stages of the shutdown each signal asks for: the first is warm, the second cold."""
WATCH_INTERVAL: Final[Seconds] = 1.0
STUCK_AFTER: Final[Seconds] = 60.0
"""A claim loop that has not come round for so long is stuck: every call it makes is bounded."""
CLAIM_ENDS: Final[Seconds] = 1.0
"""How long an interrupted claim may take to return; what it claims later is given back."""
FAREWELL: Final[Seconds] = 1.5
"""How long the last words to a broker may take, all of them together."""


class Exit(enum.IntEnum):
    """How a worker ended."""

    WARM = 0
    """Everything it had started is done."""
    BROKEN = 1
    """A part of it died."""
    COLD = 3
    """Running tasks were given back; their threads may still run, so end the process."""


class Worker:
    """One worker of an application, in this process.

    `run` blocks and may be called once. `stop` may be called from any thread
    or signal handler: the first call stops warm, the second cold.
    """

    def __init__(
        self,
        app: TaskQ,
        options: WorkerOptions,
        *,
        pace: Pace | None = None,
        on_error: OnError | None = None,
    ) -> None:
        if app.conf.task_always_eager:
            raise ImproperlyConfigured(
                "task_always_eager is on: tasks run where they are sent and no worker would see "
                "one; switch it off outside of tests"
            )
        self.app = app
        self.pace = pace or Pace()
        self.options = options.resolved(app.conf.task_default_queue)
        self.incarnation = new_id()
        self._started = time.time()
        # A queue, not an event: its put may be called in a signal handler.
        self._news: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._stops = 0
        self.death: str | None = None
        """Why it stops by itself."""
        self._abandoned = False
        self._assemble(on_error)

    def _assemble(self, on_error: OnError | None) -> None:
        app, options = self.app, self.options
        slots = options.concurrency or 1
        broker = self._broker = app.broker
        lease = options.visibility_timeout
        apart = None if app.results_with_broker else app.results
        pace = self.pace
        outage = Outage(pace)
        self.shelf = Shelf(slots, pace)
        self.tuner = Tuner(slots, prefetch=options.prefetch, prefetch_max=options.prefetch_max)
        self.settler = Settler(broker, apart, self.shelf, lease, outage=outage, on_death=self._died)
        self.claimer = Claimer(
            broker,
            self.shelf,
            self.tuner,
            options,
            self.settler.put,
            outage=outage,
            on_death=self._died,
        )
        self.leases = LeaseKeeper(broker, self.shelf, lease, outage=outage, on_death=self._died)
        self.fence = Fence(self.shelf, lease, outage=outage, on_death=self._died)
        self.heartbeat = HeartbeatService(
            broker, self._beat, options.heartbeat_interval, outage=outage, on_death=self._died
        )
        self.schedule = SchedulePoll(
            broker, options.schedule_poll_interval, outage=outage, on_death=self._died
        )
        self.reaper = Reaper(
            broker,
            app.results,
            options.reaper_interval,
            app.conf.dead_letter_expires,
            outage=outage,
            on_death=self._died,
        )
        self.check = ServerCheck(broker.check, outage=outage, on_death=self._died)
        self.executor = Executor(app, options.name, pace, on_error)
        self.slots = [
            Slot(self.shelf, self.executor, self.settler.put, clock, pace)
            for clock in self.tuner.clocks
        ]
        pooled = [] if options.pool == "solo" else self.slots
        self.pool = ThreadPool(pooled, self._slot_died)
        self.services: list[Service] = [
            self.settler,
            self.leases,
            self.fence,
            self.heartbeat,
            self.schedule,
            self.reaper,
            self.check,
            self.claimer,
        ]

    # -- Running

    def run(self) -> int:
        """Work until stopped; return an `Exit`."""
        with _signals(self._on_signal):
            self.pool.start()
            for service in self.services:
                service.start()
            log.info("worker %s is ready", self.options.name)
            if self.options.pool == "solo":
                return self._run_solo()
            self._watch()
            return self._take_down()

    def stop(self) -> None:
        """Ask for a warm shutdown; a second time, for a cold one."""
        self._stops += 1
        self._news.put(None)

    def _run_solo(self) -> int:
        """Run tasks in this thread, and everything else in another."""
        ends: list[int] = []

        def watch() -> None:
            self._watch()
            ends.append(self._take_down())
            if self._abandoned:
                # The main thread is in a task that nothing can interrupt.
                logging.shutdown()
                os._exit(ends[0])

        watcher = threading.Thread(target=watch, name="taskq-watch", daemon=True)
        watcher.start()
        try:
            self.slots[0].run()
        except BaseException as error:
            log.exception("the slot died")
            self._slot_died(error)
        watcher.join()
        return ends[0] if ends else Exit.BROKEN

    def _watch(self) -> None:
        """Look after the claim loop until somebody asks for an end, or something dies."""
        awake = looked = self.pace.now()
        while not self._stops and self.death is None:
            self._await_news(WATCH_INTERVAL)
            now = self.pace.now()
            if now - looked > STUCK_AFTER / 2:
                # The whole process was frozen; the claim loop has only just woken up, too.
                awake = now
            looked = now
            if now - max(self.claimer.progress, awake) > STUCK_AFTER:
                self.death = "the claim loop is stuck"

    def _await_news(self, timeout: Seconds) -> None:
        with contextlib.suppress(queue.Empty):
            self._news.get(timeout=timeout)

    def _died(self, service: Service, error: BaseException) -> None:
        self._end_for(f"service {service.name} died: {error!r}")

    def _slot_died(self, error: BaseException) -> None:
        self._end_for(f"a slot died: {error!r}")

    def _end_for(self, reason: str) -> None:
        """Let the worker end; the first reason is the one to tell."""
        if self.death is None:
            self.death = reason
        self._news.put(None)

    def _beat(self) -> Heartbeat:
        return Heartbeat(
            worker=self.options.name,
            incarnation=self.incarnation,
            host=socket.gethostname(),
            pid=os.getpid(),
            started=self._started,
            queues=self.options.queues,
            pool=self.options.pool,
            concurrency=self.options.concurrency or 1,
            running=len(self.shelf.running()),
            done=self.settler.settled,
        )

    # -- Ending

    def _take_down(self) -> int:
        """Stop claiming; give back what waits; let finish what runs; then the rest."""
        grace_over = self.pace.now() + self.options.shutdown_grace
        if self.death is not None:
            log.critical("worker %s stops: %s", self.options.name, self.death)
        else:
            log.info("worker %s is shutting down", self.options.name)
        self.stop_claiming()
        self._abandoned = not self._await_slots(grace_over)
        self.abandon()
        self._end_services()
        if self.death is not None:
            return Exit.BROKEN
        log.info("worker %s has ended", self.options.name)
        return Exit.COLD if self._abandoned else Exit.WARM

    def stop_claiming(self) -> None:
        """Claim no more, and give back what no slot has taken."""
        self.claimer.stop()
        with contextlib.suppress(BrokerError):
            # A client that was closed claims nothing any more; the rest is to go on.
            self._broker.interrupt()
        self.claimer.join(CLAIM_ENDS)
        for held in self.shelf.take_back(float("inf")):
            self.settler.put(Release(held.delivery))
        self.shelf.close()

    def abandon(self) -> None:
        """Give back what slots are still at work on."""
        for held in self.shelf.unfinished():
            log.warning("task %s did not finish in time and is given back", held.delivery.id)
            held.lose()
            self.settler.put(Release(held.delivery))

    def _await_slots(self, deadline: float) -> bool:
        """Wait for what slots have taken, until the deadline or a second stop comes."""
        unfinished = len(self.shelf.unfinished())
        if unfinished:
            left = max(0.0, deadline - self.pace.now())
            log.info("waiting up to %.0f s for %d tasks", left, unfinished)
        while self.shelf.unfinished():
            if self._stops >= 2 or self.pace.now() >= deadline:
                return False
            self._await_news(0.02)
        return True

    def _end_services(self) -> None:
        """Deliver the last settlements and say goodbye; a broker that is gone is not waited for."""
        deadline = self.pace.now() + FAREWELL
        if not self.settler.flush(FAREWELL * 3 / 4):
            log.warning(
                "the broker did not take the last settlements; leases will end by themselves"
            )
        for service in self.services:
            service.stop()
        for service in self.services:
            service.join(max(0.0, deadline - self.pace.now()))
        if not self._abandoned:
            # Otherwise tasks still use the clients.
            self.app.close()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        # No lock may be taken here: this very thread may hold it.
        self._stops += SIGNALS[signal.Signals(number)]
        self._news.put(None)


@contextlib.contextmanager
def _signals(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Handle `SIGNALS` meanwhile, where this is the main thread.

    One that the parent had ignored stays so: `nohup` means it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in heard}
    try:
        yield
    finally:
        for number, old in before.items():
            # None: the handler was not installed from Python and cannot be put back.
            signal.signal(number, signal.SIG_DFL if old is None else old)
