"""Where a database server listens, as a URL says it."""

from __future__ import annotations

import dataclasses
from typing import Any, Final

from taskq.clock import Seconds
from taskq.errors import ImproperlyConfigured
from taskq.url import Url
from taskq_sql.naming import Names

TIMEOUT: Final[Seconds] = 30.0
CONNECT_TIMEOUT: Final[Seconds] = 10.0


@dataclasses.dataclass(frozen=True, slots=True)
class Address:
    """A database on a server, how long to wait for it, and what tables are called in it."""

    host: str
    port: int
    database: str
    user: str
    password: str
    timeout: Seconds
    """How long a call waits for an answer."""
    connect_timeout: Seconds
    names: Names
    options: dict[str, Any]
    """What else the URL says, of what the dialect knows."""

    def __str__(self) -> str:
        return f"{self.host}:{self.port}/{self.database}"

    @classmethod
    def read(
        cls, url: Url, *, port: int, drivers: frozenset[str], user: str, **known: type
    ) -> Address:
        """Read a URL.

        `port` and `user` are what it means where it says nothing; `known` names
        the options of the dialect.

        Raises:
            ImproperlyConfigured: it has an error.
        """
        if url.driver and url.driver not in drivers:
            raise ImproperlyConfigured(
                f"{url.scheme}+{url.driver}:// is not supported; leave the driver out, or name "
                f"one of: {', '.join(sorted(drivers))}"
            )
        options = url.options(timeout=float, connect_timeout=float, prefix=str, **known)
        timeout = options.pop("timeout", TIMEOUT)
        connect_timeout = options.pop("connect_timeout", CONNECT_TIMEOUT)
        for name, value in {"timeout": timeout, "connect_timeout": connect_timeout}.items():
            if not 0 < value < float("inf"):
                raise ImproperlyConfigured(f"URL option {name}={value} is not above 0 seconds")
        database = url.path.removeprefix("/")
        if not database or "/" in database:
            raise ImproperlyConfigured(
                f"the URL names no database; write {url.scheme}://user:password@host/database"
            )
        return cls(
            host=url.host or "localhost",
            port=url.port or port,
            database=database,
            user=url.username or user,
            password=url.password,
            timeout=timeout,
            connect_timeout=connect_timeout,
            names=Names.take(options),
            options=options,
        )
