"""The producers and consumers of one process: started together, joined together.

Nothing here waits for ever: a call of a backend that does not return is told,
with the line it is at.
"""

from __future__ import annotations

import queue
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from typing import Final, Self

import msgspec

from taskq.clock import Seconds
from taskq.contract.broker import Broker
from taskq.testing.concurrency.consumer import Consumer
from taskq.testing.concurrency.history import AnyCall
from taskq.testing.concurrency.work import Answer, Producer, Pulse, Signals, Worker

PRODUCERS: Final = 2
SHARE: Final = 2
"""Consumers with one client, as the threads of a worker have one."""
SWITCH: Final[Seconds] = 0.0002
"""How often Python changes threads during a run. Its own 5 ms hide most races."""
GRACE: Final[Seconds] = 5.0
"""How long threads have to end when a run has failed."""
DEPTH: Final = 3
"""Frames to show of a thread that hangs."""


class Stuck(AssertionError):
    """A call did not return, or the work did not come to an end, in the time given."""


class Plan(msgspec.Struct, frozen=True):
    """What one process has to do."""

    number: int
    """0 is the process that checks."""
    messages: int
    """What its producers send; its consumers take anybody's."""
    threads: int
    """Consumers."""
    limit: Seconds
    """When the work has not ended by then, it is stuck."""

    @property
    def name(self) -> str:
        return f"process-{self.number}"

    @property
    def clients(self) -> int:
        """How many clients the crew needs."""
        return -(-self.threads // SHARE)


class Crew:
    """The threads of one process. Made and used by one thread, as a context manager."""

    def __init__(self, plan: Plan, brokers: Sequence[Broker], pulse: Pulse) -> None:
        self._plan = plan
        self._signals = Signals()
        self._errors: list[Exception] = []
        self._ended: queue.SimpleQueue[Worker] = queue.SimpleQueue()
        self._over: set[Worker] = set()
        self._deadline = 0.0
        self._switch = sys.getswitchinterval()
        self._producers = [
            Producer(
                brokers[number % len(brokers)],
                f"{plan.name}.producer-{number}",
                pulse,
                self._signals,
                count=(plan.messages + number) // PRODUCERS,
            )
            for number in range(PRODUCERS)
        ]
        self._consumers = [
            Consumer(
                brokers[number // SHARE], f"{plan.name}.consumer-{number}", pulse, self._signals
            )
            for number in range(plan.threads)
        ]
        for consumer in self._consumers:
            consumer.meet(self._consumers)
        workers: list[Worker] = [*self._producers, *self._consumers]
        self._threads = {
            worker: threading.Thread(target=self._run, args=(worker,), name=worker.who, daemon=True)
            for worker in workers
        }

    def __enter__(self) -> Self:
        """Start all threads."""
        self._deadline = time.monotonic() + self._plan.limit
        sys.setswitchinterval(SWITCH)
        for thread in self._threads.values():
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Let all threads end, whatever is left to do."""
        self._signals.halt.set()
        end = time.monotonic() + GRACE
        for thread in self._threads.values():
            thread.join(max(0.0, end - time.monotonic()))
        sys.setswitchinterval(self._switch)

    def await_sent(self) -> None:
        """Return when the producers have sent everything; raises as `finish`."""
        self._await(self._producers)

    def finish(self) -> list[AnyCall]:
        """Tell the consumers that no more is sent; return the record of all threads.

        Raises:
            Stuck: a thread has not ended in time.
            Exception: what the first thread to fail met, with a note of its name.
        """
        self._signals.no_more.set()
        self._await(self._consumers)
        return [call for worker in self._threads for call in worker.calls]

    def _run(self, worker: Worker) -> None:
        try:
            worker.run()
        except Exception as error:  # noqa: BLE001 - whatever a broken backend raises ends the run
            error.add_note(f"in {worker.who}, one of many clients at once")
            self._errors.append(error)
            self._signals.halt.set()
        finally:
            self._ended.put(worker)

    def _await(self, workers: Iterable[Worker]) -> None:
        """Return when these have ended; raise as soon as anyone has failed."""
        left = set(workers) - self._over
        while left and not self._errors:
            try:
                self._over.add(self._ended.get(timeout=max(0.0, self._deadline - time.monotonic())))
            except queue.Empty:
                # Those that wait for one another may not be those that are waited for here.
                threads = [t for worker, t in self._threads.items() if worker not in self._over]
                raise _stuck(threads, self._plan.limit) from None
            left -= self._over
        if self._errors:
            raise self._errors[0]


def carry_out(call: Callable[[], Answer], what: str, *, limit: Seconds) -> Answer:
    """Return what a call returns, which a thread of its own makes: it may hang.

    Raises:
        Stuck: it has not returned after `limit` seconds.
        Exception: what the call raised.
    """
    future: Future[Answer] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:  # noqa: BLE001 - raised where the answer is awaited
            future.set_exception(error)

    thread = threading.Thread(target=run, name=what, daemon=True)
    thread.start()
    thread.join(limit)
    if not future.done():
        raise _stuck([thread], limit)
    return future.result()


def _stuck(threads: Sequence[threading.Thread], limit: Seconds) -> Stuck:
    """Return an error that shows where each thread is: if it hangs, what does not return."""
    names = ", ".join(thread.name for thread in threads)
    error = Stuck(f"not ended after {limit:g} s: {names}")
    frames = sys._current_frames()
    for thread in threads:
        if (frame := frames.get(thread.ident or 0)) is not None:
            lines = traceback.format_stack(frame)[-DEPTH:]
            error.add_note(f"{thread.name} is here:\n{''.join(lines).rstrip()}")
    return error
