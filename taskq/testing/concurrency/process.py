"""Both ends of a further process: the one that checks, and the one that works.

The order goes to its standard input as a line of JSON, with the URL in it, since
everybody can read a command line. It opens its clients and says ``ready``; told
``start``, it starts its crew, and says ``sent`` when its producers have ended;
told ``finish``, it lets its consumers end, leaves its record in the file that
the order names, and ends. If its input ends before it does, nobody waits for the
record any more, so it dies at once: no such process outlives the one that checks.
"""

from __future__ import annotations

import contextlib
import io
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from pathlib import Path
from typing import IO, Final, NoReturn, Self

import msgspec

from taskq.clock import Seconds
from taskq.plugins import Plugins
from taskq.testing.concurrency.crew import Crew, Plan, Stuck
from taskq.testing.concurrency.history import AnyCall, pack, unpack
from taskq.testing.concurrency.work import Pulse
from taskq.url import Url

_RUN: Final = "from taskq.testing.concurrency.process import main; main()"
_Words = queue.SimpleQueue[str]


class ProcessFailed(AssertionError):
    """A further process ended before its work did; the text holds what it printed."""


class Order(msgspec.Struct, frozen=True):
    """What a process has to do, where, and where to leave the record."""

    plan: Plan
    url: str
    """With its secrets."""
    record: str
    """The path of a file."""


# The end that checks


class Process:
    """One further process. Used by one thread, as a context manager.

    It is killed `limit` seconds after its start.
    """

    def __init__(self, plan: Plan, url: Url, folder: Path, *, limit: Seconds) -> None:
        self._name = plan.name
        self._limit = limit
        self._record = folder / f"{plan.name}.calls"
        self._order = Order(plan, url.reveal(), str(self._record))
        self._killed = threading.Event()

    def __enter__(self) -> Self:
        """Start it, and tell it what it has to do."""
        self._errors = tempfile.TemporaryFile()
        # A plugin found here has to be found there; and nothing else, so -P.
        paths = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", _RUN],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            bufsize=0,
            env={**os.environ, "PYTHONPATH": paths},
        )
        self._timer = threading.Timer(self._limit, self._give_up)
        self._timer.daemon = True
        self._timer.start()
        self._tell(msgspec.json.encode(self._order))
        return self

    def __exit__(self, *_: object) -> None:
        """End the process, whatever it is doing."""
        self._timer.cancel()
        with self._errors, self._process:
            self._process.kill()

    @property
    def pid(self) -> int:
        return self._process.pid

    def await_ready(self) -> None:
        """Return when it has opened its clients; all raise as `finish`."""
        self._await(b"ready")

    def start(self) -> None:
        """Let it begin."""
        self._tell(b"start")

    def await_sent(self) -> None:
        """Return when its producers have sent everything."""
        self._await(b"sent")

    def release(self) -> None:
        """Tell it that nothing more is sent anywhere."""
        self._tell(b"finish")

    def finish(self) -> list[AnyCall]:
        """Return its record when it has ended.

        Raises:
            Stuck: it took too long.
            ProcessFailed: it ended with an error.
        """
        if self._process.wait():
            self._fail()
        return unpack(self._record.read_bytes())

    def _tell(self, line: bytes) -> None:
        assert self._process.stdin is not None
        # One that has ended says why when it is awaited.
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(line + b"\n")

    def _await(self, word: bytes) -> None:
        assert self._process.stdout is not None
        if self._process.stdout.readline() != word + b"\n":
            self._fail()

    def _give_up(self) -> None:
        self._killed.set()
        self._process.kill()

    def _fail(self) -> NoReturn:
        code = self._process.wait()
        if self._killed.is_set():
            raise Stuck(f"not ended after {self._limit:g} s: {self._name}")
        self._errors.seek(0)
        said = self._errors.read().decode(errors="replace").strip()
        how = f"was ended by {_name(-code)}" if code < 0 else f"ended with exit code {code}"
        raise ProcessFailed(f"{self._name} {how}{':' if said else ''}\n{said}".strip())


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


# The end that works


def main() -> NoReturn:
    """Carry out the order that standard input holds."""
    # Ctrl-C reaches all processes of a terminal; the one that checks ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Whatever a plugin prints must not be taken for an answer.
    with os.fdopen(os.dup(1), "w") as say:
        os.dup2(2, 1)
        words: _Words = queue.SimpleQueue()
        threading.Thread(target=_listen, args=(words,), name="listener", daemon=True).start()
        try:
            _work(msgspec.json.decode(words.get(), type=Order), words, say)
        except BaseException:  # noqa: BLE001 - printed where the checking process reads it
            traceback.print_exc()
            code = 1
        else:
            code = 0
    # What hangs, or was left behind by a plugin, must not keep the process.
    sys.stderr.flush()
    os._exit(code)


def _listen(words: _Words) -> None:
    """Pass on what is said; die when nobody is there any more to say anything."""
    # Unbuffered, since a buffer that a thread is reading cannot be closed.
    with io.FileIO(0, closefd=False) as lines:
        for line in lines:
            words.put(line.decode().strip())
    os._exit(1)


def _work(order: Order, words: _Words, say: IO[str]) -> None:
    plugins = Plugins()
    brokers = [plugins.open_broker(order.url) for _ in range(order.plan.clients)]
    for broker in brokers:
        broker.stats()
    print("ready", file=say, flush=True)
    words.get()
    with Crew(order.plan, brokers, Pulse()) as crew:
        crew.await_sent()
        print("sent", file=say, flush=True)
        words.get()
        calls = crew.finish()
    for broker in brokers:
        broker.close()
    Path(order.record).write_bytes(pack(calls))
