"""What is required, and what is told at the end.

A backend that TASKQ_TEST_REQUIRE names has to be there; the kit itself skips the
others. The last table says by what each mutant was caught.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final

import pytest

from taskq.testing.mutants import Mutant

pytest.register_assert_rewrite("tests.contract.restarts")

_caught: Final[pytest.StashKey[dict[str, list[str]]]] = pytest.StashKey()


def pytest_configure(config: pytest.Config) -> None:
    if os.environ.get("TASKQ_TEST_REQUIRE"):
        config.option.taskq_require = True


@pytest.fixture
def caught(pytestconfig: pytest.Config) -> Callable[[Mutant, str], None]:
    """Note for the last table by what a mutant was caught."""

    def note(mutant: Mutant, by: str) -> None:
        pytestconfig.stash.setdefault(_caught, {}).setdefault(mutant.name, []).append(by)

    return note


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    found = terminalreporter.config.stash.get(_caught, {})
    if found:
        terminalreporter.section("mutants, and what caught them (calls of the first sequence)")
    for name, by in sorted(found.items()):
        terminalreporter.line(f"{name:<34} {'; '.join(by)}")
