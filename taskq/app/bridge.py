"""Async callers over synchronous backends.

One thread per application makes their calls one after the other; another
waits for all their results at once on one
connection. Both end with `close`, and are made anew in a child process. A
program that ends without `close` waits for a call under way, and for nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from taskq.app.forklock import ForkLock
from taskq.app.result import AsyncResult, Waiting
from taskq.clock import Seconds
from taskq.contract.results import ResultRecord, Results
from taskq.errors import BrokerError, Closed

T = TypeVar("T")

SLICE: Final[Seconds] = 0.05
"""How long one look at the results lasts while others may come to wait."""
VERDICT_INTERVAL: Final[Seconds] = 1.0
PAUSE_AFTER_ERROR: Final[Seconds] = 0.2
LAST_LOOK: Final[Seconds] = 5.0
"""How long `close` waits for a look at the results that is under way."""


class Bridge:
    """Lets coroutines of any event loop use one application. Thread-safe."""

    def __init__(self, results: Callable[[], Results]) -> None:
        self._results = results
        self._lock = ForkLock()
        self._pid = 0
        self._calls: ThreadPoolExecutor | None = None
        self._watcher: threading.Thread | None = None
        self._arrivals: queue.SimpleQueue[Waiting | None] = queue.SimpleQueue()

    async def call(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Run a synchronous call in the application's thread, in the caller's context."""
        context = contextvars.copy_context()
        with self._lock():
            pending = self._start().submit(context.run, function, *args, **kwargs)
        return await asyncio.wrap_future(pending)

    async def wait_for(self, result: AsyncResult[Any], limit: Seconds) -> ResultRecord:
        """Return the final record of a result; raises as `AsyncResult.get`."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[ResultRecord] = loop.create_future()

        def settle(answer: object) -> None:
            if future.done():
                return
            if isinstance(answer, BaseException):
                future.set_exception(answer)
            else:
                future.set_result(answer)  # type: ignore[arg-type]  # a record

        def tell(answer: object) -> None:
            with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
                loop.call_soon_threadsafe(settle, answer)

        waiting = Waiting(result, limit, tell)
        with self._lock():
            # One step, or a close in between would leave nobody to answer.
            self._start()
            self._arrivals.put(waiting)
        try:
            return await future
        finally:
            waiting.abandoned = True

    def close(self) -> None:
        """End both threads. Calls under way are finished first; waits end with `Closed`."""
        with self._lock():
            calls, self._calls = self._calls, None
            watcher, self._watcher = self._watcher, None
            if calls is None or self._pid != os.getpid():
                return
            self._arrivals.put(None)
        calls.shutdown()
        if watcher is not None:
            # Left alone it might open the results anew, which are closed next.
            watcher.join(LAST_LOOK)

    def _start(self) -> ThreadPoolExecutor:
        """Return the executor of calls, with both threads at work. Called with the lock held."""
        if self._calls is None or self._pid != os.getpid():
            self._pid = os.getpid()
            self._calls = ThreadPoolExecutor(1, thread_name_prefix="taskq-async")
            self._arrivals = queue.SimpleQueue()
            self._watcher = threading.Thread(
                target=self._watch, args=(self._arrivals,), name="taskq-results", daemon=True
            )
            self._watcher.start()
        return self._calls

    def _watch(self, arrivals: queue.SimpleQueue[Waiting | None]) -> None:
        waiting: list[Waiting] = []
        next_verdict = 0.0
        while True:
            try:
                while True:
                    arrival = arrivals.get(block=not waiting)
                    if arrival is None:
                        _tell_all(waiting, Closed("the application was closed"))
                        return
                    waiting.append(arrival)
            except queue.Empty:
                pass
            waiting = [w for w in waiting if not w.abandoned]
            if not waiting:
                continue
            ids = list({w.result.id for w in waiting})
            try:
                found = self._results().wait(ids, timeout=SLICE)
                now = time.monotonic()
                thorough = now >= next_verdict
                if thorough:
                    next_verdict = now + VERDICT_INTERVAL
                waiting = [w for w in waiting if not _look(w, found, thorough, now)]
            except Closed as error:
                _tell_all(waiting, error)
                waiting = []
            except BrokerError:
                waiting = [w for w in waiting if time.monotonic() < w.deadline or not _late(w)]
                time.sleep(PAUSE_AFTER_ERROR)
            except Exception as error:  # noqa: BLE001 - who hears nothing would wait for ever
                _tell_all(waiting, error)
                waiting = []


def _look(waiting: Waiting, found: dict[str, ResultRecord], thorough: bool, now: float) -> bool:
    record = found.get(waiting.result.id)
    if record is None and not thorough and now < waiting.deadline:
        return False
    return waiting.look(record)


def _tell_all(waiting: list[Waiting], error: Exception) -> None:
    for one in waiting:
        one.tell(error)


def _late(waiting: Waiting) -> bool:
    from taskq.errors import TimeoutError  # noqa: A004

    waiting.tell(TimeoutError(f"task {waiting.result.id}: the result store was out of reach"))
    return True
