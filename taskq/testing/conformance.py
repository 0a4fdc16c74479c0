"""The kit as pytest classes, and as a test module for URLs of the command line.

One class is for a backend with a broker, and puts its results to the test as
well if it keeps any; the other is for a result store alone::

    from taskq.testing import BrokerConformance

    class TestMyBroker(BrokerConformance):
        target = "mybroker://localhost"

``pytest --pyargs taskq.testing.conformance --taskq-broker-url=URL`` needs no
file at all. The plugin `taskq.testing.plugin` has the options and the table.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import pytest

from taskq.testing.bench import Bench
from taskq.testing.laws.case import Case, open_case
from taskq.testing.plugin import NO_URL, bench_of, broker_urls
from taskq.testing.runner import (
    AllLaws,
    StoreLaws,
    faulty_sequences,
    many_clients,
    sequences,
)
from taskq.testing.target import Target


class Kit:
    """What both classes need of pytest."""

    target: ClassVar[Target | str]
    """The backend: its URL, for the target that the plugin has for it, or a target."""

    @pytest.fixture
    def bench(self, request: pytest.FixtureRequest) -> Bench:
        """Return the target, and where to write; skip what does not apply to it."""
        return bench_of(request.node, self.target)

    @pytest.fixture
    def case(self, bench: Bench) -> Iterator[Case]:
        """Return a namespace of the test's own."""
        with open_case(bench.target, bench.ledger) as case:
            yield case


class BrokerConformance(Kit, AllLaws):
    """The laws of a broker, and of its results if it keeps any."""

    def test_random_sequences_of_calls_keep_the_laws(self, bench: Bench) -> None:
        sequences(bench.target, bench.ledger, bench.profile)

    def test_random_sequences_keep_the_laws_over_faults(self, bench: Bench) -> None:
        faulty_sequences(bench.target, bench.ledger, bench.profile)

    def test_threads_and_processes_conclude_each_message_once(self, bench: Bench) -> None:
        many_clients(bench.target, bench.ledger, bench.profile)


class ResultsConformance(Kit, StoreLaws):
    """The laws of a result store."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run every test of this module once for each URL of the command line."""
    chosen = broker_urls(metafunc.config)
    if not chosen:
        raise pytest.Collector.CollectError(NO_URL)
    metafunc.parametrize("taskq_url", list(chosen.values()), ids=list(chosen), scope="class")


class TestBackend(BrokerConformance):
    """The backends that the command line names."""

    @pytest.fixture
    def bench(self, request: pytest.FixtureRequest, taskq_url: str) -> Bench:
        return bench_of(request.node, taskq_url)
