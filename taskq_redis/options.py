"""What a Redis URL says: where the server is, and how to talk to it."""

from __future__ import annotations

import dataclasses
import logging
import socket
from typing import Any, Final

from taskq.errors import ConnectionFailed, ImproperlyConfigured
from taskq.url import Url

DEFAULT_TIMEOUT: Final = 5.0
DEFAULT_PORT: Final = 6379

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Options:
    """The meaning of ``redis://``, ``rediss://`` and ``unix://`` URLs."""

    url: Url
    timeout: float
    """Seconds that one call may wait for the server."""
    db: int
    tls_insecure: bool
    evict_ok: bool

    @classmethod
    def of(cls, url: Url) -> Options:
        """Read a URL.

        Raises:
            UnknownOption: it has an option that is not known here.
            ImproperlyConfigured: an option or the path has no sense.
        """
        given = url.options(timeout=float, db=int, tls_insecure=bool, evict_ok=bool)
        timeout = given.get("timeout", DEFAULT_TIMEOUT)
        if not 0 < timeout < float("inf"):
            raise ImproperlyConfigured("URL option timeout must be more than 0 seconds")
        insecure = given.get("tls_insecure", False)
        if insecure and url.scheme != "rediss":
            raise ImproperlyConfigured("URL option tls_insecure has a meaning for rediss:// only")
        if insecure:
            _log.warning("certificates of %s are not checked, as tls_insecure asks", url)
        db = given.get("db", 0) if url.scheme == "unix" else _database(url, given)
        if db < 0:
            raise ImproperlyConfigured("the number of a Redis database is 0 or more")
        return cls(url, timeout, db, insecure, given.get("evict_ok", False))

    def open_socket(self, timeout: float) -> socket.socket:
        """Connect within `timeout` seconds; no byte of the protocol has passed yet.

        Raises:
            ConnectionFailed: the server is not reached.
        """
        from redis.exceptions import RedisError

        try:
            # The library's own step between resolving and greeting: what follows
            # on the socket has deadlines and interruptions that it does not know.
            return self._connection(timeout)._connect()  # type: ignore[no-any-return]
        except (OSError, UnicodeError, RedisError) as error:
            reason = "no answer" if isinstance(error, TimeoutError) else str(error)
            raise ConnectionFailed(f"cannot connect to {self.url}: {reason}") from error

    def _connection(self, timeout: float) -> Any:
        from redis import connection

        kinds: dict[str, Any] = {
            "redis": connection.Connection,
            "rediss": connection.SSLConnection,
            "unix": connection.UnixDomainSocketConnection,
        }
        given: dict[str, Any] = {"socket_timeout": timeout, "socket_connect_timeout": timeout}
        if self.url.scheme == "unix":
            given["path"] = self.url.path
        else:
            given["host"] = self.url.host or "localhost"
            given["port"] = self.url.port or DEFAULT_PORT
            given["socket_keepalive"] = True
        if self.tls_insecure:
            given |= {"ssl_cert_reqs": "none", "ssl_check_hostname": False}
        return kinds[self.url.scheme](**given)


def _database(url: Url, given: dict[str, Any]) -> int:
    text = url.path.strip("/")
    if not text:
        return int(given.get("db", 0))
    if not (text.isascii() and text.isdigit()):
        raise ImproperlyConfigured("the path of a redis:// URL is the number of a database")
    if "db" in given:
        raise ImproperlyConfigured("the URL names a database in its path and as db=; keep one")
    return int(text)
