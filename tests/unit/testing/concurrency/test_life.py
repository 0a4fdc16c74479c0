"""Each rule of a life from its first delivery to its end: histories that keep and that break it."""

from __future__ import annotations

import pytest

from taskq.testing.concurrency.history import Letter
from tests.unit.testing.concurrency.script import got

# L1, L5, L7, L13, L19: how a message ends


def test_a_message_that_was_sent_claimed_and_acked_breaks_nothing(script):
    script.sent("m", at=0)
    script.claimed(got("m", "t"), at=1)
    script.settled("m", "t", at=2)

    assert script.broken() is None


def test_a_message_that_never_comes_breaks_l1(script):
    script.sent("m", at=0)

    assert script.broken() == "L1"


def test_a_message_that_never_comes_after_a_release_breaks_l1(script):
    script.sent("m", at=0)
    script.claimed(got("m", "t"), at=1)
    script.settled("m", "t", "release", at=2)

    assert script.broken() == "L1"


def test_a_message_that_never_comes_after_a_delay_breaks_l7(script):
    script.sent("m", at=0)
    script.claimed(got("m", "t"), at=1)
    script.settled("m", "t", "retry", at=2, delay=0.5)

    assert script.broken() == "L7"


def test_a_message_that_comes_while_it_is_sent_breaks_nothing(script):
    script.sent("m", at=0, took=9)
    script.claimed(got("m", "t"), at=1)
    script.settled("m", "t", at=2)

    assert script.broken() is None


def test_a_message_that_never_comes_after_its_lease_breaks_l5(script):
    script.sent("m", at=0)
    script.claimed(got("m", "t"), at=1, lease=1.0)

    assert script.broken() == "L5"


def test_a_concluded_message_that_comes_again_breaks_l13(script):
    script.sent("m", at=0)
    script.claimed(got("m", "t1"), at=1)
    script.settled("m", "t1", at=2)
    script.claimed(got("m", "t2", losses=1), at=30)
    script.settled("m", "t2", at=31)

    assert script.broken() == "L13"


def test_a_concluded_message_that_comes_again_breaks_l13_whatever_becomes_of_it(script):
    script.sent("m", at=0)
    script.claimed(got("m", "t1"), at=1)
    script.settled("m", "t1", at=2)
    script.claimed(got("m", "t2", losses=1), at=30)

    assert script.broken() == "L13"


def test_a_dead_message_that_is_listed_breaks_nothing(script):
    script.sent("m", at=0)
    script.claimed(got("m", "t"), at=1)
    script.settled("m", "t", "dead", at=2)
    script.letters = [Letter("m", "failed", 0, 0, 0, 0)]

    assert script.broken() is None


@pytest.mark.parametrize("copies", [0, 2])
def test_a_dead_message_that_is_not_listed_once_breaks_l19(script, copies):
    script.sent("m", at=0)
    script.claimed(got("m", "t"), at=1)
    script.settled("m", "t", "dead", at=2)
    script.letters = [Letter("m", "failed", 0, 0, 0, 0)] * copies

    assert script.broken() == "L19"


def test_an_acked_message_among_the_dead_breaks_l19(script):
    script.sent("m", at=0)
    script.claimed(got("m", "t"), at=1)
    script.settled("m", "t", at=2)
    script.letters = [Letter("m", "failed", 0, 0, 0, 0)]

    assert script.broken() == "L19"


def test_a_message_that_dies_of_few_losses_breaks_l12(lost):
    lost.letters = [Letter("m", "worker_lost", 0, 2, 0, 2)]

    assert lost.broken() == "L12"


# L5, L6: when a message comes again


@pytest.mark.parametrize(("at", "law"), [(5.0, "L5"), (6.0, None)])
def test_a_message_rests_after_its_second_loss(script, at, law):
    script.sent("m", at=0)
    script.claimed(got("m", "t1"), at=1, lease=1.0)
    script.claimed(got("m", "t2", losses=1), at=3, who="d", lease=1.5)
    script.claimed(got("m", "t3", losses=2), at=at)
    script.settled("m", "t3", at=8)

    assert script.broken() == law


@pytest.mark.parametrize("kind", ["retry", "release"])
@pytest.mark.parametrize(("at", "law"), [(2.5, "L6"), (2.84, None), (3.0, None)])
def test_a_message_comes_when_its_delay_is_over(script, kind, at, law):
    counts = {"retries": 1} if kind == "retry" else {"releases": 1}
    script.sent("m", at=0)
    script.claimed(got("m", "t1"), at=1)
    script.settled("m", "t1", kind, at=2, delay=0.95)
    script.claimed(got("m", "t2", **counts), at=at)
    script.settled("m", "t2", at=4)

    assert script.broken() == law


# L11, L14: what a delivery says


@pytest.mark.parametrize(
    ("kind", "counts"),
    [
        ("retry", {"releases": 1}),
        ("retry", {"losses": 1}),
        ("retry", {}),
        ("retry", {"retries": 1, "run": 0}),
        ("retry", {"retries": 2}),
        ("release", {"retries": 1}),
        ("release", {"releases": 1, "run": 1}),
    ],
)
def test_a_delivery_that_counts_wrongly_breaks_l11(script, kind, counts):
    script.sent("m", at=0)
    script.claimed(got("m", "t1"), at=1)
    script.settled("m", "t1", kind, at=2)
    script.claimed(got("m", "t2", **counts), at=3)
    script.settled("m", "t2", at=4)

    assert script.broken() == "L11"


def test_a_first_delivery_counts_from_nothing(script):
    script.sent("m", at=0)
    script.claimed(got("m", "t", losses=1), at=1)
    script.settled("m", "t", at=2)

    assert script.broken() == "L11"


def test_a_dead_letter_that_counts_wrongly_breaks_l11(script):
    script.sent("m", at=0)
    script.claimed(got("m", "t"), at=1)
    script.settled("m", "t", "dead", at=2)
    script.letters = [Letter("m", "failed", 1, 0, 0, 1)]

    assert script.broken() == "L11"


@pytest.mark.parametrize(
    "wrong",
    [{"envelope": b"x"}, {"priority": 9}, {"queue": "r"}],
    ids=lambda wrong: next(iter(wrong)),
)
def test_a_message_that_arrives_changed_breaks_l14(script, wrong):
    script.sent("m", at=0)
    script.claimed(got("m", "t", **wrong), at=1, queues=("q", "r"))
    script.settled("m", "t", at=2)

    assert script.broken() == "L14"


@pytest.mark.parametrize(("envelope", "law"), [(b"new", None), (b"m", "L14")])
def test_a_retry_replaces_the_envelope(script, envelope, law):
    script.sent("m", at=0)
    script.claimed(got("m", "t1"), at=1)
    script.settled("m", "t1", "retry", at=2, envelope=b"new")
    script.claimed(got("m", "t2", retries=1, envelope=envelope), at=3)
    script.settled("m", "t2", at=4)

    assert script.broken() == law


def test_a_message_that_nobody_sent_breaks_l14(script):
    script.claimed(got("m", "t"), at=1)
    script.settled("m", "t", at=2)

    assert script.broken() == "L14"


def test_a_message_of_a_queue_that_was_not_asked_for_breaks_l14(script):
    script.sent("m", at=0)
    script.claimed(got("m", "t"), at=1, queues=("r",))
    script.settled("m", "t", at=2)

    assert script.broken() == "L14"
