"""The worker's real services, on virtual time, in as many troubled worlds as there are seeds."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.ahead import Answers, begin, processes

from .rules import RULES, Rule, RuleBroken
from .seeds import MOST_KEPT, Keeper, kept_seeds, quiet, run_seed, seeds_to_run, trouble_of
from .world import World

ROOT: Final = Path(__file__).parents[2]
SAMPLE: Final = range(20)
AT_ONCE: Final = 2


@pytest.fixture(scope="module")
def found(request: pytest.FixtureRequest) -> Iterator[Answers[int, str | None]]:
    """Return by what each seed failed that is to run, or None."""
    with processes(AT_ONCE, quiet) as pool:
        yield begin(pool, request, "seed", trouble_of)


def test_no_rule_is_broken(seed: int, keeper: Keeper, found: Answers[int, str | None]) -> None:
    trouble = found[seed].result()

    if trouble is not None:
        # It does the same again here, where it tells its story and is kept.
        run_seed(seed, keeper)
    assert trouble is None


# -- A seed decides everything


@pytest.fixture(scope="module")
def worlds() -> list[World]:
    """Return what became of some seeds."""
    return [run_seed(seed) for seed in SAMPLE]


def test_a_seed_does_the_same_again(worlds: list[World]) -> None:
    again = [run_seed(seed) for seed in SAMPLE]

    assert [world.story() for world in again] == [world.story() for world in worlds]


@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_a_seed_does_the_same_in_another_process(worlds: list[World], hash_seed: str) -> None:
    there = subprocess.run(
        [sys.executable, "-m", "tests.simulation", *map(str, SAMPLE)],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )

    assert there.stdout == "".join(f"{world.story()}\n" for world in worlds)


def test_seeds_differ(worlds: list[World]) -> None:
    assert len({world.story() for world in worlds}) == len(worlds)


def test_only_listed_rules_are_checked(worlds: list[World]) -> None:
    checked = {rule for world in worlds for rule in world.referee.checks}

    assert checked <= set(RULES)


# -- A seed that fails


def break_rule(monkeypatch: pytest.MonkeyPatch, rule: Rule) -> None:
    def run(self: World) -> None:
        self.log("w0", "errs")
        self.referee.check(False, rule, "t1", "twice")

    monkeypatch.setattr(World, "run", run)


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    file = tmp_path / "seeds.txt"
    file.write_text("# seeds\n7  # known\n")
    return file


def failure(seed: int, keeper: Keeper) -> str:
    with pytest.raises(RuleBroken) as caught:
        run_seed(seed, keeper)
    return "\n".join([str(caught.value), *caught.value.__notes__])


def test_it_tells_its_story_and_how_to_repeat_it(
    monkeypatch: pytest.MonkeyPatch, kept: Path
) -> None:
    break_rule(monkeypatch, "a task ends once")

    told = failure(8, Keeper(kept))

    assert "a task ends once: t1 twice" in told
    assert "w0        errs" in told
    assert "--taskq-seed 8" in told
    assert "new line" in told


def test_it_is_kept_once_with_its_reason(monkeypatch: pytest.MonkeyPatch, kept: Path) -> None:
    break_rule(monkeypatch, "a task ends once")

    for seed in (7, 8, 8):
        failure(seed, Keeper(kept))

    assert kept.read_text().splitlines()[1:] == ["7  # known", "8  # a task ends once: t1 twice"]
    assert kept_seeds(kept) == [7, 8]


def test_on_ci_the_line_to_add_is_told(monkeypatch: pytest.MonkeyPatch, kept: Path) -> None:
    break_rule(monkeypatch, "a task ends once")

    told = failure(8, Keeper(kept, writes=False))

    assert "8  # a task ends once: t1 twice" in told
    assert kept_seeds(kept) == [7]


def test_a_run_keeps_few_seeds_of_each_rule(monkeypatch: pytest.MonkeyPatch, kept: Path) -> None:
    keeper = Keeper(kept)
    break_rule(monkeypatch, "a task ends once")
    for seed in range(100, 110):
        failure(seed, keeper)
    break_rule(monkeypatch, "no task is lost")

    failure(200, keeper)

    assert kept_seeds(kept) == [7, *range(100, 100 + MOST_KEPT), 200]


def test_kept_seeds_run_first_and_the_long_form_runs_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TASKQ_CHAOS", raising=False)
    normal = seeds_to_run()
    monkeypatch.setenv("TASKQ_CHAOS", "full")

    full = seeds_to_run()

    known = kept_seeds()
    assert normal[: len(known)] == full[: len(known)] == known
    assert set(normal) < set(full)
    assert len(set(full)) == len(full) >= 2_000
