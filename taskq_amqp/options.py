"""What a RabbitMQ URL says: where the servers are, and how to talk to them."""

from __future__ import annotations

import dataclasses
import logging
import socket
import ssl
import time
from collections.abc import Sequence
from typing import Any, Final

from taskq.clock import Seconds
from taskq.errors import ConnectionFailed, ImproperlyConfigured
from taskq.url import Url

DEFAULT_TIMEOUT: Final = 5.0
DEFAULT_HEARTBEAT: Final = 20
DEFAULT_CONSUMER_TIMEOUT: Final = 1800.0
PORT: Final = 5672
TLS_PORT: Final = 5671
LONGEST_NAME: Final = 128
LONGEST_NAMESPACE: Final = 100
"""So that with a queue's name and ours it fits into the 255 bytes of an AMQP name."""

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Options:
    """The meaning of ``amqp://`` and ``amqps://`` URLs."""

    url: Url
    timeout: Seconds
    """How long one call may wait for the server."""
    heartbeat: int
    """Seconds; after two of them without a sign the other side is taken to be gone."""
    consumer_timeout: Seconds
    """What the server is set to: how long it lets a delivery go unacknowledged."""
    addresses: Sequence[tuple[str, int]]
    """To be tried in this order."""
    virtual_host: str
    username: str
    password: str
    ca: str | None
    tls_insecure: bool

    @classmethod
    def of(cls, url: Url) -> Options:
        """Read a URL.

        Raises:
            UnknownOption: it has an option that is not known here.
            ImproperlyConfigured: an option or the path has no sense.
        """
        given = url.options(
            timeout=float,
            heartbeat=int,
            consumer_timeout=float,
            hosts=str,
            ca=str,
            tls_insecure=bool,
        )
        timeout = given.get("timeout", DEFAULT_TIMEOUT)
        if not 0 < timeout < float("inf"):
            raise ImproperlyConfigured("URL option timeout must be more than 0 seconds")
        heartbeat = given.get("heartbeat", DEFAULT_HEARTBEAT)
        if not 1 <= heartbeat <= 3600:
            raise ImproperlyConfigured("URL option heartbeat must be from 1 to 3600 seconds")
        consumer_timeout = given.get("consumer_timeout", DEFAULT_CONSUMER_TIMEOUT)
        if consumer_timeout <= 0:
            raise ImproperlyConfigured("URL option consumer_timeout must be more than 0 seconds")
        insecure = given.get("tls_insecure", False)
        if (insecure or "ca" in given) and url.scheme != "amqps":
            raise ImproperlyConfigured(
                "URL options tls_insecure and ca have a meaning for amqps:// only"
            )
        if insecure:
            _log.warning("certificates of %s are not checked, as tls_insecure asks", url)
        if len(url.namespace) > LONGEST_NAMESPACE:
            raise ImproperlyConfigured(
                f"on RabbitMQ a namespace has {LONGEST_NAMESPACE} characters at most"
            )
        path = url.path.removeprefix("/")
        return cls(
            url=url,
            timeout=timeout,
            heartbeat=heartbeat,
            consumer_timeout=consumer_timeout,
            addresses=_addresses(url, given.get("hosts", "")),
            virtual_host=path or "/",
            username=url.username or "guest",
            password=url.password if url.username else "guest",
            ca=given.get("ca"),
            tls_insecure=insecure,
        )

    def open_socket(self, deadline: float) -> socket.socket:
        """Connect to the first server that answers; no byte of the protocol has passed yet.

        Raises:
            ConnectionFailed: none is reached.
        """
        reasons: list[str] = []
        for host, port in self.addresses:
            left = deadline - time.monotonic()
            if left <= 0:
                reasons.append("no time is left")
                break
            try:
                return self._connected(host, port, left)
            except (OSError, UnicodeError) as error:
                reason = "no answer" if isinstance(error, TimeoutError) else str(error)
                reasons.append(f"{host}:{port}: {reason}")
        raise ConnectionFailed(f"cannot connect to {self.url}: {'; '.join(reasons)}")

    def _connected(self, host: str, port: int, timeout: Seconds) -> socket.socket:
        sock = socket.create_connection((host, port), timeout)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if self.url.scheme == "amqps":
                return self._context().wrap_socket(sock, server_hostname=host)
        except BaseException:
            sock.close()
            raise
        return sock

    def _context(self) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cafile=self.ca)
        except OSError as error:
            raise ImproperlyConfigured(f"URL option ca: cannot read {self.ca}: {error}") from error
        if self.tls_insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


def _addresses(url: Url, others: str) -> Sequence[tuple[str, int]]:
    default = TLS_PORT if url.scheme == "amqps" else PORT
    found = [(url.host or "localhost", url.port or default)]
    for text in filter(None, (part.strip() for part in others.split(","))):
        host, _, port = text.rpartition(":") if ":" in text else (text, "", str(default))
        if not host or not port.isdecimal():
            raise ImproperlyConfigured("URL option hosts is a list like hosts=b,c:5673")
        found.append((host, int(port)))
    return tuple(found)


def describe(options: Options, purpose: str) -> dict[str, Any]:
    """Return what an operator sees of a connection."""
    return {
        "product": "taskq",
        "connection_name": f"taskq {options.url.namespace}: {purpose}",
        "capabilities": {
            "basic.nack": True,
            "connection.blocked": True,
            "consumer_cancel_notify": True,
            "publisher_confirms": True,
            "authentication_failure_close": True,
        },
    }
