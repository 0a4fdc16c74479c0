"""Each rule of leases and tokens, with a history that keeps it and the smallest that breaks it."""

from __future__ import annotations

import pytest

from taskq.testing.concurrency.history import Fate, Item, Settled
from tests.unit.testing.concurrency.script import got

# L3: one lease at a time


def test_two_leases_one_after_the_other_break_nothing(lost):
    lost.settled("m", "t2", at=4, who="d")

    assert lost.broken() is None


def test_a_lease_within_another_breaks_l3(script):
    script.sent("m", at=0)
    script.claimed(got("m", "t1"), at=1, lease=5.0)
    script.claimed(got("m", "t2", losses=1), at=3, who="d")
    script.settled("m", "t2", at=4, who="d")

    assert script.broken() == "L3"


def test_a_lease_within_another_is_not_the_fault_of_the_first(script):
    script.sent("m", at=0)
    script.claimed(got("m", "t1"), at=1, lease=5.0)
    script.claimed(got("m", "t2", losses=1), at=3, who="d")
    script.settled("m", "t1", at=4)

    assert script.broken() == "L3"


@pytest.mark.parametrize(("lease", "law"), [(5.0, "L3"), (1.0, None)])
def test_a_claim_within_a_lease_breaks_l3_however_short_its_own_is(script, lease, law):
    script.sent("m", at=0)
    script.claimed(got("m", "t1"), at=1, lease=lease)
    script.claimed(got("m", "t2", losses=1), at=3, who="d", lease=0.05)
    script.settled("m", "t2", at=4, who="d")

    assert script.broken() == law


def test_two_leases_of_claims_made_at_once_break_l3(script):
    script.sent("m", at=0)
    script.claimed(got("m", "t1"), at=1.00)
    script.claimed(got("m", "t2"), at=1.05, who="d")
    script.settled("m", "t1", at=3)
    script.settled("m", "t2", at=3, who="d", lost=True)

    assert script.broken() == "L3"


def test_a_lease_after_a_release_breaks_nothing(script):
    script.sent("m", at=0)
    script.claimed(got("m", "t1"), at=1)
    script.settled("m", "t1", "release", at=2)
    script.claimed(got("m", "t2", releases=1), at=2.05, who="d")
    script.settled("m", "t2", at=3, who="d")

    assert script.broken() is None


def test_an_extension_that_held_keeps_others_away(script):
    script.sent("m", at=0)
    script.claimed(got("m", "t1"), at=1, lease=1.0)
    script.extended("m", "t1", at=1.5, lease=5.0)
    script.claimed(got("m", "t2", losses=1), at=3, who="d")
    script.settled("m", "t2", at=4, who="d")

    assert script.broken() == "L3"


@pytest.mark.parametrize(("at", "law"), [(3.38, "L3"), (3.49, None)])
def test_an_extended_lease_is_lost_after_its_new_end_only(script, at, law):
    script.sent("m", at=0)
    script.claimed(got("m", "t1"), at=1, lease=1.0)
    script.extended("m", "t1", at=1.5, lease=2.0)
    script.settled("m", "t1", at=at - 0.09, lost=True)
    script.claimed(got("m", "t2", losses=1), at=4)
    script.settled("m", "t2", at=5)

    assert script.broken() == law


def test_a_claim_that_waits_may_begin_before_the_one_it_follows(script):
    script.sent("m", at=0)
    script.claimed(got("m", "t2", releases=1), at=1.0, took=3, who="d")
    script.claimed(got("m", "t1"), at=1.5)
    script.settled("m", "t1", "release", at=2)
    script.settled("m", "t2", at=5, who="d")

    assert script.broken() is None


def test_an_extension_may_shorten_a_lease(script):
    script.sent("m", at=0)
    script.claimed(got("m", "t1"), at=1, lease=9.0)
    script.extended("m", "t1", at=1.5, lease=1.0)
    script.claimed(got("m", "t2", losses=1), at=3, who="d")
    script.settled("m", "t2", at=4, who="d")

    assert script.broken() is None


@pytest.mark.parametrize("second", ["t1", "t2"])
def test_a_message_twice_in_one_claim_breaks_l3(script, second):
    script.sent("m", at=0)
    script.claimed(got("m", "t1"), got("m", second), at=1)
    script.settled("m", "t1", at=2)

    assert script.broken() == "L3"


def test_more_messages_than_the_limit_break_l3(script):
    script.sent("m", "n", at=0)
    script.claimed(got("m", "t1"), got("n", "t1"), at=1, limit=1)
    script.settled("m", "t1", at=2)
    script.settled("n", "t1", at=2)

    assert script.broken() == "L3"


@pytest.mark.parametrize(("at", "law"), [(1.5, "L3"), (1.89, None), (2.5, None)])
def test_a_settlement_is_lost_after_the_end_of_its_lease_only(script, at, law):
    script.sent("m", at=0)
    script.claimed(got("m", "t1"), at=1, lease=1.0)
    script.settled("m", "t1", at=at, lost=True)
    script.claimed(got("m", "t2", losses=1), at=3, who="d")
    script.settled("m", "t2", at=4, who="d")

    assert script.broken() == law


@pytest.mark.parametrize(("at", "law"), [(1.5, "L3"), (2.5, None)])
def test_an_extension_is_lost_after_the_end_of_its_lease_only(script, at, law):
    script.sent("m", at=0)
    script.claimed(got("m", "t1"), at=1, lease=1.0)
    script.extended("m", "t1", at=at, lost=True)
    script.claimed(got("m", "t2", losses=1), at=3, who="d")
    script.settled("m", "t2", at=4, who="d")

    assert script.broken() == law


# L4: stale tokens


def test_a_late_settlement_that_nobody_forestalled_breaks_nothing(script):
    script.sent("m", at=0)
    script.claimed(got("m", "t1"), at=1, lease=1.0)
    script.settled("m", "t1", at=9)

    assert script.broken() is None


@pytest.mark.parametrize("kind", ["ack", "retry", "release", "dead"])
def test_a_stale_token_that_settles_breaks_l4(lost, kind):
    lost.settled("m", "t1", kind, at=4)
    lost.settled("m", "t2", at=5, who="d", lost=True)

    assert lost.broken() == "L4"


def test_a_stale_token_that_is_refused_breaks_nothing(lost):
    lost.settled("m", "t1", at=4, lost=True)
    lost.settled("m", "t2", at=5, who="d")

    assert lost.broken() is None


def test_a_stale_token_that_extends_breaks_l4(lost):
    lost.extended("m", "t1", at=4)
    lost.settled("m", "t2", at=5, who="d")

    assert lost.broken() == "L4"


def test_a_settlement_at_the_very_moment_of_the_next_claim_is_nobodys_fault(script):
    script.sent("m", at=0)
    script.claimed(got("m", "t1"), at=1, lease=1.0)
    script.settled("m", "t1", "release", at=2.95, took=0.2)
    script.claimed(got("m", "t2", releases=1), at=3, who="d")
    script.settled("m", "t2", at=4, who="d")

    assert script.broken() is None


def test_a_token_that_was_lost_once_and_settles_later_breaks_l4(script):
    script.sent("m", at=0)
    script.claimed(got("m", "t1"), at=1, lease=1.0)
    script.extended("m", "t1", at=2.5, lost=True)
    script.settled("m", "t1", at=3)

    assert script.broken() == "L4"


def test_two_leases_with_one_token_break_l4(script):
    script.sent("m", at=0)
    script.claimed(got("m", "t"), at=1, lease=1.0)
    script.claimed(got("m", "t", losses=1), at=3, who="d")
    script.settled("m", "t", at=4, who="d")

    assert script.broken() == "L4"


def test_two_messages_of_one_claim_may_have_one_token(script):
    script.sent("m", "n", at=0)
    script.claimed(got("m", "t"), got("n", "t"), at=1)
    script.settled("m", "t", at=2)
    script.settled("n", "t", at=2)

    assert script.broken() is None


@pytest.mark.parametrize(("refused", "law"), [(True, "L4"), (False, None)])
def test_a_successor_comes_only_of_an_ack_that_was_accepted(lost, refused, law):
    item = Item("s", "q", 5, b"s")
    holder = ("t1", "c") if refused else ("t2", "d")
    lost.settled("m", holder[0], at=4, who=holder[1], lost=refused, successors=(item,))
    if refused:
        lost.settled("m", "t2", at=5, who="d")
    lost.claimed(got("s", "t3"), at=6)
    lost.settled("s", "t3", at=7)

    assert lost.broken() == law


def test_a_successor_of_an_ack_that_was_lost_need_not_come(lost):
    item = Item("s", "q", 5, b"s")
    lost.settled("m", "t1", at=4, lost=True, successors=(item,))
    lost.settled("m", "t2", at=5, who="d")

    assert lost.broken() is None


# L17: each settlement alone


@pytest.mark.parametrize(("lost", "law"), [(True, None), (False, "L17")])
def test_of_two_settlements_of_one_delivery_one_holds(script, lost, law):
    script.sent("m", at=0)
    script.claimed(got("m", "t"), at=1)
    script.settled("m", "t", at=2)
    script.settled("m", "t", at=2.05, who="d", lost=lost)

    assert script.broken() == law


def test_a_loss_that_was_not_asked_about_breaks_l17(script):
    script.sent("m", at=0)
    script.claimed(got("m", "t"), at=1)
    fate = Fate("m", "t", "ack", lost=False)
    script.calls.append(Settled("c", 2, 2.1, [fate], strange=[("n", "t")]))

    assert script.broken() == "L17"
