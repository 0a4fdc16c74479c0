"""Each rule between messages, with a history that keeps it and the smallest that breaks it."""

from __future__ import annotations

import pytest

from tests.unit.testing.concurrency.script import got

# L5: what was lost


@pytest.mark.parametrize(
    ("at", "limit", "law"), [(1.5, 5, None), (2.11, 5, None), (2.5, 5, "L5"), (2.5, 1, None)]
)
def test_a_claim_with_room_left_returns_what_was_lost(script, at, limit, law):
    script.sent("m", "n", at=0)
    script.claimed(got("m", "t1"), at=1, lease=1.0, limit=1)
    script.claimed(got("n", "t1"), at=at, limit=limit)
    script.settled("n", "t1", at=2.7)
    script.claimed(got("m", "t2", losses=1), at=3)
    script.settled("m", "t2", at=4)

    assert script.broken() == law


@pytest.mark.parametrize(("at", "law"), [(2.5, None), (3.61, None), (3.7, "L5")])
def test_what_was_extended_is_lost_later(script, at, law):
    script.sent("m", at=0)
    script.claimed(got("m", "t1"), at=1, lease=1.0)
    script.extended("m", "t1", at=1.5, lease=2.0)
    script.claimed(at=at, limit=5)
    script.claimed(got("m", "t2", losses=1), at=5)
    script.settled("m", "t2", at=6)

    assert script.broken() == law


@pytest.mark.parametrize(("limit", "law"), [(1, None), (2, "L5")])
def test_a_claim_may_be_busy_with_lost_messages_that_have_to_rest(script, limit, law):
    script.sent("m", "n", at=0)
    script.claimed(got("m", "t1"), at=1, lease=0.5, limit=1)
    script.claimed(got("m", "t2", losses=1), at=2, lease=0.5, limit=1)
    script.claimed(got("n", "t1"), at=2.2, lease=0.5, limit=1)
    script.claimed(at=3, limit=limit)
    script.claimed(got("n", "t2", losses=1), got("m", "t3", losses=2), at=6)
    script.settled("n", "t2", at=7)
    script.settled("m", "t3", at=7)

    assert script.broken() == law


def test_a_claim_returns_what_was_lost_when_nothing_rests_any_more(script):
    script.sent("m", "n", at=0)
    script.claimed(got("m", "t1"), at=1, lease=0.5, limit=1)
    script.claimed(got("m", "t2", losses=1), at=2, lease=0.5, limit=1)
    script.claimed(got("m", "t3", losses=2), at=4, limit=1)
    script.settled("m", "t3", at=5)
    script.claimed(got("n", "t1"), at=6, lease=0.5, limit=1)
    script.claimed(at=7, limit=1)
    script.claimed(got("n", "t2", losses=1), at=8)
    script.settled("n", "t2", at=9)

    assert script.broken() == "L5"


# L1, L8, L9, L10: what a claim passes over


@pytest.mark.parametrize(("limit", "law"), [(2, "L1"), (1, None)])
def test_a_claim_with_room_left_returns_what_is_ready(script, limit, law):
    script.sent("m", "n", at=0)
    script.claimed(got("m", "t"), at=1, limit=limit)
    script.claimed(got("n", "t"), at=2)
    script.settled("m", "t", at=3)
    script.settled("n", "t", at=3)

    assert script.broken() == law


def test_a_claim_may_miss_what_is_sent_meanwhile(script):
    script.sent("m", at=1, took=9)
    script.claimed(at=2, limit=5)
    script.claimed(got("m", "t"), at=3)
    script.settled("m", "t", at=4)

    assert script.broken() is None


@pytest.mark.parametrize(("at", "law"), [(0.0, "L8"), (0.95, None)])
def test_a_claim_passes_over_nothing_more_urgent(script, at, law):
    script.sent("urgent", at=at, priority=9)
    script.sent("m", at=0, who="p2")
    script.claimed(got("m", "t"), at=1)
    script.claimed(got("urgent", "t", priority=9), at=2)
    script.settled("m", "t", at=3)
    script.settled("urgent", "t", at=3)

    assert script.broken() == law


@pytest.mark.parametrize(("queues", "law"), [(("r", "q"), "L8"), (("q", "r"), None)])
def test_a_claim_empties_its_queues_in_order(script, queues, law):
    script.sent("m", at=0)
    script.sent("r", at=0, queue="r", who="p2")
    script.claimed(got("m", "t"), at=1, queues=queues)
    script.claimed(got("r", "t", queue="r"), at=2, queues=("r",))
    script.settled("m", "t", at=3)
    script.settled("r", "t", at=3)

    assert script.broken() == law


@pytest.mark.parametrize(("urgent", "law"), [(0, None), (1, "L8")])
def test_an_answer_has_the_most_urgent_first(script, urgent, law):
    pair = [got("urgent", "t", priority=9), got("m", "t")]
    script.sent("urgent", at=0, priority=9)
    script.sent("m", at=0, who="p2")
    script.claimed(*(pair if not urgent else pair[::-1]), at=1)
    script.settled("m", "t", at=3)
    script.settled("urgent", "t", at=3)

    assert script.broken() == law


@pytest.mark.parametrize(("first", "second", "law"), [("m", "n", None), ("n", "m", "L9")])
def test_messages_of_one_producer_come_in_the_order_they_were_sent(script, first, second, law):
    script.sent("m", "n", at=0)
    script.claimed(got(first, "t"), at=1)
    script.claimed(got(second, "t"), at=2, who="d")
    script.settled("m", "t", at=3)
    script.settled("n", "t", at=3)

    assert script.broken() == law


@pytest.mark.parametrize(("first", "second", "law"), [("m", "n", None), ("n", "m", "L9")])
def test_messages_of_one_producer_stand_in_order_in_one_answer(script, first, second, law):
    script.sent("m", "n", at=0)
    script.claimed(got(first, "t"), got(second, "t"), at=1)
    script.settled("m", "t", at=3)
    script.settled("n", "t", at=3)

    assert script.broken() == law


def test_claims_made_at_once_may_part_messages_in_any_order(script):
    script.sent("m", "n", at=0)
    script.claimed(got("n", "t"), at=1.0)
    script.claimed(got("m", "t"), at=1.05, who="d")
    script.settled("m", "t", at=3)
    script.settled("n", "t", at=3)

    assert script.broken() is None


def test_messages_of_two_producers_come_in_any_order(script):
    script.sent("m", at=0)
    script.sent("n", at=0.5, who="p2")
    script.claimed(got("n", "t"), at=1)
    script.claimed(got("m", "t"), at=2)
    script.settled("m", "t", at=3)
    script.settled("n", "t", at=3)

    assert script.broken() is None


@pytest.mark.parametrize(("kind", "law"), [("release", "L10"), ("retry", None)])
def test_what_was_released_comes_before_what_is_new(script, kind, law):
    counts = {"retries": 1} if kind == "retry" else {"releases": 1}
    script.sent("m", "n", at=0)
    script.claimed(got("m", "t1"), at=1)
    script.settled("m", "t1", kind, at=2)
    script.claimed(got("n", "t"), at=3)
    script.claimed(got("m", "t2", **counts), at=4)
    script.settled("m", "t2", at=5)
    script.settled("n", "t", at=5)

    assert script.broken() == law


@pytest.mark.parametrize(("since", "law"), [(2.9, None), (2.2, "L10"), (3.2, "L10")])
def test_what_another_call_is_busy_with_may_be_passed_over(script, since, law):
    script.sent("m", "n", at=0)
    script.claimed(got("m", "t1"), at=1)
    script.settled("m", "t1", "release", at=2)
    script.settled("m", "t1", at=since, lost=True, took=0.15, who="d")
    script.claimed(got("n", "t"), at=3)
    script.claimed(got("m", "t2", releases=1), at=4)
    script.settled("m", "t2", at=5)
    script.settled("n", "t", at=5)

    assert script.broken() == law
