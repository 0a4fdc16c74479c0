"""Many clients at once notice every broken broker, and no right one.

The first kind is right as long as one call follows the other: it reads, lets
others in, and writes what it has read. The second kind is always wrong.
"""

from __future__ import annotations

import itertools
import re
import threading
import time
from collections import deque

import msgspec
import pytest

from taskq.contract.delivery import Extension
from taskq.contract.message import Send
from taskq.contract.settlement import Ack, Dead, Release
from taskq.memory.broker import MemoryBroker
from taskq.memory.server import MemoryServer
from taskq.plugins import Plugins
from taskq.testing.concurrency import SIZES, check_concurrency
from taskq.testing.concurrency.consumer import LONG
from taskq.testing.concurrency.work import QUEUES
from taskq.testing.laws.case import run_examples
from taskq.testing.mutants import claiming, settling
from taskq.testing.mutants.target import MutantTarget
from taskq.testing.record import LawBroken, Ledger
from taskq.testing.runner import BrokerLaws
from tests.ahead import begin, processes

MOMENT = 0.0003
"""Long enough for other threads to come in between, short enough for thousands of calls."""
SIZE = {"messages": 600, "threads": 4}
AT_ONCE = 4


def let_others_in(server):
    """Leave the lock to whoever waits for it, in the middle of a step."""
    server.changed.release()
    time.sleep(MOMENT)
    server.changed.acquire()


# Right, as long as one call follows the other


class ClaimsWithoutALock(MemoryServer):
    def take(self, queue, limit):
        ready = [entry for level in reversed(queue.ready) for entry in level]
        taken = [entry for entry in ready if self._exists(entry, entry.state.READY)][:limit]
        let_others_in(self)
        for entry in taken:
            level = queue.ready[entry.message.priority]
            if entry in level:
                level.remove(entry)
        return taken


class ChecksThenSettles(MemoryServer):
    def held(self, delivery):
        entry = super().held(delivery)
        if entry is not None:
            let_others_in(self)
        return entry

    def drop(self, entry):
        self.messages.pop(entry.message.id, None)


class ReclaimsTwice(MemoryServer):
    def reclaim(self, queue, limit):
        now = self.clock.now()
        lapsed = [
            entry
            for end, _, entry, token in sorted(queue.leased)
            if end <= now and (entry.token, entry.lease_until) == (token, end)
        ][:limit]
        if lapsed:
            let_others_in(self)
        for entry in lapsed:
            self.lose(entry)
        return len(lapsed)


class SendsOverWhatOthersSent(MemoryServer):
    def place(self, entry, due):
        level = list(self.queue(entry.message.queue).ready[entry.message.priority])
        let_others_in(self)
        self.queue(entry.message.queue).ready[entry.message.priority] = deque(level)
        super().place(entry, due)


class ReleasesInTwoSteps(MemoryBroker):
    def _conclude(self, server, entry, settlement):
        super()._conclude(server, entry, settlement)
        if isinstance(settlement, Release):
            place, state, token = entry.returned, entry.state, entry.token
            let_others_in(server)
            entry.returned, entry.state, entry.token = place, state, token


class ConfusesTheAnswersOfThreads(MemoryBroker):
    def settle(self, settlements, /):
        self._answer = super().settle(settlements)
        time.sleep(MOMENT)
        return self._answer


# Wrong at any time


class SendsWhenItHasReturned(MemoryBroker):
    def send(self, items, /, *, timeout=10.0):
        send = super().send
        threading.Timer(0.002, send, [items]).start()


class ReservesOneTooMany(MemoryBroker):
    def reserve(self, queues, /, *, limit, lease, wait=0.0):
        return super().reserve(queues, limit=limit + 1, lease=lease, wait=wait)


class AnswersOneTwice(MemoryBroker):
    def reserve(self, queues, /, *, limit, lease, wait=0.0):
        found = super().reserve(queues, limit=limit, lease=lease, wait=wait)
        return [*found, found[0]] if 1 < len(found) < limit else found


class AnswersTheLeastUrgentFirst(MemoryBroker):
    def reserve(self, queues, /, *, limit, lease, wait=0.0):
        found = super().reserve(queues, limit=limit, lease=lease, wait=wait)
        return sorted(found, key=lambda delivery: delivery.message.priority)


class LooksInOtherQueues(MemoryBroker):
    def reserve(self, queues, /, *, limit, lease, wait=0.0):
        found = super().reserve(queues, limit=limit, lease=lease)
        return found or super().reserve(QUEUES, limit=limit, lease=lease, wait=wait)


class LooksAtTimes(MemoryBroker):
    def __init__(self, server):
        super().__init__(server)
        self._turns = itertools.cycle((True, True, False))

    def reserve(self, queues, /, *, limit, lease, wait=0.0):
        if not next(self._turns):
            return []
        return super().reserve(queues, limit=limit, lease=lease, wait=wait)


class ReclaimsLate(MemoryServer):
    def hold(self, entry, seconds):
        super().hold(entry, seconds + 0.5)


class SendsOneMore(MemoryServer):
    def accept(self, item):
        if item.message.id.endswith("7"):
            copy = msgspec.structs.replace(item.message, id=f"{item.message.id}.copy")
            super().accept(Send(copy))
        return super().accept(item)


class ForgetsToExtend(MemoryBroker):
    def extend(self, deliveries, /, *, lease):
        return super().extend(deliveries, lease=0.001)


class SaysThatAcksAreLost(MemoryBroker):
    def settle(self, settlements, /):
        lost = super().settle(settlements)
        acks = [one.delivery for one in settlements if isinstance(one, Ack)]
        long = [one for one in acks if one.lease_until - one.claimed == LONG]
        return [*lost, *(one for one in long if one not in lost)]


class NeverExtends(MemoryBroker):
    def extend(self, deliveries, /, *, lease):
        return Extension(lost=list(deliveries), cancelled=[])


class ExtendsWhatIsLost(MemoryBroker):
    def extend(self, deliveries, /, *, lease):
        super().extend(deliveries, lease=lease)
        return Extension(lost=[], cancelled=[])


class NamesOthersAsLost(MemoryBroker):
    other = None

    def settle(self, settlements, /):
        self.other = self.other or settlements[0].delivery
        lost = super().settle(settlements)
        return [*lost, self.other] if lost else lost


class SettlesOnlyTheFirstFew(MemoryBroker):
    def settle(self, settlements, /):
        return super().settle(settlements[:20])


class LeavesOneInSevenThatIsAcked(MemoryServer):
    def drop(self, entry):
        if entry.message.id.endswith("7") and not entry.returned:
            entry.returned = True
            self.place(entry, 0.0)
        else:
            super().drop(entry)


class BuriesOnTheFirstLoss(MemoryServer):
    def lose(self, entry):
        super().lose(entry)
        self.bury(entry, "worker_lost", "too early")


class ForgetsTheDead(MemoryServer):
    def bury(self, entry, code, detail):
        self.drop(entry)


class BuriesTheAcked(MemoryBroker):
    def _conclude(self, server, entry, settlement):
        if isinstance(settlement, Ack) and entry.message.id.endswith("7"):
            settlement = Dead(settlement.delivery, "failed")
        super()._conclude(server, entry, settlement)


class ListsMoreReleases(MemoryBroker):
    def dead_letters(self, queue, /, *, limit=100, after=None):
        found = super().dead_letters(queue, limit=limit, after=after)
        return [msgspec.structs.replace(one, releases=one.releases + 1) for one in found]


class CountsOneMore(MemoryBroker):
    def stats(self):
        return [msgspec.structs.replace(line, ready=line.ready + 1) for line in super().stats()]


RACES = {
    ClaimsWithoutALock: {"L3", "L11"},
    ChecksThenSettles: {"L3", "L4", "L13", "L17"},
    ReclaimsTwice: {"L3", "L5", "L11"},
    SendsOverWhatOthersSent: {"L1", "L8", "L9"},
    ReleasesInTwoSteps: {"L1", "L3", "L5"},
    ConfusesTheAnswersOfThreads: {"L3", "L4", "L17"},
}
"""Brokers with a race, and laws that it breaks."""
WRONG = {
    SendsWhenItHasReturned: "L",
    LooksAtTimes: "L1: a claim left a message that was ready|L5: a claim left",
    claiming.LosesEverySeventh: "L1: it was sent, and never came",
    SettlesOnlyTheFirstFew: "L",
    ReservesOneTooMany: "L3: more came than the limit",
    AnswersOneTwice: "L3: one message came twice in one claim",
    ForgetsToExtend: "L3: two leases ran at the same|L3: a lease was lost before its",
    claiming.LeasesTooShort: "L3: two leases ran at the same|L3: a lease was lost before its",
    SaysThatAcksAreLost: "L3: a lease was lost before its end",
    NeverExtends: "L3: a lease was lost before its end|L4: a stale token was accepted: ",
    claiming.TokenReused: "L4: two leases had one token",
    settling.IgnoresTokens: "L4: a stale token was accepted: |L17: two settlements of one",
    ExtendsWhatIsLost: "L4: a stale token was accepted: extend|L3: a lease was lost before",
    settling.SuccessorsThoughLost: "L4: an ack that was lost has sent its successor|L13: ",
    ReclaimsLate: "L5: a claim left a message whose lease had ended",
    claiming.DestructiveRead: "L5: (its lease ended, and it never came again|a claim left)",
    settling.NoBackoff: "L5: it came within 1 s of a loss",
    claiming.PromotesEarly: "L6: it came before its delay was over|L5: it came within",
    settling.DelayedRetryIsDropped: "L7: after a retry it never came again",
    claiming.LeastUrgentFirst: "L8: ",
    claiming.QueuesReversed: "L8: a claim left a message that was ready",
    AnswersTheLeastUrgentFirst: "L8: .* stands before .* in an answer",
    claiming.LastInFirstOut: "L9: .* was sent first and came later than ",
    settling.ReleaseToTheTail: "L10: a new message was taken before a released one",
    settling.LossNotCounted: "L11: retries, losses, releases are ",
    settling.RetryKeepsItsRun: "L11: run is ",
    ListsMoreReleases: "L11: the dead letter counts otherwise than the last delivery",
    BuriesOnTheFirstLoss: "L12: it died of losses",
    LeavesOneInSevenThatIsAcked: "L13: a concluded message came again",
    settling.RetryKeepsItsEnvelope: "L14: .* came, not .* again",
    SendsOneMore: "L14: a message came that nobody sent",
    LooksInOtherQueues: "L14: .* came, whose queue was not asked for|L8: .* stands before",
    settling.SecondSettlementHolds: "L17: two settlements of one delivery were accepted",
    NamesOthersAsLost: "L17: .* was told of losses it had not asked about",
    ForgetsTheDead: "L19: concluded as dead, and listed 0 times among the dead",
    BuriesTheAcked: "L19: concluded as ack, and listed 1 times among the dead",
    CountsOneMore: "L21: all is concluded, and stats counts ",
}
"""For each rule a broker that breaks it, and what is said of it: where it breaks several,
it depends on chance which message shows it first."""


def findings(broken):
    """Return the law that many clients say is broken, and what they say; "" if they do not."""
    try:
        check_concurrency(MutantTarget(broken), Ledger("mutant"), **SIZE, processes=0)
    except LawBroken as error:
        return f"{error.law}: {error.what}"
    return ""


@pytest.fixture(scope="module")
def found(request):
    """Return what is found out about each broken broker that a test asks for.

    A run waits for leases most of the time, so several go on at once.
    """
    with processes(AT_ONCE) as pool:
        yield begin(pool, request, "broken", findings)


@pytest.mark.parametrize("broken", RACES, ids=lambda broken: broken.__name__)
def test_many_clients_notice_a_race(broken, found):
    assert found[broken].result()


@pytest.mark.parametrize("broken", WRONG, ids=lambda broken: broken.__name__)
def test_many_clients_notice_a_broken_broker(broken, found):
    said = found[broken].result()

    assert re.match(WRONG[broken], said), said


@pytest.mark.parametrize("broken", RACES, ids=lambda broken: broken.__name__)
def test_one_call_after_the_other_shows_nothing_of_a_race(broken):
    ledger = Ledger("mutant")

    assert run_examples(BrokerLaws(), MutantTarget(broken), ledger, only=RACES[broken]) == {}


@pytest.mark.parametrize("target", [MutantTarget(object), Plugins().target("memory://")])
def test_many_clients_find_no_fault_with_a_right_broker(target):
    ledger = Ledger("memory")

    summary = check_concurrency(target, ledger, **SIZE, processes=0)

    assert summary.messages >= 600
    assert summary.deliveries > summary.messages
    assert summary.losses > 10
    assert summary.refused > 10
    laws = {"L1", "L3", "L4", "L5", "L6", "L8", "L9", "L10", "L11", "L13", "L14", "L17"}
    assert all(ledger.times(law) >= 20 for law in laws), ledger.counts
    assert "1 process in" in str(summary)


def test_the_sizes_of_the_profiles_grow():
    smoke, default, soak = (SIZES[name] for name in ("smoke", "default", "soak"))

    assert (smoke.messages, default.messages, soak.messages) == (1_000, 10_000, 100_000)
    assert 1 <= smoke.processes <= default.processes <= soak.processes
