"""A broker may leave results to others: the kit then asks for none."""

from taskq.memory.server import MemoryServer
from taskq.testing import BrokerConformance
from taskq.testing.laws.case import run_examples
from taskq.testing.record import LawBroken, Ledger
from taskq.testing.runner import BrokerLaws, look
from tests.contract.resultless import resultless


class TestABrokerWithoutResults(BrokerConformance):
    target = resultless()


def test_the_kit_knows_that_there_are_no_results():
    facts = look(resultless(), "resultless")

    assert facts.broker
    assert not facts.results


def test_no_example_of_a_broker_asks_for_results():
    ledger = Ledger("resultless")

    assert run_examples(BrokerLaws(), resultless(), ledger) == {}
    assert not [law for law in ledger.counts if law.startswith("R")]


def test_a_broker_that_keeps_results_for_nobody_is_noticed():
    failures = run_examples(
        BrokerLaws(), resultless(MemoryServer), Ledger("x"), only=["L15", "L27"]
    )

    laws = {error.law for error in failures.values() if isinstance(error, LawBroken)}
    assert laws >= {"L15", "L27"}
