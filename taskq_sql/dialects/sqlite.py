"""SQLite: one file on one machine.

The server of this database is the process itself, so the server's clock is the
machine's clock, which SQLite's own functions give in milliseconds only.

Locks are waited for in short turns. SQLite's own waiting backs off to 100 ms,
and then loses every race against a program that locks again and again;
`Database` therefore repeats turns of 20 ms until the caller's deadline.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

from sqlalchemy import URL, create_engine
from sqlalchemy.pool import NullPool

from taskq.clock import Seconds
from taskq.errors import (
    ConnectionFailed,
    ImproperlyConfigured,
    NotSupported,
    OutcomeUnknown,
    ServerRefused,
    TaskqError,
)
from taskq.url import Url
from taskq_sql.dialects import Locked, Parameters
from taskq_sql.listener import Deaf
from taskq_sql.naming import Names
from taskq_sql.statements import renamed
from taskq_sql.statements.sqlite import SQLITE

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine
    from sqlalchemy.exc import DBAPIError

TIMEOUT: Final[Seconds] = 30.0
_TURN: Final[Seconds] = 0.02
_WAL_LIMIT: Final = 16 * 1024 * 1024
"""Bytes the log keeps after a burst; without a limit it never shrinks."""
_SYNCHRONOUS: Final = {"off": 0, "normal": 1, "full": 2}
_NETWORK: Final = re.compile(
    r"afs|beegfs|ceph|cifs|fuse\.(ceph|glusterfs|sshfs)|gfs2|glusterfs|gpfs|lustre|ncpfs|nfs4?"
    r"|ocfs2|smb[23]|smbfs"
)
_SHAPE: Final = "write sqlite:///relative.db or sqlite:////absolute/path.db"


class _Connection(sqlite3.Connection):
    """Gives its locks back when it is closed.

    SQLite keeps a closed connection, transaction and all, for as long as one of
    its cursors lives; an interrupt's traceback holds one while a program cleans up.
    """

    def close(self) -> None:
        if self.in_transaction:
            self.rollback()
        super().close()


class SqliteDialect:
    """A SQLite file. A relative path is settled here, whatever chdir follows."""

    family = "sqlite"
    exclusive = True
    creates = True

    def __init__(self, url: Url) -> None:
        options = url.options(timeout=float, synchronous=str, prefix=str)
        self.timeout: Seconds = options.get("timeout", TIMEOUT)
        self._synchronous: str = options.get("synchronous", "full").lower()
        if not 0 < self.timeout < float("inf"):
            raise ImproperlyConfigured(f"URL option timeout={self.timeout} is not above 0 seconds")
        if self._synchronous not in _SYNCHRONOUS:
            raise ImproperlyConfigured(
                f"URL option synchronous={self._synchronous!r} is none of full, normal, off"
            )
        self.path: Path = _path(url)
        self.names = Names.take(options)
        self.statements = self.sentences = renamed(SQLITE, self.names)

    @property
    def key(self) -> str:
        # Whatever their tables are called: the lock is the file's.
        return str(self.path)

    def engine(self, left: Callable[[], Seconds] | None = None) -> Engine:  # noqa: ARG002 - a file is there
        if not self.path.parent.is_dir():
            raise ImproperlyConfigured(
                f"{self.path}: the folder does not exist; create it or correct the URL"
            )
        if self.path.is_dir():
            raise ImproperlyConfigured(f"{self.path} is a folder; name a file in it in the URL")
        kind = _filesystem(self.path, Path("/proc/mounts"))
        if _NETWORK.fullmatch(kind):
            raise NotSupported(
                f"{self.path} is on a network file system ({kind}), where SQLite's locks do not "
                "hold; use a local disk, or redis:// between machines"
            )
        return create_engine(
            URL.create("sqlite", database=str(self.path)),
            poolclass=NullPool,
            isolation_level="AUTOCOMMIT",
            # They hold what tasks are given; an error's text goes to logs.
            hide_parameters=True,
            connect_args={
                "check_same_thread": False,
                "timeout": _TURN,
                "factory": _Connection,
            },
        )

    def prepare(self, connection: Connection, *, reading: bool = False) -> None:  # noqa: ARG002
        execute = connection.exec_driver_sql
        mode = execute("PRAGMA journal_mode = WAL").scalar()
        if mode != "wal":
            raise NotSupported(
                f"{self.path}: SQLite keeps journal mode {mode!r} and not WAL; "
                "move the file to a local disk that supports shared memory"
            )
        execute(f"PRAGMA synchronous = {self._synchronous}")
        execute(f"PRAGMA journal_size_limit = {_WAL_LIMIT}")

    def limit(self, connection: Connection, patience: Seconds) -> None:
        """A file answers at once, or is locked."""

    @property
    def home(self) -> str | None:
        return str(self.path.resolve())

    def identify(self, connection: Connection) -> str:
        rows = connection.exec_driver_sql("PRAGMA database_list").fetchall()
        return next((str(Path(file).resolve()) for _, name, file in rows if name == "main"), "")

    def now(self, connection: Connection) -> int:  # noqa: ARG002 - others ask the server
        return time.time_ns() // 1000

    def array(self, values: Sequence[object]) -> object:
        return json.dumps(values)

    def batch(self, rows: list[Parameters], common: Parameters) -> list[Parameters]:
        return [row | common for row in rows]

    def translate(self, error: DBAPIError, *, committing: bool = False) -> TaskqError:
        cause = error.orig
        code = getattr(cause, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        match code:
            case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
                return self.busy()
            case sqlite3.SQLITE_CANTOPEN:
                return ConnectionFailed(
                    f"{self.path} cannot be opened; give this user the right to read and write "
                    "the file and its folder"
                )
            case sqlite3.SQLITE_IOERR if committing:
                return OutcomeUnknown(f"{self.path}: the disk failed during a commit: {cause}")
            case sqlite3.SQLITE_IOERR | sqlite3.SQLITE_PROTOCOL:
                return ConnectionFailed(f"{self.path} cannot be read or written: {cause}")
            case sqlite3.SQLITE_NOTADB:
                return ImproperlyConfigured(
                    f"{self.path} is not a SQLite database; name another file in the URL"
                )
        cure = _CURES.get(code, f"SQLite refused: {cause}")
        return ServerRefused(f"{self.path}: {cure}")

    def busy(self) -> Locked:
        return Locked(
            f"{self.path} stayed locked by another transaction; nothing happened; "
            "end the program that holds it, or keep its transactions short"
        )

    def listen(self) -> NoReturn:
        raise Deaf("this database tells nobody of changes")

    def lock_schema(self, connection: Connection) -> None:
        """A transaction that writes has all locks already."""

    def check(self, connection: Connection) -> list[str]:
        level = connection.exec_driver_sql("PRAGMA synchronous").scalar_one()
        if level >= _SYNCHRONOUS["full"]:
            return []
        warning = (
            f"{self.path} is used with synchronous={self._synchronous}: what was accepted last "
            "may be lost if the machine fails; remove the option from the URL"
        )
        return [warning]


_CURES: Final = {
    sqlite3.SQLITE_READONLY: "is read-only; give this user the right to write the file "
    "and its folder",
    sqlite3.SQLITE_PERM: "access was denied; give this user the right to write the file "
    "and its folder",
    sqlite3.SQLITE_FULL: "the disk is full, so nothing was written; make room",
    sqlite3.SQLITE_CORRUPT: "is damaged; stop all programs, then restore a copy or "
    "rescue it with: sqlite3 FILE .recover",
    sqlite3.SQLITE_TOOBIG: "a value is larger than SQLite takes",
}


def _path(url: Url) -> Path:
    if url.driver not in {"", "pysqlite"}:
        raise ImproperlyConfigured(
            f"sqlite+{url.driver}:// is not supported; leave the driver out: sqlite://"
        )
    if url.host or url.username or url.password or url.port is not None:
        _refuse("a SQLite URL has no host")
    name = url.path.removeprefix("/")
    if not name or name.endswith("/"):
        _refuse("the URL names no file")
    if name == ":memory:" or name.startswith("file:") or "\0" in name:
        _refuse("the URL must name a file (memory:// is the broker without one)")
    return Path(name).absolute()


def _refuse(reason: str) -> NoReturn:
    raise ImproperlyConfigured(f"{reason}; {_SHAPE}")


def _filesystem(path: Path, mounts: Path) -> str:
    """Return the type of the file system that holds `path`, or "" if nobody says."""
    try:
        lines = mounts.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    place = os.path.realpath(path)
    best, kind = "", ""
    for line in lines:
        _, point, found, *_ = line.split(" ")
        point = point.replace("\\040", " ")
        inside = point == "/" or place == point or place.startswith(point + "/")
        if inside and len(point) >= len(best):
            best, kind = point, found
    return kind
