"""The kit notices a target that is only a stub, and a client that no child can use."""

import os
import threading

import pytest

from taskq.memory.broker import MemoryBroker
from taskq.plugins import Plugins
from taskq.testing.laws import forking
from taskq.testing.laws.case import run_examples
from taskq.testing.laws.targeting import TargetLaws
from taskq.testing.mutants.target import MutantTarget
from taskq.testing.record import LawBroken, Ledger
from taskq.testing.runner import PARTS
from tests.contract import pickled

FORKED = "test_a_client_can_be_used_after_a_fork"
NOT_SEEN = "footprint names nothing although a message waits: L27 would be blind"
NOT_WIPED = "left in the namespace after the target has wiped it"
NOT_NEW = "footprint of a new namespace"


class SeesNothing(MutantTarget):
    def footprint(self):
        return []


class WipesNothing(MutantTarget):
    def wipe(self):
        """Leave it all behind."""


class SeesTheFixed(MutantTarget):
    def footprint(self):
        return ["version", *super().footprint()]


@pytest.mark.parametrize(
    ("kind", "what"), [(SeesNothing, NOT_SEEN), (WipesNothing, NOT_WIPED), (SeesTheFixed, NOT_NEW)]
)
def test_a_target_that_is_a_stub_is_noticed(kind, what):
    [failure] = run_examples(TargetLaws(), kind(object), Ledger("x")).values()

    assert isinstance(failure, LawBroken)
    assert failure.law == "L27"
    assert what in failure.what


def test_the_target_is_put_to_the_test_before_all_else():
    assert hasattr(TargetLaws, PARTS[0].name)


class RefusesChildren(MemoryBroker):
    def __init__(self, server):
        super().__init__(server)
        self._pid = os.getpid()

    def send(self, items, /, *, timeout=10.0):
        if os.getpid() != self._pid:
            raise RuntimeError("another process")
        super().send(items, timeout=timeout)


class WaitsForAThreadThatIsNotThere(RefusesChildren):
    def send(self, items, /, *, timeout=10.0):
        if os.getpid() != self._pid:
            threading.Event().wait()
        super().send(items, timeout=timeout)


class EndsItsProcess(RefusesChildren):
    def send(self, items, /, *, timeout=10.0):
        if os.getpid() != self._pid:
            os._exit(3)
        super().send(items, timeout=timeout)


def _after_a_fork(target):
    target.processes = True
    return run_examples(forking.ForkingLaws(), target, Ledger("x"))


@pytest.mark.parametrize(
    ("broken", "what"),
    [
        # What a child sends stays in its copy of the memory.
        (MemoryBroker, "of 50 messages that the child sent came 0: []"),
        (RefusesChildren, "send in a forked child raised RuntimeError('another process')"),
        (WaitsForAThreadThatIsNotThere, "send in a forked child has not returned within 0.3 s"),
        (EndsItsProcess, "send in a forked child ended its process with 3"),
    ],
)
def test_a_client_that_no_child_can_use_is_noticed(broken, what, monkeypatch):
    if broken is WaitsForAThreadThatIsNotThere:
        monkeypatch.setattr(forking, "PATIENCE", 0.3)

    failures = _after_a_fork(MutantTarget(broken))

    assert isinstance(failures[FORKED], LawBroken)
    assert failures[FORKED].law == "L1"
    assert what in failures[FORKED].what


def test_a_client_that_a_child_can_use_is_not_blamed(tmp_path):
    plugins = Plugins()
    plugins.register(pickled)
    stop = threading.Event()
    other = threading.Thread(target=stop.wait, name="other")
    other.start()

    try:
        # Of a fork with threads Python warns; here a warning would be an error.
        failures = _after_a_fork(plugins.target(f"pickled://{tmp_path}"))
    finally:
        stop.set()
        other.join()

    assert failures == {}


def test_a_fork_is_left_out_where_no_other_process_reaches_the_store():
    ledger = Ledger("x")

    assert run_examples(forking.ForkingLaws(), MutantTarget(object), ledger) == {}
    assert not ledger.counts
