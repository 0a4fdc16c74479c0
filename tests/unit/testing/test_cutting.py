"""The model of leases that are tied to a connection: what it lets pass, and what it does not."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager

import pytest

from taskq.contract.delivery import DeadLetter, Delivery, QueueStats
from taskq.contract.settlement import Ack, Dead, Release, Retry, Settlement
from taskq.testing.laws.case import item
from taskq.testing.model.claim import check_claim
from taskq.testing.model.cutting import claim_in_limbo, cut_off, shake
from taskq.testing.model.doubt import pay_debts, requeued_in_limbo, settled_in_doubt
from taskq.testing.model.entry import Span, Where
from taskq.testing.model.looking import check_counted, check_letters
from taskq.testing.model.reach import Claim
from taskq.testing.model.spec import Spec
from taskq.testing.record import LawBroken, Ledger

HOLDER, OTHER = 1, 2


class Play:
    """A namespace of which the test says what the broker answered, and when."""

    def __init__(self, *ids: str, doubles: bool = True) -> None:
        self.spec = Spec(Ledger("x"), timed=False, doubles=doubles)
        self.now = 0.0
        self._tokens = 0
        for id in ids:
            self.spec.sent([item(id)], self.present, producer=OTHER)

    @property
    def present(self) -> Span:
        return Span(self.now, self.now)

    def wait(self, seconds: float) -> None:
        self.now += seconds

    def claim(
        self, *ids: str, by: int = HOLDER, limit: int = 10, lease: float = 30, losses: int = 0
    ) -> list[Delivery]:
        """Let a claim bring these, as often lost as it says."""
        got = []
        for id in ids:
            self._tokens += 1
            message = self.spec.entries[id].message
            got.append(
                Delivery(
                    message,
                    str(self._tokens),
                    self.now,
                    self.now + lease,
                    losses=losses,
                    run=losses,
                )
            )
        check_claim(self.spec, Claim(["q"], limit, lease, got, self.present, by))
        return got

    def settle(self, *settlements: Settlement, lost: Sequence[Delivery] = ()) -> None:
        self.spec.settled(settlements, lost, self.present, client=HOLDER)

    def settle_in_doubt(self, *settlements: Settlement, lost: Sequence[Delivery] = ()) -> None:
        """Let a settlement be in doubt, and let this be the answer to its repetition."""
        settled_in_doubt(self.spec, settlements, lost, self.present, client=HOLDER)

    def cut(self) -> None:
        cut_off(self.spec, HOLDER, self.present)

    def shake(self) -> None:
        shake(self.spec, HOLDER, self.present)

    def letter(self, id: str, detail: str = "d") -> DeadLetter:
        return DeadLetter(self.spec.entries[id].message, "failed", detail, self.now)

    def list_dead(self, *letters: DeadLetter) -> None:
        check_letters(self.spec, "q", letters, self.present)


def broken(law: str) -> AbstractContextManager[object]:
    return pytest.raises(LawBroken, match=f"^{law} is broken")


# While the holder's connection lives


def test_nobody_but_the_holder_ends_a_lease() -> None:
    play = Play("m")
    play.claim("m")
    play.wait(31)

    play.claim(by=OTHER)
    with broken("L3"):
        play.claim("m", by=OTHER, losses=1)


def test_the_holders_own_claim_brings_back_what_it_lost() -> None:
    play = Play("m")
    play.claim("m")
    play.wait(31)

    with broken("L5"):
        play.claim()


def test_a_full_claim_of_the_holder_may_have_taken_back_or_not() -> None:
    for held in (True, False):
        play = Play("m")
        [m] = play.claim("m")
        play.spec.sent([item("n", priority=9)], play.present, producer=OTHER)
        play.wait(31)
        play.claim("n", limit=1)

        play.settle(Ack(m), lost=[] if held else [m])

        play.claim(*([] if held else ["m"]), by=OTHER, losses=1)


def test_what_nobody_took_back_is_settled_after_its_end() -> None:
    play = Play("m")
    [m] = play.claim("m")
    play.wait(31)

    with broken("L3"):
        play.settle(Ack(m), lost=[m])


def test_a_holder_recovers_all_that_it_lost_and_others_nothing() -> None:
    for by, count, right in ((HOLDER, 1, True), (HOLDER, 0, False), (OTHER, 1, False)):
        play = Play("m")
        play.claim("m")
        play.wait(31)

        if right:
            play.spec.recovered(count, 10, play.present, by=by)
            continue
        with broken("L26"):
            play.spec.recovered(count, 10, play.present, by=by)


# When it was lost


def test_what_was_cut_rests_for_the_lease_of_whoever_found_it() -> None:
    play = Play("m")
    play.claim("m", lease=10)
    play.cut()
    play.wait(7)
    play.claim(by=OTHER, lease=60)
    play.wait(58)

    play.claim()
    with broken("L6"):
        play.claim("m", losses=1)
    play.wait(3)
    play.claim("m", losses=1)


def test_what_was_cut_does_not_come_to_who_finds_it() -> None:
    play = Play("m")
    play.claim("m", lease=10)
    play.cut()
    play.wait(100)

    with broken("L3"):
        play.claim("m", losses=1)


def test_what_was_found_comes_when_it_has_rested() -> None:
    play = Play("m")
    play.claim("m")
    play.cut()
    play.wait(7)
    play.claim(lease=30)
    play.wait(31)

    with broken("L5"):
        play.claim()


def test_its_loss_is_counted() -> None:
    play = Play("m")
    play.claim("m")
    play.cut()
    play.wait(7)
    play.claim()
    play.wait(31)

    with broken("L11"):
        play.claim("m")


def test_a_claim_that_others_filled_need_not_have_found_it() -> None:
    for found in (True, False):
        play = Play("m", "n")
        play.claim("m", limit=1)
        play.cut()
        play.wait(7)
        [n] = play.claim("n", by=OTHER, limit=1)
        play.settle(Ack(n))
        play.wait(31)

        play.claim(*(["m"] if found else []), by=OTHER, losses=1)


def test_a_claim_that_is_filled_by_what_ranks_behind_it_has_found_it() -> None:
    play = Play()
    play.spec.sent([item("m", priority=9), item("n")], play.present, producer=OTHER)
    play.claim("m", limit=1)
    play.cut()
    play.wait(7)
    play.claim("n", by=OTHER, limit=1)
    play.wait(31)

    with broken("L5"):
        play.claim(by=OTHER)


def test_until_it_is_found_it_counts_as_ready_or_at_work() -> None:
    play = Play("m")
    play.claim("m")
    play.cut()

    for ready, processing in ((1, 0), (0, 1)):
        check_counted(play.spec, [QueueStats("q", ready, 0, processing, 0)], play.present)
    for line in (QueueStats("q", 0, 1, 0, 0), QueueStats("q", 0, 0, 0, 0)):
        with broken("L21"):
            check_counted(play.spec, [line], play.present)


# When it may have been lost


def test_a_settlement_tells_whether_a_lease_was_cut() -> None:
    for held in (True, False):
        play = Play("m")
        [m] = play.claim("m")
        play.shake()

        play.settle(Release(m), lost=[] if held else [m])

        law = "L1" if held else "L3"
        with broken(law):
            play.claim(*([] if held else ["m"]), losses=0 if held else 1)


def test_what_was_shown_to_hold_does_not_come_to_others() -> None:
    play = Play("m")
    [m] = play.claim("m")
    play.shake()
    play.claim(by=OTHER)
    play.spec.extended([m], [], 500, play.present)
    play.wait(31)

    with broken("L3"):
        play.claim("m", by=OTHER, losses=1)


def test_what_a_lost_claim_may_have_taken_comes_in_one_way_or_the_other() -> None:
    for losses, wait in ((0, 0.0), (1, 31.0)):
        play = Play("m")
        claim_in_limbo(play.spec, ["q"], 30, play.present, client=HOLDER)
        play.wait(7)
        if losses:
            play.claim(by=OTHER)
            play.wait(wait)
        play.claim("m", by=OTHER, losses=losses)

    play = Play("m")
    claim_in_limbo(play.spec, ["q"], 30, play.present, client=HOLDER)
    with broken("L11"):
        play.claim("m", by=OTHER, losses=1)


# Copies


def test_a_retry_in_doubt_may_come_twice_and_not_three_times() -> None:
    play = Play("m")
    [m] = play.claim("m")
    play.settle_in_doubt(Retry(m))

    first, second = play.claim("m"), play.claim("m")
    with broken("L3"):
        play.claim("m")
    play.settle(Ack(first[0]), Ack(second[0]))
    with broken("L13"):
        play.claim("m")


def test_a_retry_in_doubt_comes_once_at_least() -> None:
    play = Play("m")
    [m] = play.claim("m")

    play.settle_in_doubt(Retry(m), lost=[m])

    assert play.spec.copies["m"].owed
    [again] = play.claim("m")
    play.settle(Ack(again))
    assert not play.spec.copies["m"].owed


def test_no_copy_comes_before_its_time() -> None:
    play = Play("m")
    [m] = play.claim("m", lease=60)
    play.settle_in_doubt(Release(m, 20.0), lost=[m])
    play.wait(7)
    play.claim(by=OTHER, lease=10)

    with broken("L6"):
        play.claim("m")
    play.wait(10)
    play.claim("m", losses=1)


def test_a_death_in_doubt_is_listed_or_comes() -> None:
    play = Play("m")
    [m] = play.claim("m")
    play.settle_in_doubt(Dead(m, "failed"))

    with broken("L19"):
        play.list_dead()
    play.list_dead(play.letter("m"), play.letter("m"))
    with broken("L19"):
        play.list_dead(*[play.letter("m")] * 3)


def test_a_requeue_in_doubt_may_leave_the_dead_letter_too() -> None:
    play = Play("m")
    [m] = play.claim("m")
    play.settle(Dead(m, "failed", "d"))
    requeued_in_limbo(play.spec, "q", ["m"], play.present)

    play.list_dead(play.letter("m"))
    play.claim("m")
    with broken("L3"):
        play.claim("m"), play.claim("m")


def test_without_doubles_a_step_in_doubt_was_done_or_not() -> None:
    play = Play("m", doubles=False)
    [m] = play.claim("m")
    play.settle_in_doubt(Release(m), lost=[m])

    assert [way.where for way in play.spec.ways("m")] == [Where.CUT, Where.WAITING]
    play.wait(7)
    play.claim()
    assert [way.losses for way in play.spec.ways("m")] == [1]


def test_an_ack_that_was_done_has_brought_its_successors() -> None:
    play = Play("m")
    [m] = play.claim("m")
    play.settle_in_doubt(Ack(m, send=(item("next"),)), lost=[m])
    for seconds in (7, 31):
        play.wait(seconds)
        play.claim()

    pay_debts(play.spec)

    with broken("L16"):
        play.claim()


def test_an_ack_that_was_not_done_owes_nothing() -> None:
    play = Play("m")
    [m] = play.claim("m")
    play.settle_in_doubt(Ack(m, send=(item("next"),)), lost=[m])
    play.wait(7)
    play.claim()
    play.wait(31)
    play.claim("m", losses=1)

    pay_debts(play.spec)

    play.claim()
