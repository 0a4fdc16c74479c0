"""PostgreSQL and MariaDB for tests, as `tests.servers` has Redis.

Of a server that listens already, the database that the URL names is used; it
is made if it is missing.
"""

from __future__ import annotations

import abc
import atexit
import contextlib
import functools
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar, Final, Self

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from taskq.url import Url
from taskq_sql import schema
from taskq_sql.dialects.choice import dialect_of
from taskq_sql.tables import tables
from tests.servers import Server, children, missing
from tests.waiting import until

SHARED_POSTGRESQL: Final = os.environ.get(
    "TASKQ_TEST_POSTGRESQL", "postgresql://postgres@127.0.0.1:5432/test"
)
SHARED_MARIADB: Final = os.environ.get(
    "TASKQ_TEST_MARIADB", "mariadb://root@127.0.0.1:3306/test?ssl_mode=disabled"
)
_ALWAYS_THERE: Final = {"postgresql": "postgres", "mariadb": "information_schema"}
"""The database to connect to before there is another."""
_PLACES: Final = "lib/postgresql/*/bin"
"""Where Debian keeps the programs of each version of PostgreSQL, below /usr."""


@functools.cache
def find_postgresql() -> str | None:
    """Return the URL of a PostgreSQL server for tests that only use it.

    It is the one that listens already, else one started for this run, else None.
    """
    return _find(SHARED_POSTGRESQL, PostgresqlServer)


@functools.cache
def find_mariadb() -> str | None:
    """Return the URL of a MariaDB server, or one of MySQL; see `find_postgresql`."""
    return _find(SHARED_MARIADB, MariadbServer)


def has_snapshot_isolation(url: str) -> bool:
    """Say whether it refuses to lock what was changed after it had been read."""
    rows = _ask(Url.parse(url), "SHOW GLOBAL VARIABLES LIKE 'innodb_snapshot_isolation'")
    return [value for _, value in rows] == ["ON"]


def make_tables(url: str) -> None:
    """Make the tables in a server's database, unless they are there."""
    schema.make(dialect_of(Url.parse(url)))


class SqlServer(Server):
    """A server of a test's own, in a temporary folder of its own.

    Without `fsync` it is quicker; only a crash of the machine tells the difference.
    """

    kind: ClassVar[str]
    """How TASKQ_TEST_REQUIRE calls it."""
    politely: ClassVar[signal.Signals]
    """What an operator sends; clients that are connected do not keep it from ending."""
    others: ClassVar[str]
    """Asks for the numbers of its clients' sessions but the one that asks."""
    at_once: ClassVar[signal.Signals] = signal.SIGKILL
    """What ends it with nothing left behind."""

    def __init__(self, *, fsync: bool = True) -> None:
        if (absent := self.absent()) is not None:
            missing(self.kind, f"{absent} not found")
        self._fsync = fsync
        # None of pytest's folders: those are closed to the user that the server runs as.
        super().__init__(Path(tempfile.mkdtemp(prefix="taskq-tests-")))
        if self.user is not None:
            shutil.chown(self._folder, self.user)

    @classmethod
    @abc.abstractmethod
    def absent(cls) -> str | None:
        """Return the program that would be needed and is not there."""

    def __enter__(self) -> Self:
        try:
            self._set_up()
            super().__enter__()
            _make_database(Url.parse(self.url))
        except BaseException:
            self.close()
            raise
        return self

    def stop(self) -> None:
        self._signal(self.politely)
        self._await_end()

    def make_tables(self) -> None:
        """Make the tables, as an operator does."""
        make_tables(self.url)

    def cut(self) -> int:
        with contextlib.suppress(DBAPIError):
            return sum(self._end_session(id) for id in self.sessions())
        return 0

    def empty(self) -> None:
        until(lambda: not self.sessions(), "nobody is connected")
        self.make_tables()
        self.ask(*(f"TRUNCATE TABLE {table.name}" for table in tables().namespaced))

    def sessions(self) -> list[int]:
        """Return the numbers of its clients' sessions but the one that asks."""
        with self.watch() as look:
            return look()

    @contextlib.contextmanager
    def watch(self) -> Iterator[Callable[[], list[int]]]:
        """Lend what does as `sessions`, over one connection.

        One that is closed is still a session for a moment.
        """
        with _connected(Url.parse(self.url)) as connection:
            yield lambda: [int(str(id)) for (id,) in _rows(connection, self.others)]

    @abc.abstractmethod
    def admit(self, user: str, password: str) -> Url:
        """Make a user that may use the tables, and needs its password; return its URL."""

    def ask(self, *queries: str) -> list[tuple[object, ...]]:
        """Return the rows of the last answer, over a connection for this alone."""
        return _ask(Url.parse(self.url), *queries)

    @abc.abstractmethod
    def _end_session(self, id: int) -> bool:
        """End a client's session; say whether it was there."""

    def close(self) -> None:
        if self._process is not None:
            self.thaw()
            self._signal(self.at_once)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._await_end()
        super().close()
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    @abc.abstractmethod
    def _installation(self) -> list[str]:
        """Return the command that makes the files of an empty server."""

    def _set_up(self) -> None:
        done = subprocess.run(
            self._installation(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self._folder,
            user=self.user,
            check=False,
            timeout=120,
        )
        assert not done.returncode, f"{self.name} cannot be set up:\n{done.stdout}"

    def _answers(self) -> bool:
        return _answers(_beside(Url.parse(self.url)))


class PostgresqlServer(SqlServer):
    """A PostgreSQL server. If root runs the tests, `postgres` or `nobody` runs the server."""

    kind = "postgresql"
    politely = signal.SIGINT
    # Killed, it would leave processes behind that still write to its files.
    at_once = signal.SIGQUIT
    others = (
        "SELECT pid FROM pg_stat_activity "
        "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
    )

    def __init__(self, *, fsync: bool = True) -> None:
        if os.geteuid() == 0:
            users = {user.pw_name for user in pwd.getpwall()}
            self.user = "postgres" if "postgres" in users else "nobody"
        super().__init__(fsync=fsync)

    @property
    def url(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/test"

    @classmethod
    def absent(cls) -> str | None:
        return None if _postgresql_programs() else "initdb and postgres"

    @property
    def _version(self) -> str:
        return (self._data / "PG_VERSION").read_text().strip()

    def _installation(self) -> list[str]:
        options = ["--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C"]
        return [f"{_postgresql_programs()}/initdb", "-D", str(self._data), "--no-sync", *options]

    def kill(self) -> None:
        # Of a machine nothing is left; what stays behind of a process would
        # keep the files in use for the next one.
        self._signal_family(signal.SIGKILL)
        self._await_end()

    def admit(self, user: str, password: str) -> Url:
        file = self._data / "pg_hba.conf"
        file.write_text(f"host all {user} 127.0.0.1/32 scram-sha-256\n{file.read_text()}")
        self.ask(
            f"CREATE ROLE {user} LOGIN PASSWORD '{password}'",
            f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {user}",
            f"GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {user}",
            "SELECT pg_reload_conf()",
        )
        return Url.parse(self.url).replace(username=user, password=password)

    def _end_session(self, id: int) -> bool:
        return bool(self.ask(f"SELECT pg_terminate_backend({id})")[0][0])

    def _family(self) -> list[int]:
        assert self._process is not None, "the server was not started"
        return children(self._process.pid)

    def _command(self) -> list[str]:
        settings = {
            "port": self.port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "shared_buffers": "8MB",
            "fsync": "on" if self._fsync else "off",
        }
        if sys.platform == "linux" and _number(self._version) >= 14:
            # After a kill it would flush its files one by one, which takes seconds.
            settings["recovery_init_sync_method"] = "syncfs"
        options = [part for item in settings.items() for part in ("-c", "{}={}".format(*item))]
        return [f"{_postgresql_programs()}/postgres", "-D", str(self._data), *options]


class MariadbServer(SqlServer):
    """A MariaDB server; `options` are added to its command line."""

    kind = "mariadb"
    politely = signal.SIGTERM
    others = (
        "SELECT id FROM information_schema.processlist "
        "WHERE id <> connection_id() AND user NOT IN ('system user', 'event_scheduler')"
    )

    def __init__(self, *options: str, fsync: bool = True) -> None:
        super().__init__(fsync=fsync)
        self._options = options

    @property
    def url(self) -> str:
        return f"mariadb://root@127.0.0.1:{self.port}/test?ssl_mode=disabled"

    @classmethod
    def absent(cls) -> str | None:
        programs = ("mariadbd", "mariadb-install-db")
        return next((name for name in programs if _mariadb_program(name) is None), None)

    def _installation(self) -> list[str]:
        # The server's own options are for it alone: the installer knows its common ones.
        login = "--auth-root-authentication-method=normal"
        return [
            f"{_mariadb_program('mariadb-install-db')}",
            *self._common(),
            "--skip-test-db",
            login,
        ]

    def _command(self) -> list[str]:
        return [
            f"{_mariadb_program('mariadbd')}",
            *self._common(),
            f"--port={self.port}",
            "--bind-address=127.0.0.1",
            f"--socket={self._folder / 'socket'}",
            f"--pid-file={self._folder / 'pid'}",
            "--innodb-flush-log-at-trx-commit=1",
            *self._options,
        ]

    def admit(self, user: str, password: str) -> Url:
        self.ask(
            f"CREATE USER {user} IDENTIFIED BY '{password}'",
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON test.* TO {user}",
        )
        return Url.parse(self.url).replace(username=user, password=password)

    def _end_session(self, id: int) -> bool:
        # It may have ended by itself.
        with contextlib.suppress(DBAPIError):
            self.ask(f"KILL {id}")
            return True
        return False

    def _common(self) -> list[str]:
        return [
            "--no-defaults",
            f"--datadir={self._data}",
            # A server that starts deletes what it takes for its own in there.
            f"--tmpdir={self._folder}",
            f"--user={pwd.getpwuid(os.geteuid()).pw_name}",
            "--skip-name-resolve",
            "--innodb-buffer-pool-size=32M",
            "--innodb-log-file-size=16M",
            f"--innodb-flush-method={'fsync' if self._fsync else 'nosync'}",
        ]


def _find(shared: str, server: type[SqlServer]) -> str | None:
    url = Url.parse(shared)
    if not _answers(url):
        # Two processes may want to make it at once; what counts is that it is there.
        with contextlib.suppress(DBAPIError):
            _make_database(url)
    if _answers(url):
        return shared
    if server.absent() is not None:
        return None
    own = server(fsync=False).__enter__()
    atexit.register(own.close)
    return own.url


def _make_database(url: Url) -> None:
    _ask(_beside(url), f"CREATE DATABASE {url.path.removeprefix('/')}")


def _beside(url: Url) -> Url:
    """Return the URL of the same server's database that is always there."""
    name = _ALWAYS_THERE.get(url.scheme, "information_schema")
    return url.replace(path=f"/{name}")


def _answers(url: Url) -> bool:
    with contextlib.suppress(DBAPIError):
        _ask(url, "SELECT 1")
        return True
    return False


def _ask(url: Url, *queries: str) -> list[tuple[object, ...]]:
    """Return the rows of the last answer, over a connection for this alone."""
    with _connected(url) as connection:
        return [_rows(connection, query) for query in queries][-1]


def _rows(connection: Connection, query: str) -> list[tuple[object, ...]]:
    result = connection.exec_driver_sql(query)
    return [tuple(row) for row in result] if result.returns_rows else []


def _connected(url: Url) -> contextlib.closing[Connection]:
    engine = dialect_of(url.replace(query={**url.query, "connect_timeout": "5"})).engine()
    return contextlib.closing(engine.connect())


@functools.cache
def _postgresql_programs() -> Path | None:
    """Return the folder of the newest version that is installed."""
    found = shutil.which("postgres")
    folders = [Path(found).resolve().parent] if found else []
    folders += sorted(Path("/usr").glob(_PLACES), key=lambda folder: _number(folder.parent.name))
    whole = [folder for folder in folders if (folder / "initdb").exists()]
    return whole[-1] if whole else None


def _number(name: str) -> float:
    return float(name) if name.replace(".", "", 1).isdigit() else 0.0


def _mariadb_program(name: str) -> str | None:
    # Servers' programs are not in the PATH of everybody.
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
