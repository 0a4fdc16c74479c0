"""A run from beginning to end: open, work, drain, judge, remove."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from taskq.clock import Seconds
from taskq.contract.broker import Broker
from taskq.contract.delivery import DeadLetter
from taskq.contract.settlement import Ack
from taskq.errors import ImproperlyConfigured
from taskq.plugins import Plugins
from taskq.testing.concurrency.consumer import LONG, Consumer
from taskq.testing.concurrency.crew import GRACE, Crew, Plan, carry_out
from taskq.testing.concurrency.history import (
    AnyCall,
    Extended,
    History,
    Instant,
    Letter,
    Settled,
)
from taskq.testing.concurrency.life import Life, lives_of
from taskq.testing.concurrency.process import Process
from taskq.testing.concurrency.rules import check_history
from taskq.testing.concurrency.work import QUEUES, Pulse, Signals
from taskq.testing.model.entry import backoff
from taskq.testing.record import Ledger
from taskq.testing.target import Target

SLACK: Final[Seconds] = 2.0
"""How long a message may take to come after it had to."""
CLOSING: Final[Seconds] = 20.0
"""How long it may take to close and remove everything when a run has failed."""
PAGE: Final = 500


@dataclass(frozen=True, slots=True)
class Size:
    """How large a run is."""

    messages: int
    threads: int
    """Consumers in each process; each process has two producers besides."""
    processes: int
    """Further ones, where the target's `processes` is True."""


SIZES: Final[Mapping[str, Size]] = {
    "smoke": Size(messages=1_000, threads=3, processes=1),
    "default": Size(messages=10_000, threads=4, processes=2),
    "soak": Size(messages=100_000, threads=6, processes=4),
}


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run that broke no law was made of."""

    messages: int
    """With the successors of acks."""
    deliveries: int
    losses: int
    """Leases that ended without a settlement."""
    refused: int
    """Settlements and extensions that came back as lost."""
    calls: int
    processes: int
    """All of them, this one included."""
    elapsed: Seconds

    def __str__(self) -> str:
        processes = "1 process" if self.processes == 1 else f"{self.processes} processes"
        return (
            f"{self.messages} messages, {self.deliveries} deliveries, {self.losses} leases lost, "
            f"{self.refused} stale tokens refused, {self.calls} calls by {processes} "
            f"in {self.elapsed:.1f} s"
        )


def check_concurrency(
    target: Target,
    ledger: Ledger,
    *,
    messages: int,
    threads: int,
    processes: int,
    limit: Seconds | None = None,
) -> Summary:
    """Let many clients send, claim and conclude at once; judge what they saw.

    `messages` are shared out among this process and `processes` further ones,
    each with `threads` consumers. A target whose `processes` is False, since
    no other process can reach it, is used from here alone. The work may take
    `limit` seconds; without it, a minute and 20 ms for each message.

    Laws: L1, L3 to L14, L17, L19, L21.

    Raises:
        LawBroken: with the history of the message that shows it.
        Stuck: a call never returned, or the work has not ended in time.
        ProcessFailed: a further process met an error.
        ImproperlyConfigured: a further process would not find the plugin.
    """
    began = time.monotonic()
    count = 1 + (processes if _reachable(target, processes) else 0)
    limit = 60 + messages / 50 if limit is None else limit
    clock = target.begin()
    try:
        pulse = Pulse(clock)
        plans = [
            Plan(number, (messages + number) // count, threads, limit) for number in range(count)
        ]
        history = _record(target, plans, pulse)
        lives = check_history(history, ledger, timed=target.capabilities.timed_leases)
        lines = target.open().stats()
        left = [line for line in lines if line.ready + line.scheduled + line.processing]
        ledger.check("L21", not left, f"all is concluded, and stats counts {left}")
    except BaseException as error:
        # Whoever hangs may hold a lock, for which closing waits.
        try:
            carry_out(target.end, "closing", limit=CLOSING)
        except Exception as another:  # noqa: BLE001 - what came first says more
            error.add_note(f"what was left in {target.url} may still be there: {another}")
        raise
    target.end()
    return _summary(history, lives, count, time.monotonic() - began)


def _reachable(target: Target, processes: int) -> bool:
    """Say whether other processes are to be used.

    They find a backend as every program does: by the URL, among the installed plugins.
    """
    if not processes or not getattr(target, "processes", False):
        return False
    scheme = target.url.scheme
    if any(scheme in info.schemes for info in Plugins().load()):
        return True
    raise ImproperlyConfigured(
        f"other processes cannot open {scheme}://, since its plugin is not installed but "
        "registered by hand; give its package an entry point of the group taskq, or set "
        "`processes = False` on the target, which leaves races between processes untested"
    )


def _record(target: Target, plans: list[Plan], pulse: Pulse) -> History:
    """Let all processes work, then take what is left; return what happened."""
    limit = plans[0].limit
    calls = _work(target, plans, pulse)
    broker = target.open()
    due = _due(lives_of(History(calls)))
    last = max(due.values(), default=0.0) - pulse.read()
    if last > SLACK:
        # A long wait for what will break nothing that is not broken already.
        timed = target.capabilities.timed_leases
        check_history(History(calls), Ledger(""), ended=False, timed=timed)
    calls += carry_out(
        lambda: _drain(broker, due, pulse), "drain", limit=limit + max(0.0, last) + LONG
    )
    return History(calls, [letter for queue in QUEUES for letter in letters_of(broker, queue)])


def _work(target: Target, plans: list[Plan], pulse: Pulse) -> list[AnyCall]:
    """Let all processes work until nothing comes any more; return the record of all."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="taskq-kit-")))
        others = [
            # One that hangs says itself where, if it is given the time.
            stack.enter_context(Process(plan, target.url, folder, limit=plan.limit + 2 * GRACE))
            for plan in plans[1:]
        ]
        brokers = [target.open() for _ in range(plans[0].clients)]
        for one in others:
            one.await_ready()
        for one in others:
            one.start()
        crew = stack.enter_context(Crew(plans[0], brokers, pulse))
        crew.await_sent()
        for one in others:
            one.await_sent()
        for one in others:
            one.release()
        calls = crew.finish()
        for one in others:
            calls += one.finish()
    return calls


def _drain(broker: Broker, due: dict[str, Instant], pulse: Pulse) -> list[AnyCall]:
    """Conclude what is left, as it comes; return the record of it."""
    drain = Consumer(broker, "drain", pulse, Signals())
    end = max(due.values(), default=0.0) + SLACK
    while True:
        claim, before = drain.claim(QUEUES, PAGE, LONG, wait=0.1)
        if claim:
            drain.settle([Ack(delivery) for delivery in claim])
        for delivery in claim:
            due.pop(delivery.id, None)
        # What never ceases to come is judged as well as what never comes.
        if before > end + (LONG if claim else 0.0) or not (due or claim):
            return drain.calls


def _due(lives: Mapping[str, Life]) -> dict[str, Instant]:
    """Return when each message that is left has to come, at the latest."""
    return {id: _comes(life) for id, life in lives.items() if life.item and not life.conclusions}


def _comes(life: Life) -> Instant:
    if not life.leases:
        return 0.0
    last = life.leases[-1]
    if last.accepted is not None:
        return last.accepted[0].after + last.accepted[1].delay
    return last.over + backoff(last.got.losses + 1)


def letters_of(broker: Broker, queue: str) -> Iterator[Letter]:
    last: DeadLetter | None = None
    while page := broker.dead_letters(queue, limit=PAGE, after=last):
        last = page[-1]
        for one in page:
            yield Letter(one.message.id, one.code, one.retries, one.losses, one.releases, one.run)


def _summary(
    history: History, lives: Mapping[str, Life], processes: int, elapsed: Seconds
) -> Summary:
    leases = [lease for life in lives.values() for lease in life.leases]
    fates = [fate for call in history.calls if isinstance(call, Settled) for fate in call.fates]
    extensions = [call for call in history.calls if isinstance(call, Extended)]
    return Summary(
        messages=sum(life.item is not None for life in lives.values()),
        deliveries=len(leases),
        losses=sum(lease.accepted is None for lease in leases),
        refused=sum(fate.lost for fate in fates) + sum(len(call.lost) for call in extensions),
        calls=len(history.calls),
        processes=processes,
        elapsed=elapsed,
    )
