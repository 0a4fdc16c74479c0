"""What a run of pytest within a test runs, and how."""

from __future__ import annotations

import pytest

# Loaded before the inner runs, which forget the modules that they have loaded.
import taskq.testing.conformance
import taskq.testing.machine  # noqa: F401

THREE_LINES = """
from taskq.testing import BrokerConformance

class TestMine(BrokerConformance):
    target = "memory://"
"""
LIFO = """
from taskq.testing import BrokerConformance
from taskq.testing.mutants.claiming import LastInFirstOut
from taskq.testing.mutants.target import MutantTarget

class TestLifo(BrokerConformance):
    target = MutantTarget(LastInFirstOut)
"""
ONE = ("-k", "test_the_most_urgent_come_first")


def run_apart(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return pytester.runpytest_subprocess("-p", "no:cacheprovider", *arguments)


def run(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return pytester.runpytest_inprocess("-p", "no:cacheprovider", *arguments)
