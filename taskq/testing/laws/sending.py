"""Examples of what a producer may rely on."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from taskq.contract.broker import Broker
from taskq.contract.delivery import State
from taskq.contract.message import Message, Send
from taskq.contract.settlement import Ack, Release, Retry
from taskq.errors import Closed, SendError
from taskq.testing.laws.case import Case, ids_of, item, law, record
from taskq.testing.laws.targeting import TargetLaws
from taskq.testing.record import NotApplicable

BATCH: Final = 2000
"""More than some backends send in one go."""


class SendingLaws(TargetLaws):
    """L1, L2, L9, L14, L15, L18, and what comes before all else."""

    @law("L1")
    def test_what_was_sent_is_in_a_state_until_it_is_acked(self, case: Case) -> None:
        case.send("a")
        case.send("b", delay=50)

        case.state("L1", "a", State.READY)
        case.state("L1", "b", State.SCHEDULED)
        [a] = case.comes("L1", "a")
        case.state("L1", "a", State.PROCESSING)
        case.settle("L1", Ack(a))
        case.state("L1", "a", None)
        case.advance(51)
        case.comes("L1", "b")

    @law("L1")
    def test_an_empty_batch_is_sent_and_settled(self, case: Case) -> None:
        case.broker.send([])

        case.same("L1", case.broker.settle([]), [], "lost")
        case.same("L1", case.broker.stats(), [], "stats of nothing")

    @law("L1")
    def test_a_batch_may_go_to_many_queues(self, case: Case) -> None:
        ids = [f"m{n:02}" for n in range(40)]

        case.broker.send([item(id, queue=f"q{n % 4}") for n, id in enumerate(ids)])

        found = case.claim("q0", "q1", "q2", "q3")
        case.same("L1", sorted(ids_of(found)), ids, "reserved")

    @law("L1", "L25")
    def test_a_send_that_close_overtakes_does_not_claim_success(self, case: Case) -> None:
        if not case.target.capabilities.locate:
            raise NotApplicable("the backend denies locate")
        other = case.other()
        given_up = threading.Event()
        with ThreadPoolExecutor(1) as threads:
            try:
                answer = threads.submit(_send_until_closed, case.broker, given_up)
                while not other.stats() and not answer.done():
                    time.sleep(0.001)
                case.broker.close()
                sent = answer.result(30)
            finally:
                given_up.set()
        found = other.locate(sent)
        case.check("L1", len(found) == len(sent), f"{len(found)} of {len(sent)} sent ones exist")

    @law("L1", "L3", "L5", "L6", "L15")
    def test_a_namespace_knows_nothing_of_another(self, case: Case) -> None:
        case.send("lost", "concluded", "ready")
        held, concluded = case.claim(limit=2, lease=5)
        case.settle("L15", Ack(concluded, record("concluded")))
        case.send("due", delay=10)

        with case.elsewhere() as (broker, clock):
            broker.send([item(id) for id in ("lost", "concluded")])
            found = case.claim(broker=broker, lease=8)
            case.same("L1", ids_of(found), ["lost", "concluded"], "claimed elsewhere")
            broker.send([item("due", delay=15)])
            clock.advance(9)
            case.same("L5", len(case.claim(broker=broker, limit=1)), 1, "came back elsewhere")
            case.same("L5", len(case.claim(broker=broker, limit=1)), 1, "came back elsewhere")
            clock.advance(7)
            found = case.claim(broker=broker, limit=1)
            case.same("L6", ids_of(found), ["due"], "due elsewhere")

            case.same("L6", ids_of(case.claim()), ["ready"], "claimed here")
            case.same("L3", case.broker.ack(held), True, "ack here")

    @law("L2")
    def test_a_send_without_time_succeeds_or_says_what_became_of_each(self, case: Case) -> None:
        for round_ in range(10):
            ids = [f"m{round_}-{n}" for n in range(3)]
            sent, unsent, unknown = _outcome(case, ids, timeout=0.0)

            named = sorted([*sent, *unsent, *unknown])
            case.same("L2", named, sorted(ids), "ids named")
            case.check(
                "L2", _exist(case, sent) and not _exist_any(case, unsent), f"{sent} {unsent}"
            )

    @law("L2")
    def test_a_send_to_nobody_says_that_nothing_was_sent(self, case: Case) -> None:
        broker = case.target.unreachable()
        if broker is None:
            return
        try:
            broker.send([item("a"), item("b")], timeout=0.3)
        except SendError as error:
            case.same("L2", error.unsent, ("a", "b"), "unsent")
        else:
            case.check("L2", False, "a send to nobody returned")
        finally:
            broker.close()

    @law("L9")
    def test_messages_of_one_producer_come_in_the_order_they_were_sent(self, case: Case) -> None:
        ids = [f"m{n}" for n in (3, 1, 4, 0, 5, 9, 2, 6)]
        case.send(*ids[:5])
        case.send(*ids[5:])

        case.same("L9", ids_of(case.claim(limit=3)), ids[:3], "first claim")
        case.comes("L9", *ids[3:])

    @law("L14")
    def test_a_message_arrives_as_it_was_sent(self, case: Case) -> None:
        sent = [
            Message("empty", "q", b"", 5, 5),
            Message("bytes", "q", bytes(range(256)) * 50, 5, 17),
            Message("A.b:c-d_" + "x" * 120, "q", b"\x00\xff", 5, 2),
        ]
        case.broker.send([Send(message) for message in sent])

        found = [delivery.message for delivery in case.claim()]

        for message, arrived in zip(sent, found, strict=True):
            case.same("L14", arrived, message, "arrived")

    @law("L14")
    def test_priorities_and_limits_survive_every_way_back(self, case: Case) -> None:
        case.send("m", priority=7, limit=9)
        [first] = case.claim()
        case.settle("L14", Release(first, delay=5))
        case.advance(6)
        [second] = case.claim()
        case.settle("L14", Retry(second))
        [third] = case.claim()
        case.advance(31)
        [fourth] = case.claim()

        for delivery in (second, third, fourth):
            case.same("L14", delivery.message, first.message, "came back")

    @law("L14")
    def test_a_retry_may_replace_the_envelope(self, case: Case) -> None:
        case.send("m")
        case.settle("L14", Retry(case.one("L14", "m"), envelope=b"new"))
        second = case.one("L14", "m")
        case.settle("L14", Retry(second, delay=5))
        case.advance(6)
        third = case.one("L14", "m")

        case.same("L14", second.message.envelope, b"new", "after the retry")
        case.same("L14", third.message.envelope, b"new", "after one more")

    @law("L15")
    def test_an_id_that_exists_is_not_sent_again(self, case: Case) -> None:
        if not case.target.capabilities.unique_ids:
            return
        case.send("ready", "leased")
        case.send("later", delay=50)
        case.kill("dead", queue="k")
        case.claim(limit=1)

        for id in ("ready", "leased", "later"):
            case.broker.send([item(id, envelope=b"other", priority=9)])
        case.broker.send([item("dead", queue="k", envelope=b"other")])

        [rest] = case.comes("L15", "leased")
        case.same("L15", rest.message.envelope, b"envelope of leased", "content")
        case.same("L15", len(case.claim("k")), 0, "dead letters sent again")
        case.advance(51)
        case.same("L15", sorted(ids_of(case.claim())), ["later", "leased", "ready"], "all")

    @law("L15")
    def test_an_id_with_a_stored_result_is_not_sent_again(self, case: Case) -> None:
        if not case.target.capabilities.unique_ids:
            return
        case.send("m")
        case.settle("L15", Ack(case.one("L15", "m"), record("m", ttl=40)))

        case.send("m")

        if case.keeps_results:
            case.stays("L15")
            case.advance(41)
            case.send("m")
        case.comes("L15", "m")

    @law("L15")
    def test_an_id_that_is_gone_without_a_result_is_a_new_message(self, case: Case) -> None:
        case.send("m")
        first = case.one("L15", "m")
        case.settle("L15", Ack(first))
        case.broker.send([item("m", envelope=b"new")])

        second = case.one("L15", "m")

        case.same("L15", second.message.envelope, b"new", "content")
        case.same("L4", case.broker.ack(first), False, "ack by the old token")

    @law("L15")
    def test_the_first_of_two_equal_ids_in_a_batch_counts(self, case: Case) -> None:
        if not case.target.capabilities.unique_ids:
            return
        case.broker.send([item("m", envelope=b"1"), item("m", envelope=b"2"), item("n")])

        found = case.comes("L15", "m", "n")
        case.same("L15", found[0].message.envelope, b"1", "content")

    @law("L18")
    def test_expiry_is_decided_when_a_message_is_claimed(self, case: Case) -> None:
        now = case.clock.now()
        case.broker.send(
            [
                item("ttl", ttl=20),
                item("expires", expires=now + 20),
                item("long", ttl=500),
                item("never"),
            ]
        )
        fresh = case.claim(lease=5)
        case.advance(21)
        stale = {delivery.id: delivery.expired for delivery in case.claim()}

        for delivery in fresh:
            case.same("L18", delivery.expired, False, f"{delivery.id} expired at first")
        for id, expired in (("ttl", True), ("expires", True), ("long", False), ("never", False)):
            case.same("L18", stale.get(id), expired, f"{id} expired after 21 s")

    @law("L18")
    def test_what_was_sent_too_late_is_delivered_as_expired(self, case: Case) -> None:
        case.send("m", expires=case.clock.now() - 5)
        case.send("n", ttl=5, delay=20)
        case.advance(21)

        for delivery in case.comes("L18", "m", "n"):
            case.same("L18", delivery.expired, True, f"{delivery.id} expired")


def _send_until_closed(broker: Broker, given_up: threading.Event) -> list[str]:
    """Send batch after batch; return the ids of those that succeeded."""
    sent: list[str] = []
    while not given_up.is_set():
        ids = [f"m{len(sent) + n}" for n in range(BATCH)]
        try:
            broker.send([item(id) for id in ids])
        except (Closed, SendError):
            break
        sent.extend(ids)
    return sent


def _outcome(
    case: Case, ids: list[str], *, timeout: float
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    try:
        case.broker.send([item(id) for id in ids], timeout=timeout)
    except SendError as error:
        return error.sent, error.unsent, error.unknown
    return tuple(ids), (), ()


def _exist(case: Case, ids: tuple[str, ...]) -> bool:
    return not case.target.capabilities.locate or set(case.broker.locate(ids)) == set(ids)


def _exist_any(case: Case, ids: tuple[str, ...]) -> bool:
    return case.target.capabilities.locate and bool(case.broker.locate(ids))
