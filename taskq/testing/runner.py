"""Runs the kit against a target: its parts, one after the other, without pytest.

The parts are the named examples of the laws, random sequences of calls, the
same with broken connections and restarts, and many clients at once. pytest
(`taskq.testing.conformance`) and the command line run the same ones.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

from taskq.contract.broker import Broker
from taskq.contract.capabilities import Capabilities
from taskq.contract.results import Results
from taskq.errors import (
    BrokerError,
    ConnectionFailed,
    ImproperlyConfigured,
    OutcomeUnknown,
    TaskqError,
    UnknownScheme,
)
from taskq.plugins import PluginInfo, Plugins
from taskq.testing.failure import explain
from taskq.testing.laws.case import laws_of, open_case
from taskq.testing.laws.claiming import ClaimingLaws
from taskq.testing.laws.declaring import DeclaringLaws
from taskq.testing.laws.failing import FailingLaws, FailingResultsLaws
from taskq.testing.laws.operating import OperatingLaws
from taskq.testing.laws.results import ResultsLaws
from taskq.testing.laws.sending import SendingLaws
from taskq.testing.laws.settling import SettlingLaws
from taskq.testing.laws.waiting import WaitingLaws
from taskq.testing.record import ENOUGH, Ledger, NotApplicable
from taskq.testing.report import Facts, Failure, Outcome, Report, make_report, no_room
from taskq.testing.target import PREFIX, Restart, Target, UrlTarget
from taskq.testing.watchdog import watched

PROFILES: Final = ("smoke", "default", "soak")
Run = Callable[[Target, Ledger, str], None]
"""Puts a target to the test, in the size of the profile that is named."""


class BrokerLaws(
    FailingLaws,
    DeclaringLaws,
    OperatingLaws,
    WaitingLaws,
    SettlingLaws,
    ClaimingLaws,
    SendingLaws,
):
    """All examples of a broker."""


class StoreLaws(FailingResultsLaws, ResultsLaws):
    """All examples of a result store."""


class AllLaws(
    FailingResultsLaws,
    FailingLaws,
    ResultsLaws,
    DeclaringLaws,
    OperatingLaws,
    WaitingLaws,
    SettlingLaws,
    ClaimingLaws,
    SendingLaws,
):
    """The examples of both, in the order in which an author mends them.

    pytest collects what a class inherits from its last base first, and so do
    `examples`: what everything else needs comes first, and `-x` stops there.
    """


@dataclass(frozen=True, slots=True)
class Part:
    """One thing to run, and what it is there for."""

    name: str
    run: Run
    laws: tuple[str, ...] = ()
    """None means that it puts many to the test."""
    breaks: bool = False
    """It breaks connections or restarts the server."""

    def why_not(self, facts: Facts) -> str:
        """Return why this is of no use on a backend; "" if it is."""
        # Not for a denied capability: that it is not there has to be shown as well.
        reasons = [no_room(law, facts) for law in self.laws or ("L1",)]
        if all(reasons):
            return reasons[0]
        if self.breaks and not (facts.faults or facts.restarts):
            return "the target can neither break connections nor restart the server"
        return ""


def sequences(target: Target, ledger: Ledger, profile: str) -> None:
    """Compare the answers to random calls with what a right broker could answer."""
    from taskq.testing import machine

    machine.run_machine(target, ledger, machine.profile(profile))


def faulty_sequences(target: Target, ledger: Ledger, profile: str) -> None:
    """Do the same while connections break and the server is restarted."""
    from taskq.testing import machine

    machine.run_faulty_machine(target, ledger, machine.profile(profile))


def many_clients(target: Target, ledger: Ledger, profile: str) -> None:
    """Let many threads and processes work at once, and judge what they saw."""
    from taskq.testing.concurrency import SIZES, check_concurrency

    size = SIZES[profile]
    check_concurrency(
        target, ledger, messages=size.messages, threads=size.threads, processes=size.processes
    )


def examples(suite: type) -> list[Part]:
    """Return the examples of a class as parts, in the order in which pytest runs them."""
    found: dict[str, Callable[..., None] | None] = {}
    for room in reversed(suite.__mro__):
        for name in vars(room):
            if name.startswith("test_"):
                found.setdefault(name, getattr(suite, name))
    return [
        Part(name, _example(suite, name), laws_of(function))
        for name, function in found.items()
        if function and laws_of(function)
    ]


def _example(suite: type, name: str) -> Run:
    def run(target: Target, ledger: Ledger, profile: str) -> None:  # noqa: ARG001
        with open_case(target, ledger) as case:
            getattr(suite(), name)(case)

    return run


WHOLE: Final = (
    Part("test_random_sequences_of_calls_keep_the_laws", sequences),
    Part("test_random_sequences_keep_the_laws_over_faults", faulty_sequences, breaks=True),
    Part("test_threads_and_processes_conclude_each_message_once", many_clients),
)
"""The parts that put many laws to the test."""
PARTS: Final = (*examples(AllLaws), *WHOLE)
"""All of them, in the order in which they run."""
BROKER_PARTS: Final = (*examples(BrokerLaws), *WHOLE)
"""What a broker is put to the test by."""
STORE_PARTS: Final = tuple(examples(StoreLaws))
"""What a result store is put to the test by."""


def look(target: Target, name: str) -> Facts:
    """Contact the server, and tell what there is to be tested. `name` is for the report.

    Raises:
        ImproperlyConfigured: no plugin handles the URL, it has an error, or the
            target does not work.
        BrokerError: the server refused. One that was not reached is a fact.
    """
    try:
        return _look(target, name)
    except TaskqError as error:
        error.args = tuple(
            _as_given(target, told) if isinstance(told, str) else told for told in error.args
        )
        raise
    except Exception as error:
        raise ImproperlyConfigured(f"its target does not work: {explain(error).text}") from error


def _look(target: Target, name: str) -> Facts:
    info = _plugin(target)
    target.begin()
    try:
        broker, results = _rooms(target)
        remarks, missing = _contact(target, broker, results)
        declared = broker.capabilities if broker else Capabilities()
    except Exception:
        # What went wrong first is what to tell.
        with contextlib.suppress(Exception):
            target.end()
        raise
    # A server that is not there cannot be wiped.
    with contextlib.suppress(BrokerError) if missing else contextlib.nullcontext():
        target.end()
    return Facts(
        name=name,
        url=str(target.given),
        plugin=info.name if info else "",
        version=info.version if info else "",
        server="" if missing else target.server,
        broker=broker is not None,
        results=results is not None,
        denied=tuple(field for field in declared.__struct_fields__ if not getattr(declared, field)),
        faults=tuple(sorted(target.faults)),
        restarts=target.restarts,
        processes=getattr(target, "processes", False),
        remarks=tuple(_as_given(target, remark) for remark in remarks),
        missing=missing,
    )


def _plugin(target: Target) -> PluginInfo | None:
    plugins = getattr(target, "plugins", None) or Plugins()
    known = [*plugins.known(), *plugins.load()]
    return next((info for info in known if target.url.scheme in info.schemes), None)


def _rooms(target: Target) -> tuple[Broker | None, Results | None]:
    """Open a client of each room that the plugin has for the URL.

    Raises:
        UnknownScheme: it has none.
    """
    results: Results | None = None
    with contextlib.suppress(UnknownScheme):
        results = target.open_results()
    try:
        return target.open(), results
    except UnknownScheme:
        if results is None:
            raise
        return None, results


def _contact(
    target: Target, broker: Broker | None, results: Results | None
) -> tuple[list[str], str]:
    """Return what the server's operator should know, and why it was not reached."""
    try:
        if broker is not None:
            return broker.check(), ""
        if results is not None:
            results.fetch(["nobody"])
    except (ConnectionFailed, OutcomeUnknown) as error:
        return [], f"the server was not reached: {_as_given(target, str(error))}"
    except TaskqError:
        raise
    except Exception:  # noqa: BLE001 - an unfinished backend raises anything; its examples will say so
        return [], ""
    return [], ""


def _as_given(target: Target, text: str) -> str:
    """Name what the author named: the kit's namespace says nothing to anybody."""
    told = text.replace(str(target.url), str(target.given))
    if target.url.namespace.startswith(PREFIX):
        told = told.replace(target.url.namespace, target.given.namespace)
    return told


def restart_by(target: Target, command: Restart) -> None:
    """Tell a target how to restart its server.

    Raises:
        ImproperlyConfigured: it is of a kind that takes no command.
    """
    if not isinstance(target, UrlTarget):
        raise ImproperlyConfigured(
            f"{type(target).__name__} takes no restart command; derive it from UrlTarget"
        )
    target.restart_by = command


def perform(part: Part, target: Target, facts: Facts, profile: str, ledger: Ledger) -> Outcome:
    """Run one part, and return what it found; errors are findings too."""
    began = time.perf_counter()
    skipped, failure = facts.missing or part.why_not(facts), None
    if not skipped:
        try:
            with watched(part.name, part.laws, lambda: ledger):
                part.run(target, ledger, profile)
        except NotApplicable as reason:
            skipped = str(reason)
        except Exception as error:  # noqa: BLE001 - whatever a broken backend raises is a finding
            failure = explain(error)
        except BaseException:
            # Ctrl-C may have come at any line, the one that removes the namespace included.
            target.end()
            raise
    return outcome(part, facts, ledger, failure, skipped, time.perf_counter() - began)


def outcome(
    part: Part,
    facts: Facts,
    ledger: Ledger,
    failure: Failure | None,
    skipped: str,
    elapsed: float,
) -> Outcome:
    """Put together what a part found."""
    return Outcome(
        facts=facts,
        part=part.name,
        laws=part.laws,
        counts=dict(ledger.counts),
        failure=failure,
        skipped=skipped,
        elapsed=round(elapsed, 3),
    )


def judge(outcomes: Collection[Outcome], profile: str) -> Report:
    """Return the report of a run."""
    return make_report(
        outcomes,
        profile=profile,
        broker_parts={part.name for part in BROKER_PARTS},
        result_parts={part.name for part in STORE_PARTS},
        # The smallest profile is for a quick look: it asks only that nothing was forgotten.
        enough=1 if profile == "smoke" else ENOUGH,
    )


def parts_of(facts: Facts, laws: Collection[str] = ()) -> list[Part]:
    """Return the parts to run on a backend; of `laws` the examples alone, if any are named."""
    wanted = {part.name for part in (*STORE_PARTS, *(BROKER_PARTS if facts.broker else ()))}
    every = [part for part in PARTS if part.name in wanted]
    return [part for part in every if not laws or not set(laws).isdisjoint(part.laws)]
