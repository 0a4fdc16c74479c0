"""Examples of what maintenance, an operator and a worker's registry may rely on."""

from __future__ import annotations

from collections.abc import Callable

from taskq.contract.delivery import State
from taskq.contract.settlement import Ack, Dead, Release, Retry
from taskq.errors import Closed
from taskq.testing.laws.case import Case, beat, expire_all, item, law, record
from taskq.testing.laws.forking import ForkingLaws


class OperatingLaws(ForkingLaws):
    """L19 to L23, L25 to L27 and L29, and what holds after a fork."""

    @law("L19")
    def test_dead_letters_are_listed_oldest_first_with_their_reason(self, case: Case) -> None:
        ids = ("d", "b", "a", "c")
        case.kill(*ids, law="L19")
        case.kill("elsewhere", queue="o")

        letters = case.broker.dead_letters("q")

        case.same("L19", [letter.message.id for letter in letters], list(ids), "dead letters")
        for letter in letters:
            case.same("L19", letter.code, "failed", "code")
            case.same("L19", letter.detail, f"of {letter.message.id}", "detail")
            case.same("L19", letter.message, item(letter.message.id).message, "message")

    @law("L19")
    def test_dead_letters_come_in_pages(self, case: Case) -> None:
        ids = [f"m{n}" for n in range(7)]
        case.send(*ids)
        for delivery in case.claim():
            case.settle("L19", Dead(delivery, "failed"))

        found: list[str] = []
        after = None
        while page := case.broker.dead_letters("q", limit=3, after=after):
            case.check("L19", len(page) <= 3, f"a page of 3 has {len(page)} dead letters")
            found.extend(letter.message.id for letter in page)
            case.check("L19", len(found) <= len(ids), f"the pages go on after all: {found}")
            after = page[-1]

        case.same("L19", sorted(found), ids, "all pages")

    @law("L19")
    def test_a_requeued_dead_letter_is_as_new_but_for_its_run(self, case: Case) -> None:
        case.send("m")
        case.lose("L19", "m", 1)
        case.settle("L19", Release(case.one("L19", "m")))
        case.settle("L19", Retry(case.one("L19", "m"), envelope=b"new"))
        dying = case.one("L19", "m")
        case.settle("L19", Dead(dying, "failed", result=record("m", dying.run)))
        case.send("other")

        case.same("L19", case.broker.requeue_dead("q", ["m", "nobody"]), 1, "requeued")

        case.kept("L19", ["m"])
        case.same("L19", case.broker.dead_letters("q"), [], "dead letters")
        _, again = case.comes("L19", "other", "m")
        found = (again.retries, again.losses, again.releases, again.run)
        case.same("L19", found, (0, 0, 0, dying.run + 1), "counters")
        case.same("L19", again.first_released, None, "first release")
        case.same("L19", again.message.envelope, b"new", "envelope")
        case.same("L19", case.broker.requeue_dead("q", ["m"]), 0, "requeued once more")

    @law("L18", "L19")
    def test_a_requeued_dead_letter_expires_when_its_sender_said(self, case: Case) -> None:
        for id, ttl in {"early": 10, "late": 500}.items():
            case.send(id, ttl=ttl)
            case.broker.dead(case.one("L19", id), code="failed")
        case.advance(21)

        case.same("L19", case.broker.requeue_dead("q", ["early", "late"]), 2, "requeued")

        found = {delivery.id: delivery.expired for delivery in case.claim()}
        case.same("L18", found, {"early": True, "late": False}, "expired")

    @law("L20")
    def test_a_purge_takes_the_waiting_and_leaves_the_leased(self, case: Case) -> None:
        case.send("leased")
        held = case.one("L20", "leased")
        case.kill("dead", law="L20")
        case.send("ready")
        case.send("later", delay=50)
        case.send("elsewhere", queue="o")

        case.same("L20", case.broker.purge("q"), 2, "purged")

        states = {"leased": State.PROCESSING, "dead": State.DEAD, "elsewhere": State.READY}
        for id, expected in ({"ready": None, "later": None} | states).items():
            case.state("L20", id, expected)
        case.advance(21)
        case.settle("L20", Ack(held))

    @law("L20")
    def test_a_purge_takes_only_the_states_asked_for(self, case: Case) -> None:
        for states, left in ((State.READY, "later"), (State.SCHEDULED, "ready")):
            case.send("ready")
            case.send("later", delay=50)

            case.same("L20", case.broker.purge("q", states=frozenset({states})), 1, "purged")

            for id, state in (("ready", State.READY), ("later", State.SCHEDULED)):
                case.state("L20", id, state if id == left else None)
            case.same("L20", case.broker.purge("q"), 1, "purged")

    @law("L20")
    def test_a_purge_of_other_states_is_refused(self, case: Case) -> None:
        for state in (State.PROCESSING, State.DEAD):
            try:
                case.broker.purge("q", states=frozenset({state, State.READY}))
            except ValueError:
                case.check("L20", True, "")
            else:
                case.check("L20", False, f"a purge of {state} was not refused")

    @law("L21")
    def test_stats_count_every_message_in_its_state(self, case: Case) -> None:
        case.kill("d1", "d2", law="L21")
        case.send("p1", "p2", "p3")
        case.claim()
        case.send("s1", delay=50)
        case.send("r1", "r2", "r3", "r4")
        case.send("o1", queue="o")
        case.advance(5)

        queues = [line.queue for line in case.broker.stats()]
        found = case.stats()

        case.same("L21", queues, ["o", "q"], "queues")
        counts = (found.ready, found.scheduled, found.processing, found.dead)
        case.same("L21", counts, (4, 1, 3, 2), "ready, scheduled, processing, dead")
        age = found.oldest_ready
        # Where nothing can be located, nobody can look at a message without taking it.
        blind = age is None and not case.target.capabilities.locate
        right = blind or (age is not None and 5 <= age < 8)
        case.check("L21", right, f"the next one's age is {age}")

    @law("L21")
    def test_stats_of_nothing_ready_have_no_age(self, case: Case) -> None:
        case.send("m", delay=50)

        case.same("L21", case.stats().oldest_ready, None, "age")

    @law("L22")
    def test_locate_finds_what_exists_and_nothing_else(self, case: Case) -> None:
        if not case.target.capabilities.locate:
            return
        case.kill("dead", law="L22")
        case.send("processing", "gone", "released")
        _, gone, released = case.claim()
        case.settle("L22", Ack(gone), Release(released, delay=20))
        case.send("ready")
        case.send("scheduled", delay=50)

        ids = ["dead", "processing", "gone", "released", "ready", "scheduled", "nobody"]
        found = case.broker.locate(ids)

        expected = {
            "dead": State.DEAD,
            "processing": State.PROCESSING,
            "released": State.SCHEDULED,
            "ready": State.READY,
            "scheduled": State.SCHEDULED,
        }
        case.same("L22", found, expected, "states")
        case.same("L22", case.broker.locate([]), {}, "states of nothing")

    @law("L23")
    def test_a_worker_is_listed_until_its_time_is_over(self, case: Case) -> None:
        case.broker.send_heartbeat(beat("w2", "b"), ttl=15)
        case.broker.send_heartbeat(beat("w1", "a"), ttl=60)
        case.broker.send_heartbeat(beat("w2", "c"), ttl=60)
        case.broker.send_heartbeat(beat("w1", "a", done=3), ttl=60)

        found = sorted(case.other().list_alive_workers(), key=lambda b: (b.worker, b.incarnation))
        listed = [beat("w1", "a", done=3), beat("w2", "b"), beat("w2", "c")]
        case.same("L23", found, listed, "at first")
        case.advance(16)
        case.same("L23", case.broker.list_alive_workers(), [listed[0], listed[2]], "after 16 s")
        case.broker.send_heartbeat(beat("w1", "a"), ttl=0)
        case.same("L23", case.broker.list_alive_workers(), [listed[2]], "after one left")
        case.advance(45)
        case.same("L23", case.broker.list_alive_workers(), [], "after 61 s")

    @law("L25")
    def test_after_close_every_method_raises_closed(self, case: Case) -> None:
        case.send("m")
        held = case.one("L25", "m")
        case.broker.close()
        case.broker.close()
        broker = case.broker
        calls: dict[str, Callable[[], object]] = {
            "send": lambda: broker.send([item("n")]),
            "send of nothing": lambda: broker.send([]),
            "schedule": lambda: broker.schedule(item("n").message, eta=0.0),
            "reserve": lambda: broker.reserve(["q"], limit=1, lease=30),
            "settle": lambda: broker.settle([Ack(held)]),
            "settle of nothing": lambda: broker.settle([]),
            "ack": lambda: broker.ack(held),
            "nack": lambda: broker.nack(held),
            "dead": lambda: broker.dead(held, code="failed"),
            "extend": lambda: broker.extend([held], lease=30),
            "extend of nothing": lambda: broker.extend([], lease=30),
            "interrupt": broker.interrupt,
            "poll_schedule": broker.poll_schedule,
            "recover_expired": broker.recover_expired,
            "expire_dead": lambda: broker.expire_dead(older_than=1),
            "send_heartbeat": lambda: broker.send_heartbeat(beat("w", "i"), ttl=5),
            "list_alive_workers": broker.list_alive_workers,
            "stats": broker.stats,
            "locate": lambda: broker.locate(["m"]),
            "dead_letters": lambda: broker.dead_letters("q"),
            "requeue_dead": lambda: broker.requeue_dead("q", ["m"]),
            "purge_dead": lambda: broker.purge_dead("q"),
            "purge": lambda: broker.purge("q"),
            "check": broker.check,
        }
        for name, call in calls.items():
            case.check("L25", _raises_closed(call), f"{name} works after close")

    @law("L25")
    def test_a_closed_client_loses_its_leases_by_time_alone(self, case: Case) -> None:
        other = case.other()
        case.send("m")
        case.one("L25", "m", broker=other)
        other.close()
        case.same("L3", case.look(), [], "claimed right after")

        case.advance(28)
        case.stays("L3")
        case.advance(3)
        case.comes("L5", "m")

    @law("L26")
    def test_poll_schedule_makes_the_due_of_all_queues_ready(self, case: Case) -> None:
        for queue in ("a", "b", "c"):
            case.send(f"{queue}1", f"{queue}2", queue=queue, delay=20)
        case.advance(21)

        case.check("L26", case.broker.poll_schedule() in {0, 6}, "it made another number ready")

        for queue in ("a", "b", "c"):
            case.state("L26", f"{queue}1", State.READY)
            case.same("L26", case.stats(queue).ready, 2, f"ready in {queue}")
        case.same("L26", case.broker.poll_schedule(), 0, "made ready once more")

    @law("L26")
    def test_recover_expired_reclaims_the_lost_of_all_queues(self, case: Case) -> None:
        for queue in ("a", "b", "c"):
            case.send(f"{queue}1", f"{queue}2", queue=queue)
        stale = case.claim("a", "b", "c")
        case.advance(31)

        case.check("L26", case.broker.recover_expired() in {0, 6}, "it reclaimed another number")

        case.same("L26", case.broker.settle([Ack(d) for d in stale]), stale, "lost")
        for queue in ("a", "b", "c"):
            case.same("L26", case.stats(queue).ready, 2, f"ready in {queue}")

    @law("L26")
    def test_maintenance_moves_no_more_than_its_limit(self, case: Case) -> None:
        case.send(*(f"m{n}" for n in range(5)), delay=20)
        case.advance(21)
        moved = [case.broker.poll_schedule(limit=2) for _ in range(3)]
        case.check("L26", moved in ([2, 2, 1], [0, 0, 0]), f"made ready: {moved}")
        case.claim()
        case.advance(31)
        moved = [case.broker.recover_expired(limit=2) for _ in range(3)]
        case.check("L26", moved in ([2, 2, 1], [0, 0, 0]), f"reclaimed: {moved}")

    @law("L27")
    def test_nothing_is_left_when_all_is_concluded(self, case: Case) -> None:
        case.send("acked", "dead", "lost", "purged")
        acked, dead, _ = case.claim(limit=3)
        case.settle(
            "L27", Ack(acked, record("acked"), (item("s", delay=50),)), Dead(dead, "failed")
        )
        case.broker.send_heartbeat(beat("w", "i"), ttl=20)
        if case.keeps_results:
            results = case.results()
            results.store([record("forgotten")])
            results.forget(["forgotten"])
        case.advance(31)
        [lost] = case.claim(limit=1)
        case.settle("L27", Ack(lost))
        case.broker.purge("q")
        case.broker.purge_dead("q")
        case.broker.send_heartbeat(beat("w", "i"), ttl=0)
        case.advance(200)
        if case.keeps_results:
            expire_all(case.results(), case.ledger)

        case.same("L27", case.target.footprint(), [], "left behind")

    @law("L27")
    def test_nothing_is_left_of_a_dead_letter_that_was_dropped(self, case: Case) -> None:
        drops: list[Callable[[str], int]] = [
            lambda queue: case.broker.purge_dead(queue, ["died", "lost"]),
            case.broker.purge_dead,
            lambda _: case.broker.expire_dead(older_than=10),
        ]
        for number, drop in enumerate(drops):
            queue = f"q{number}"
            case.send("died", "lost", queue=queue, limit=2)
            for delivery in case.claim(queue):
                case.settle("L27", Retry(delivery))
            died, _ = case.claim(queue)
            case.settle("L27", Dead(died, "failed", "after a retry"))
            case.advance(31)
            case.claim(queue)
            case.advance(31)
            case.broker.recover_expired()
            case.advance(100)

            case.same("L27", len(case.broker.dead_letters(queue)), 2, "dead letters")
            case.check("L27", drop(queue) in {0, 2}, "it dropped another number")
            case.same("L27", case.broker.dead_letters(queue), [], "dead letters")

        case.same("L27", case.target.footprint(), [], "left behind")

    @law("L29")
    def test_expire_dead_drops_the_old_and_keeps_the_young(self, case: Case) -> None:
        case.kill("old1", "old2", law="L29")
        case.kill("old3", queue="o")
        case.advance(100)
        case.kill("young", law="L29")
        case.send("ready")

        case.check(
            "L29", case.broker.expire_dead(older_than=50) in {0, 3}, "it dropped another number"
        )

        left = [letter.message.id for letter in case.broker.dead_letters("q")]
        case.same("L29", left, ["young"], "dead letters in q")
        case.same("L29", case.broker.dead_letters("o"), [], "dead letters in o")
        case.comes("L29", "ready")

    @law("L29")
    def test_expire_dead_drops_no_more_than_its_limit(self, case: Case) -> None:
        case.kill("a", "b", "c", law="L29")
        case.kill("d", "e", law="L29", queue="o")
        case.advance(100)

        # A server that drops them by itself, when they are that old, leaves none.
        left = [_dead(case)]
        for _ in range(3):
            moved = case.broker.expire_dead(older_than=50, limit=2)
            left.append(_dead(case))
            case.check("L29", moved <= 2, f"it dropped {moved} of 2")
            case.same("L29", moved, left[-2] - left[-1], "dropped")

        case.check("L29", left in ([5, 3, 1, 0], [0, 0, 0, 0]), f"dead letters left: {left}")


def _dead(case: Case) -> int:
    return sum(line.dead for line in case.broker.stats())


def _raises_closed(call: Callable[[], object]) -> bool:
    try:
        call()
    except Closed:
        return True
    return False
