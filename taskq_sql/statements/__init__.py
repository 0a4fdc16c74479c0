"""Every sentence of SQL there is, as one table per dialect.

The broker speaks by the names of `Statements` and never asks which database it
talks to. Each dialect's module is complete: what a database is told can be read
there, and in the documentation, without putting anything together.

Placeholders are written `:name`, and a parameter set is a dictionary; `:array`
stands for many values in the dialect's own form (`Dialect.array`). States are
the numbers of `taskq_sql.tables`. Every read of many rows is one range of
``taskq_message_place``, and every change of many is bounded by `:limit` or by
an array.

Tables and indexes are written with the prefix they have by default, and are
called otherwise where a URL says so (`renamed`). The name of a table is the
prefix and one word, that of an index has more.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable
from typing import Final

from taskq_sql.naming import PREFIX, Names

PAUSE: Final = 5
"""Seconds that a server lets a transaction wait for its client's next sentence. Then it is
rolled back: a client that has vanished without a word must not keep its locks."""
_NAME: Final = re.compile(rf"(?<![\w:]){PREFIX}(\w+)")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Statements:
    """What a dialect says. Times are whole microseconds of the server's clock."""

    begin: str
    """Opens a transaction that may write, and takes the locks it needs to."""
    has_schema: str
    """Returns a row if `taskq_schema` exists."""
    select_schema: str
    select_identity: str
    send: str
    """Inserts messages, less those whose id exists as a message or an unexpired result."""
    select_concluded: str
    """Returns those of these ids that have an unexpired result."""
    unsend: str
    """Deletes those of these ids that were sent with this token."""
    outlook: str
    """Returns of one queue: anything ready, the first due time, the first lease end."""
    select_ready: str
    """Returns and locks what comes first."""
    select_next: str
    """The same from where claims have come to; empty where what they left costs nothing."""
    lease: str
    select_lost: str
    """Returns and locks those whose lease has ended."""
    select_due: str
    """Returns and locks those that are due."""
    promote: str
    move: str
    """Puts leased messages into other states and raises their counters."""
    select_held: str
    """Returns and locks seq, id and token of those ids that are leased."""
    delete_held: str
    """Deletes those of these ids that are leased with this token."""
    extend: str
    delete: str
    next_queue: str
    count: str
    oldest_ready: str
    locate: str
    select_dead: str
    """Returns a page of dead letters."""
    select_dead_ids: str
    """Returns and locks those of these ids that are dead."""
    select_old_dead: str
    """Returns and locks those that died before."""
    select_waiting: str
    """Returns and locks those in one state; it waits for those that others have locked."""
    requeue: str
    beat: str
    unlist: str
    forget_workers: str
    select_workers: str
    store: str
    fetch: str
    select_expired: str
    """Returns and locks the ids of results whose time is over."""
    forget: str
    post: str
    """Inserts messages into the outbox."""
    look_outbox: str
    """Returns a row if anything waits in the outbox."""
    bound_turn: str
    """Lets a transaction pause while a broker is waited for, and ends one that does for longer."""
    take_turn: str
    """Returns 1 if this session is the only one to carry, else 0; the turn ends with it."""
    select_posted: str
    """Returns what has waited longest in the outbox."""
    delete_posted: str
    set_aside: str
    """Notes why the broker refused one that waited in the outbox."""
    count_posted: str
    select_refused: str
    """Returns a page of what was set aside."""
    repost: str
    """Lets what was set aside wait again, in its old place."""
    notify: str
    """Wakes claims that wait in other processes; empty where the database cannot."""


@functools.cache
def renamed(statements: Statements, names: Names) -> Statements:
    """Return the same sentences about tables that are called otherwise."""

    def new(found: re.Match[str]) -> str:
        name = found[1]
        return names.index(name) if "_" in name else names.table(name)

    return each_sentence(statements, lambda sentence: _NAME.sub(new, sentence))


def each_sentence(statements: Statements, change: Callable[[str], str]) -> Statements:
    """Return what `change` makes of every sentence."""
    fields = dataclasses.fields(statements)
    return Statements(**{field.name: change(getattr(statements, field.name)) for field in fields})
