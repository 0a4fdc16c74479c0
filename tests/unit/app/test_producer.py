"""Sending within a deadline, to brokers that fail in every way they may."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from taskq.app.producer import enqueue
from taskq.clock import Seconds, SystemClock
from taskq.contract.capabilities import Capabilities
from taskq.contract.message import Message, Send
from taskq.errors import (
    Closed,
    ConnectionFailed,
    EnqueueError,
    OutcomeUnknown,
    SendError,
    ServerRefused,
)
from taskq.memory.broker import MemoryBroker
from taskq.memory.server import MemoryServer

FATES = ["accept", "sent", "unsent", "lost request", "lost answer", "unnamed", "unnamed accepted"]
Step = tuple[str, list[str], float]


class Time:
    """A clock that only moves when somebody sleeps, or a broker takes its time."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: Seconds) -> None:
        assert seconds > 0
        self.now += seconds


class ScriptedBroker(MemoryBroker):
    """Accepts and fails by a script: per call, a kind of failure and a fate for each item."""

    def __init__(self, script: Sequence[Step], time: Time, *, unique: bool) -> None:
        super().__init__(MemoryServer(SystemClock()))
        self.capabilities = Capabilities(unique_ids=unique)  # type: ignore[misc]  # of one object here
        self.script = list(script)
        self.time = time
        self.accepted: list[str] = []
        self.calls: list[tuple[list[str], Seconds]] = []

    def send(self, items: Sequence[Send], /, *, timeout: Seconds = 10.0) -> None:
        ids = [item.message.id for item in items]
        self.calls.append((ids, timeout))
        kind, fates, took = self.script.pop(0) if self.script else ("ok", [], 0.0)
        self.time.now += took * timeout
        if kind == "ok":
            self.accepted += ids
            return
        if kind == "connection":
            raise ConnectionFailed
        if kind == "refused":
            raise ServerRefused("no room")
        if kind == "unknown":
            self.accepted += ids if fates[0] == "accept" else []
            raise OutcomeUnknown
        named: dict[str, list[str]] = {"sent": [], "unsent": [], "unknown": []}
        for id, fate in zip(ids, fates, strict=False):
            if fate in {"accept", "sent", "lost answer", "unnamed accepted"}:
                self.accepted.append(id)
            where = {"accept": "sent", "sent": "sent", "unsent": "unsent"}.get(fate, "unknown")
            if not fate.startswith("unnamed"):
                named[where].append(id)
        for id in ids[len(fates) :]:
            named["unsent"].append(id)
        raise SendError("scripted", refused=kind == "partly refused", **named)


def items(count: int) -> list[Send]:
    return [Send(Message(f"m{n}", "default", b"")) for n in range(count)]


kinds = st.sampled_from(
    ["ok", "partly", "partly", "partly refused", "connection", "unknown", "refused"]
)
steps = st.tuples(kinds, st.lists(st.sampled_from(FATES), min_size=1, max_size=5), st.floats(0, 1))


@given(
    script=st.lists(steps, max_size=8),
    count=st.integers(1, 5),
    unique=st.booleans(),
    timeout=st.sampled_from([0.0, 0.01, 0.5, 10.0]),
)
@example(
    script=[("partly", ["unsent", "lost request"], 0.0), ("ok", [], 0.0)],
    count=2,
    unique=False,
    timeout=10.0,
)
@example(
    script=[("partly", ["lost answer"], 0.0), ("partly", ["unsent"], 0.0), ("refused", ["x"], 0.0)],
    count=1,
    unique=True,
    timeout=10.0,
)
def test_whatever_happens_the_truth_is_told_in_time(
    script: list[Step], count: int, unique: bool, timeout: Seconds
) -> None:
    time = Time()
    broker = ScriptedBroker(script, time, unique=unique)
    ids = [item.message.id for item in items(count)]

    error = None
    try:
        enqueue(broker, items(count), timeout, now=time, sleep=time.sleep)
    except EnqueueError as raised:
        error = raised

    accepted = set(broker.accepted)
    assert time.now <= 100.0 + timeout + 0.01
    if error is None:
        assert accepted == set(ids)
    else:
        assert sorted(error.sent + error.unsent + error.unknown) == sorted(ids)
        assert accepted >= set(error.sent)
        assert accepted.isdisjoint(error.unsent)
    if not unique:
        assert len(broker.accepted) == len(accepted)


def attempt(
    script: list[Step], *, unique: bool = True, count: int = 1
) -> tuple[ScriptedBroker, Time]:
    time = Time()
    broker = ScriptedBroker(script, time, unique=unique)
    enqueue(broker, items(count), 10.0, now=time, sleep=time.sleep)
    return broker, time


def test_only_what_is_missing_is_sent_again_in_its_order() -> None:
    broker, _ = attempt([("partly", ["unsent", "sent", "lost answer", "unsent"], 0.0)], count=4)

    assert [ids for ids, _ in broker.calls] == [["m0", "m1", "m2", "m3"], ["m0", "m2", "m3"]]


@pytest.mark.parametrize("kind", ["connection", "unknown"])
def test_a_broker_that_comes_back_in_time_gets_the_task(kind: str) -> None:
    broker, time = attempt([(kind, ["lost"], 0.0)] * 3)

    assert set(broker.accepted) == {"m0"}
    assert 100.0 < time.now < 101.0


def test_what_may_have_been_accepted_is_not_sent_again_where_ids_are_not_unique() -> None:
    with pytest.raises(EnqueueError, match="may have been accepted") as caught:
        attempt([("unknown", ["accept"], 0.0)], unique=False)

    assert caught.value.unknown == ("m0",)


def test_a_refusal_is_not_repeated() -> None:
    with pytest.raises(EnqueueError, match="was not accepted: no room") as caught:
        attempt([("refused", ["x"], 0.0)])

    assert caught.value.unsent == ("m0",)
    assert isinstance(caught.value.__cause__, SendError)
    assert isinstance(caught.value.__cause__.__cause__, ServerRefused)


def test_each_attempt_has_no_more_time_than_is_left() -> None:
    time = Time()
    broker = ScriptedBroker([("connection", ["x"], 0.3)] * 50, time, unique=True)

    with pytest.raises(EnqueueError):
        enqueue(broker, items(1), 10.0, now=time, sleep=time.sleep)

    timeouts = [timeout for _, timeout in broker.calls]
    assert timeouts[0] == 10.0
    assert timeouts == sorted(timeouts, reverse=True)
    assert len(broker.calls) > 2


def test_a_closed_client_says_so_at_once() -> None:
    broker = MemoryBroker(MemoryServer(SystemClock()))
    broker.close()

    with pytest.raises(Closed):
        enqueue(broker, items(1), 10.0)


@pytest.mark.parametrize(
    ("fates", "count", "text"),
    [
        (["unsent"], 1, "the task was not accepted"),
        (["lost answer"], 1, "the task may have been accepted"),
        (["unsent", "sent", "unsent"], 3, "2 of 3 tasks were not accepted"),
        (["unsent", "lost answer", "unsent"], 3, "1 of 3 tasks may have been accepted"),
    ],
)
def test_the_error_counts_in_words(fates: list[str], count: int, text: str) -> None:
    with pytest.raises(EnqueueError, match=text):
        attempt([("partly refused", fates, 0.0)], count=count)
