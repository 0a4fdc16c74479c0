"""Examples of what a consumer may rely on when it claims."""

from __future__ import annotations

from typing import Final

from taskq.contract.settlement import Ack, Release, Retry
from taskq.testing.laws.case import Case, ids_of, item, law

THOUSANDS: Final = 4500
"""More than fits into what some servers take in one go."""


class ClaimingLaws:
    """L3, L5 to L8, L10 and L12."""

    @law("L3")
    def test_a_leased_message_is_nobody_elses_until_its_lease_ends(self, case: Case) -> None:
        other = case.other()
        case.send("m")
        held = case.one("L3", "m", lease=30)

        case.same("L3", case.claim(broker=other), [], "claimed by another at once")
        case.advance(28)
        case.same("L3", case.claim(broker=other), [], "claimed by another after 28 s")
        case.same("L3", case.broker.recover_expired(), 0, "recovered after 28 s")
        case.same("L3", case.broker.ack(held), True, "ack within the lease")

    @law("L3")
    def test_an_extended_lease_ends_later(self, case: Case) -> None:
        case.send("m")
        held = case.one("L3", "m", lease=10)
        case.advance(8)

        case.same("L3", case.broker.extend([held], lease=30).lost, [], "lost")

        case.advance(28)
        case.stays("L3")
        case.advance(3)
        case.comes("L5", "m")

    @law("L3")
    def test_an_extension_may_shorten_a_lease(self, case: Case) -> None:
        case.send("m")
        held = case.one("L3", "m", lease=500)
        case.broker.extend([held], lease=10)
        case.advance(11)

        case.comes("L5", "m")

    @law("L3")
    def test_a_lease_outlives_the_crash_of_its_holder(self, case: Case) -> None:
        victim = case.other()
        case.send("m")
        case.one("L3", "m", broker=victim)

        case.cut(victim)

        case.advance(28)
        case.stays("L3")
        case.advance(3)
        case.comes("L5", "m")

    @law("L3", "L5", "L11", "L12", "L21")
    def test_a_message_whose_holder_dies_is_lost_each_time(self, case: Case) -> None:
        case.send("m", limit=3)
        for losses in range(3):
            victim = case.other()
            held = case.one("L5", "m", lease=10, broker=victim)
            case.same("L11", (held.losses, held.run), (losses, losses), "losses and run")

            case.cut(victim, lease=10)

            case.advance(8)
            case.stays("L3")
            case.advance(70)
            case.broker.recover_expired()
            case.advance(3)

        case.stays("L12")
        letters = [(letter.code, letter.losses) for letter in case.broker.dead_letters("q")]
        case.same("L12", letters, [("worker_lost", 3)], "dead letters")

    @law("L5")
    def test_a_message_whose_holder_dies_again_rests_longer(self, case: Case) -> None:
        victim = case.other()
        case.send("m")
        case.lose("L5", "m", 2)
        case.one("L5", "m", lease=10, broker=victim)

        case.cut(victim, lease=10)

        case.advance(11)
        case.stays("L5")
        case.advance(3)
        case.comes("L5", "m")

    @law("L5", "L10")
    def test_what_lost_its_holder_comes_before_all_others_of_its_level(self, case: Case) -> None:
        victim = case.other()
        case.send("first", "second")
        case.claim(limit=1, broker=victim)
        case.send("urgent", priority=9)
        [second, urgent] = sorted(case.claim(), key=lambda delivery: delivery.id)

        case.cut(victim)
        case.settle("L10", Retry(second), Retry(urgent))
        case.advance(31)

        case.comes("L10", "urgent", "first", "second")

    @law("L3")
    def test_a_claim_never_brings_more_than_its_limit(self, case: Case) -> None:
        case.send(*(f"m{n}" for n in range(8)))

        case.same("L3", len(case.claim(limit=5)), 5, "claimed")
        case.same("L3", len(case.claim(limit=5)), 3, "claimed next")

    @law("L5")
    def test_a_lost_message_comes_at_once_the_first_time(self, case: Case) -> None:
        case.send(*(f"m{n}" for n in range(10)))
        case.claim()
        case.advance(31)

        case.same("L5", len(case.claim()), 10, "reclaimed")

    @law("L5", "L6")
    def test_from_the_second_loss_on_a_message_rests(self, case: Case) -> None:
        case.send("m", limit=50)
        case.lose("L5", "m", 1)
        for pause in (1, 2, 4, 8, 16, 32, 60, 60):
            case.one("L5", "m", lease=10)
            case.advance(10.01)
            case.stays("L5")
            case.advance(pause - 0.6)
            case.stays("L6")
            case.advance(1.2)

    @law("L6", "L7")
    def test_a_delayed_message_comes_when_it_is_due_and_not_before(self, case: Case) -> None:
        now = case.clock.now()
        case.broker.send([item("delay", delay=50), item("eta", eta=now + 53)])

        case.stays("L6")
        case.advance(48)
        case.stays("L6")
        case.advance(3)
        case.comes("L7", "delay")
        case.advance(3)
        case.comes("L7", "eta")

    @law("L6", "L7")
    def test_retried_and_released_messages_wait_for_their_delay(self, case: Case) -> None:
        case.send("retried", "released")
        retried, released = case.claim()
        case.settle("L6", Retry(retried, delay=20), Release(released, delay=40))

        case.advance(18)
        case.stays("L6")
        case.advance(3)
        case.comes("L7", "retried")
        case.advance(17)
        case.stays("L6")
        case.advance(3)
        case.comes("L7", "released")

    @law("L7")
    def test_a_time_that_has_passed_means_at_once(self, case: Case) -> None:
        case.send("m", eta=case.clock.now() - 100)
        case.comes("L7", "m")

    @law("L7")
    def test_scheduling_is_sending_with_an_eta(self, case: Case) -> None:
        case.broker.schedule(item("m").message, eta=case.clock.now() + 20)
        case.stays("L6")
        case.advance(21)
        case.comes("L7", "m")

    @law("L7")
    def test_a_claim_looks_at_as_many_due_and_lost_ones_as_it_may_take(self, case: Case) -> None:
        case.send(*(f"lost{n}" for n in range(4)))
        case.claim()
        case.send(*(f"due{n}" for n in range(4)), delay=10)
        case.advance(31)

        case.same("L5", len(case.claim(limit=4)), 4, "claimed")
        case.same("L7", len(case.claim(limit=4)), 4, "claimed next")

    @law("L8")
    def test_the_most_urgent_come_first(self, case: Case) -> None:
        for priority in (5, 0, 9, 3, 7):
            case.send(f"p{priority}", f"p{priority}-2", priority=priority)

        case.same("L8", ids_of(case.claim(limit=3)), ["p9", "p9-2", "p7"], "first claim")
        case.comes("L8", "p7-2", "p5", "p5-2", "p3", "p3-2", "p0", "p0-2")

    @law("L8")
    def test_what_becomes_due_is_not_passed_over(self, case: Case) -> None:
        case.send("low", priority=1)
        case.send("urgent", priority=9, delay=20)
        case.advance(21)

        case.same("L8", ids_of(case.claim(limit=1)), ["urgent"], "first claim")
        case.comes("L8", "low")

    @law("L8")
    def test_queues_are_emptied_in_the_order_given(self, case: Case) -> None:
        case.send("a1", "a2", queue="a", priority=0)
        case.send("b1", "b2", queue="b", priority=9)

        case.same("L8", ids_of(case.claim("a", "b", limit=3)), ["a1", "a2", "b1"], "first claim")
        case.same("L8", ids_of(case.claim("a", "b")), ["b2"], "second claim")

    @law("L10")
    def test_a_lost_message_comes_before_all_others_of_its_level(self, case: Case) -> None:
        case.send("first", "second")
        case.claim(limit=1)
        case.send("third")
        case.send("urgent", priority=9)
        case.advance(31)

        case.comes("L10", "urgent", "first", "second", "third")

    @law("L10")
    def test_a_released_message_comes_first_and_a_retried_one_last(self, case: Case) -> None:
        case.send("a", "b", "c", "d")
        a, b = case.claim(limit=2)
        case.settle("L10", Retry(a), Release(b))

        case.comes("L10", "b", "c", "d", "a")

    @law("L10")
    def test_a_released_message_comes_first_after_its_delay_too(self, case: Case) -> None:
        case.send("a", "b")
        [a] = case.claim(limit=1)
        case.settle("L10", Release(a, delay=20))
        case.send("c")
        case.advance(21)

        case.comes("L10", "a", "b", "c")

    @law("L10")
    def test_delayed_messages_join_the_tail(self, case: Case) -> None:
        case.send("old")
        case.send("due", delay=20)
        case.advance(21)
        case.broker.poll_schedule()
        case.advance(2)
        case.send("new")

        case.comes("L10", "old", "due", "new")

    @law("L10")
    def test_a_retried_message_that_was_lost_before_joins_the_tail(self, case: Case) -> None:
        case.send("a", "b")
        case.claim(limit=1)
        case.advance(31)
        case.settle("L10", Retry(case.one("L10", "a")))

        case.comes("L10", "b", "a")

    @law("L12")
    def test_a_message_lost_too_often_is_dead(self, case: Case) -> None:
        for limit in (2, 3, 5):
            id = f"m{limit}"
            case.send(id, limit=limit)
            case.lose("L12", id, limit - 1)
            last = case.one("L12", id)
            case.same("L12", last.losses, limit - 1, "losses of the last delivery")
            case.advance(31)

            case.stays("L12")
            case.broker.recover_expired()
            case.advance(100)
            case.stays("L12")
            letters = {letter.message.id: letter for letter in case.broker.dead_letters("q")}
            case.check("L12", id in letters, f"{id} is not a dead letter")
            case.same("L12", letters[id].code, "worker_lost", "code")
            case.same("L12", letters[id].losses, limit, "losses")

    @law("L12")
    def test_releases_and_retries_use_up_no_deliveries(self, case: Case) -> None:
        case.send("m", limit=2)
        for _ in range(4):
            case.settle("L12", Release(case.one("L12", "m")))
            case.settle("L12", Retry(case.one("L12", "m")))

        case.comes("L12", "m")

    @law("L5", "L7")
    def test_a_claim_looks_for_what_is_due_and_lost_in_its_own_queues(self, case: Case) -> None:
        case.send("lost-elsewhere", queue="o")
        case.claim("o", lease=5)
        case.send("lost")
        case.claim(lease=8)
        case.send("due-elsewhere", queue="o", delay=10)
        case.send("due", delay=15)
        case.advance(9)
        case.same("L5", ids_of(case.claim(limit=1)), ["lost"], "claimed")
        case.advance(7)

        case.same("L7", ids_of(case.claim(limit=1)), ["due"], "claimed")

        case.same("L5", sorted(ids_of(case.claim("o"))), ["due-elsewhere", "lost-elsewhere"], "o")

    @law("L10")
    def test_what_was_due_first_comes_first(self, case: Case) -> None:
        case.send("last", delay=30)
        case.send("first", delay=10)
        case.send("second", delay=20)
        case.advance(31)

        for id in ("first", "second", "last"):
            case.one("L10", id)

    @law("L1", "L5", "L9")
    def test_thousands_are_claimed_lost_extended_and_concluded_at_once(self, case: Case) -> None:
        ids = [f"m{n:04}" for n in range(THOUSANDS)]
        case.send(*ids)

        first = case.claim(limit=THOUSANDS)
        case.check("L9", ids_of(first) == ids, f"{len(first)} came, or not in order")
        case.advance(31)
        second = case.claim(limit=THOUSANDS)
        case.check("L5", sorted(ids_of(second)) == ids, f"{len(second)} came back")
        case.check("L11", all(d.losses == 1 for d in second), "not all were counted as lost once")
        lost = case.broker.extend([*first, *second], lease=60).lost
        case.check("L4", lost == first, f"{len(lost)} were lost by extending")
        case.advance(31)
        case.stays("L3")
        lost = case.broker.settle([Ack(delivery) for delivery in second])
        case.check("L3", lost == [], f"{len(lost)} were lost by settling")
        case.same("L1", case.broker.stats(), [], "stats of nothing")
