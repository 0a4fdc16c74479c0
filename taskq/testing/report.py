"""What a run of the kit found: law × backend × verdict × times tested.

Values and verdicts only; `taskq.testing.tables` makes text of them. The JSON
form (`Report.encode`) has the fields of these classes as its keys. They keep
their names and meanings as long as `format` is the same; new ones may appear.
"""

from __future__ import annotations

import enum
import platform
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import Any, Final

import msgspec

from taskq import __version__
from taskq.clock import Seconds
from taskq.contract import CONTRACT
from taskq.contract.laws import BROKER_LAWS, LAWS
from taskq.testing.record import ENOUGH

FORMAT: Final = 1
NEEDS: Final[dict[str, str]] = {"L15": "unique_ids", "L22": "locate"}
"""Laws that only bind a backend with this capability."""


class Verdict(enum.StrEnum):
    """What a run says of one law on one backend."""

    HOLDS = "holds"
    BROKEN = "broken"
    SCARCE = "too rarely tested"
    INAPPLICABLE = "not applicable"
    UNDECIDED = "undecided"
    """Nothing broke it, but parts of the kit were left out, or met what is not written yet."""


class Facts(msgspec.Struct, frozen=True):
    """What is known of a backend before it is put to the test."""

    name: str
    """What it is called in the tables: its scheme, and more where two have the same."""
    url: str
    """Without password."""
    plugin: str = ""
    """The name of the plugin."""
    version: str = ""
    """The version of the plugin."""
    server: str = ""
    """The server's name and version, where the target can tell."""
    broker: bool = True
    """Whether the plugin has a broker for the URL."""
    results: bool = True
    """Whether it keeps results there."""
    denied: tuple[str, ...] = ()
    """Capabilities that it declares to lack."""
    faults: tuple[str, ...] = ()
    """Ways in which the target can break its connections."""
    restarts: bool = False
    """Whether the target can restart its server."""
    processes: bool = True
    """Whether the target says that other processes reach the store."""
    remarks: tuple[str, ...] = ()
    """What the broker's `check` told."""
    missing: str = ""
    """Why nothing was tested: the server was not reached."""


class Failure(msgspec.Struct, frozen=True):
    """One thing that went wrong."""

    what: str
    """In one line."""
    text: str
    """Everything an author needs: the law, the place, the sequence of calls."""
    law: str | None = None
    """The law that was broken; None if something else went wrong."""
    unwritten: str = ""
    """The method that is not written yet, if that is all; its laws are undecided."""


class Outcome(msgspec.Struct, frozen=True):
    """What one part of the kit found on one backend."""

    facts: Facts
    part: str
    """The name of the test."""
    laws: tuple[str, ...] = ()
    """The laws it is there for; none if it is there for all."""
    counts: dict[str, int] = {}
    """How often it put each law to the test."""
    failure: Failure | None = None
    skipped: str = ""
    """Why it does not apply to this backend, or was not run."""
    elapsed: Seconds = 0.0


class Finding(msgspec.Struct, frozen=True):
    """What is said of one law on one backend."""

    law: str
    """Its number."""
    verdict: Verdict
    """`holds`, `broken`, `too rarely tested`, `not applicable` or `undecided`."""
    times: int
    """How often it was put to the test."""
    because: str = ""
    """Of what is broken or not applicable: why."""


class Part(msgspec.Struct, frozen=True):
    """How one part of the kit went on one backend."""

    part: str
    """The name of the test."""
    result: str
    """`passed`, `failed` or `skipped`."""
    elapsed: Seconds
    """How long it took."""
    because: str = ""
    """Why it failed or was skipped."""


class Backend(msgspec.Struct, frozen=True):
    """What was found on one backend."""

    facts: Facts
    """What it is."""
    passed: bool
    """Whether it was tested, and nothing of what was run is broken or was tested too rarely."""
    elapsed: Seconds
    """How long all parts took together."""
    laws: tuple[Finding, ...]
    """What is said of each law, in their order."""
    parts: tuple[Part, ...]
    """How each part of the kit went."""
    failures: tuple[Failure, ...]
    """What went wrong."""
    complete: bool = False
    """Whether all parts of the kit were run, or left out for a reason that the report names."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What one run found."""

    format: int = FORMAT
    """The number of this form. A reader refuses another."""
    taskq: str = __version__
    """The version of taskq-core."""
    contract: int = CONTRACT
    """The number of the contract."""
    python: str = platform.python_version()
    """The version of Python."""
    profile: str
    """smoke, default or soak."""
    enough: int
    """A law that was put to the test less often is not said to hold."""
    passed: bool
    """Whether all backends passed. Every law holds only if the report is complete as well."""
    backends: tuple[Backend, ...]
    """What was found on each, sorted by name."""
    complete: bool = False
    """Whether the whole kit was run on all backends; False after a run of some laws alone."""

    def encode(self) -> bytes:
        """Return the report as indented JSON."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"

    def document(self) -> dict[str, Any]:
        """Return the report as what `encode` writes, ready for JSON."""
        return msgspec.json.decode(self.encode())  # type: ignore[no-any-return]  # of a Struct: a dictionary


def read_report(text: bytes) -> Report:
    """Return the report that `Report.encode` wrote.

    Raises:
        ValueError: it is none, or one of another format.
    """
    found = msgspec.json.decode(text, type=Report)
    if found.format != FORMAT:
        raise ValueError(
            f"the report has format {found.format}, and this taskq reads {FORMAT}; "
            "make it anew with the taskq that reads it"
        )
    return found


def names(targets: Sequence[str]) -> list[str]:
    """Return what backends of these URLs are called: the scheme, and more where it is not alone.

    The texts have no passwords in them. The same text gets the same name.
    """
    schemes: dict[str, set[str]] = {}
    for text in targets:
        schemes.setdefault(text.partition(":")[0], set()).add(text)
    return [
        scheme if len(schemes[scheme := text.partition(":")[0]]) == 1 else text for text in targets
    ]


def make_report(
    outcomes: Iterable[Outcome],
    *,
    profile: str,
    broker_parts: Collection[str],
    result_parts: Collection[str],
    enough: int = ENOUGH,
) -> Report:
    """Judge what the parts of the kit found.

    `broker_parts` and `result_parts` name all the parts that have to be through
    before a law of a broker, or of a result store, can be said to hold.
    """
    by_name: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        by_name.setdefault(outcome.facts.name, []).append(outcome)
    backends = tuple(
        _judge_backend(found, enough, set(broker_parts), set(result_parts))
        for _, found in sorted(by_name.items())
    )
    return Report(
        profile=profile,
        enough=enough,
        passed=all(backend.passed for backend in backends),
        complete=all(backend.complete for backend in backends),
        backends=backends,
    )


def _judge_backend(
    outcomes: list[Outcome], enough: int, broker_parts: set[str], result_parts: set[str]
) -> Backend:
    facts = outcomes[0].facts
    counts: Counter[str] = Counter()
    for outcome in outcomes:
        counts.update(outcome.counts)
    through = {outcome.part for outcome in outcomes}
    broker, results = broker_parts <= through, result_parts <= through
    findings = [
        _judge(
            law,
            counts[law],
            outcomes,
            enough=enough,
            whole=broker if law in BROKER_LAWS else results,
        )
        for law in LAWS
    ]
    failures = tuple(outcome.failure for outcome in outcomes if outcome.failure)
    scarce = any(finding.verdict is Verdict.SCARCE for finding in findings)
    return Backend(
        facts=facts,
        passed=not (failures or scarce or facts.missing),
        elapsed=round(sum(outcome.elapsed for outcome in outcomes), 3),
        laws=tuple(findings),
        parts=tuple(_part(outcome) for outcome in outcomes),
        failures=failures,
        complete=(broker or not facts.broker) and results and not facts.missing,
    )


def _judge(law: str, times: int, outcomes: list[Outcome], *, enough: int, whole: bool) -> Finding:
    if outcomes[0].facts.missing:
        return Finding(law, Verdict.UNDECIDED, times)
    blame = [o.failure for o in outcomes if o.failure and _blames(o, law)]
    # What is not written yet has broken nothing.
    blame.sort(key=lambda failure: bool(failure.unwritten))
    if blame and blame[0].unwritten:
        return Finding(law, Verdict.UNDECIDED, times, f"{blame[0].unwritten} is not written yet")
    if blame:
        return Finding(law, Verdict.BROKEN, times, blame[0].what)
    reason = why_not(law, outcomes[0].facts)
    if not reason and times == 0 and whole:
        reason = next((o.skipped for o in outcomes if o.skipped and law in o.laws), "")
    if reason:
        return Finding(law, Verdict.INAPPLICABLE, times, reason)
    if not whole:
        return Finding(law, Verdict.UNDECIDED, times)
    if times < enough:
        return Finding(law, Verdict.SCARCE, times, f"{enough} times are needed")
    return Finding(law, Verdict.HOLDS, times)


def _blames(outcome: Outcome, law: str) -> bool:
    """Say whether a failure is one of this law: it names it, or names none and was there for it."""
    failure = outcome.failure
    assert failure is not None
    return failure.law == law or (failure.law is None and law in outcome.laws)


def why_not(law: str, facts: Facts) -> str:
    """Return why a law does not bind a backend; "" if it does."""
    need = NEEDS.get(law, "")
    return no_room(law, facts) or (f"{need} is denied" if need in facts.denied else "")


def no_room(law: str, facts: Facts) -> str:
    """Return that a backend has not what a law is about; "" if it has."""
    if law in BROKER_LAWS:
        return "" if facts.broker else "the plugin has no broker for this URL"
    return "" if facts.results else "the plugin keeps no results at this URL"


def _part(outcome: Outcome) -> Part:
    if outcome.failure:
        return Part(outcome.part, "failed", outcome.elapsed, outcome.failure.what)
    if outcome.skipped:
        return Part(outcome.part, "skipped", outcome.elapsed, outcome.skipped)
    return Part(outcome.part, "passed", outcome.elapsed)
