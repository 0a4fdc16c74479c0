"""What a mutant is, and where all of them are listed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from tests.simulation.rules import Rule


@dataclass(frozen=True, slots=True)
class Mutant:
    """One way to be wrong: a method, and what is put in its place."""

    rule: Rule
    """The rule that it breaks."""
    place: type
    method: str
    broken: Any

    @property
    def name(self) -> str:
        return str(self.broken.__name__)

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Put the broken method in place for a while."""
        whole = self.place.__dict__[self.method]
        setattr(self.place, self.method, self.broken)
        try:
            yield
        finally:
            setattr(self.place, self.method, whole)


MUTANTS: Final[list[Mutant]] = []


def breaks(rule: Rule, place: type, method: str) -> Callable[[Any], Any]:
    """Register a function as a broken method of a class."""

    def register(broken: Any) -> Any:
        MUTANTS.append(Mutant(rule, place, method, broken))
        return broken

    return register
