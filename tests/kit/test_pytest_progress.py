"""In which order pytest runs the kit, and what it says when it does not get on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

# Loaded before the inner runs, which forget the modules that they have loaded.
import taskq.testing.conformance
import taskq.testing.machine  # noqa: F401
from taskq.testing import runner

pytest_plugins = ["pytester"]

THREE_LINES = """
from taskq.testing import BrokerConformance

class TestMine(BrokerConformance):
    target = "memory://"
"""
STUCK = """
import threading
import pytest
from taskq.testing import BrokerConformance, watchdog
from taskq.testing.mutants.target import MutantTarget
from taskq.memory.broker import MemoryBroker

watchdog.PATIENCE = 0.05

class Stuck(MemoryBroker):
    def reserve(self, queues, /, *, limit, lease, wait=0.0):
        threading.Event().wait(60)

class TestStuck(BrokerConformance):
    target = MutantTarget(Stuck)
"""
SUITE = ("--pyargs", "taskq.testing.conformance")
ONE = ("-k", "test_the_most_urgent_come_first")


@pytest.fixture(autouse=True)
def _locally(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)


def run(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return pytester.runpytest_inprocess("-p", "no:cacheprovider", *arguments)


def test_the_tests_run_in_the_order_of_the_guide(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        THREE_LINES
        + "    def test_mine(self, case):\n"
        + "        assert case.broker.stats() == []\n"
    )

    result = run(pytester, "--collect-only", "-q")

    found = [line.rpartition("::")[2] for line in result.outlines if "::" in line]
    assert found == [*(part.name for part in runner.PARTS), "test_mine"]


def test_the_order_is_the_same_for_the_urls_of_the_command_line(
    pytester: pytest.Pytester,
) -> None:
    urls = ["--taskq-broker-url=memory://", "--taskq-broker-url=sqlite://"]

    result = run(pytester, *SUITE, *urls, "--collect-only", "-q")

    found = [line.rpartition("::")[2] for line in result.outlines if "::" in line]
    assert found == [f"{part.name}[{url}]" for url in ("memory", "sqlite") for part in runner.PARTS]


@pytest.mark.parametrize("options", [[], ["-n1"]], ids=["alone", "xdist"])
def test_a_test_that_stands_still_is_told_while_it_does(
    pytester: pytest.Pytester, options: list[str]
) -> None:
    if options:
        pytest.importorskip("xdist")
    path = pytester.makepyfile(STUCK)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(path), *ONE, *options]

    with subprocess.Popen(
        command,
        cwd=pytester.path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stderr is not None
        told = ""
        for line in process.stderr:
            told += line
            if "in reserve" in line:
                break
        # The process of xdist that stands still, too.
        os.killpg(process.pid, signal.SIGKILL)

    assert "taskq: test_the_most_urgent_come_first (L8) stands still: 0.05 s without" in told
