"""Whose turn it is to carry an outbox: of all relays of a namespace, one at a time.

A turn ends with whatever it hangs on, so nobody has to clean up after a relay
that was killed:

- PostgreSQL: an advisory lock of the transaction that a batch is carried in. It
  works through a pooler that lends a connection for one transaction; a lock of
  the session would be left behind there, in the hands of others.
- MySQL and MariaDB: a named lock of the session, taken once and kept. Their
  locks of transactions are rows, and there is none to lock; proxies know
  `GET_LOCK` and leave such a session with its client.
- SQLite: a lock on an empty file beside the database, held for a batch. The
  database's own lock would keep every other program from writing while the
  broker is waited for.

A server does not notice when the machine of a relay vanishes. So it is told to
end a session from which nothing is heard for 20 seconds, twice as long as the
broker is waited for.
"""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from taskq_sql.session import Session


def take_turn(session: Session, namespace: str) -> bool:
    """Say whether this session, of a server, may carry until its transaction ends."""
    session.run(session.sql.bound_turn, {})
    ((mine,),) = session.rows(session.sql.take_turn, {"namespace": namespace})
    return bool(mine)


@contextlib.contextmanager
def file_turn(database: Path, namespace: str) -> Iterator[bool]:
    """Say whether this process may carry from a SQLite file for the length of the block."""
    # Never the database's own file: to close that would end the locks SQLite has on it. And
    # it is never deleted, or two relays could each have locked a file of that name.
    path = database.with_name(f"{database.name}-relay-{namespace}")
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
