"""Locks that follow processes: those that stop, die, fork, or open one file twice."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import pytest
from taskq_files.broker import FilesBroker
from taskq_files.journal import Journal
from taskq_files.options import Options
from taskq_files.store import Store

from taskq.clock import SystemClock
from taskq.contract.broker import Broker
from taskq.contract.message import Message, Send
from taskq.errors import ConnectionFailed, SendError
from taskq.url import Url

HOLD_THE_LOCK = """
import sys
from taskq_files.journal import Journal
from taskq_files.options import Options
from taskq.url import Url
with Journal(Options.of(Url.parse(sys.argv[1]))).locked(5.0, lambda: None):
    print("locked", flush=True)
    sys.stdin.read()
"""


def item(id: str) -> Send:
    return Send(Message(id, "q", b""))


def test_a_process_that_stops_with_the_lock_is_not_waited_for_for_ever(
    opened: Callable[..., Broker], url: str
) -> None:
    broker = opened(timeout=0.2)
    broker.send([item("a")])

    with holder(url) as process:
        process.send_signal(signal.SIGSTOP)

        with pytest.raises(ConnectionFailed, match="stopped process"):
            broker.stats()
        with pytest.raises(SendError) as failure:
            broker.send([item("b")], timeout=0.0)

    assert failure.value.unsent == ("b",)
    assert list(broker.locate(["a", "b"])) == ["a"]


def test_an_interrupt_ends_the_wait_for_the_lock(url: str) -> None:
    waits = threading.Event()

    class Watched(Journal):
        @contextmanager
        def locked(self, timeout: float, check: Callable[[], None]) -> Iterator[None]:
            def watched() -> None:
                check()
                waits.set()

            with super().locked(timeout, watched):
                yield

    options = Options.of(Url.parse(f"{url}&timeout=60"))
    broker = FilesBroker(Store(Watched(options), SystemClock()))

    with holder(url), ThreadPoolExecutor(1) as threads:
        answer = threads.submit(broker.reserve, ["q"], limit=1, lease=60)
        assert waits.wait(30)
        broker.interrupt()

        assert answer.result(30) == []


def test_the_lock_of_a_killed_process_is_free_at_once(
    opened: Callable[..., Broker], url: str
) -> None:
    with holder(url) as process:
        process.kill()
        process.wait()

        opened().send([item("a")], timeout=0.0)


def test_a_thread_that_finds_the_lock_taken_does_not_break_it(
    opened: Callable[..., Broker], url: str
) -> None:
    store = Store(Journal(Options.of(Url.parse(url))), SystemClock())
    ask = (
        "import sys; from taskq.plugins import Plugins; Plugins().open_broker(sys.argv[1]).stats()"
    )

    with store.step(lambda: None):
        with pytest.raises(ConnectionFailed):
            opened(timeout=0.2).stats()
        other = subprocess.run(
            [sys.executable, "-c", ask, url + "&timeout=0.2"],
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
        )

    assert "was locked by others" in other.stderr


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_forked_in_the_midst_of_a_step_begins_anew(url: str) -> None:
    store = Store(Journal(Options.of(Url.parse(url))), SystemClock())
    broker, began, go_on = FilesBroker(store), threading.Event(), threading.Event()
    broker.send([item("a")])

    def fail() -> None:
        with suppress(LookupError), store.step(lambda: None) as namespace:
            namespace.accept(item("never"))
            began.set()
            go_on.wait(10)
            raise LookupError

    thread = threading.Thread(target=fail)
    thread.start()
    began.wait(10)
    child = os.fork()
    if not child:
        try:
            broker.send([item("b")])
            os._exit(len(broker.locate(["a", "b", "never"])))
        finally:
            os._exit(99)
    go_on.set()
    thread.join()

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2
    assert list(broker.locate(["a", "b", "never"])) == ["a", "b"]


@contextmanager
def holder(url: str) -> Iterator[subprocess.Popen[str]]:
    """Start a process that holds the lock until its input ends."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD_THE_LOCK, url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(),
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        try:
            yield process
        finally:
            process.kill()


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
