"""The machines themselves: what they show of a breach, and what they once got wrong."""

from __future__ import annotations

import pytest

from taskq.plugins import Plugins
from taskq.testing import machine
from taskq.testing.machine import running
from taskq.testing.mutants.claiming import LastInFirstOut
from taskq.testing.mutants.target import MutantTarget
from taskq.testing.record import LawBroken, Ledger


def broken_sequence() -> LawBroken:
    target = MutantTarget(LastInFirstOut)
    with pytest.raises(LawBroken) as failure:
        machine.run_machine(
            target, Ledger("mutant"), machine.profile("smoke", derandomize=True, database=None)
        )
    return failure.value


def calls(error: LawBroken) -> int:
    return error.__notes__[0].count("        state.")


def test_a_breach_is_shown_as_a_test_that_repeats_it() -> None:
    error = broken_sequence()

    namespace: dict[str, object] = {}
    source = error.__notes__[0].removeprefix("As a test:\n")
    exec(source.replace('"memory://"', "TARGET"), {"TARGET": None}, namespace)  # it is Python
    assert 'URL = "memory://"' in source
    assert "def test_a_sequence_that_breaks_l9():" in source
    assert calls(error) <= 3


def test_a_search_for_a_shorter_sequence_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "SHRINKING", 0)

    error = broken_sequence()

    assert calls(error) >= 1
    assert error.__notes__[-1] == "There may be a shorter one: this one took 0 s."


def test_a_namespace_is_removed_when_a_search_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[bool] = []
    monkeypatch.setattr(running, "SHRINKING", 0)
    end = MutantTarget.end
    monkeypatch.setattr(MutantTarget, "end", lambda self: (ended.append(True), end(self)))
    begun: list[bool] = []
    begin = MutantTarget.begin
    monkeypatch.setattr(
        MutantTarget, "begin", lambda self, **k: (begun.append(True), begin(self, **k))[1]
    )

    broken_sequence()

    assert len(ended) == len(begun)


def test_what_was_lost_unseen_may_be_promoted() -> None:
    """Claims with a small limit find some of what was lost, and do not say which."""
    with machine.replay(Plugins().target("memory://"), machine.BrokerMachine) as state:
        state.start(priorities=[5, 5])
        state.send(client=0, items=[{}])
        state.freeze(choices=[{}], client=0, extends=False, queues=["a"])
        state.send(client=0, items=[{}])
        state.freeze(choices=[{}, {}], client=0, extends=False, queues=["a"])
        state.advance(client=0, seconds=35.0, then="nothing")
        state.reserve(client=0, lease=10.0, limit=1, queues=["a"])
        state.send(client=0, items=[{}])
        state.work(choices=[{}, {}, {"ttl": 30.0}], client=0, queues=["a"])
        state.advance(client=0, seconds=7.0, then="maintain one")
