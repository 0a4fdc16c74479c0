"""Whatever clients do at once with a right broker, no rule complains; and no lie goes unnoticed.

The memory broker takes one call after the other, at instants that are drawn.
The record says afterwards that each call lasted from some instant before to
some instant after, as it would with threads: the rules know only that.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskq.clock import VirtualClock
from taskq.contract.message import Send
from taskq.contract.settlement import Ack, Dead, Release, Retry
from taskq.memory.broker import MemoryBroker
from taskq.memory.server import MemoryServer
from taskq.testing.concurrency.consumer import Consumer, Held
from taskq.testing.concurrency.history import History, Item, Sent, Settled
from taskq.testing.concurrency.rules import check_history
from taskq.testing.concurrency.run import letters_of
from taskq.testing.concurrency.work import Pulse, Signals, to_message
from taskq.testing.record import LawBroken, Ledger

QUEUES = (("a", "b"), ("b", "a"), ("a",), ("b",))
LEASES = (0.3, 1.0, 30.0)
PAUSES = (0.0, 0.0, 0.01, 0.1, 0.4, 1.1, 5.0)


class Clockwork(Pulse):
    """Tells the time of a clock that stands still within a call."""

    def __init__(self, clock):
        self.clock = clock

    def read(self):
        return self.clock.now()


@dataclass(frozen=True)
class Step:
    """What one of three clients does, and how long after the step before."""

    client: int
    kind: str
    choice: int
    pause: float
    early: float
    """How far the call reaches back to the client's last one: 1 is half of the way."""
    late: float


KINDS = ("send", "claim", "claim", "settle", "settle", "extend", "maintain")
REACH = st.sampled_from((0.0, 0.1, 1.0))
STEPS = st.lists(
    st.builds(
        Step,
        client=st.integers(0, 2),
        kind=st.sampled_from(KINDS),
        choice=st.integers(0, 1000),
        pause=st.sampled_from(PAUSES),
        early=REACH,
        late=REACH,
    ),
    max_size=60,
)


class Stage:
    """Three clients of a right broker, who take turns."""

    def __init__(self):
        self.clock = VirtualClock(frozen=True)
        self.broker = MemoryBroker(MemoryServer(self.clock))
        self.clients = [self.client(f"c{number}") for number in range(3)]
        self.held = [[], [], []]
        self.reach = {}
        self.sent = 0

    def client(self, who):
        return Consumer(self.broker, who, Clockwork(self.clock), Signals())

    def take(self, step):
        self.clock.advance(step.pause)
        calls = self.clients[step.client].calls
        count = len(calls)
        getattr(self, f"_{step.kind}")(step.client, self.clients[step.client], step.choice)
        if len(calls) > count:
            self.reach[step.client, count] = step.early, step.late

    def _send(self, _, client, choice):
        items = []
        for number in range(1 + choice % 3):
            queue, priority = "ab"[(choice + number) % 2], (5, 9)[choice // 3 % 2]
            items.append(Item(f"m{self.sent}", queue, priority, b"%d" % self.sent))
            self.sent += 1
        self.broker.send([Send(to_message(item)) for item in items])
        now = self.clock.now()
        client.calls.append(Sent(client.who, now, now, items))

    def _claim(self, number, client, choice):
        queues, lease, limit = QUEUES[choice % 4], LEASES[choice // 4 % 3], 1 + choice // 12 % 4
        self.held[number] += client.claim(queues, limit, lease, wait=0.0)[0]

    def _settle(self, number, client, choice):
        held = self.held[number]
        chosen = [held[choice % len(held)], held[choice // 7 % len(held)]] if held else []
        if chosen:
            client.settle([self._settlement(client, one, choice // 3) for one in chosen])

    def _settlement(self, client, delivery, choice):
        delay = (0.0, 0.0, 0.5)[choice % 3]
        ways = (
            lambda: Ack(delivery),
            lambda: Ack(delivery, send=(Send(client._successor(delivery)),)),
            lambda: Retry(delivery, delay, b"again %d" % choice),
            lambda: Retry(delivery, delay),
            lambda: Release(delivery, delay),
            lambda: Dead(delivery, "failed"),
        )
        return ways[choice % 6]()

    def _extend(self, number, client, choice):
        if held := self.held[number]:
            client._extend(Held([held[choice % len(held)]], 0.0))

    def _maintain(self, *_):
        self.broker.recover_expired(limit=2)
        self.broker.poll_schedule(limit=2)

    def end(self):
        """Conclude what is left; return the history of instants without length."""
        drain = self.client("drain")
        while any(line.ready + line.scheduled + line.processing for line in self.broker.stats()):
            self.clock.advance(100)
            found, _ = drain.claim(("a", "b"), 100, 30.0, wait=0.0)
            drain.settle([Ack(delivery) for delivery in found])
        self.clients.append(drain)
        return self._history([client.calls for client in self.clients])

    def stretched(self):
        """Return the history of the calls as their clients saw them."""
        every = []
        for number, client in enumerate(self.clients):
            calls = client.calls
            first = calls[0].before - 1 if calls else 0
            last = calls[-1].after + 1 if calls else 0
            at = [first, *(call.before for call in calls), last]
            seen = []
            for place, call in enumerate(calls):
                early, late = self.reach.get((number, place), (0.0, 0.0))
                before = call.before - early * (at[place + 1] - at[place]) / 2
                after = call.after + late * (at[place + 2] - at[place + 1]) / 2
                seen.append(msgspec.structs.replace(call, before=before, after=after))
            every.append(seen)
        return self._history(every)

    def _history(self, every):
        letters = [letter for queue in "ab" for letter in letters_of(self.broker, queue)]
        return History([call for calls in every for call in calls], letters)


def played(steps):
    stage = Stage()
    for step in steps:
        stage.take(step)
    return stage


@settings(max_examples=300)
@given(STEPS)
def test_no_rule_complains_of_a_right_broker_however_long_its_calls_take(steps):
    stage = played(steps)
    stage.end()

    check_history(stage.stretched(), Ledger("right"))


@settings(max_examples=300)
@given(STEPS, st.integers(min_value=0))
def test_a_settlement_that_was_answered_with_a_lie_breaks_a_law(steps, choice):
    history = played(steps).end()
    fates = [
        (place, number)
        for place, call in enumerate(history.calls)
        if isinstance(call, Settled)
        for number in range(len(call.fates))
    ]
    if not fates:
        return
    place, number = fates[choice % len(fates)]
    call = history.calls[place]
    fate = call.fates[number]
    lie = msgspec.structs.replace(fate, lost=not fate.lost)
    told = [*call.fates[:number], lie, *call.fates[number + 1 :]]
    calls = list(history.calls)
    calls[place] = msgspec.structs.replace(call, fates=told)

    with pytest.raises(LawBroken):
        check_history(History(calls, history.letters), Ledger("wrong"))
