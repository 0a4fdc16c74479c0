"""Many clients at once, in several processes; and what is said of those that fail, hang or die."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import threading

import psutil
import pytest

from taskq.errors import ImproperlyConfigured
from taskq.memory.broker import MemoryBroker
from taskq.plugins import Plugins
from taskq.testing.concurrency import check_concurrency, crew, run
from taskq.testing.concurrency.crew import Plan, Stuck, carry_out
from taskq.testing.concurrency.process import Process, ProcessFailed
from taskq.testing.failure import explain
from taskq.testing.mutants.target import MutantTarget
from taskq.testing.record import LawBroken, Ledger
from tests.waiting import until

FEW = {"messages": 200, "threads": 2}


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Install the pickled backend in a folder of packages, as pip would."""
    facts = tmp_path / "packages" / "pickled-0.dist-info"
    facts.mkdir(parents=True)
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: pickled\nVersion: 0\n")
    (facts / "entry_points.txt").write_text("[taskq]\npickled = tests.contract.pickled\n")
    monkeypatch.syspath_prepend(str(facts.parent))
    importlib.invalidate_caches()
    store = tmp_path / "store"
    store.mkdir()
    return store


@pytest.fixture
def impatient(monkeypatch):
    """Wait but a moment for what hangs."""
    monkeypatch.setattr(crew, "GRACE", 0.1)
    monkeypatch.setattr(run, "CLOSING", 0.1)


# Several processes


def test_processes_find_no_fault_with_a_lock_that_all_respect(installed):
    target = Plugins().target(f"pickled://{installed}")

    summary = check_concurrency(target, Ledger("pickled"), **FEW, processes=1)

    assert summary.processes == 2
    assert summary.messages >= 200
    assert not list(installed.iterdir())


def test_threads_alone_find_no_fault_with_a_lock_for_threads(installed):
    target = Plugins().target(f"pickled://{installed}?locked=false")

    summary = check_concurrency(target, Ledger("pickled"), **FEW, processes=0)

    assert summary.processes == 1


def test_processes_notice_a_lock_for_threads(installed):
    target = Plugins().target(f"pickled://{installed}?locked=false")

    with pytest.raises(LawBroken):
        check_concurrency(target, Ledger("pickled"), **FEW, processes=1)


def test_a_target_that_no_other_process_reaches_is_used_from_here_alone():
    target = MutantTarget(object)

    summary = check_concurrency(target, Ledger("memory"), **FEW, processes=3)

    assert summary.processes == 1


@pytest.mark.parametrize("url", ["sqlite://", "redis://localhost"])
def test_the_servers_and_files_that_processes_share_are_used_from_several(url):
    assert Plugins().target(url).processes


def test_a_plugin_that_is_not_installed_is_refused_with_the_cure():
    plugins = Plugins()
    plugins.register(importlib.import_module("tests.contract.pickled"))
    target = plugins.target("pickled:///nowhere")

    with pytest.raises(ImproperlyConfigured, match=r"entry point .* or set `processes = False`"):
        check_concurrency(target, Ledger("pickled"), **FEW, processes=1)


# Processes in trouble


@pytest.fixture
def started(installed, tmp_path):
    """Return a function that starts one further process."""

    def start(url=f"pickled://{installed}", limit=60.0):
        return Process(Plan(1, 10, 1, 60.0), Plugins().target(url).url, tmp_path, limit=limit)

    return start


def test_the_error_of_a_process_is_shown(started):
    with (
        started("pickled:///no/such/folder") as process,
        pytest.raises(ProcessFailed, match=r"exit code 1:(?s:.*)FileNotFoundError"),
    ):
        process.await_ready()


def test_a_process_that_is_killed_is_told_by_the_signal(started):
    with started() as process:
        process.await_ready()
        os.kill(process.pid, signal.SIGKILL)

        with pytest.raises(ProcessFailed, match=r"^process-1 was ended by SIGKILL$"):
            process.await_sent()


def test_a_process_that_dies_when_all_is_sent_is_told_too(started):
    with started() as process:
        process.await_ready()
        process.start()
        process.await_sent()
        os.kill(process.pid, signal.SIGKILL)

        with pytest.raises(ProcessFailed, match="SIGKILL"):
            process.finish()


def test_a_process_that_does_not_answer_is_stuck(started):
    with (
        started(limit=0.01) as process,
        pytest.raises(Stuck, match=r"not ended after 0\.01 s: process-1"),
    ):
        process.await_ready()


def test_a_process_is_gone_when_nobody_waits_for_it_any_more(started):
    with started() as process:
        process.await_ready()

    assert not psutil.pid_exists(process.pid)


SCRIPT = """
import sys
from taskq.plugins import Plugins
from taskq.testing.concurrency import check_concurrency
from taskq.testing.record import Ledger

target = Plugins().target(sys.argv[1])
print(check_concurrency(target, Ledger("it"), messages=int(sys.argv[2]), threads=2, processes=1))
"""
"""Without a guard of __main__: a script of a user is like that."""


@pytest.fixture
def script(installed, tmp_path):
    """Return a function that starts the script, with temporary files in a folder of its own."""
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    (tmp_path / "temporary").mkdir()
    running = []

    def start(messages):
        paths = os.pathsep.join(path for path in sys.path if path)
        running.append(
            subprocess.Popen(
                [sys.executable, str(path), f"pickled://{installed}", str(messages)],
                env={**os.environ, "PYTHONPATH": paths, "TMPDIR": str(tmp_path / "temporary")},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        return running[0]

    yield start
    for process in running:
        process.kill()
        process.communicate()


def test_a_plain_script_can_use_processes(script):
    said, errors = script(40).communicate(timeout=60)

    assert "by 2 processes in" in said, errors


def at_work(process, store):
    """Return the script's further process when it has opened the store, as it does first."""
    until(lambda: list(store.glob("*.lock")), "somebody opens the store")
    [child] = until(lambda: psutil.Process(process.pid).children(), "there is another process")
    return child


def over(process):
    """Say whether a process has ended, though nobody may have asked how."""
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def test_ctrl_c_ends_all_processes_and_removes_what_they_made(script, installed, tmp_path):
    process = script(100_000)
    child = at_work(process, installed)

    process.send_signal(signal.SIGINT)
    # A terminal would send it to both.
    child.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)

    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert over(child)
    assert not list(installed.iterdir())
    assert not list((tmp_path / "temporary").iterdir())


def test_no_process_outlives_the_one_that_checks(script, installed):
    process = script(100_000)
    child = at_work(process, installed)

    process.kill()

    until(lambda: over(child), "the other process ends too")


# Threads in trouble


class NeverReturns(MemoryBroker):
    """It waits for a lock that it never gives back."""

    def settle(self, settlements, /):
        self._server.changed.acquire()
        threading.Event().wait()


class ForgetsALockInAnError(MemoryBroker):
    def settle(self, settlements, /):
        self._server.changed.acquire()
        raise LookupError("what a driver might say")


def test_a_call_that_never_returns_is_told_with_its_line(impatient):
    target = MutantTarget(NeverReturns)

    with pytest.raises(Stuck, match=r"not ended after 0\.5 s: .*consumer-0") as failure:
        check_concurrency(target, Ledger("mutant"), **FEW, processes=0, limit=0.5)

    text = explain(failure.value).text
    assert "process-0.consumer-0 is here:" in text
    assert "threading.Event().wait()" in text
    assert "not ended after 0.1 s: closing" in text


def test_an_error_is_shown_at_once_though_others_hang(impatient):
    target = MutantTarget(ForgetsALockInAnError)
    interval = sys.getswitchinterval()

    with pytest.raises(LookupError) as failure:
        check_concurrency(target, Ledger("mutant"), **FEW, processes=0, limit=1e6)

    assert "in process-0.consumer-" in failure.value.__notes__[0]
    assert sys.getswitchinterval() == interval


def test_what_is_carried_out_in_a_thread_answers_raises_or_is_stuck():
    def fail():
        raise LookupError("no")

    assert carry_out(lambda: 7, "seven", limit=60) == 7
    with pytest.raises(LookupError, match="no"):
        carry_out(fail, "nothing", limit=60)
    with pytest.raises(Stuck, match=r"not ended after .* s: waiting"):
        carry_out(threading.Event().wait, "waiting", limit=0.01)
