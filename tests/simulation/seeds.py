"""The seeds to run: those that have failed before, then as many as there is time for."""

from __future__ import annotations

import logging
import os
from collections import Counter
from pathlib import Path
from typing import Final

from .world import World

KEPT: Final = Path(__file__).with_name("seeds.txt")
NORMAL: Final = 300
FULL: Final = 2_000
MOST_KEPT: Final = 3
"""New seeds of one rule that one run keeps: a worker that is broken for good fails on most."""


def kept_seeds(file: Path = KEPT) -> list[int]:
    """Return the seeds that have failed before."""
    lines = (line.partition("#")[0].strip() for line in file.read_text().splitlines())
    return [int(line) for line in lines if line]


def seeds_to_run() -> list[int]:
    """Return the seeds of a run, the same in every run; more of them with TASKQ_CHAOS=full."""
    count = FULL if os.environ.get("TASKQ_CHAOS") == "full" else NORMAL
    return list(dict.fromkeys([*kept_seeds(), *range(count)]))


class Keeper:
    """Writes new failing seeds down, for every later run."""

    def __init__(self, file: Path = KEPT, *, writes: bool = True) -> None:
        self._file = file
        self._writes = writes
        self._new: Counter[str] = Counter()

    def keep(self, seed: int, reason: str) -> str:
        """Keep a seed that has failed for a reason; return a sentence about it.

        The rule is what stands before the reason's first colon.
        """
        if seed in kept_seeds(self._file):
            return f"it is kept in {self._file.name}"
        line = f"{seed}  # {' '.join(reason.split())}"
        rule = reason.partition(":")[0]
        if not self._writes:
            return f"keep it: add this line to {self._file.name}, and commit it\n{line}"
        if self._new[rule] >= MOST_KEPT:
            return f"it is not kept, since {MOST_KEPT} others that broke the same rule are"
        self._new[rule] += 1
        with self._file.open("a") as file:
            file.write(f"{line}\n")
        return f"it is kept now: {self._file.name} has a new line; commit it with the cure"


def run_seed(seed: int, keeper: Keeper | None = None) -> World:
    """Run the simulation of a seed. If it fails, the error has notes: what happened, what to do."""
    world = World(seed)
    try:
        world.run()
    except Exception as error:
        error.add_note(f"seed {seed}; what happened until then:\n{world.story()}")
        if keeper is not None:
            error.add_note(keeper.keep(seed, str(error) or type(error).__name__))
        error.add_note(f"run it again with: pytest tests/simulation --taskq-seed {seed}")
        raise
    return world


def trouble_of(seed: int) -> str | None:
    """Run the simulation of a seed; return by what it failed."""
    try:
        run_seed(seed)
    except Exception as error:
        return repr(error)
    return None


def quiet() -> None:
    """Let workers keep their troubles to themselves: a failing seed tells its own story."""
    logging.getLogger("taskq").setLevel(logging.CRITICAL + 1)
