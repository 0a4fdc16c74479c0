"""MySQL and MariaDB."""

from __future__ import annotations

import getpass
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, NoReturn

from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from taskq.clock import Seconds
from taskq.errors import NotSupported
from taskq.url import Url
from taskq_sql.dialects import Parameters
from taskq_sql.dialects.address import Address
from taskq_sql.dialects.mysql_drivers import DRIVERS, Tls
from taskq_sql.dialects.server import Report, ServerDialect, Trouble
from taskq_sql.listener import Deaf
from taskq_sql.statements import PAUSE, mysql

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine
    from sqlalchemy.exc import DBAPIError

PORT: Final = 3306
_NOW: Final = "SELECT TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))"
"""A caller's session may be in a zone whose clocks are put back an hour once a year."""
_MODE: Final = "STRICT_ALL_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION"
_MARIADB: Final = (10, 6)
_MYSQL: Final = (8, 0, 1)


class MysqlDialect(ServerDialect):
    """A database of a MySQL or MariaDB server."""

    family = "mysql"
    shows_locks = "SHOW PROCESSLIST"

    def __init__(self, url: Url) -> None:
        address = Address.read(
            url,
            port=PORT,
            drivers=frozenset(DRIVERS),
            user=url.username or getpass.getuser(),
            ssl_mode=str,
            ssl_ca=str,
            ssl_cert=str,
            ssl_key=str,
        )
        self._name = url.driver or next(iter(DRIVERS))
        self._driver = DRIVERS[self._name]
        self._driver.load()
        self._tls = Tls(address.options)
        super().__init__(address, mysql.MYSQL)

    def engine(self, left: Callable[[], Seconds] | None = None) -> Engine:
        address, driver, tls = self._address, self._driver, self._tls
        return create_engine(
            f"mysql+{self._name}://",
            creator=lambda: driver.connect(address, tls, left() if left else address.timeout),
            poolclass=NullPool,
            isolation_level="AUTOCOMMIT",
            # They hold what tasks are given; an error's text goes to logs.
            hide_parameters=True,
        )

    def prepare(self, connection: Connection, *, reading: bool = False) -> None:  # noqa: ARG002
        execute = connection.exec_driver_sql
        version = connection.dialect.server_version_info or (0,)
        mariadb = bool(getattr(connection.dialect, "is_mariadb", False))
        oldest = _MARIADB if mariadb else _MYSQL
        if tuple(version) < oldest:
            name, shown = ("MariaDB" if mariadb else "MySQL"), ".".join(map(str, oldest))
            raise NotSupported(
                f"{self._address}: {name} knows SKIP LOCKED from {shown} on; upgrade it"
            )
        execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
        # MySQL knows no time for pauses within transactions only.
        pausing = "idle_transaction_timeout" if mariadb else "wait_timeout"
        execute(
            f"SET SESSION sql_mode = '{_MODE}', time_zone = '+00:00', "
            f"innodb_lock_wait_timeout = {PAUSE}, "
            f"{pausing} = {PAUSE}, net_write_timeout = {PAUSE}"
        )

    def limit(self, connection: Connection, patience: Seconds) -> None:
        self._driver.limit(connection.connection.driver_connection, patience)

    def now(self, connection: Connection) -> int:
        return int(connection.exec_driver_sql(_NOW).scalar_one())

    def array(self, values: Sequence[object]) -> object:
        # Nothing is among no values, and `IN ()` is no SQL.
        return tuple(values) or (None,)

    def batch(self, rows: list[Parameters], common: Parameters) -> list[Parameters]:
        return [row | common for row in rows]

    def _read(self, error: DBAPIError) -> Report:
        cause = error.orig
        arguments: Sequence[Any] = getattr(cause, "args", ())
        code = arguments[0] if arguments and isinstance(arguments[0], int) else 0
        told = str(arguments[1] if len(arguments) > 1 else cause)
        if code in _AGAIN:
            return Report(Trouble.BUSY)
        if code in _LOST or (not code and error.connection_invalidated):
            return Report(Trouble.LOST, told)
        if code == 1146:
            return Report(Trouble.NO_TABLE)
        return Report(Trouble.REFUSED, told, _CURES.get(code, "the server refused"))

    def listen(self) -> NoReturn:
        raise Deaf("this database tells nobody of changes")

    def lock_schema(self, connection: Connection) -> None:
        # The server has one space of names for locks of all databases, of 64 characters each.
        name = {"name": self.names.table("schema")}
        query = "SELECT GET_LOCK(MD5(CONCAT(database(), '.', %(name)s)), 60)"
        if connection.exec_driver_sql(query, name).scalar_one() != 1:
            raise self.busy()

    def _weakness(self, connection: Connection) -> str | None:
        query = "SELECT @@GLOBAL.innodb_flush_log_at_trx_commit"
        if connection.exec_driver_sql(query).scalar_one() == 1:
            return None
        return (
            "innodb_flush_log_at_trx_commit is not 1: what was accepted last may be lost if the "
            "server dies; set it to 1"
        )


_AGAIN: Final = frozenset({1020, 1205, 1213})
"""Record changed, lock wait timeout, deadlock. The whole transaction is given up each time."""
_LOST: Final = frozenset(
    {0, 1040, 1053, 1077, 1152, 1184, 1927, 2002, 2003, 2006, 2013, 2055, 4031}
)
_CURES: Final = {
    1044: "the user may not use the database; grant it the right",
    1045: "user or password were refused; correct them in the URL",
    1049: "there is no such database; create it, or correct the URL",
    1142: "the user lacks a right; grant it SELECT, INSERT, UPDATE and DELETE on taskq's "
    "tables, and to who makes them CREATE, ALTER and INDEX as well",
    1021: "the server's disk is full, so nothing was written; make room",
    1114: "the table is full, so nothing was written; make room",
    1153: "a message is larger than max_allowed_packet; raise it on the server",
    1290: "the server is read-only; name the primary server in the URL",
    1792: "the server is read-only; name the primary server in the URL",
}
