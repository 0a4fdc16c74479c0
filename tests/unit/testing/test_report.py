from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis.errors import FlakyFailure, FlakyStrategyDefinition

from taskq.contract.laws import BROKER_LAWS, LAWS, RESULT_LAWS
from taskq.testing.failure import explain
from taskq.testing.laws.case import open_case
from taskq.testing.laws.claiming import ClaimingLaws
from taskq.testing.mutants.claiming import LastInFirstOut
from taskq.testing.mutants.target import MutantTarget
from taskq.testing.record import LawBroken, Ledger
from taskq.testing.report import (
    Facts,
    Failure,
    Finding,
    Outcome,
    Report,
    Verdict,
    make_report,
    names,
    read_report,
)
from taskq.testing.runner import WHOLE
from taskq.testing.tables import MANY_CLIENTS, cell, lines, rows

FACTS = Facts("redis", "redis://:***@here/1", plugin="redis", version="0.1.0")
PLENTY = dict.fromkeys(LAWS, 20)


def outcome(part: str = "all", **given: Any) -> Outcome:
    return msgspec.structs.replace(Outcome(FACTS, part, counts=PLENTY), **given)


def report(*outcomes: Outcome, parts: tuple[str, ...] = ("all",)) -> Report:
    return make_report(outcomes, profile="default", broker_parts=parts, result_parts=parts)


def findings(*outcomes: Outcome, parts: tuple[str, ...] = ("all",)) -> dict[str, Finding]:
    (backend,) = report(*outcomes, parts=parts).backends
    return {finding.law: finding for finding in backend.laws}


def verdicts(found: dict[str, Finding]) -> set[Verdict]:
    return {finding.verdict for finding in found.values()}


def test_laws_that_were_tested_enough_hold() -> None:
    assert verdicts(findings(outcome())) == {Verdict.HOLDS}
    assert report(outcome()).passed


def test_counts_of_all_parts_are_added() -> None:
    found = findings(outcome("a"), outcome("b"), parts=("a", "b"))

    assert {finding.times for finding in found.values()} == {40}


def test_a_law_that_was_tested_too_rarely_fails_the_run() -> None:
    made = report(outcome(counts=PLENTY | {"L4": 19}))

    assert not made.passed
    (told,) = [line for line in lines(made) if "only 19 times" in line]
    assert told.startswith("redis: L4 was put to the test only 19 times; 20 are needed")
    assert findings(outcome(counts=PLENTY | {"L4": 19}))["L4"].verdict is Verdict.SCARCE


def test_nothing_is_said_to_hold_while_a_part_of_the_kit_was_left_out() -> None:
    found = findings(outcome("a"), parts=("a", "b"))

    assert verdicts(found) == {Verdict.UNDECIDED}
    assert report(outcome("a"), parts=("a", "b")).passed


def test_a_report_says_whether_the_whole_kit_was_run() -> None:
    part = report(outcome("a"), parts=("a", "b"))
    whole = report(outcome("a"), outcome("b"), parts=("a", "b"))
    missing = report(outcome(facts=msgspec.structs.replace(FACTS, missing="no server")))

    assert [part.complete, part.backends[0].complete] == [False, False]
    assert [whole.complete, whole.backends[0].complete] == [True, True]
    assert not missing.complete
    told = "redis: undecided: only a part of the kit was run"
    assert (told in lines(part), told in lines(whole)) == (True, False)


def test_a_store_alone_is_complete_without_what_a_broker_needs() -> None:
    facts = msgspec.structs.replace(FACTS, broker=False)

    made = make_report(
        [outcome("r", facts=facts)], profile="smoke", broker_parts=["b"], result_parts=["r"]
    )

    assert made.complete


def test_what_is_not_written_yet_has_broken_nothing() -> None:
    def stopped(part: str, method: str) -> Outcome:
        failure = Failure(f"{method} raised NotImplementedError", "text", unwritten=method)
        return outcome(part, failure=failure, laws=("L3",))

    made = report(
        stopped("a", "settle"), stopped("b", "reserve"), stopped("c", "settle"), parts=("a",)
    )

    finding = {finding.law: finding for finding in made.backends[0].laws}["L3"]
    assert not made.passed
    assert (finding.verdict, finding.because) == (
        Verdict.UNDECIDED,
        "settle is not written yet",
    )
    assert "redis: not written yet: settle (2 parts), reserve (1 part)" in lines(made)


def test_what_is_not_written_yet_hides_no_breach() -> None:
    found = findings(
        outcome("a", failure=Failure("x", "text", unwritten="settle"), laws=("L3",)),
        outcome("b", failure=Failure("L3 is broken: y", "text", "L3"), laws=("L3",)),
    )

    assert found["L3"] == Finding("L3", Verdict.BROKEN, 40, "L3 is broken: y")


@pytest.mark.parametrize(
    ("processes", "skipped", "told"), [(False, "", 1), (True, "", 0), (False, "denied", 0)]
)
def test_processes_that_no_race_was_run_with_are_told(
    processes: bool, skipped: str, told: int
) -> None:
    facts = msgspec.structs.replace(FACTS, processes=processes)

    found = lines(report(outcome(MANY_CLIENTS, facts=facts, skipped=skipped)))

    assert len([line for line in found if "(processes = False)" in line]) == told


def test_the_report_knows_the_part_that_processes_belong_to() -> None:
    assert MANY_CLIENTS in {part.name for part in WHOLE}


def test_a_store_may_be_whole_where_the_broker_is_not() -> None:
    made = make_report([outcome("r")], profile="smoke", broker_parts=["r", "b"], result_parts=["r"])

    by_law = {finding.law: finding.verdict for finding in made.backends[0].laws}
    assert {by_law[law] for law in RESULT_LAWS} == {Verdict.HOLDS}
    assert {by_law[law] for law in BROKER_LAWS} == {Verdict.UNDECIDED}


def test_a_broken_law_is_broken_however_little_was_run() -> None:
    failure = Failure("L4 is broken: token", "text", "L4")
    found = findings(outcome("a", failure=failure, laws=("L3", "L4")), parts=("a", "b"))

    assert found["L4"] == Finding("L4", Verdict.BROKEN, 20, "L4 is broken: token")
    assert found["L3"].verdict is Verdict.UNDECIDED


def test_an_error_that_names_no_law_breaks_those_its_example_is_there_for() -> None:
    failure = Failure("TypeError: no", "text")
    found = findings(outcome(failure=failure, laws=("L3", "L4")))

    broken = {law for law, finding in found.items() if finding.verdict is Verdict.BROKEN}
    assert broken == {"L3", "L4"}


def test_an_error_in_a_part_for_all_laws_fails_the_run_and_blames_none() -> None:
    made = report(outcome(failure=Failure("TypeError: no", "text")))

    assert not made.passed
    assert Verdict.BROKEN not in {finding.verdict for finding in made.backends[0].laws}


def test_a_law_of_a_denied_capability_does_not_apply() -> None:
    facts = msgspec.structs.replace(FACTS, denied=("locate",))
    found = findings(outcome(facts=facts, counts=PLENTY | {"L22": 1}))

    assert found["L22"] == Finding("L22", Verdict.INAPPLICABLE, 1, "locate is denied")
    assert found["L15"].verdict is Verdict.HOLDS


def test_a_denial_hides_no_breach() -> None:
    facts = msgspec.structs.replace(FACTS, denied=("locate",))
    failure = Failure("L22 is broken: locate works", "text", "L22")

    assert findings(outcome(facts=facts, failure=failure))["L22"].verdict is Verdict.BROKEN


def test_a_law_all_of_whose_examples_were_left_out_says_because_of_what() -> None:
    reason = "the target cannot restart its server"
    left_out = outcome("b", counts={}, laws=("L31",), skipped=reason)
    found = findings(outcome("a", counts=PLENTY | {"L31": 0}), left_out, parts=("a", "b"))

    assert found["L31"] == Finding("L31", Verdict.INAPPLICABLE, 0, reason)


@pytest.mark.parametrize(("field", "laws"), [("broker", BROKER_LAWS), ("results", RESULT_LAWS)])
def test_a_backend_without_a_room_is_not_held_to_its_laws(field: str, laws: dict[str, str]) -> None:
    facts = msgspec.structs.replace(FACTS, **{field: False})
    found = findings(outcome(facts=facts, counts={}))

    inapplicable = {law for law in LAWS if found[law].verdict is Verdict.INAPPLICABLE}
    assert inapplicable == set(laws)


def test_a_server_that_was_not_reached_decides_nothing_and_does_not_pass() -> None:
    facts = msgspec.structs.replace(FACTS, missing="the server was not reached: no route")
    made = report(outcome(facts=facts, counts={}, skipped=facts.missing))

    assert not made.passed
    assert {finding.verdict for finding in made.backends[0].laws} == {Verdict.UNDECIDED}
    assert "redis: NOT TESTED: the server was not reached: no route" in lines(made)
    assert rows(made) == []


def test_a_report_reads_back_as_it_was_written() -> None:
    made = report(
        outcome(), outcome("b", failure=Failure("x", "y", "L1")), outcome("c", skipped="z")
    )

    assert read_report(made.encode()) == made
    assert json.loads(made.encode()) == made.document()


def test_a_report_of_another_format_is_refused() -> None:
    document = report(outcome()).document() | {"format": 2}

    with pytest.raises(ValueError, match="has format 2, and this taskq reads 1"):
        read_report(msgspec.json.encode(document))


def test_the_keys_of_a_report_are_these() -> None:
    document = report(outcome(failure=Failure("x", "y", "L1"))).document()
    (backend,) = document["backends"]

    assert list(document) == [
        "format",
        "taskq",
        "contract",
        "python",
        "profile",
        "enough",
        "passed",
        "backends",
        "complete",
    ]
    assert list(backend) == ["facts", "passed", "elapsed", "laws", "parts", "failures", "complete"]
    assert list(backend["laws"][0]) == ["law", "verdict", "times", "because"]
    assert list(backend["parts"][0]) == ["part", "result", "elapsed", "because"]
    assert list(backend["failures"][0]) == ["what", "text", "law", "unwritten"]
    assert list(backend["facts"]) == [
        "name",
        "url",
        "plugin",
        "version",
        "server",
        "broker",
        "results",
        "denied",
        "faults",
        "restarts",
        "processes",
        "remarks",
        "missing",
    ]


def test_the_table_has_a_row_per_law_and_a_column_per_backend() -> None:
    other = msgspec.structs.replace(FACTS, name="memory", url="memory://")
    made = report(outcome(), outcome(facts=other, failure=Failure("x", "y", "L2")))

    assert lines(made)[:3] == [
        "law  memory     redis",
        "L1   holds 20   holds 20",
        "L2   BROKEN 20  holds 20",
    ]
    assert len(rows(made)) == len(LAWS)


def test_a_cell_of_a_law_that_was_left_out_is_empty() -> None:
    assert cell(Finding("L1", Verdict.UNDECIDED, 0)) == ""
    assert cell(Finding("L1", Verdict.UNDECIDED, 3)) == "undecided 3"
    assert cell(Finding("L1", Verdict.INAPPLICABLE, 0, "x")) == "n/a"


def test_what_the_server_s_operator_should_know_is_told() -> None:
    facts = msgspec.structs.replace(FACTS, remarks=("nothing is flushed",), server="Redis 7.2")

    told = lines(report(outcome(facts=facts)))

    assert "redis: the server's operator should know: nothing is flushed" in told
    assert "redis: redis 0.1.0, Redis 7.2, redis://:***@here/1, 0.0 s" in told


def test_backends_of_one_scheme_are_told_apart() -> None:
    urls = ["redis://a/1", "memory://", "redis://a/2", "memory://"]

    assert names(urls) == ["redis://a/1", "memory", "redis://a/2", "memory"]


def breach() -> LawBroken:
    target = MutantTarget(LastInFirstOut)
    try:
        with open_case(target, Ledger("lifo")) as case:
            ClaimingLaws().test_the_most_urgent_come_first(case)
    except LawBroken as broken:
        return broken
    raise AssertionError("the mutant was not caught")


def test_a_breach_is_shown_with_its_law_and_the_example_up_to_the_line() -> None:
    shown = explain(breach())

    first, _, rest = shown.text.partition("\n\n")
    assert first.startswith("L8 is broken: first claim: ['p9-2'")
    assert rest.startswith(f"  L8: {LAWS['L8']}")
    assert 'case.send(f"p{priority}", f"p{priority}-2", priority=priority)' in rest
    assert rest.splitlines()[-1].lstrip().startswith("> ")
    assert (shown.law, shown.what) == ("L8", first)
    assert shown.text.count("\n") < 15


def test_the_advice_of_hypothesis_is_left_out() -> None:
    error = TypeError("x")
    error.add_note("Failing test case: <state machine>")
    error.add_note("\nYou can reproduce this test case by temporarily adding @reproduce_failure")

    shown = explain(error).text

    assert "Failing test case" in shown
    assert "reproduce" not in shown


def test_the_kit_s_own_trace_is_shown_in_place_of_hypothesis_s() -> None:
    error = LawBroken("L4", "x")
    error.add_note("def test_a_sequence(): ...")
    error.add_note("Failing test case: <state machine>")
    error.add_note("state = M()")

    assert "def test_a_sequence" in explain(error).text
    assert "state = M()" not in explain(error).text


def test_without_a_trace_of_the_kit_hypothesis_s_is_shown() -> None:
    error = LawBroken("L4", "x")
    error.add_note("Falsifying example:")

    assert "Falsifying example:" in explain(error).text


def test_of_several_errors_the_breach_is_shown_and_the_others_named() -> None:
    group = ExceptionGroup("2", [TypeError("first"), ExceptionGroup("1", [LawBroken("L4", "x")])])

    shown = explain(group)

    assert shown.law == "L4"
    assert "The same run also found:\n  TypeError: first" in shown.text


def test_what_hypothesis_cannot_repeat_is_shown_as_what_it_was() -> None:
    group = FlakyFailure("unreliable", [LawBroken("L4", "x")])

    shown = explain(group)

    assert shown.law == "L4"
    assert "It happened once" in shown.text


def test_an_error_behind_one_of_hypothesis_s_is_shown_instead() -> None:
    error = FlakyStrategyDefinition("inconsistent")
    error.__context__ = ConnectionError("gone")

    assert explain(error).what == "ConnectionError: gone"


def test_of_an_error_in_a_backend_its_own_frames_are_shown() -> None:
    def author_s_function() -> None:
        raise TypeError("no")

    try:
        with open_case(MutantTarget(object), Ledger("x")) as case:
            case.goes_on("L31", author_s_function)
    except TypeError as error:
        shown = explain(error)

    assert shown.law is None
    assert shown.text.startswith("TypeError: no\n")
    assert "in author_s_function" in shown.text
    assert "case.py" not in shown.text


def test_a_large_payload_does_not_flood_the_screen() -> None:
    shown = explain(LawBroken("R8", "found: " + "x" * 100_000 + "\nnext line"))

    assert len(shown.what) == 200
    assert len(shown.text) < 1500
    assert "next line" in shown.text
