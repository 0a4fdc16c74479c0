"""Histories of the concurrency check, written by hand."""

from __future__ import annotations

from taskq.testing.concurrency.history import (
    Claimed,
    Extended,
    Fate,
    Got,
    History,
    Item,
    Sent,
    Settled,
)
from taskq.testing.concurrency.rules import check_history
from taskq.testing.record import LawBroken, Ledger


class Script:
    """A history written by hand. Instants are in seconds; a call takes 0.1 s unless told."""

    def __init__(self):
        self.calls = []
        self.letters = []

    def sent(self, *ids, at, who="p", queue="q", priority=5, took=0.1):
        items = [Item(id, queue, priority, id.encode()) for id in ids]
        self.calls.append(Sent(who, at, at + took, items))

    def claimed(self, *got, at, who="c", lease=10.0, limit=None, queues=("q",), took=0.1):
        limit = len(got) if limit is None else limit
        self.calls.append(Claimed(who, at, at + took, queues, limit, lease, list(got)))

    def settled(self, id, token, kind="ack", *, at, who="c", took=0.1, **more):
        lost = more.pop("lost", False)
        self.calls.append(Settled(who, at, at + took, [Fate(id, token, kind, lost, **more)]))

    def extended(self, id, token, *, at, lease=10.0, lost=False, who="c"):
        key = [(id, token)]
        kept, missed = ([], key) if lost else (key, [])
        self.calls.append(Extended(who, at, at + 0.1, lease, kept, missed))

    def broken(self):
        """Return the law that the history breaks, and None if it breaks none."""
        try:
            check_history(History(self.calls, self.letters), Ledger("script"))
        except LawBroken as error:
            return error.law
        return None


def got(id, token, *, retries=0, losses=0, releases=0, run=None, **more):
    run = retries + losses if run is None else run
    more = {"queue": "q", "priority": 5, "envelope": id.encode()} | more
    return Got(id, token, **more, retries=retries, losses=losses, releases=releases, run=run)
