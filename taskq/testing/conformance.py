"""The pytest classes a backend's author subclasses.

::

    from taskq.plugins import Plugins
    from taskq.testing.conformance import BrokerConformance

    class TestMyBroker(BrokerConformance):
        target = Plugins().target("mybroker://localhost")

The plugin `taskq.testing.plugin` provides the counts and the profile.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import pytest

from taskq.contract.laws import BROKER_LAWS, RESULT_LAWS
from taskq.testing.laws.case import Case, open_case
from taskq.testing.laws.claiming import ClaimingLaws
from taskq.testing.laws.operating import OperatingLaws
from taskq.testing.laws.results import ResultsLaws
from taskq.testing.laws.sending import SendingLaws
from taskq.testing.laws.settling import SettlingLaws
from taskq.testing.machine import run_machine
from taskq.testing.record import Ledger, Record
from taskq.testing.strategies import profile
from taskq.testing.target import Target


class Conformance:
    """What both suites need of pytest."""

    target: ClassVar[Target]
    taskq_laws: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def label(cls) -> str:
        """Return what the backend is called in the table of counts."""
        return cls.target.url.scheme

    @pytest.fixture
    def ledger(self, taskq_record: Record) -> Ledger:
        return Ledger(self.label(), taskq_record)

    @pytest.fixture
    def case(self, ledger: Ledger) -> Iterator[Case]:
        with open_case(self.target, ledger) as case:
            yield case


class BrokerConformance(Conformance, SendingLaws, ClaimingLaws, SettlingLaws, OperatingLaws):
    """The laws of a broker, as examples and as random sequences."""

    taskq_laws: ClassVar[frozenset[str]] = frozenset(BROKER_LAWS)

    def test_random_sequences_of_calls_keep_the_laws(
        self, ledger: Ledger, taskq_profile: str
    ) -> None:
        run_machine(self.target, ledger, profile(taskq_profile))


class ResultsConformance(Conformance, ResultsLaws):
    """The laws of a result store, as examples."""

    taskq_laws: ClassVar[frozenset[str]] = frozenset(RESULT_LAWS)
