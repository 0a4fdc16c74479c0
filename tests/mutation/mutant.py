"""One change of one file, with a name that outlives changes elsewhere in the file."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

DELETED: Final = "deleted"
Key: TypeAlias = tuple[str, str, str, str, int]
"""File, function, original text, mutation, and which of several that look the same."""


class Change(NamedTuple):
    """A place in a source, and what comes there instead."""

    start: int
    end: int
    replacement: str
    function: str
    """In which function it is, or of which statement of SQL; "" outside of all."""
    original: str
    """The statement that is deleted, or the line of the comparison that is flipped."""
    mutation: str


@dataclass(frozen=True, slots=True)
class Mutant:
    """A file with one change. The file is a path from the root of the checkout."""

    file: str
    line: int
    change: Change
    occurrence: int
    """From 1 on, among equal changes of equal text in the same function."""

    @property
    def key(self) -> Key:
        change = self.change
        return self.file, change.function, change.original, change.mutation, self.occurrence

    @property
    def name(self) -> str:
        """Return one line for people, and for patterns to select it by."""
        place = f"{self.file}:{self.line}"
        return f"{place} {self.change.function}: {self.change.mutation}: {self.change.original}"

    def apply(self, source: str) -> str:
        """Return the source with the change."""
        start, end, replacement, *_ = self.change
        return source[:start] + replacement + source[end:]

    def diff(self, source: str) -> str:
        """Return what changes, as a unified diff with a line around it."""
        old, new = source.splitlines(), self.apply(source).splitlines()
        lines = difflib.unified_diff(old, new, self.file, self.file, lineterm="", n=1)
        return "\n".join(lines)


def name_changes(file: str, source: str, changes: Iterable[Change]) -> list[Mutant]:
    """Return the mutants of a file, in the order of their places."""
    seen: Counter[tuple[str, str, str]] = Counter()
    mutants: list[Mutant] = []
    for change in sorted(changes):
        like = change.function, change.original, change.mutation
        seen[like] += 1
        line = source.count("\n", 0, change.start) + 1
        mutants.append(Mutant(file, line, change, seen[like]))
    return mutants


def flat(text: str) -> str:
    """Return a text on one line, so that its indentation does not matter."""
    return " ".join(text.split())


def line_at(source: str, place: int) -> str:
    """Return the line around a place in a source, without its indentation."""
    start = source.rfind("\n", 0, place) + 1
    end = source.find("\n", place)
    return flat(source[start : end if end >= 0 else len(source)])
