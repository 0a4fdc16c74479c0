"""The kit's own test: it notices every broken broker, and no right one."""

import pytest
from hypothesis import Phase

from taskq.contract.laws import LAWS
from taskq.plugins import Plugins
from taskq.testing.conformance import BrokerConformance, ResultsConformance
from taskq.testing.laws.case import run_examples
from taskq.testing.machine import run_machine
from taskq.testing.mutants import MUTANTS, Mutant
from taskq.testing.mutants.target import MutantTarget
from taskq.testing.record import LawBroken, Ledger
from taskq.testing.strategies import profile

# Shrinking would find a nicer failure, and nobody reads it here.
SEQUENCES = profile(
    "smoke", max_examples=60, derandomize=True, database=None, phases=[Phase.generate]
)


def _suite(law):
    return ResultsConformance() if law.startswith("R") else BrokerConformance()


def test_every_law_has_a_mutant():
    assert {mutant.law for mutant in MUTANTS} == set(LAWS)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_examples_of_its_law_catch_a_mutant(mutant: Mutant):
    failures = run_examples(
        _suite(mutant.law), MutantTarget(mutant.broken), Ledger("mutant"), only=[mutant.law]
    )

    laws = {error.law for error in failures.values() if isinstance(error, LawBroken)}
    assert mutant.law in laws, f"{mutant.name} went unnoticed: {failures}"


@pytest.mark.parametrize(
    "mutant", [m for m in MUTANTS if not m.examples_only], ids=lambda mutant: mutant.name
)
def test_random_sequences_catch_a_mutant(mutant: Mutant):
    with pytest.raises(LawBroken):
        run_machine(MutantTarget(mutant.broken), Ledger("mutant"), SEQUENCES)


def test_the_right_broker_passes_the_same_checks():
    for target in (MutantTarget(object), Plugins().target("memory://")):
        target.allowed_denials = frozenset({"durable"})
        ledger = Ledger("memory")

        assert run_examples(BrokerConformance(), target, ledger) == {}
        assert run_examples(ResultsConformance(), target, ledger) == {}
        run_machine(target, ledger, SEQUENCES)
