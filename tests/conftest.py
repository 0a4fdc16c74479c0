"""What all tests share: one profile for Hypothesis, and no broker from the surroundings."""

from __future__ import annotations

import collections
import os

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "taskq", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("taskq")

# It was for this run, and not for those that tests start: they would write over its report.
os.environ.pop("PYTEST_ADDOPTS", None)


@pytest.fixture(autouse=True)
def _no_url_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ.keys() & {"TASKQ_BROKER_URL", "TASKQ_RESULT_URL"}:
        monkeypatch.delenv(name)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say loudly, once, which backend was left out."""
    skipped = terminalreporter.getreports("skipped")
    reasons = [str(report.longrepr[2]) for report in skipped if isinstance(report.longrepr, tuple)]
    counts = collections.Counter(reason.removeprefix("Skipped: ") for reason in reasons)
    for reason, count in sorted(counts.items()):
        if reason.startswith("NO "):
            terminalreporter.section(f"{reason} ({count} tests)", sep="!", red=True, bold=True)
