"""What an example needs: a fresh namespace, a clock, and short ways to say things."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, Final, TypeVar

from taskq.clock import Seconds, VirtualClock
from taskq.contract.broker import Broker
from taskq.contract.delivery import Delivery, Heartbeat, QueueStats, State
from taskq.contract.message import Message, Send
from taskq.contract.results import ResultRecord, Results
from taskq.contract.settlement import Settlement
from taskq.errors import BrokerError, UnknownScheme
from taskq.testing.faults import Fault
from taskq.testing.record import Ledger, NotApplicable
from taskq.testing.target import Target

Example = TypeVar("Example", bound=Callable[..., None])
NO_RESULTS: Final = "the plugin keeps no results at this URL"
PASSES: Final = 100
"""More calls of `Results.expire` than what the kit stores can need."""


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

    @cached_property
    def broker(self) -> Broker:
        """Opened at its first use: a result store may be all there is."""
        return self.target.open()

    def breakable(self) -> None:
        """Start over, with clients whose connections can be broken.

        Raises:
            NotApplicable: the target cannot break one.
        """
        if not self.target.faults:
            raise NotApplicable("the target cannot break connections")
        self.target.end()
        self.__dict__.pop("broker", None)
        self.__dict__.pop("_reader", None)
        self.clock = self.target.begin(breakable=True)

    def needs(self, capability: str) -> None:
        """End the example here if the backend denies a capability.

        Raises:
            NotApplicable: it does.
        """
        if not getattr(self.target.capabilities, capability):
            raise NotApplicable(f"the backend denies {capability}")

    def breaking(
        self, client: Broker | Results, fault: Fault, call: Callable[[], object], *, skip: int = 0
    ) -> BrokerError | None:
        """Make a call that is about to break; return its error, if it does not get over it."""
        self.target.break_next(client, fault, skip=skip)
        try:
            call()
        except BrokerError as error:
            return error
        finally:
            self.target.heal()
        return None

    def goes_on(self, law: str, call: Callable[[], object]) -> None:
        """Put to the test that a client works by itself, the first call at most excepted."""
        for last in (False, True):
            try:
                call()
            except BrokerError as error:
                self.check(law, not last, f"the server answers again, and the client not: {error}")
            else:
                self.check(law, True, "")
                return

    def check(self, law: str, holds: bool, what: str) -> None:
        """Put a law to the test once."""
        self.ledger.check(law, holds, what)

    def same(self, law: str, found: object, expected: object, what: str) -> None:
        """Put a law to the test once: both have to be equal."""
        self.ledger.check(law, found == expected, f"{what}: {found!r}, not {expected!r}")

    def other(self) -> Broker:
        """Open one more client."""
        return self.target.open()

    @contextmanager
    def elsewhere(self) -> Iterator[tuple[Broker, VirtualClock]]:
        """Yield a client of another namespace of the same server, and its clock.

        What was opened before stays in the first namespace, `broker` too once it
        was used. All of it is closed at the end.
        """
        home = self.target.url
        clock = self.target.begin()
        try:
            yield self.target.open(), clock
        finally:
            self.target.end()
            self.target.url = home

    @cached_property
    def _reader(self) -> Results | None:
        try:
            return self.target.open_results()
        except UnknownScheme:
            return None

    @property
    def keeps_results(self) -> bool:
        """Whether the backend has results; those of a broker's tasks may live elsewhere."""
        return self._reader is not None

    def results(self) -> Results:
        """Open a client of the results.

        Raises:
            NotApplicable: the backend keeps none.
        """
        if not self.keeps_results:
            raise NotApplicable(NO_RESULTS)
        return self.target.open_results()

    def kept(self, law: str, ids: Iterable[str], *expected: ResultRecord) -> None:
        """Put to the test that of these ids just the expected records are kept.

        Nothing is, where the backend keeps no results.
        """
        if self._reader is not None:
            found = self._reader.fetch(list(ids))
            self.same(law, found, {record.id: record for record in expected}, "results")

    def advance(self, seconds: Seconds) -> None:
        """Let time pass."""
        self.clock.advance(seconds)

    @property
    def tied(self) -> bool:
        """Whether leases are tied to their holder's connection, and do not end by time alone."""
        return not self.target.capabilities.timed_leases

    def cut(self, broker: Broker, *queues: str, lease: Seconds = 30.0) -> None:
        """Let a client die, and a claim for `lease` seconds look for what it held.

        Put it to the test that it is still there, and does not come at once. From
        then on it is as if leases ended by time, `lease` seconds from now.
        """
        names = queues or ("q",)
        before = [_living(self.stats(name)) for name in names]
        self.target.crash(broker)
        self.same("L21", [_living(self.stats(name)) for name in names], before, "there")
        self.same("L3", self.look(*names, lease=lease), [], "claimed right after")

    def look(
        self, *queues: str, lease: Seconds = 30.0, broker: Broker | None = None
    ) -> list[Delivery]:
        """Look for what lost its holder; where leases end by time alone, nobody has to."""
        return self.claim(*queues, lease=lease, broker=broker) if self.tied else []

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


def _living(line: QueueStats) -> int:
    return line.ready + line.scheduled + line.processing


def expire_all(results: Results, ledger: Ledger, limit: int = 1000) -> None:
    """Drop all records past their time; put to the test that this comes to an end."""
    for _ in range(PASSES):
        if not results.expire(limit):
            break
    else:
        ledger.check("R3", False, f"expire still drops records when called {PASSES} times")
    ledger.check("R3", True, "")


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
        except NotApplicable:
            continue
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
