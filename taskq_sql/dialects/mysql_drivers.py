"""The drivers for MySQL and MariaDB: PyMySQL, and mysqlclient for who names `+mysqldb`."""

from __future__ import annotations

import math
from typing import Any, Final, Protocol

from taskq.clock import Seconds
from taskq.errors import ImproperlyConfigured
from taskq_sql.dialects.address import Address

FOUND_ROWS: Final = 2
"""What `UPDATE` tells is how many rows it met, not how many it changed."""
_CHARSET: Final = "utf8mb4"
_MODES: Final = ("disabled", "preferred", "required", "verify_ca", "verify_identity")


class Tls:
    """What a URL says of TLS. Without any of it, it is used if the server has it."""

    def __init__(self, options: dict[str, str]) -> None:
        names = ("ssl_ca", "ssl_cert", "ssl_key")
        files: dict[str, Any] = {name: options[name] for name in names if name in options}
        self.mode = options.get("ssl_mode", "verify_identity" if files else "preferred").lower()
        self.files = files
        if self.mode not in _MODES:
            raise ImproperlyConfigured(
                f"URL option ssl_mode={self.mode!r} is none of {', '.join(_MODES)}"
            )


class Driver(Protocol):
    """A driver, and how to connect with it."""

    def load(self) -> None:
        """Import it.

        Raises:
            ModuleNotFoundError: it is not installed.
        """
        ...

    def connect(self, address: Address, tls: Tls, left: Seconds) -> Any:
        """Connect within `left` seconds, which is also how long answers may take at first."""
        ...

    def limit(self, connection: Any, patience: Seconds) -> None:
        """Let answers take so long from now on, where the driver can."""
        ...


class PyMysql:
    """PyMySQL: in Python alone."""

    def load(self) -> None:
        import pymysql  # noqa: F401

    def connect(self, address: Address, tls: Tls, left: Seconds) -> Any:
        import pymysql

        limit = _at_least(min(left, address.connect_timeout))
        # For what a server says first.
        waits: dict[str, Any] = dict.fromkeys(
            ("connect_timeout", "read_timeout", "write_timeout"), limit
        )
        connection = pymysql.connect(
            host=address.host,
            port=address.port,
            user=address.user,
            password=address.password,
            database=address.database,
            autocommit=True,
            client_flag=FOUND_ROWS,
            charset=_CHARSET,
            **waits,
            **self._tls(tls),
        )
        self.limit(connection, left)
        return connection

    def limit(self, connection: Any, patience: Seconds) -> None:
        # The driver tells its socket what it finds here, if that has changed.
        connection._read_timeout = connection._write_timeout = _at_least(patience)

    @staticmethod
    def _tls(tls: Tls) -> dict[str, Any]:
        match tls.mode:
            case "disabled":
                return {"ssl_disabled": True}
            case "preferred":
                return {}
            case "required":
                return {"ssl": {"check_hostname": False, "verify_mode": False}}
        return {
            **tls.files,
            "ssl_verify_cert": True,
            "ssl_verify_identity": tls.mode == "verify_identity",
        }


class MysqlClient:
    """mysqlclient: a library in C. Its connections keep the limits they were made with."""

    def load(self) -> None:
        import MySQLdb  # type: ignore[import-untyped]  # noqa: F401

    def connect(self, address: Address, tls: Tls, left: Seconds) -> Any:
        import MySQLdb

        files = {name.removeprefix("ssl_"): path for name, path in tls.files.items()}
        return MySQLdb.connect(
            host=address.host,
            port=address.port,
            user=address.user,
            password=address.password,
            database=address.database,
            autocommit=True,
            client_flag=FOUND_ROWS,
            charset=_CHARSET,
            connect_timeout=max(1, round(min(left, address.connect_timeout))),
            read_timeout=max(1, round(address.timeout)),
            write_timeout=max(1, round(address.timeout)),
            ssl_mode=tls.mode.upper(),
            ssl=files or None,
        )

    def limit(self, connection: Any, patience: Seconds) -> None:
        """Its limits are whole seconds that nobody changes later."""


DRIVERS: Final[dict[str, Driver]] = {"pymysql": PyMysql(), "mysqldb": MysqlClient()}
"""By the name that a URL has for them; the first is the default."""


def _at_least(patience: Seconds) -> Seconds:
    """Return what a socket takes: above 0, and not different at every call."""
    return max(0.1, math.ceil(patience * 10) / 10)
