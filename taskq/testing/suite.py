"""The whole kit against URLs of the command line, without a test file.

``pytest -p taskq.testing.plugin --pyargs taskq.testing.suite --taskq-broker-url=URL``
"""

from __future__ import annotations

import pytest

from taskq.plugins import Plugins
from taskq.testing.conformance import BrokerConformance, ResultsConformance


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run every test once per URL."""
    metafunc.parametrize("taskq_url", metafunc.config.getoption("--taskq-broker-url"))


class _FromUrl:
    """Takes the target from the command line."""

    @pytest.fixture(autouse=True)
    def _target(self, request: pytest.FixtureRequest, taskq_url: str) -> None:
        request.cls.target = Plugins().target(taskq_url)


class TestBroker(_FromUrl, BrokerConformance):
    """The laws of a broker."""


class TestResults(_FromUrl, ResultsConformance):
    """The laws of a result store."""
