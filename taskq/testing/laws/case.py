"""What an example needs: a fresh namespace, a clock, and short ways to say things."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from taskq.clock import Seconds, VirtualClock
from taskq.contract.broker import Broker
from taskq.contract.delivery import Delivery, Heartbeat, QueueStats, State
from taskq.contract.message import Message, Send
from taskq.contract.results import ResultRecord, Results
from taskq.contract.settlement import Settlement
from taskq.testing.record import Ledger
from taskq.testing.target import Target

Example = TypeVar("Example", bound=Callable[..., None])


def law(*numbers: str) -> Callable[[Example], Example]:
    """Mark an example with the laws it puts to the test."""

    def mark(example: Example) -> Example:
        example.laws = numbers  # type: ignore[attr-defined]  # read back by `laws_of`
        return example

    return mark


def laws_of(example: Callable[..., None]) -> tuple[str, ...]:
    """Return the laws an example is marked with."""
    found: tuple[str, ...] = getattr(example, "laws", ())
    return found


class Case:
    """One example's namespace. `broker` is a first client; `other()` opens more."""

    def __init__(self, target: Target, ledger: Ledger) -> None:
        self.target = target
        self.ledger = ledger
        self.clock: VirtualClock = target.begin()
        self.broker: Broker = target.open()

    def check(self, law: str, holds: bool, what: str) -> None:
        """Put a law to the test once."""
        self.ledger.check(law, holds, what)

    def same(self, law: str, found: object, expected: object, what: str) -> None:
        """Put a law to the test once: both have to be equal."""
        self.ledger.check(law, found == expected, f"{what}: {found!r}, not {expected!r}")

    def other(self) -> Broker:
        """Open one more client."""
        return self.target.open()

    def results(self) -> Results:
        """Open a client of the results."""
        return self.target.open_results()

    def advance(self, seconds: Seconds) -> None:
        """Let time pass."""
        self.clock.advance(seconds)

    def send(
        self, *ids: str, queue: str = "q", priority: int = 5, limit: int = 5, **when: Any
    ) -> None:
        """Send messages, one after the other."""
        self.broker.send(
            [item(id, queue=queue, priority=priority, limit=limit, **when) for id in ids]
        )

    def claim(
        self, *queues: str, limit: int = 100, lease: Seconds = 30.0, broker: Broker | None = None
    ) -> list[Delivery]:
        """Reserve what there is, from `q` unless queues are named."""
        return (broker or self.broker).reserve(queues or ("q",), limit=limit, lease=lease)

    def one(
        self, law: str, id: str, *, lease: Seconds = 30.0, broker: Broker | None = None
    ) -> Delivery:
        """Reserve exactly this message; that it comes is put to the test."""
        found = self.claim(limit=1, lease=lease, broker=broker)
        self.same(law, [delivery.id for delivery in found], [id], "reserved")
        return found[0]

    def comes(self, law: str, *expected: str) -> list[Delivery]:
        """Reserve all; put to the test that just these come, in this order."""
        found = self.claim()
        self.same(law, [delivery.id for delivery in found], list(expected), "reserved")
        return found

    def stays(self, law: str) -> None:
        """Put to the test that nothing comes."""
        self.same(law, [delivery.id for delivery in self.claim()], [], "reserved")

    def settle(self, law: str, *settlements: Settlement, broker: Broker | None = None) -> None:
        """Settle; put to the test that no lease was lost."""
        lost = (broker or self.broker).settle(settlements)
        self.same(law, [delivery.id for delivery in lost], [], "lost")

    def lose(self, law: str, id: str, times: int) -> None:
        """Let a message be claimed and lost so often, waiting for each backoff."""
        for _ in range(times):
            self.one(law, id)
            self.advance(31)
            self.broker.recover_expired()
            self.advance(61)

    def kill(self, *ids: str, law: str = "L1", queue: str = "q", code: str = "failed") -> None:
        """Send messages and make them dead letters, one second apart."""
        for id in ids:
            self.send(id, queue=queue)
            found = self.claim(queue, limit=1)
            self.same(law, [delivery.id for delivery in found], [id], "reserved")
            self.broker.dead(found[0], code=code, detail=f"of {id}")
            self.advance(2)

    def state(self, law: str, id: str, expected: State | None) -> None:
        """Put to the test in which state a message is, where the backend can tell."""
        if self.target.capabilities.locate:
            self.same(law, self.broker.locate([id]).get(id), expected, f"{id} is")

    def stats(self, queue: str = "q") -> QueueStats:
        """Return one queue's counts."""
        found = {line.queue: line for line in self.broker.stats()}
        return found.get(queue) or QueueStats(queue, 0, 0, 0, 0)


@contextmanager
def open_case(target: Target, ledger: Ledger) -> Iterator[Case]:
    """Yield a case, and remove its namespace afterwards."""
    case = Case(target, ledger)
    try:
        yield case
    finally:
        target.end()


def run_examples(
    suite: object, target: Target, ledger: Ledger, *, only: Iterable[str] | None = None
) -> dict[str, Exception]:
    """Run a suite's examples without pytest; return what went wrong, by name.

    `only` restricts them to those marked with one of these laws.
    """
    failures: dict[str, Exception] = {}
    wanted = None if only is None else set(only)
    for name in sorted(dir(suite)):
        example = getattr(suite, name)
        laws = laws_of(example) if name.startswith("test_") else ()
        if not laws or (wanted is not None and not wanted & set(laws)):
            continue
        try:
            with open_case(target, ledger) as case:
                example(case)
        except Exception as error:  # noqa: BLE001 - whatever a broken backend raises is a failure
            failures[name] = error
    return failures


def item(
    id: str,
    *,
    queue: str = "q",
    priority: int = 5,
    limit: int = 5,
    envelope: bytes | None = None,
    **when: Any,
) -> Send:
    """Return a message to send; `when` are `Send`'s delay, eta, ttl and expires."""
    content = b"envelope of " + id.encode() if envelope is None else envelope
    return Send(Message(id, queue, content, priority, limit), **when)


def record(
    id: str, run: int = 0, *, state: str = "SUCCESS", payload: bytes = b"p", ttl: float = 100
) -> ResultRecord:
    """Return a result."""
    return ResultRecord(id, run, state, payload, ttl)


def beat(worker: str, incarnation: str, *, done: int = 0) -> Heartbeat:
    """Return a worker's heartbeat."""
    return Heartbeat(worker, incarnation, "host", 1, 1.5, ("q",), "threads", 4, 0, done)


def ids_of(found: Sequence[Delivery]) -> list[str]:
    """Return the ids of deliveries, in order."""
    return [delivery.id for delivery in found]
