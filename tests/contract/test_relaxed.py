"""The kit holds a backend to what it declares, and to no more."""

import pytest
from msgspec.structs import replace

from taskq.memory.broker import MemoryBroker
from taskq.testing import BrokerConformance
from taskq.testing.laws.case import run_examples
from taskq.testing.machine import profile, run_faulty_machine, run_machine
from taskq.testing.mutants.target import MutantTarget
from taskq.testing.record import LawBroken, Ledger
from taskq.testing.runner import BrokerLaws
from tests.contract.relaxed import RelaxedBroker
from tests.contract.relaxed_target import RelaxedTarget
from tests.contract.relaxed_variants import VARIANTS

DENIALS = RelaxedBroker.capabilities.__struct_fields__
LAWS = {"unique_ids": "L15", "locate": "L22", "server_time": "L7", "timed_leases": "L5"}


class TestABrokerThatCanDoLess(BrokerConformance):
    target = RelaxedTarget()


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda kind: kind.__name__)
def test_a_right_broker_may_do_otherwise_where_nobody_can_know(variant):
    target, ledger = RelaxedTarget(variant), Ledger("variant")

    run_machine(target, ledger, profile("smoke"))
    run_faulty_machine(target, ledger, profile("smoke"))


@pytest.mark.parametrize("name", DENIALS)
def test_a_capability_that_is_claimed_but_absent_is_noticed(name):
    class Boaster(RelaxedBroker):
        capabilities = replace(RelaxedBroker.capabilities, **{name: True})

    assert LAWS[name] in _broken(RelaxedTarget(Boaster))


@pytest.mark.parametrize("name", DENIALS)
def test_a_capability_that_is_denied_but_present_is_noticed(name):
    target = MutantTarget(type("Modest", (MemoryBroker,), {"capabilities": _without(name)}))
    target.allowed_denials = frozenset({name})

    assert LAWS[name] in _broken(target)


@pytest.mark.parametrize("name", DENIALS)
def test_a_denial_that_is_not_allowed_is_noticed(name):
    target = RelaxedTarget()
    target.allowed_denials -= {name}

    failures = run_examples(BrokerLaws(), target, Ledger("x"), only=["L15"])

    assert name in str(failures["test_only_what_may_be_denied_is_denied"])


def _without(name):
    return replace(MemoryBroker.capabilities, **{name: False})


def _broken(target):
    failures = run_examples(BrokerLaws(), target, Ledger("x"), only=LAWS.values())
    return {error.law for error in failures.values() if isinstance(error, LawBroken)}
