"""The places in this process that run tasks: threads, or the main thread alone.

A task here shares the interpreter with the worker's own services: one that
never lets go of the GIL can keep its lease from being renewed.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

from taskq.clock import Seconds
from taskq.contract.settlement import Release
from taskq.worker.executor import Executor, Outcomes
from taskq.worker.pace import Pace
from taskq.worker.shelf import Held, Shelf
from taskq.worker.tuner import SlotClock

log = logging.getLogger(__name__)


class Slot:
    """Takes deliveries off the shelf and runs them, one at a time, until it is closed."""

    def __init__(
        self,
        shelf: Shelf,
        executor: Executor,
        conclude: Callable[[Outcomes], None],
        clock: SlotClock,
        pace: Pace | None = None,
    ) -> None:
        self._shelf = shelf
        self._executor = executor
        self._conclude = conclude
        self._clock = clock
        self._now = (pace or Pace()).now
        self._loop: asyncio.Runner | None = None

    def run(self) -> None:
        """Run tasks until the shelf is closed."""
        take, execute, end = self._shelf.take, self._executor.run, self.end
        run_coroutine = self.run_coroutine
        try:
            while (held := take()) is not None:
                if held.started:
                    end(held, execute(held.delivery, run_coroutine, held.start))
                else:
                    self.give_back(held)
        finally:
            self.close()

    def give_back(self, held: Held) -> None:
        """Release what the slot took too late to run it.

        If nobody has reclaimed it, it comes back at once and without a loss.
        """
        self._conclude(Release(held.delivery))
        held.ended = True

    def end(self, held: Held, outcome: Outcomes) -> None:
        """Let what the slot has run be concluded."""
        # In this order: once nothing is unfinished, a flush must find every settlement.
        self._conclude(outcome)
        held.ended = True
        clock = self._clock
        clock.busy += self._now() - held.started
        clock.done += 1

    def close(self) -> None:
        """End the slot's event loop, if it has one."""
        if self._loop is not None:
            self._loop.close()

    def run_coroutine(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Await in this slot's own event loop, kept from task to task."""
        if self._loop is None:
            self._loop = asyncio.Runner()
        # Without a context of its own each run would see the first one's request.
        return self._loop.run(coroutine, context=contextvars.copy_context())


class ThreadPool:
    """Some slots, each in a thread."""

    def __init__(self, slots: list[Slot], on_death: Callable[[BaseException], None]) -> None:
        self._slots = slots
        self._on_death = on_death
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Start the threads. Daemons: what will not end must not keep the process."""
        for number, slot in enumerate(self._slots):
            thread = threading.Thread(
                target=self._guard, args=(slot,), name=f"taskq-slot-{number}", daemon=True
            )
            thread.start()
            self._threads.append(thread)

    def join(self, timeout: Seconds) -> bool:
        """Wait for every slot's end; say whether it came."""
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _guard(self, slot: Slot) -> None:
        try:
            slot.run()
        except BaseException as error:
            log.exception("a slot died")
            self._on_death(error)
