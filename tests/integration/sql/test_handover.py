"""Handing messages to a broker that refuses some of them, or is lost in between."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from taskq.clock import Seconds
from taskq.contract.broker import Broker
from taskq.contract.message import Message, Send
from taskq.errors import ConnectionFailed, NotSupported, OutcomeUnknown, SendError, ServerRefused
from taskq.ids import new_id
from taskq.plugins import Plugins
from taskq_sql.outbox.handover import hand_over


class Picky:
    """A real broker behind a door that only some messages pass."""

    def __init__(self, inner: Broker) -> None:
        self.inner = inner
        self.offered: list[list[str]] = []
        self.look: Callable[[list[str]], BaseException | None] = lambda ids: None
        """Returns what to raise for these ids, after they were sent or not."""
        self.answers: Callable[[list[str]], BaseException | None] = lambda ids: None

    def send(self, items: Sequence[Send], /, *, timeout: Seconds = 10.0) -> None:
        ids = [item.message.id for item in items]
        self.offered.append(ids)
        if error := self.look(ids):
            raise error
        self.inner.send(items, timeout=timeout)
        if error := self.answers(ids):
            raise error

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def arrived(self) -> list[str]:
        """Return what the broker has, in its order."""
        found = self.inner.reserve(["default"], limit=100, lease=60)
        return [delivery.id for delivery in found]


@pytest.fixture
def broker() -> Iterator[Any]:
    inner = Plugins().open_broker(f"memory://?namespace={new_id()}")
    yield Picky(inner)
    inner.close()


def sends(ids: str) -> list[Send]:
    return [Send(Message(id, "default", b"{}")) for id in ids]


def refuse(*bad: str, kind: type[Exception] = ServerRefused) -> Callable[[list[str]], Any]:
    return lambda ids: kind("too large") if set(bad) & set(ids) else None


@pytest.mark.parametrize("bad", ["a", "d", "ab", "bdf", "abcdefg"])
@pytest.mark.parametrize("kind", [ServerRefused, NotSupported])
def test_what_is_refused_is_found_and_the_rest_arrives_in_order(
    broker: Any, bad: str, kind: type[Exception]
) -> None:
    broker.look = refuse(*bad, kind=kind)

    done = hand_over(broker, sends("abcdefgh"), timeout=10)

    rest = [id for id in "abcdefgh" if id not in bad]
    assert broker.arrived() == rest
    assert done.accepted == set(rest)
    assert done.refused == dict.fromkeys(bad, "too large")
    assert done.trouble is None


def test_if_nothing_is_accepted_the_fault_is_nobodys(broker: Any) -> None:
    broker.look = lambda ids: ServerRefused("memory is full")

    done = hand_over(broker, sends("abcd"), timeout=10)

    assert (done.accepted, done.refused) == (set(), {})
    assert str(done.trouble) == "memory is full"


def test_what_is_refused_after_all_others_were_accepted_may_be_the_servers_fault(
    broker: Any,
) -> None:
    broker.look = refuse("c", "d")

    done = hand_over(broker, sends("abcd"), timeout=10)

    assert (done.accepted, done.refused) == ({"a", "b"}, {})
    assert str(done.trouble) == "too large"


def test_what_is_refused_once_only_was_not_at_fault(broker: Any) -> None:
    errors = [ServerRefused("full"), ServerRefused("full")]
    broker.look = lambda ids: errors.pop() if errors else None

    done = hand_over(broker, sends("ab"), timeout=10)

    assert broker.offered == [["a", "b"], ["a"], ["b"], ["a"]]
    assert (done.accepted, done.refused, done.trouble) == ({"a", "b"}, {}, None)


@pytest.mark.parametrize("kind", [ConnectionFailed, OutcomeUnknown])
def test_a_broker_out_of_reach_is_left_alone(broker: Any, kind: type[Exception]) -> None:
    broker.look = lambda ids: kind("gone")

    done = hand_over(broker, sends("abcd"), timeout=10)

    assert broker.offered == [["a", "b", "c", "d"]]
    assert (done.accepted, done.refused) == (set(), {})
    assert isinstance(done.trouble, kind)


def test_of_a_batch_sent_in_part_the_rest_is_to_be_sent_again(broker: Any) -> None:
    broker.answers = lambda ids: SendError("lost", sent=["a"], unknown=["b"], unsent=["c", "d"])

    done = hand_over(broker, sends("abcd"), timeout=10)

    assert (done.accepted, done.refused) == ({"a"}, {})
    assert isinstance(done.trouble, SendError)


def test_a_refusal_in_the_midst_of_a_batch_goes_on_behind_what_was_sent(broker: Any) -> None:
    def look(ids: list[str]) -> BaseException | None:
        if "c" not in ids:
            return None
        place = ids.index("c")
        broker.inner.send(sends("".join(ids[:place])))
        return SendError("no", sent=ids[:place], unsent=ids[place:], refused=True)

    broker.look = look

    done = hand_over(broker, sends("abcdef"), timeout=10)

    assert broker.arrived() == list("abdef")
    assert (done.accepted, done.refused) == (set("abdef"), {"c": "no"})


def test_a_loss_while_suspects_are_tried_again_condemns_nobody(broker: Any) -> None:
    refusal = refuse("a")
    broker.look = lambda ids: ConnectionFailed("gone") if len(broker.offered) > 3 else refusal(ids)

    done = hand_over(broker, sends("ab"), timeout=10)

    assert (done.accepted, done.refused) == ({"b"}, {})
    assert isinstance(done.trouble, ConnectionFailed)
