"""Examples of what settling does, and what a lost lease keeps from happening."""

from __future__ import annotations

from taskq.contract.delivery import Delivery, State
from taskq.contract.settlement import Ack, Dead, Release, Retry, Settlement
from taskq.testing.laws.case import Case, ids_of, item, law, record


class SettlingLaws:
    """L4, L11, L13, L16, L17."""

    @law("L4")
    def test_a_stale_token_settles_nothing(self, case: Case) -> None:
        case.send("m")
        stale = case.one("L4", "m")
        case.advance(31)
        fresh = case.one("L4", "m")
        case.check("L4", fresh.token != stale.token, "one token for two deliveries")

        for settlement in _all_kinds(stale):
            lost = case.broker.settle([settlement])
            case.same("L4", lost, [stale], f"lost by a stale {type(settlement).__name__}")
            case.state("L4", "m", State.PROCESSING)
            case.state("L4", "successor", None)

        case.kept("L4", ["m"])
        case.same("L4", case.broker.dead_letters("q"), [], "dead letters")
        case.settle("L4", Release(fresh))
        last = case.one("L4", "m")
        case.same("L4", _counters(last), (0, 1, 1, 1), "counters")
        case.same("L4", last.message, stale.message, "message")

    @law("L4")
    def test_a_lost_lease_is_lost_before_anybody_claims_again(self, case: Case) -> None:
        case.send("a", "b", "c")
        stale = case.claim()
        case.advance(31)
        case.broker.recover_expired()

        for delivery in stale:
            case.same("L4", case.broker.ack(delivery), False, f"ack of {delivery.id}")
        case.same("L4", len(case.broker.extend(stale, lease=60).lost), 3, "lost by extending")
        case.same("L4", sorted(ids_of(case.claim())), ["a", "b", "c"], "reserved")

    @law("L4")
    def test_a_stale_token_extends_nothing(self, case: Case) -> None:
        case.send("m")
        stale = case.one("L4", "m", lease=10)
        case.advance(11)
        fresh = case.one("L4", "m", lease=10)

        case.same("L4", case.broker.extend([stale], lease=500).lost, [stale], "lost")

        case.advance(11)
        case.broker.recover_expired()
        case.same("L4", case.broker.ack(fresh), False, "ack after the real end")
        case.advance(2)
        case.comes("L5", "m")

    @law("L4")
    def test_no_two_deliveries_have_the_same_token(self, case: Case) -> None:
        case.send("m")
        tokens: set[str] = set()
        for _ in range(6):
            delivery = case.one("L4", "m")
            case.check("L4", delivery.token not in tokens, f"token {delivery.token} again")
            tokens.add(delivery.token)
            case.settle("L4", Release(delivery))

    @law("L11")
    def test_each_counter_counts_its_own_kind(self, case: Case) -> None:
        case.send("m")
        ways = [
            ("retry", (1, 0, 0, 1)),
            ("release", (1, 0, 1, 1)),
            ("lose", (1, 1, 1, 2)),
            ("retry", (2, 1, 1, 3)),
            ("release", (2, 1, 2, 3)),
            ("lose", (2, 2, 2, 4)),
        ]
        delivery = case.one("L11", "m")
        for way, expected in ways:
            if way == "lose":
                case.advance(31)
                case.broker.recover_expired()
                case.advance(3)
            else:
                case.settle("L11", Retry(delivery) if way == "retry" else Release(delivery))
            delivery = case.one("L11", "m")
            case.same("L11", _counters(delivery), expected, f"counters after {way}")

    @law("L11")
    def test_the_first_release_is_remembered(self, case: Case) -> None:
        case.send("m")
        first = case.one("L11", "m")
        case.same("L11", first.first_released, None, "first release before any")
        released = case.clock.now()
        case.settle("L11", Release(first))
        case.advance(20)
        second = case.one("L11", "m")
        case.settle("L11", Release(second))
        third = case.one("L11", "m")

        for delivery in (second, third):
            found = delivery.first_released
            near = found is not None and abs(found - released) < 1
            case.check("L11", near, f"first release at {found}, not {released}")

    @law("L13")
    def test_what_was_acked_or_purged_never_comes_back(self, case: Case) -> None:
        case.send("acked", "purged")
        [acked] = case.claim(limit=1)
        case.settle("L13", Ack(acked))
        case.broker.purge("q")

        for _ in range(3):
            case.advance(200)
            case.broker.recover_expired()
            case.broker.poll_schedule()
            case.stays("L13")

    @law("L13")
    def test_the_dead_come_back_by_requeue_alone(self, case: Case) -> None:
        case.kill("m", "n", law="L13")
        for _ in range(3):
            case.advance(200)
            case.broker.recover_expired()
            case.broker.poll_schedule()
            case.stays("L13")
        case.same("L13", case.broker.purge_dead("q", ["m", "nobody"]), 1, "purged")
        case.same("L13", case.broker.requeue_dead("q", ["m", "n"]), 1, "requeued")
        case.comes("L13", "n")

    @law("L13")
    def test_all_dead_letters_of_a_queue_can_be_purged(self, case: Case) -> None:
        case.kill("m", "n")
        case.kill("other", queue="o")

        case.same("L13", case.broker.purge_dead("q"), 2, "purged")
        case.same("L13", case.broker.dead_letters("q"), [], "dead letters")
        case.same("L13", len(case.broker.dead_letters("o")), 1, "dead letters elsewhere")

    @law("L16")
    def test_a_result_and_successors_come_with_the_ack(self, case: Case) -> None:
        case.send("m")
        successors = (item("s1"), item("s2", delay=20), item("s3", queue="o"))
        kept = record("m", payload=b"done")

        case.settle("L16", Ack(case.one("L16", "m"), kept, successors))

        case.kept("L16", ["m"], kept)
        case.same("L16", ids_of(case.claim()), ["s1"], "successors in q")
        case.same("L16", ids_of(case.claim("o")), ["s3"], "successors in o")
        case.advance(21)
        case.comes("L16", "s2")

    @law("L16")
    def test_a_retry_and_a_death_store_their_result(self, case: Case) -> None:
        results = case.results()
        case.send("m")
        first = record("m", 0, state="RETRY")
        case.settle("L16", Retry(case.one("L16", "m"), result=first))
        case.same("L16", results.fetch(["m"]).get("m"), first, "result of a retry")
        last = record("m", 1, state="FAILURE")

        case.settle("L16", Dead(case.one("L16", "m"), "failed", result=last))

        case.same("L16", results.fetch(["m"]).get("m"), last, "result of a death")

    @law("L16")
    def test_a_lost_ack_has_no_effect_at_all(self, case: Case) -> None:
        case.send("m")
        stale = case.one("L16", "m")
        case.advance(31)
        case.one("L16", "m")

        case.broker.settle([Ack(stale, record("m"), (item("successor"),))])

        case.kept("L16", ["m"])
        case.stays("L16")

    @law("L16", "L15")
    def test_a_successor_that_exists_is_not_sent_again(self, case: Case) -> None:
        if not case.target.capabilities.unique_ids:
            return
        case.send("m", "s")
        [m] = case.claim(limit=1)
        case.settle("L16", Ack(m, send=(item("s", envelope=b"other"), item("t"))))

        found = case.comes("L16", "s", "t")
        case.same("L15", found[0].message.envelope, b"envelope of s", "content")

    @law("L17")
    def test_each_settlement_of_a_batch_stands_alone(self, case: Case) -> None:
        case.send("stale", "acked", "retried", "released", "dead")
        [stale] = case.claim(limit=1)
        case.advance(31)
        fresh = case.claim()

        lost = case.broker.settle(
            [
                Ack(stale),
                Ack(fresh[1]),
                Retry(fresh[2], delay=50),
                Ack(stale),
                Release(fresh[3]),
                Dead(fresh[4], "failed"),
            ]
        )

        case.same("L17", lost, [stale, stale], "lost")
        states = {
            "stale": State.PROCESSING,
            "acked": None,
            "retried": State.SCHEDULED,
            "released": State.READY,
            "dead": State.DEAD,
        }
        for id, expected in states.items():
            case.state("L17", id, expected)

    @law("L17", "L16")
    def test_successors_leave_the_rest_of_their_batch_alone(self, case: Case) -> None:
        case.send("retried", "released", "delayed", "dead", "acked", "later")
        retried, released, delayed, dead, acked, later = case.claim()
        results = [record("retried", state="RETRY"), record("acked")]
        batch: list[Settlement] = [
            Retry(retried, envelope=b"again", result=results[0]),
            Release(released),
            Release(delayed, delay=20),
            Dead(dead, "failed", "before"),
            Ack(acked, results[1], (item("s1"), item("s2", delay=20))),
            Retry(later),
        ]

        case.settle("L17", *batch)

        claimed = case.claim()
        case.same("L17", sorted(ids_of(claimed)), ["later", "released", "retried", "s1"], "ready")
        found = {delivery.id: delivery for delivery in claimed}
        case.same("L17", _counters(found["retried"]), (1, 0, 0, 1), "counters of the retried one")
        case.same("L17", found["retried"].message.envelope, b"again", "its envelope")
        case.kept("L17", ["retried", "acked"], *results)
        case.same("L17", len(case.broker.dead_letters("q")), 1, "dead letters")
        case.advance(21)
        case.same("L16", sorted(ids_of(case.claim())), ["delayed", "s2"], "due")

    @law("L16", "L15")
    def test_a_successor_may_have_the_id_of_what_was_concluded_before_it(self, case: Case) -> None:
        if not case.target.capabilities.unique_ids:
            return
        case.send("a", "b", "c")
        a, b, c = case.claim()
        again = [item(id, envelope=b"again") for id in ("a", "b", "c")]

        case.settle(
            "L16", Ack(a), Ack(b, send=(again[0], again[1])), Ack(c, record("c"), (again[2],))
        )

        found = case.claim()
        expected = ["a", "b"] if case.keeps_results else ["a", "b", "c"]
        case.same("L16", sorted(ids_of(found)), expected, "claimed")
        for delivery in found:
            case.same("L16", delivery.message.envelope, b"again", "content")
        case.state("L15", "c", None if case.keeps_results else State.PROCESSING)

    @law("L17")
    def test_the_first_settlement_of_a_delivery_counts(self, case: Case) -> None:
        for number in range(5):
            id = f"m{number}"
            case.send(id, queue=id)
            [held] = case.claim(id)
            second = _all_kinds(held)[number]

            case.same("L17", case.broker.settle([Ack(held), second]), [held], "lost")

            case.state("L17", id, None)
            case.state("L17", "successor", None)
            case.same("L17", case.broker.settle([second]), [held], "lost once more")


def _all_kinds(delivery: Delivery) -> list[Settlement]:
    """Return one settlement of each kind, with every effect it can have."""
    stale = record(delivery.id, delivery.run + 5, payload=b"stale")
    return [
        Ack(delivery, stale, (item("successor"),)),
        Retry(delivery, envelope=b"stale", result=stale),
        Retry(delivery, delay=50),
        Release(delivery),
        Dead(delivery, "failed", "stale", stale),
    ]


def _counters(delivery: Delivery) -> tuple[int, int, int, int]:
    return (delivery.retries, delivery.losses, delivery.releases, delivery.run)
