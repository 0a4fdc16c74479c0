"""What the pytest plugin keeps of a run: targets, what is known of them, what was found."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from taskq.errors import TaskqError
from taskq.testing import runner
from taskq.testing.record import Ledger
from taskq.testing.report import Facts, Failure, Outcome, names
from taskq.testing.target import Target, UrlTarget
from taskq.url import Url

_PARTS: Final = {part.name: part for part in (*runner.BROKER_PARTS, *runner.STORE_PARTS)}


@dataclass(slots=True)
class Bench:
    """What one test works with."""

    target: Target
    facts: Facts
    part: runner.Part
    ledger: Ledger
    profile: str
    skipped: str = ""
    """Why the kit leaves the test out."""
    refusal: str = ""
    """Why it fails without having begun. The first of a backend tells, for all."""

    def outcome(self, failure: Failure | None = None, elapsed: float = 0.0) -> Outcome:
        """Return what the test has found."""
        return runner.outcome(self.part, self.facts, self.ledger, failure, self.skipped, elapsed)


@dataclass(slots=True)
class Seat:
    """A backend of this run."""

    target: Target
    facts: Facts
    refusal: str = ""
    """Why it is an error that nothing can be tested there; "" once it was told."""


@dataclass(slots=True)
class Run:
    """One run of pytest in one process. Used by one thread."""

    profile: str
    require: bool
    """Whether a server that is not there is an error, whoever names it."""
    restart: str | None = None
    """Restarts the server of the URL that the command line names."""
    named: frozenset[str] = frozenset()
    """The URLs of the command line. Who names a server there wants it tested."""
    outcomes: list[Outcome] = field(default_factory=list)
    _names: dict[str, str] = field(default_factory=dict)
    _seats: dict[int | str, Seat] = field(default_factory=dict)

    def announce(self, targets: Iterable[Target | str]) -> None:
        """Give names to all backends of the run, before any of them is used.

        Raises:
            ImproperlyConfigured: what should be a URL is none.
        """
        texts = [_text(target) for target in targets]
        self._names = dict(zip(texts, names(texts), strict=True))

    def bench(self, test: str, given: Target | str) -> Bench:
        """Return the bench of a test of this name."""
        key = given if isinstance(given, str) else id(given)
        if key not in self._seats:
            self._seats[key] = self._take(given)
        seat = self._seats[key]
        part = _PARTS.get(test) or runner.Part(test, runner.sequences)
        bench = Bench(seat.target, seat.facts, part, Ledger(seat.facts.name), self.profile)
        bench.refusal, seat.refusal = seat.refusal, ""
        bench.skipped = seat.facts.missing or part.why_not(seat.facts)
        return bench

    def _take(self, given: Target | str) -> Seat:
        """Find out what can be tested, contacting the server once."""
        text = _text(given)
        name = self._names.get(text, text)
        target: Target = UrlTarget(given) if isinstance(given, str) else given
        try:
            target = resolve(target)
            if isinstance(given, str) and self.restart:
                runner.restart_by(target, self.restart)
            facts = runner.look(target, name)
        except TaskqError as error:
            refusal = f"{text} cannot be tested: {error}"
            return Seat(target, Facts(name, text, missing=refusal), refusal)
        required = self.require or given in self.named
        return Seat(target, facts, facts.missing if required else "")


def _text(given: Target | str) -> str:
    """Return a target's URL without password."""
    return str(Url.parse(given) if isinstance(given, str) else given.given)


def resolve(target: Target) -> Target:
    """Return the target that the plugin has for the URL of a plain `UrlTarget`.

    A target of a class of its own is returned as it is.

    Raises:
        UnknownScheme: no plugin handles the URL, or it has no target.
    """
    if type(target) is not UrlTarget:
        return target
    found: Target = target.plugins.target(target.given)
    if target.restart_by is not None:
        runner.restart_by(found, target.restart_by)
    return found
