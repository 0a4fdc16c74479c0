"""Examples of what a claim that waits may rely on, and of how it is ended."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, TypeAlias

from taskq.clock import Seconds
from taskq.contract.broker import Broker
from taskq.contract.delivery import Delivery, State
from taskq.contract.settlement import Ack, Dead, Release, Retry
from taskq.errors import Closed
from taskq.testing.laws.case import Case, ids_of, item, law
from taskq.testing.record import NotApplicable

WAITERS: Final = 5
ROUNDS: Final = 3
SETTLED: Final[Seconds] = 0.05
"""After this time a thread that was started is taken to be waiting. If it is not
yet, the example proves less, and does not fail."""
WAIT: Final[Seconds] = 1.5
SOON: Final[Seconds] = 1.0
"""What every wake-up may take: as long as a claim may sleep that nobody woke."""
MOSTLY: Final[Seconds] = 0.5
"""What the median may take: too little for one that is never woken, and enough
for a busy machine."""
PROMPT: Final[Seconds] = 0.25
"""100 ms by law L24, and what a busy machine needs to wake a thread."""
IDLE: Final = 0.125
"""The share of a processor that a claim which waits may use at most."""

Answer: TypeAlias = Future[tuple[list[Delivery], float]]


class WaitingLaws:
    """L24, L28, and L5, L7 and L25 for a claim that waits."""

    @law("L24")
    def test_an_interrupted_client_claims_nothing_more(self, case: Case) -> None:
        other = case.other()
        case.send("a", "b", "c", "d")
        a, b, c = case.claim(limit=3)

        case.broker.interrupt()

        for _ in range(3):
            case.same("L24", case.claim(), [], "claimed")
        started = time.monotonic()
        case.same("L24", case.broker.reserve(["q"], limit=1, lease=30, wait=5), [], "waited for")
        case.check("L24", time.monotonic() - started < PROMPT, "an interrupted reserve waits")
        case.same("L24", case.broker.extend([a], lease=60).lost, [], "lost by extending")
        case.settle("L24", Ack(a), Release(b), Dead(c, "failed"))
        case.same("L24", ids_of(case.claim(broker=other)), ["b", "d"], "claimed by another")

    @law("L24")
    def test_interrupt_ends_a_reserve_that_waits(self, case: Case) -> None:
        _end_waits(case, "L24", lambda broker: broker.interrupt(), PROMPT)

    @law("L25")
    def test_close_ends_a_reserve_that_waits(self, case: Case) -> None:
        _end_waits(case, "L25", lambda broker: broker.close(), SOON)
        case.send("m")
        case.comes("L25", "m")

    @law("L28")
    def test_a_reserve_that_waits_returns_when_a_message_is_sent(self, case: Case) -> None:
        brokers = [case.other() for _ in range(WAITERS)]
        took: list[Seconds] = []
        with ThreadPoolExecutor(WAITERS) as threads:
            for round_ in range(ROUNDS):
                waiting = [threads.submit(_wait, b, f"q{n}") for n, b in enumerate(brokers)]
                time.sleep(SETTLED)
                sent = time.monotonic()
                for n in range(WAITERS):
                    case.send(f"m{round_}-{n}", queue=f"q{n}")
                for n, answer in enumerate(waiting):
                    took.append(_woken(case, "L28", answer, f"m{round_}-{n}") - sent)
        _check_soon(case, "L28", took)

    @law("L28")
    def test_whatever_makes_a_message_ready_wakes_a_reserve_that_waits(self, case: Case) -> None:
        waiter = case.other()
        with ThreadPoolExecutor(1) as threads:
            for way in (_sent, _released, _retried, _succeeded, _requeued):
                took: list[Seconds] = []
                for round_ in range(ROUNDS):
                    queue = f"{way.__name__[1:]}-{round_}"
                    wake = way(case, f"m-{queue}", queue)
                    answer = threads.submit(_wait, waiter, queue)
                    time.sleep(SETTLED)
                    began = time.monotonic()
                    wake()
                    took.append(_woken(case, "L28", answer, f"m-{queue}") - began)
                    case.state("L28", f"m-{queue}", State.PROCESSING)
                _check_soon(case, "L28", took)

    @law("L28")
    def test_a_batch_wakes_as_many_as_there_is_work_for(self, case: Case) -> None:
        brokers = [case.other() for _ in range(WAITERS)]
        took: list[Seconds] = []
        with ThreadPoolExecutor(WAITERS) as threads:
            for round_ in range(ROUNDS):
                queue = f"q{round_}"
                ids = [f"m{round_}-{n}" for n in range(WAITERS)]
                waiting = [threads.submit(_wait, broker, queue) for broker in brokers]
                time.sleep(SETTLED)
                sent = time.monotonic()
                case.send(*ids, queue=queue)
                answers = [answer.result(30) for answer in waiting]
                found = sorted(delivery.id for claimed, _ in answers for delivery in claimed)
                case.same("L28", found, ids, "claimed by all")
                took += [ended - sent for _, ended in answers]
        _check_soon(case, "L28", took)

    @law("L28")
    def test_a_reserve_that_waits_gives_up_in_time_and_idles_until_then(self, case: Case) -> None:
        case.claim()
        started, worked = time.monotonic(), time.process_time()

        found = case.broker.reserve(["q"], limit=1, lease=30, wait=0.2)

        took, work = time.monotonic() - started, time.process_time() - worked
        case.same("L28", found, [], "claimed")
        case.check("L28", 0.15 < took < SOON, f"it took {took:.3f} s")
        case.check("L28", work < took * IDLE, f"it used the processor for {work:.3f} s")

    @law("L7", "L6")
    def test_a_reserve_that_waits_returns_what_becomes_due(self, case: Case) -> None:
        _need_real_time(case)
        took: list[Seconds] = []
        for round_ in range(ROUNDS):
            case.send(f"m{round_}", queue=f"q{round_}", delay=0.3)
            started = time.monotonic()
            found, ended = _wait(case.broker, f"q{round_}")
            case.same("L7", ids_of(found), [f"m{round_}"], "claimed")
            case.check("L6", ended - started > 0.2, f"it came after {ended - started:.3f} s")
            took.append(ended - started - 0.3)
        _check_soon(case, "L7", took)

    @law("L5", "L3")
    def test_a_reserve_that_waits_returns_what_is_lost_meanwhile(self, case: Case) -> None:
        _need_real_time(case)
        took: list[Seconds] = []
        for round_ in range(ROUNDS):
            case.send(f"m{round_}", queue=f"q{round_}")
            case.claim(f"q{round_}", lease=0.3)
            started = time.monotonic()
            found, ended = _wait(case.broker, f"q{round_}")
            case.same("L5", ids_of(found), [f"m{round_}"], "claimed")
            case.check("L3", ended - started > 0.2, f"it came after {ended - started:.3f} s")
            took.append(ended - started - 0.3)
        _check_soon(case, "L5", took)

    @law("L5")
    def test_a_reserve_that_waits_looks_on_while_more_is_lost_than_it_may_take(
        self, case: Case
    ) -> None:
        took: list[Seconds] = []
        for round_ in range(ROUNDS):
            queue = f"q{round_}"
            case.send(f"twice{round_}", queue=queue)
            case.claim(queue, lease=5)
            case.advance(6)
            case.claim(queue, lease=10)
            case.send(f"once{round_}", queue=queue)
            case.claim(queue, lease=11)
            # Whatever would wake the next wait by chance wakes this one.
            case.broker.reserve([queue], limit=1, lease=30, wait=0.01)
            case.advance(12)

            started = time.monotonic()
            found, ended = _wait(case.broker, queue)

            case.same("L5", ids_of(found), [f"once{round_}"], "claimed")
            took.append(ended - started)
        _check_soon(case, "L5", took)


def _sent(case: Case, id: str, queue: str) -> Callable[[], None]:
    return lambda: case.send(id, queue=queue)


def _released(case: Case, id: str, queue: str) -> Callable[[], None]:
    case.send(id, queue=queue)
    [held] = case.claim(queue)
    return lambda: case.settle("L28", Release(held))


def _retried(case: Case, id: str, queue: str) -> Callable[[], None]:
    case.send(id, queue=queue)
    [held] = case.claim(queue)
    return lambda: case.settle("L28", Retry(held))


def _succeeded(case: Case, id: str, queue: str) -> Callable[[], None]:
    case.send(f"before-{id}", queue="elsewhere")
    [held] = case.claim("elsewhere")
    return lambda: case.settle("L28", Ack(held, send=(item(id, queue=queue),)))


def _requeued(case: Case, id: str, queue: str) -> Callable[[], None]:
    case.kill(id, law="L28", queue=queue)

    def wake() -> None:
        case.same("L28", case.broker.requeue_dead(queue, [id]), 1, "requeued")

    return wake


def _end_waits(case: Case, number: str, end: Callable[[Broker], None], limit: Seconds) -> None:
    """Let clients wait for messages, and end each wait; it is over within `limit` seconds."""
    brokers = [case.other() for _ in range(WAITERS)]
    with ThreadPoolExecutor(WAITERS) as threads:
        waiting = [threads.submit(_wait, broker, "q") for broker in brokers]
        time.sleep(SETTLED)
        for broker, answer in zip(brokers, waiting, strict=True):
            called = time.monotonic()
            end(broker)
            found, ended = answer.result(30)
            case.same(number, found, [], "claimed")
            case.check(number, ended - called < limit, f"it took {ended - called:.3f} s")


def _wait(broker: Broker, queue: str) -> tuple[list[Delivery], float]:
    """Wait for one message; return it, if it came, and when the wait was over."""
    try:
        found = broker.reserve([queue], limit=1, lease=30, wait=WAIT)
    except Closed:
        found = []
    return found, time.monotonic()


def _woken(case: Case, law: str, answer: Answer, id: str) -> float:
    """Put to the test that a wait ended with this message; return when."""
    found, ended = answer.result(30)
    case.same(law, ids_of(found), [id], "claimed")
    return ended


def _check_soon(case: Case, law: str, took: list[Seconds]) -> None:
    longest, median = max(took), statistics.median(took)
    case.check(law, longest < SOON, f"one took {longest:.3f} s")
    case.check(law, median < MOSTLY, f"the median took {median:.3f} s")


def _need_real_time(case: Case) -> None:
    started = case.clock.now()
    time.sleep(0.002)
    if case.clock.now() == started:
        raise NotApplicable("the backend's time stands still in the kit")
