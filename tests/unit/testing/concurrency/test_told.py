"""What is said of a broken history, how it is counted, how it travels, and by which clock."""

from __future__ import annotations

import time

import pytest

from taskq.clock import VirtualClock
from taskq.testing.concurrency.history import History, Item, pack, unpack
from taskq.testing.concurrency.rules import check_history
from taskq.testing.concurrency.work import Pulse
from taskq.testing.record import LawBroken, Ledger
from tests.unit.testing.concurrency.script import got


def test_a_failure_tells_who_had_the_message_and_when(lost):
    lost.settled("m", "t1", at=4)
    lost.settled("m", "t2", at=5, who="d", lost=True)

    with pytest.raises(LawBroken) as failure:
        check_history(History(lost.calls), Ledger("script"))

    lines = str(failure.value).splitlines()
    assert "m (queue q, priority 5):" in lines[1]
    assert [line.split(" ms ")[1] for line in lines[2:7]] == [
        "p sent it",
        "c reserved it for 1 s, token t1, retries 0, losses 0, releases 0, run 0",
        "d reserved it for 10 s, token t2, retries 0, losses 1, releases 0, run 1",
        "c ack, token t1: accepted",
        "d ack, token t2: lost",
    ]
    assert lines[5].split()[:4] == ["4000.00", "to", "4100.00", "ms"]


def test_a_failure_tells_which_claim_passed_over_what(script):
    script.sent("urgent", at=0, priority=9)
    script.sent("m", at=0, who="p2")
    script.claimed(got("m", "t"), at=1)

    with pytest.raises(LawBroken) as failure:
        check_history(History(script.calls), Ledger("script"), ended=False)

    text = str(failure.value)
    assert "c reserved 1 of 1 from q for 10 s" in text
    assert "passed over urgent (queue q, priority 9):" in text


def test_a_failure_tells_of_the_message_that_was_overtaken_and_of_the_other(script):
    script.sent("m", "n", at=0)
    script.claimed(got("n", "t"), at=1)
    script.claimed(got("m", "t"), at=2)
    script.settled("m", "t", at=3)
    script.settled("n", "t", at=3)

    with pytest.raises(LawBroken) as failure:
        check_history(History(script.calls), Ledger("script"))

    text = str(failure.value)
    assert "m was sent first and came later than n:" in text
    assert "m (queue q, priority 5):" in text
    assert "n (queue q, priority 5):" in text


def test_a_history_that_has_not_ended_may_still_bring_what_is_missing(script):
    script.sent("m", at=0)

    check_history(History(script.calls), Ledger("script"), ended=False)


def test_a_history_of_thousands_of_calls_is_told_by_its_end(script):
    script.sent("m", at=0)
    for turn in range(100):
        script.claimed(got("m", f"t{turn}", releases=turn), at=1 + turn)
        script.settled("m", f"t{turn}", "release", at=1.5 + turn)

    with pytest.raises(LawBroken) as failure:
        check_history(History(script.calls), Ledger("script"))

    text = str(failure.value)
    assert len(text.splitlines()) < 30
    assert "token t99" in text


def test_each_check_is_counted_under_its_law(lost):
    lost.settled("m", "t1", at=4, lost=True)
    lost.settled("m", "t2", at=5, who="d")
    ledger = Ledger("script")

    check_history(History(lost.calls), ledger)

    assert {"L1", "L3", "L4", "L5", "L11", "L13", "L14"} <= set(ledger.counts)
    assert "L6" not in ledger.counts


def test_a_record_crosses_to_another_process_unchanged(lost):
    lost.extended("m", "t1", at=3.5, lost=True)
    item = Item("s", "q", 5, b"s")
    lost.settled("m", "t2", at=5, who="d", envelope=b"new", successors=(item,))

    assert unpack(pack(lost.calls)) == lost.calls


def test_a_clock_that_stands_still_is_moved_by_what_has_passed():
    clock = VirtualClock(frozen=True)
    pulse = Pulse(clock)
    before, start = pulse.read(), clock.now()

    while (after := pulse.read()) - before < 0.01:
        pass

    assert clock.now() - start == pytest.approx(after - before, abs=1e-6)


def test_a_clock_that_stands_still_is_set_to_the_machines_time():
    clock = VirtualClock(frozen=True)
    clock.offset = -100

    earliest = time.time()
    Pulse(clock)

    assert earliest <= clock.now() <= time.time()


def test_a_clock_that_runs_is_left_alone():
    clock = VirtualClock()

    Pulse(clock).read()

    assert clock.offset == 0
