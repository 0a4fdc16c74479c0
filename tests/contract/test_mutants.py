"""The kit's own test: it notices every broken broker, and no right one."""

import pytest
from hypothesis import Phase

from taskq.contract.laws import LAWS
from taskq.plugins import Plugins
from taskq.testing.laws.case import run_examples
from taskq.testing.machine import profile, run_faulty_machine, run_machine
from taskq.testing.mutants import MUTANTS, Mutant
from taskq.testing.mutants.target import MutantTarget
from taskq.testing.record import LawBroken, Ledger
from taskq.testing.runner import BrokerLaws, StoreLaws
from tests.ahead import begin, processes

# Shrinking would find a nicer failure, and nobody reads it here.
SEQUENCES = profile(
    "smoke", max_examples=300, derandomize=True, database=None, phases=[Phase.generate]
)
AT_ONCE = 2
"""Some mutants are waited for, and the right broker is put to the test meanwhile."""


def by_examples(mutant):
    """Return the laws that the examples of a mutant's law find broken, by the example."""
    suite = StoreLaws() if mutant.law.startswith("R") else BrokerLaws()
    target = MutantTarget(mutant.broken)
    failures = run_examples(suite, target, Ledger("mutant"), only=[mutant.law])
    return {
        name: error.law if isinstance(error, LawBroken) else repr(error)
        for name, error in failures.items()
    }


def by_sequences(mutant):
    """Return the law that random sequences find broken, and after how many calls."""
    run = run_faulty_machine if mutant.faulty else run_machine
    try:
        run(MutantTarget(mutant.broken), Ledger("mutant"), SEQUENCES)
    except LawBroken as error:
        return error.law, error.__notes__[0].count("  state.")
    return None


@pytest.fixture(scope="module")
def pool():
    with processes(AT_ONCE) as pool:
        yield pool


@pytest.fixture(scope="module")
def examples(request, pool):
    return begin(pool, request, "mutant", by_examples)


@pytest.fixture(scope="module")
def sequences(request, pool):
    return begin(pool, request, "mutant", by_sequences)


def test_every_law_has_a_mutant():
    assert {mutant.law for mutant in MUTANTS} == set(LAWS)


@pytest.mark.parametrize("target", [MutantTarget(object), Plugins().target("memory://")])
def test_the_right_broker_passes_the_same_checks(target, examples, sequences):
    ledger = Ledger("memory")

    assert run_examples(BrokerLaws(), target, ledger) == {}
    assert run_examples(StoreLaws(), target, ledger) == {}
    run_machine(target, ledger, SEQUENCES)
    run_faulty_machine(target, ledger, SEQUENCES)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_examples_of_its_law_catch_a_mutant(mutant: Mutant, examples, caught):
    failures = examples[mutant].result()

    assert mutant.law in failures.values(), f"{mutant.name} went unnoticed: {failures}"
    caught(mutant, f"{mutant.law} by {min(failures, key=len)}")


@pytest.mark.parametrize(
    "mutant", [m for m in MUTANTS if not m.examples_only], ids=lambda mutant: mutant.name
)
def test_random_sequences_catch_a_mutant(mutant: Mutant, sequences, caught):
    found = sequences[mutant].result()

    assert found, f"{mutant.name} went unnoticed"
    law, calls = found
    caught(mutant, f"{law} in {calls} calls")
