"""What an outbox holds: how much waits, what was set aside, and letting that wait again."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from functools import partial
from typing import NamedTuple

from taskq_sql.engine import Database
from taskq_sql.outbox.writing import WAITS
from taskq_sql.results import CHUNK
from taskq_sql.session import Session


class Refused(NamedTuple):
    """A task that the broker refused, and that was set aside."""

    seq: int
    id: str
    queue: str
    reason: str


def count_waiting(database: Database) -> int:
    """Return how many tasks wait for a relay."""
    namespace = {"namespace": database.namespace}
    counts = database.read(lambda session: session.rows(session.sql.count_posted, namespace))
    return sum(count for state, count in counts if state == WAITS)


def refused(database: Database) -> Iterator[Refused]:
    """Yield what was set aside, in the order it was sent."""
    last = 0
    while page := database.read(partial(_page, namespace=database.namespace, last=last)):
        yield from page
        last = page[-1].seq


def _page(session: Session, *, namespace: str, last: int) -> list[Refused]:
    asked = {"namespace": namespace, "seq": last, "limit": CHUNK}
    return [
        Refused(seq, id, queue, bytes(reason or b"").decode("utf-8", "replace"))
        for seq, id, queue, reason in session.rows(session.sql.select_refused, asked)
    ]


def send_again(database: Database, ids: Collection[str] | None = None) -> list[str]:
    """Let what was set aside wait again, in its old place; return the ids of what there was.

    With `ids`, only these.
    """
    found = [one for one in refused(database) if ids is None or one.id in ids]
    for start in range(0, len(found), CHUNK):
        database.transact(partial(_repost, found=found[start : start + CHUNK]))
    return [one.id for one in found]


def _repost(session: Session, *, found: Sequence[Refused]) -> int:
    return session.change(session.sql.repost, found)
