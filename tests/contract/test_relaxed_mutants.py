"""The kit notices whoever is wrong about connections, and the copies that faults leave."""

import pytest
from hypothesis import Phase

from taskq.testing.laws.case import run_examples
from taskq.testing.machine import profile, run_faulty_machine, run_machine
from taskq.testing.mutants import Mutant
from taskq.testing.record import LawBroken, Ledger
from taskq.testing.runner import BrokerLaws
from tests.contract.relaxed_mutants import MUTANTS
from tests.contract.relaxed_target import RelaxedTarget

# Shrinking would find a nicer failure, and nobody reads it here.
SEQUENCES = profile(
    "smoke", max_examples=300, derandomize=True, database=None, phases=[Phase.generate]
)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_examples_catch_a_mutant(mutant: Mutant, caught):
    failures = run_examples(
        BrokerLaws(), RelaxedTarget(mutant.broken), Ledger("mutant"), only=[mutant.law]
    )

    laws = {error.law for error in failures.values() if isinstance(error, LawBroken)}
    assert mutant.law in laws, f"{mutant.name} went unnoticed: {failures}"
    caught(mutant, f"{mutant.law} by {min(failures, key=len)}")


@pytest.mark.parametrize(
    "mutant", [m for m in MUTANTS if not m.examples_only], ids=lambda mutant: mutant.name
)
def test_random_sequences_catch_a_mutant(mutant: Mutant, caught):
    run = run_faulty_machine if mutant.faulty else run_machine
    with pytest.raises(LawBroken) as failure:
        run(RelaxedTarget(mutant.broken), Ledger("mutant"), SEQUENCES)
    calls = failure.value.__notes__[0].count("  state.")
    caught(mutant, f"{failure.value.law} in {calls} calls")
