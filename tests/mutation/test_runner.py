"""A broken backend is caught, one that hangs or dies is ended, and none leaves a trace."""

from __future__ import annotations

import dataclasses
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mutation import runner as module
from tests.mutation.mutant import Mutant
from tests.mutation.runner import Runner
from tests.mutation.subjects import ROOT, SUBJECTS
from tests.mutation.verdict import Verdict

FILES = SUBJECTS["files"]


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[Runner]:
    found = Runner(FILES, tmp_path, jobs=1)
    yield found
    found.close()


def _instead_of_accepting(replacement: str) -> Mutant:
    """Return a mutant of the example whose `send` does something else with each message."""
    mutants = [one for one in FILES.mutants() if one.change.original == "namespace.accept(item)"]
    change = mutants[0].change._replace(replacement=replacement)
    return dataclasses.replace(mutants[0], change=change)


def _judge(runner: Runner, mutant: Mutant) -> Verdict:
    (verdict,) = runner.run([mutant])
    return verdict


def test_a_mutant_is_caught_by_an_example_of_a_law(runner):
    verdict = _judge(runner, _instead_of_accepting("pass"))

    assert verdict.outcome == "caught"
    assert verdict.step.startswith("examples: ")
    assert verdict.law
    assert "-                    namespace.accept(item)\n+                    pass" in verdict.diff


def test_a_mutant_that_cannot_be_imported_is_caught(runner):
    verdict = _judge(runner, _instead_of_accepting("not Python at all"))

    assert (verdict.outcome, verdict.step) == ("caught", "loading")
    assert verdict.error.startswith("SyntaxError")


def test_a_mutant_that_ends_its_process_is_caught(runner):
    kill = f"import os; os.kill(os.getpid(), {int(signal.SIGKILL)})"

    verdict = _judge(runner, _instead_of_accepting(kill))

    assert (verdict.outcome, verdict.error) == ("caught", "the process died")


def test_a_mutant_that_does_not_end_is_ended(runner, monkeypatch):
    monkeypatch.setattr(module, "_LEAST", 0.2)
    monkeypatch.setattr(module, "_FACTOR", 0.0)

    verdict = _judge(runner, _instead_of_accepting("while True: pass"))

    assert verdict.outcome == "hung"
    assert verdict.caught


def test_the_next_mutant_finds_nothing_of_the_last_one(runner, tmp_path):
    file = f"{FILES.package}/broker.py"
    original = (ROOT / file).read_text("utf-8")

    first, second = runner.run([_instead_of_accepting("pass"), _instead_of_accepting("pass")])

    assert (first.step, first.law) == (second.step, second.law)
    (copy,) = tmp_path.rglob("taskq_files/broker.py")
    assert copy.read_text("utf-8") == original == (ROOT / file).read_text("utf-8")
