"""Examples of what a consumer may rely on when it claims."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor

from taskq.contract.broker import Broker
from taskq.contract.delivery import Delivery, State
from taskq.contract.settlement import Ack, Dead, Release, Retry
from taskq.testing.laws.case import Case, ids_of, item, law

WAITERS = 5
SOON = 1.0
PROMPT = 0.25
"""100 ms by law L24, and what a busy machine needs to wake a thread."""


class ClaimingLaws:
    """L3, L5 to L8, L10, L12, L24, L28."""

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

        case.target.crash(victim)

        case.advance(28)
        case.stays("L3")
        case.advance(3)
        case.comes("L5", "m")

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

    @law("L24")
    def test_an_interrupted_client_claims_nothing_more(self, case: Case) -> None:
        other = case.other()
        case.send("a", "b", "c", "d")
        a, b, c = case.claim(limit=3)

        case.broker.interrupt()

        for _ in range(3):
            case.same("L24", case.claim(), [], "claimed")
        started = time.monotonic()
        case.same("L24", case.broker.reserve(["q"], limit=1, lease=30, wait=5), [], "waited for")
        case.check("L24", time.monotonic() - started < PROMPT, "an interrupted reserve waits")
        case.same("L24", case.broker.extend([a], lease=60).lost, [], "lost by extending")
        case.settle("L24", Ack(a), Release(b), Dead(c, "failed"))
        case.same("L24", ids_of(case.claim(broker=other)), ["b", "d"], "claimed by another")

    @law("L24")
    def test_interrupt_ends_a_reserve_that_waits(self, case: Case) -> None:
        brokers = [case.other() for _ in range(WAITERS)]
        with ThreadPoolExecutor(WAITERS) as threads:
            waiting = [threads.submit(_wait, broker, "q") for broker in brokers]
            time.sleep(0.1)
            for broker, answer in zip(brokers, waiting, strict=True):
                called = time.monotonic()
                broker.interrupt()
                found, ended = answer.result(30)
                case.same("L24", found, [], "claimed")
                case.check("L24", ended - called < PROMPT, f"it took {ended - called:.3f} s")

    @law("L28")
    def test_a_reserve_that_waits_returns_when_a_message_is_sent(self, case: Case) -> None:
        brokers = [case.other() for _ in range(WAITERS)]
        with ThreadPoolExecutor(WAITERS) as threads:
            for round_ in range(4):
                waiting = [threads.submit(_wait, b, f"q{n}") for n, b in enumerate(brokers)]
                time.sleep(0.05)
                sent = time.monotonic()
                for n in range(WAITERS):
                    case.send(f"m{round_}-{n}", queue=f"q{n}")
                for n, answer in enumerate(waiting):
                    _check_woken(case, answer, f"m{round_}-{n}", sent)

    @law("L28")
    def test_a_reserve_that_waits_gives_up_in_time(self, case: Case) -> None:
        started = time.monotonic()
        found = case.broker.reserve(["q"], limit=1, lease=30, wait=0.2)
        took = time.monotonic() - started

        case.same("L28", found, [], "claimed")
        case.check("L28", 0.15 < took < SOON, f"it took {took:.3f} s")

    @law("L28")
    def test_a_released_message_wakes_a_reserve_that_waits(self, case: Case) -> None:
        other = case.other()
        case.send("m")
        held = case.one("L28", "m")
        with ThreadPoolExecutor(1) as threads:
            answer = threads.submit(_wait, other, "q")
            time.sleep(0.05)
            sent = time.monotonic()
            case.settle("L28", Release(held))
            _check_woken(case, answer, "m", sent)
        case.state("L28", "m", State.PROCESSING)


def _wait(broker: Broker, queue: str) -> tuple[list[Delivery], float]:
    found = broker.reserve([queue], limit=1, lease=30, wait=1.5)
    return found, time.monotonic()


def _check_woken(
    case: Case, answer: Future[tuple[list[Delivery], float]], id: str, sent: float
) -> None:
    found, ended = answer.result(30)
    case.check(
        "L28",
        ids_of(found) == [id] and ended - sent < SOON,
        f"{ids_of(found)} in {ended - sent:.3f} s",
    )
