from __future__ import annotations

from typing import Any

import pytest

from taskq.clock import Clock
from taskq.contract.broker import Broker
from taskq.contract.capabilities import Capabilities
from taskq.contract.delivery import State
from taskq.contract.laws import LAWS
from taskq.contract.results import Results
from taskq.errors import ImproperlyConfigured, NotSupported, ServerRefused, UnknownScheme
from taskq.memory.broker import MemoryBroker
from taskq.memory.results import MemoryResults
from taskq.memory.server import MemoryServer
from taskq.plugins import PluginInfo, Plugins, hookimpl
from taskq.testing import runner
from taskq.testing.conformance import BrokerConformance, ResultsConformance
from taskq.testing.mutants.claiming import LastInFirstOut
from taskq.testing.mutants.target import MutantTarget
from taskq.testing.record import Ledger, NotApplicable
from taskq.testing.report import Facts, Verdict
from taskq.testing.runner import BROKER_PARTS, STORE_PARTS, Part, look, perform
from taskq.testing.target import Target, UrlTarget
from taskq.url import Url

MEMORY = Facts("memory", "memory://")


def memory() -> Any:
    return Plugins().target("memory://")


def stores(target: Any) -> list[str]:
    return list(target._plugin._servers)


class Half(UrlTarget):
    """What a plugin with one room has for its URLs."""

    def footprint(self) -> list[str]:
        return []

    def wipe(self) -> None: ...


class HalfPlugin:
    """A backend with a broker or a result store, and not both."""

    def __init__(self, room: str) -> None:
        self._room = room
        self._servers: dict[str, MemoryServer] = {}

    @hookimpl
    def taskq_plugin(self) -> PluginInfo:
        return PluginInfo(name="half", version="3.1", schemes=("half",))

    @hookimpl
    def taskq_open_broker(self, url: Url, clock: Clock) -> Broker | None:
        return MemoryBroker(self._server(url, clock)) if self._room == "broker" else None

    @hookimpl
    def taskq_open_results(self, url: Url, clock: Clock) -> Results | None:
        return MemoryResults(self._server(url, clock)) if self._room == "results" else None

    @hookimpl
    def taskq_target(self, url: Url, plugins: Plugins) -> Target | None:
        return Half(url, plugins)

    def _server(self, url: Url, clock: Clock) -> MemoryServer:
        return self._servers.setdefault(url.namespace, MemoryServer(clock))


def half(room: str) -> Target:
    plugins = Plugins()
    plugins.register(HalfPlugin(room))
    target: Target = plugins.target("half://")
    return target


class Forgetful(MemoryBroker):
    """Cannot tell where a message is, and says so."""

    capabilities = Capabilities(locate=False)

    def locate(self, ids: Any, /) -> dict[str, State]:
        raise NotSupported


class Warning_(MemoryBroker):
    def check(self) -> list[str]:
        return ["nothing is flushed"]


class WithoutStats(MemoryBroker):
    def stats(self) -> list[Any]:
        raise NotImplementedError("stats")


class Refusing(MemoryBroker):
    def check(self) -> list[str]:
        raise ServerRefused("wrong password")


class Unfinished(MemoryBroker):
    def check(self) -> list[str]:
        raise NotImplementedError


def test_no_example_hides_another_of_the_same_name() -> None:
    rooms = [*runner.BrokerLaws.__mro__, *runner.StoreLaws.__mro__]
    written = [name for room in rooms for name in vars(room) if name.startswith("test_")]

    assert sorted(written) == sorted(
        {part.name for part in (*BROKER_PARTS, *STORE_PARTS)} - {part.name for part in runner.WHOLE}
    )


def test_every_law_has_an_example() -> None:
    assert {law for part in (*BROKER_PARTS, *STORE_PARTS) for law in part.laws} == set(LAWS)


def test_pytest_and_the_command_line_run_the_same_parts() -> None:
    def tests(suite: type) -> set[str]:
        return {name for name in dir(suite) if name.startswith("test_")}

    assert tests(BrokerConformance) == {part.name for part in (*BROKER_PARTS, *STORE_PARTS)}
    assert tests(ResultsConformance) == {part.name for part in STORE_PARTS}


def test_what_everything_needs_comes_first() -> None:
    rooms = [room.__name__ for room in reversed(runner.AllLaws.__mro__)]
    order = [
        "SendingLaws",
        "ClaimingLaws",
        "SettlingLaws",
        "WaitingLaws",
        "OperatingLaws",
        "DeclaringLaws",
        "ResultsLaws",
        "FailingLaws",
        "FailingResultsLaws",
    ]
    written = [
        name
        for room in reversed(runner.AllLaws.__mro__)
        for name in vars(room)
        if name.startswith("test_")
    ]

    assert [room for room in rooms if room in order] == order
    assert [part.name for part in runner.parts_of(MEMORY)] == [
        *written,
        *(part.name for part in runner.WHOLE),
    ]


def test_a_right_backend_passes_a_part() -> None:
    ledger = Ledger("memory")

    found = perform(BROKER_PARTS[0], memory(), MEMORY, "smoke", ledger)

    assert (found.failure, found.skipped) == (None, "")
    assert found.counts == dict(ledger.counts)
    assert found.part == BROKER_PARTS[0].name


def test_a_broken_backend_is_a_finding_and_not_an_error() -> None:
    outcomes = [
        perform(part, MutantTarget(LastInFirstOut), MEMORY, "smoke", Ledger("memory"))
        for part in BROKER_PARTS
        if "L9" in part.laws
    ]

    (backend,) = runner.judge(outcomes, "smoke").backends
    verdicts = {finding.law: finding.verdict for finding in backend.laws}
    assert not backend.passed
    assert verdicts["L9"] is Verdict.BROKEN
    assert verdicts["L1"] is Verdict.UNDECIDED


def test_a_method_that_is_not_written_yet_hangs_no_part() -> None:
    target = MutantTarget(WithoutStats)
    facts = look(target, "memory")
    (part,) = [part for part in BROKER_PARTS if "close_overtakes" in part.name]

    found = perform(part, target, facts, "smoke", Ledger("memory"))

    assert found.failure is not None
    assert found.failure.what == "stats raised NotImplementedError: stats"
    assert found.failure.unwritten == "stats"


def test_an_error_of_the_kit_s_own_kind_is_not_taken_for_an_unwritten_method() -> None:
    class Unlucky(MemoryBroker):
        def stats(self) -> list[Any]:
            raise RuntimeError("stats")

    (part,) = [part for part in BROKER_PARTS if "close_overtakes" in part.name]

    found = perform(part, MutantTarget(Unlucky), MEMORY, "smoke", Ledger("memory"))

    assert found.failure is not None
    assert (found.failure.what, found.failure.unwritten) == ("RuntimeError: stats", "")


def test_a_part_that_does_not_apply_says_why() -> None:
    def lacks(target: Target, ledger: Ledger, profile: str) -> None:
        raise NotApplicable("the target cannot fly")

    found = perform(Part("fly", lacks), memory(), MEMORY, "smoke", Ledger("memory"))

    assert (found.skipped, found.failure) == ("the target cannot fly", None)


def test_an_interrupted_part_leaves_no_namespace() -> None:
    target = memory()
    seen: list[str] = []

    def interrupted(target: Target, ledger: Ledger, profile: str) -> None:
        target.begin()
        target.open()
        seen.extend(stores(target))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        perform(Part("x", interrupted), target, MEMORY, "smoke", Ledger("memory"))

    assert len(seen) == 1
    assert stores(target) == []


@pytest.mark.parametrize("part", runner.WHOLE, ids=lambda part: part.name)
def test_what_needs_a_broker_is_left_out_for_a_result_store(part: Part) -> None:
    assert "no broker" in part.why_not(Facts("x", "x://", broker=False))


def test_faults_are_left_out_where_the_target_has_none() -> None:
    left_out = [part.name for part in runner.WHOLE if part.why_not(MEMORY)]

    assert left_out == ["test_random_sequences_keep_the_laws_over_faults"]
    assert not any(part.why_not(Facts("x", "x://", restarts=True)) for part in runner.WHOLE)


def test_a_look_finds_out_what_there_is() -> None:
    facts = look(memory(), "here")

    assert (facts.name, facts.url, facts.plugin, facts.version) == (
        "here",
        "memory://",
        "memory",
        "built in",
    )
    assert (facts.broker, facts.results, facts.denied, facts.missing) == (True, True, (), "")


def test_a_look_leaves_nothing_behind() -> None:
    target = memory()

    look(target, "memory")

    assert stores(target) == []


@pytest.mark.parametrize("room", ["broker", "results"])
def test_a_look_finds_which_rooms_there_are(room: str) -> None:
    facts = look(half(room), "half")

    assert (facts.broker, facts.results) == (room == "broker", room == "results")
    assert (facts.plugin, facts.version) == ("half", "3.1")


def test_a_result_store_without_a_broker_passes() -> None:
    target = half("results")
    facts = look(target, "half")

    outcomes = [
        perform(part, target, facts, "smoke", Ledger("half")) for part in runner.parts_of(facts)
    ]

    report = runner.judge(outcomes, "smoke")
    assert report.passed, report.backends[0].failures
    verdicts = {finding.law: finding.verdict for finding in report.backends[0].laws}
    assert verdicts["R1"] is Verdict.HOLDS
    assert verdicts["L1"] is Verdict.INAPPLICABLE


def test_a_denial_is_found_and_put_to_the_test() -> None:
    target = MutantTarget(Forgetful)
    target.allowed_denials = frozenset({"locate"})
    facts = look(target, "memory")

    found = [
        perform(part, target, facts, "smoke", Ledger("memory"))
        for part in BROKER_PARTS
        if "L22" in part.laws
    ]

    assert facts.denied == ("locate",)
    assert [outcome.failure for outcome in found if outcome.failure] == []
    assert sum(outcome.counts.get("L22", 0) for outcome in found) > 0


def test_a_capability_that_is_denied_and_there_is_a_breach() -> None:
    class Modest(MemoryBroker):
        capabilities = Capabilities(locate=False)

    target = MutantTarget(Modest)
    facts = look(target, "memory")

    outcomes = [
        perform(part, target, facts, "smoke", Ledger("memory"))
        for part in BROKER_PARTS
        if "L22" in part.laws
    ]

    (backend,) = runner.judge(outcomes, "smoke").backends
    assert {f.law: f.verdict for f in backend.laws}["L22"] is Verdict.BROKEN


def test_the_kit_s_own_namespace_is_not_shown() -> None:
    class Talkative(UrlTarget):
        def new_broker(self, url: Url) -> Broker:
            broker = super().new_broker(url)
            told = [f"{url} keeps /var/{url.namespace}/log in memory"]
            broker.check = lambda: told  # type: ignore[method-assign]
            return broker

        def wipe(self) -> None: ...

    class Unwilling(Talkative):
        def new_broker(self, url: Url) -> Broker:
            raise ServerRefused(f"{url}: /var/{url.namespace}/log is read-only")

    url = "memory://?namespace=mine"

    assert look(Talkative(url), "memory").remarks == (f"{url} keeps /var/mine/log in memory",)
    with pytest.raises(ServerRefused) as refusal:
        look(Unwilling(url), "memory")
    assert str(refusal.value) == f"{url}: /var/mine/log is read-only"


@pytest.mark.parametrize("processes", [True, False])
def test_a_look_finds_whether_other_processes_reach_the_store(processes: bool) -> None:
    target = memory()
    target.processes = processes

    assert look(target, "memory").processes is processes


def test_what_the_broker_s_check_says_is_kept() -> None:
    assert look(MutantTarget(Warning_), "memory").remarks == ("nothing is flushed",)


def test_a_server_that_is_not_there_is_a_fact() -> None:
    plugins = Plugins()
    if not any("redis" in info.schemes for info in plugins.load()):
        pytest.skip("no plugin with a server is installed")

    facts = look(plugins.target("redis://:hunter2@127.0.0.1:1/0"), "redis")

    assert facts.missing.startswith("the server was not reached: cannot connect to redis://:***@")
    assert "kit-" not in facts.missing


def test_a_server_that_refuses_is_an_error() -> None:
    with pytest.raises(ServerRefused, match="wrong password"):
        look(MutantTarget(Refusing), "memory")


def test_an_unfinished_backend_can_be_tested() -> None:
    assert look(MutantTarget(Unfinished), "memory").missing == ""


def test_a_scheme_nobody_handles_is_an_error() -> None:
    with pytest.raises(UnknownScheme, match="no plugin handles carrier://"):
        look(UrlTarget("carrier://pigeon"), "carrier")


def test_laws_choose_the_examples_that_are_there_for_them() -> None:
    chosen = runner.parts_of(MEMORY, ["L4", "R7"])

    assert {law for part in chosen for law in part.laws} >= {"L4", "R7"}
    assert all({"L4", "R7"} & set(part.laws) for part in chosen)
    assert len(runner.parts_of(MEMORY)) == len(BROKER_PARTS) + len(STORE_PARTS)


def test_a_target_that_is_no_url_target_takes_no_restart_command() -> None:
    target = memory()
    runner.restart_by(target, "true")
    assert target.restarts

    with pytest.raises(ImproperlyConfigured, match="derive it from UrlTarget"):
        runner.restart_by(object(), "true")  # type: ignore[arg-type]
