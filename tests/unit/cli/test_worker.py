from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from taskq import TaskQ
from taskq.cli.worker import banner
from taskq.worker.options import worker_options

from .conftest import SHOP, Module, Run

PASSWORD = "hunter2-hunter2"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["-P", "zebra"], "there is no pool 'zebra'"),
        (["-P", "solo", "-c", "4"], "solo runs one task at a time"),
        (["-c", "0"], "worker option"),
        (["-c", "many"], "not a valid integer"),
        (["--prefetch", "5", "--prefetch-max", "2"], "prefetch_max"),
        (["--visibility-timeout", "0.1"], "worker option"),
        (["--visibility-timeout", "nan"], "worker option"),
        (["--queue-order", "random"], "queue_order"),
        (["-Q", "a b"], "not a legal name"),
        (["-Q", ""], "not a legal name"),
        (["-n", "a b"], "not a legal name"),
        (["-l", "loud"], "loud"),
        (["-I", "no_such_module"], "no module 'no_such_module'"),
        (["--prefetsch", "2"], "--prefetsch"),
    ],
)
def test_what_a_worker_cannot_do_is_refused(
    options: list[str], words: str, module: Module, run: Run
) -> None:
    result = run("-A", module(SHOP), "worker", *options)

    assert result.exit_code == 2
    assert words in result.stderr


def test_a_worker_says_what_it_is_without_secrets() -> None:
    app = TaskQ("shop", broker=f"redis://me:{PASSWORD}@host/0", results="memory://")
    options = worker_options({"queues": ("a", "b"), "name": "w1"}).resolved("default")

    text = banner(app, options, tasks=True)

    assert PASSWORD not in text
    assert "redis://me:***@host/0" in text
    assert "memory://" in text
    assert "a, b" in text
    assert "threads, 10 at once" in text
    assert "30 s" in text
    assert "--include" in text


def test_a_worker_whose_broker_is_out_of_reach_ends_in_4(module: Module, run: Run) -> None:
    url = f"redis://:{PASSWORD}@127.0.0.1:1/0"

    result = run("worker", "-A", module(SHOP), "-b", url, "--start-timeout", "0.3")

    assert result.exit_code == 4
    assert PASSWORD not in result.output


@pytest.fixture
def worker(module: Module, folder: Path) -> Iterator[tuple[list[str], subprocess.Popen[str]]]:
    """A real worker on an SQLite file, and the command line of its project."""
    url = f"sqlite:///{folder}/tasks.db"
    name = module(SHOP.replace('"memory://"', repr(url)))
    taskq = [sys.executable, "-m", "taskq", "-A", name]
    process = subprocess.Popen(
        [*taskq, "worker", "-c", "2", "--loglevel=debug"], stderr=subprocess.PIPE, text=True
    )
    yield taskq, process
    process.kill()
    process.communicate()


def test_a_worker_runs_what_is_called_and_ends_on_sigterm(
    worker: tuple[list[str], subprocess.Popen[str]],
) -> None:
    taskq, process = worker

    call = [*taskq, "call", "add", "-a", "[1, 2]", "--wait", "--timeout", "15", "--json"]
    done = subprocess.run(call, capture_output=True, text=True, timeout=30, check=True)
    assert json.loads(done.stdout)["value"] == 3

    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=15)
    assert process.returncode == 0
    assert "           - add" in log
