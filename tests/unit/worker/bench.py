"""What the tests of the worker share: an application on memory, stepped or at work."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from taskq import TaskQ
from taskq.app.result import AsyncResult
from taskq.clock import Clock, VirtualClock
from taskq.contract.delivery import DeadLetter, Delivery, QueueStats
from taskq.contract.message import Message, Send
from taskq.contract.settlement import Settlement
from taskq.memory.broker import MemoryBroker
from taskq.memory.results import MemoryResults
from taskq.memory.server import MemoryServer
from taskq.plugins import PluginInfo, Plugins, hookimpl
from taskq.url import Url
from taskq.worker.executor import Executor
from taskq.worker.options import WorkerOptions
from taskq.worker.outage import Outage
from taskq.worker.settler import Settler
from taskq.worker.shelf import Shelf
from taskq.worker.worker import Exit, Worker

QUEUE = "default"


class Script:
    """What happens to the calls of one application's broker and result store."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.log: list[str] = []
        self.hooks: dict[str, Callable[..., Any]] = {}
        """By method: called with the arguments before the server is; raises to fail the call."""

    def fail(self, name: str, *errors: Exception) -> None:
        """Let the next calls of a method raise these, one each."""
        left = list(errors)

        def hook(*args: Any, **kwargs: Any) -> None:
            if left:
                raise left.pop(0)

        self.hooks[name] = hook


class Scripted:
    """A client of the memory backend whose calls are counted, and fail where told to."""

    def __init__(self, client: Any, script: Script) -> None:
        self._client = client
        self._script = script

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        if not callable(found):
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            self._script.calls[name] += 1
            self._script.log.append(name)
            hook = self._script.hooks.get(name)
            if hook is not None:
                hook(*args, **kwargs)
            return found(*args, **kwargs)

        return call


class ScriptedPlugin:
    """`scripted://`: the memory backend behind a script."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._servers: dict[str, MemoryServer] = {}

    @hookimpl
    def taskq_plugin(self) -> PluginInfo:
        return PluginInfo(name="scripted", version="0", schemes=("scripted",))

    @hookimpl
    def taskq_open_broker(self, url: Url, clock: Clock) -> Any:
        return self._open(MemoryBroker, url, clock)

    @hookimpl
    def taskq_open_results(self, url: Url, clock: Clock) -> Any:
        return self._open(MemoryResults, url, clock)

    def _open(self, client: Callable[[MemoryServer], Any], url: Url, clock: Clock) -> Any:
        if url.scheme != "scripted":
            return None
        server = self._servers.setdefault(url.namespace, MemoryServer(clock))
        return Scripted(client(server), self._script)


class Bench:
    """An application, and a worker's inner parts driven step by step."""

    def __init__(self, *, frozen: bool = True, **settings: Any) -> None:
        self.clock = VirtualClock(frozen=frozen)
        self.script = Script()
        plugins = Plugins()
        plugins.register(ScriptedPlugin(self.script))
        settings.setdefault("broker", "scripted://")
        self.app = TaskQ("bench", clock=self.clock, plugins=plugins, **settings)
        self.shelf = Shelf(1)
        self.deaths: list[BaseException] = []
        self._executor: Executor | None = None
        apart = None if self.app.results_with_broker else self.app.results
        self.settler = Settler(
            self.app.broker, apart, self.shelf, 30.0, outage=Outage(), on_death=self._died
        )

    def _died(self, service: object, error: BaseException) -> None:
        self.deaths.append(error)

    def inject(self, envelope: bytes, id: str = "injected") -> AsyncResult[Any]:
        """Send bytes that no producer would."""
        self.app.broker.send([Send(Message(id, QUEUE, envelope))])
        return self.app.AsyncResult(id)

    def claim(self, limit: int = 100) -> list[Delivery]:
        return self.app.broker.reserve([QUEUE], limit=limit, lease=30.0)

    def execute(self, delivery: Delivery) -> Settlement:
        if self._executor is None:
            self._executor = Executor(self.app, "bench-worker")
        return self._executor.run(delivery, asyncio.run, lambda request: None)

    def step(self, after: float = 0.0) -> list[Settlement]:
        """Run everything that is due `after` seconds from now; return how it was concluded."""
        self.clock.advance(after)
        done = [self.execute(delivery) for delivery in self.claim()]
        for settlement in done:
            self.settler.put(settlement)
        if done:
            self.settler.run_once()
        return done

    def letters(self) -> list[DeadLetter]:
        return self.app.broker.dead_letters(QUEUE)

    def letter(self) -> DeadLetter:
        (letter,) = self.letters()
        return letter

    def stats(self) -> QueueStats:
        found = {stats.queue: stats for stats in self.app.broker.stats()}
        return found.get(QUEUE, QueueStats(QUEUE, 0, 0, 0, 0))

    @property
    def empty(self) -> bool:
        stats = self.stats()
        return not (stats.ready or stats.scheduled or stats.processing or stats.dead)


class Running:
    """A worker at work in a thread of this process."""

    def __init__(self, app: TaskQ, **options: Any) -> None:
        self.worker = Worker(app, WorkerOptions(**options))
        self.exit: int | None = None
        self._thread = threading.Thread(target=self._run, name="worker-under-test", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        self.exit = self.worker.run()

    def join(self, timeout: float = 5.0) -> int:
        self._thread.join(timeout)
        assert self.exit is not None, "the worker did not end"
        return self.exit

    def stop(self, timeout: float = 5.0) -> int:
        self.worker.stop()
        return self.join(timeout)


@contextlib.contextmanager
def running(app: TaskQ, **options: Any) -> Iterator[Running]:
    """Run a worker meanwhile; it must end warm, unless the test has ended it."""
    work = Running(app, **options)
    try:
        yield work
    finally:
        if work.exit is None:
            assert work.stop() == Exit.WARM


def eventually(reached: Callable[[], Any], timeout: float = 5.0) -> Any:
    """Wait until the condition is true, and return what it returned."""
    deadline = time.monotonic() + timeout
    while not (found := reached()):
        assert time.monotonic() < deadline, "the condition was not reached in time"
        time.sleep(0.002)
    return found
