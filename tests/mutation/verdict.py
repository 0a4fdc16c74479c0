"""What became of a mutant, and of all of a backend's."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from tests.mutation.mutant import Mutant

Outcome: TypeAlias = Literal["caught", "hung", "survived", "equivalent"]
ENOUGH: Final = 0.95
"""This share of the mutants that are not equivalent has to be caught."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One mutant's fate."""

    mutant: Mutant
    diff: str
    outcome: Outcome
    step: str = ""
    """The step of the kit that noticed it, or in which it hung."""
    law: str = ""
    """Which is said to be broken; "" if an error came instead of an answer."""
    error: str = ""
    seconds: float = 0.0
    because: str = ""
    """Why it is equivalent."""

    @property
    def counts(self) -> bool:
        return self.outcome != "equivalent"

    @property
    def caught(self) -> bool:
        return self.outcome in {"caught", "hung"}

    def line(self) -> str:
        """Return one line for people."""
        found = self.law or self.error.partition(":")[0]
        where = f"{self.step}: {found}" if self.caught else self.because
        return f"{self.outcome:<10} {self.seconds:5.1f} s  {self.mutant.name:.110}  {where}"

    def as_json(self) -> dict[str, Any]:
        """Return what is kept."""
        change = self.mutant.change
        return {
            "file": self.mutant.file,
            "line": self.mutant.line,
            "function": change.function,
            "original": change.original,
            "mutation": change.mutation,
            "occurrence": self.mutant.occurrence,
            "outcome": self.outcome,
            "law": self.law,
            "step": self.step,
            "error": self.error,
            "because": self.because,
            "seconds": round(self.seconds, 2),
            "diff": self.diff,
        }


def share(verdicts: Iterable[Verdict]) -> float:
    """Return how much of what counts was caught, from 0 to 1."""
    counted = [verdict.caught for verdict in verdicts if verdict.counts]
    return sum(counted) / len(counted) if counted else 1.0


def summary(name: str, verdicts: Sequence[Verdict]) -> list[str]:
    """Return the lines at the end of a run: survivors with their diffs, then the counts."""
    lines: list[str] = []
    for verdict in verdicts:
        if verdict.outcome == "survived":
            lines += ["", f"survived: {verdict.mutant.name}", verdict.diff]
    outcomes = Counter(verdict.outcome for verdict in verdicts)
    parts = Counter(verdict.step.partition(":")[0] for verdict in verdicts if verdict.caught)
    laws = Counter(verdict.law or "an error" for verdict in verdicts if verdict.caught)
    lines += [
        "",
        f"{name}: {len(verdicts)} mutants: "
        + ", ".join(f"{outcomes[key]} {key}" for key in sorted(outcomes)),
        "caught by part: " + ", ".join(f"{part} {count}" for part, count in parts.most_common()),
        "caught by law: " + ", ".join(f"{law} {count}" for law, count in laws.most_common()),
        f"{share(verdicts):.1%} of those that count were caught; {ENOUGH:.0%} are needed",
    ]
    return lines


def keep(path: Path, name: str, verdicts: Sequence[Verdict]) -> None:
    """Write a backend's verdicts into the file, beside those of others and of other mutants."""
    kept: dict[str, list[dict[str, Any]]] = {}
    if path.exists():
        kept = json.loads(path.read_text("utf-8"))
    new = [verdict.as_json() for verdict in verdicts]
    judged = {_identity(line) for line in new}
    old = [line for line in kept.get(name, []) if _identity(line) not in judged]
    kept[name] = sorted(old + new, key=lambda line: (line["file"], line["line"]))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", "utf-8")


def _identity(line: dict[str, Any]) -> tuple[str, ...]:
    fields = ("file", "function", "original", "mutation", "occurrence")
    return tuple(str(line[field]) for field in fields)
