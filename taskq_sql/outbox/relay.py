"""Carrying tasks from an outbox to their broker.

::

    with Relay("postgresql://shop@db/shop", "redis://localhost") as relay:
        relay.check()
        relay.run()  # until another thread, or a signal's handler, calls relay.stop()

A row is deleted after the broker has accepted its task. A relay that dies in
between leaves the row to the next one, which sends it with the same id: a broker
with unique ids takes that as the same task, unless it is finished and its result
gone by then. Rows travel in the order of ``seq`` as far as they are committed.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from taskq.clock import Clock, Seconds, SystemClock, from_microseconds
from taskq.contract.message import Message, Send
from taskq.errors import (
    ConnectionFailed,
    ImproperlyConfigured,
    OutcomeUnknown,
    ServerRefused,
    TaskqError,
    UnknownScheme,
)
from taskq.plugins import Plugins
from taskq.url import Url
from taskq_sql.dialects.choice import dialect_of
from taskq_sql.dialects.sqlite import SqliteDialect
from taskq_sql.engine import Database
from taskq_sql.naming import PREFIX
from taskq_sql.outbox.handover import Handover, hand_over
from taskq_sql.outbox.stop import Stop
from taskq_sql.outbox.turns import file_turn, take_turn
from taskq_sql.plugin import SCHEMES
from taskq_sql.session import Session

if TYPE_CHECKING:
    from taskq.contract.broker import Broker

log = logging.getLogger(__name__)

BATCH: Final = 500
SEND_TIMEOUT: Final[Seconds] = 10.0
"""How long a batch may take the broker. A server ends the turn of who is silent for 20 s."""
_FIRST_PAUSE: Final[Seconds] = 0.002
_LONGEST_PAUSE: Final[Seconds] = 0.25
_PATIENCE: Final = 0.1
"""The pause before the next look, as a share of the time without work."""
_FIRST_BACKOFF: Final[Seconds] = 0.1
_LONGEST_BACKOFF: Final[Seconds] = 5.0
_UNREACHED: Final = (ConnectionFailed, OutcomeUnknown, ServerRefused)


def open_outbox(database: Url, broker: Url, clock: Clock) -> Database:
    """Return the database that keeps an outbox of a broker's namespace.

    Raises:
        ImproperlyConfigured: the URL has an error, or names no database that can.
    """
    if database.scheme not in SCHEMES:
        raise UnknownScheme(
            f"{database.scheme}:// is no database that an outbox can be in; the first URL is the "
            f"database's ({', '.join(SCHEMES)}), the second the broker's"
        )
    if broker.scheme in SCHEMES:
        raise ImproperlyConfigured(
            f"{broker.scheme}:// needs no relay: tasks are sent in its own transactions, and "
            "nothing is ever written to an outbox for it"
        )
    dialect = dialect_of(database)
    if dialect.names.prefix != PREFIX:
        raise ImproperlyConfigured(
            f"programs write to an outbox called {PREFIX}outbox; leave prefix= out of the URL"
        )
    return Database(dialect, clock, namespace=broker.namespace)


class Round(NamedTuple):
    """What one look at the outbox came to."""

    accepted: int = 0
    """Tasks that the broker has now."""
    refused: int = 0
    """Tasks that were set aside."""
    more: bool = False
    """There may be more to carry."""
    standby: bool = False
    """There is something, and another relay carries it."""
    trouble: TaskqError | None = None
    """Why the broker did not take the rest."""


class Relay:
    """Carries the tasks of one broker's namespace out of one database.

    Any number may run at once: one carries, the others stand by. `stop` may be
    called from any thread and from a signal's handler; the rest belongs to one
    thread.
    """

    def __init__(
        self,
        database: str | Url,
        broker: str | Url,
        *,
        batch: int = BATCH,
        plugins: Plugins | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.broker_url = Url.parse(broker)
        self.database_url = Url.parse(database)
        self.batch = batch
        """Tasks per transaction, at most."""
        self._clock = clock or SystemClock()
        self._database = open_outbox(self.database_url, self.broker_url, self._clock)
        self._broker: Broker = (plugins or Plugins()).open_broker(
            self.broker_url, clock=self._clock
        )
        self._stop = Stop()
        self._accepted: set[tuple[int, str]] = set()
        """Rows whose tasks the broker has, but whose deletion failed so far."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def check(self) -> list[str]:
        """Contact both ends; return one sentence for each promise that a setting weakens.

        Raises:
            ImproperlyConfigured: tables are missing.
            BrokerError: one end was not reached, or refused.
        """
        return self._database.check() + self._broker.check()

    def run(self) -> None:
        """Carry until `stop` is called; wait out whatever fails for the time being.

        Raises:
            ImproperlyConfigured: the database lacks tables.
        """
        broker, database = _Outage("the broker"), _Outage("the outbox's database")
        worked = time.monotonic()
        standby = False
        while not self._stop.asked:
            try:
                done = self.carry()
            except _UNREACHED as error:
                self._stop.wait(database.begin(error))
                continue
            database.end()
            if done.standby != standby:
                standby = done.standby
                log.info("standing by: another relay carries" if standby else "carrying")
            if done.trouble is not None:
                self._stop.wait(broker.begin(done.trouble))
                continue
            if done.accepted:
                broker.end()
                worked = time.monotonic()
            if not done.more:
                idle = time.monotonic() - worked
                self._stop.wait(min(max(_FIRST_PAUSE, idle * _PATIENCE), _LONGEST_PAUSE))

    def drain(self) -> int:
        """Carry what is there; return how many tasks the broker accepted.

        Returns early if another relay carries.

        Raises:
            ImproperlyConfigured: the database lacks tables.
            BrokerError: the database or the broker was not reached, or refused.
        """
        total = 0
        more = True
        while more and not self._stop.asked:
            done = self.carry()
            total += done.accepted
            if done.trouble is not None:
                raise done.trouble
            if done.standby:
                log.info("another relay carries what is there")
            more = done.more
        return total

    def stop(self) -> None:
        """Let `run` and `drain` return after the batch that they are about."""
        self._stop.ask()

    def close(self) -> None:
        """Close both ends. Idempotent."""
        self._broker.close()
        self._database.close()
        self._stop.close()

    def carry(self) -> Round:
        """Carry one batch, if there is anything and it is this relay's turn.

        Raises as `drain`, but for what the broker says: that is in the round.
        """
        namespace = {"namespace": self._database.namespace}
        if not self._database.read(
            lambda session: session.rows(session.sql.look_outbox, namespace)
        ):
            self._accepted.clear()
            return Round()
        dialect = self._database.dialect
        if isinstance(dialect, SqliteDialect):
            with file_turn(dialect.path, self._database.namespace) as mine:
                done = self._carry_apart() if mine else Round(standby=True)
        else:
            done = self._database.transact(self._carry_within)
        self._accepted.clear()
        return done

    def _carry_within(self, session: Session) -> Round:
        """Carry a batch in one transaction."""
        if not take_turn(session, self._database.namespace):
            return Round(standby=True)
        rows, now = self._waiting(session)
        handover = self._hand_over(rows, now)
        self._take_out(session, rows, handover)
        return self._told(rows, handover)

    def _carry_apart(self) -> Round:
        """Carry a batch with no transaction open while the broker is waited for."""
        rows, now = self._database.read(self._waiting)
        handover = self._hand_over(rows, now)
        self._database.transact(lambda session: self._take_out(session, rows, handover))
        return self._told(rows, handover)

    def _waiting(self, session: Session) -> tuple[Sequence[Any], int]:
        asked = {"namespace": self._database.namespace, "limit": self.batch}
        return session.rows(session.sql.select_posted, asked), session.now

    def _hand_over(self, rows: Sequence[Any], now: int) -> Handover:
        left = [row for row in rows if (row.seq, row.id) not in self._accepted]
        items = [_send(row, now) for row in left]
        handover = hand_over(self._broker, items, timeout=SEND_TIMEOUT) if items else Handover()
        handover.accepted |= {row.id for row in rows if (row.seq, row.id) in self._accepted}
        self._accepted |= {(row.seq, row.id) for row in rows if row.id in handover.accepted}
        return handover

    def _take_out(self, session: Session, rows: Sequence[Any], handover: Handover) -> None:
        accepted = [row for row in rows if row.id in handover.accepted]
        session.change(session.sql.delete_posted, accepted)
        for row in rows:
            if row.id in handover.refused:
                reason = handover.refused[row.id].encode("utf-8", "surrogatepass")
                session.run(session.sql.set_aside, {"seq": row.seq, "refused": reason})

    def _told(self, rows: Sequence[Any], handover: Handover) -> Round:
        for row in rows:
            if row.id in handover.refused:
                log.error(
                    "the broker refuses task %s for queue %s: %s; it was set aside, see: "
                    "taskq outbox list",
                    row.id,
                    row.queue,
                    handover.refused[row.id],
                )
        done = len(handover.accepted) + len(handover.refused)
        log.debug("carried %d of %d tasks", len(handover.accepted), len(rows))
        return Round(
            accepted=len(handover.accepted),
            refused=len(handover.refused),
            more=len(rows) >= self.batch or done < len({row.id for row in rows}),
            trouble=handover.trouble,
        )


def _send(row: Any, now: int) -> Send:
    # Not as instants: how long there is to go holds whatever the clocks of the two servers say.
    message = Message(row.id, row.queue, bytes(row.envelope), row.priority, row.max_deliveries)
    delay = 0.0 if row.due is None else max(0.0, from_microseconds(row.due - now))
    ttl = None if row.expires is None else from_microseconds(row.expires - now)
    return Send(message, delay=delay, ttl=ttl)


class _Outage:
    """What a relay knows about one of its ends: a log line when trouble begins, and one after."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._failures = 0
        self._since = 0.0

    def begin(self, error: TaskqError) -> Seconds:
        """Note a failure; return how long to wait, so that relays do not come back together."""
        if not self._failures:
            self._since = time.monotonic()
            log.warning("%s does not take part, trying again: %s", self._what, error)
        self._failures += 1
        bound = min(_FIRST_BACKOFF * 2.0 ** min(self._failures - 1, 10), _LONGEST_BACKOFF)
        return bound * random.uniform(0.5, 1.0)  # noqa: S311 - jitter

    def end(self) -> None:
        """Note a success."""
        if self._failures:
            log.warning("%s is back after %.1f s", self._what, time.monotonic() - self._since)
        self._failures = 0
