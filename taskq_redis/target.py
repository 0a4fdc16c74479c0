"""How the conformance kit breaks and empties Redis."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from taskq.clock import MICROSECONDS
from taskq.contract.broker import Broker
from taskq.errors import ServerRefused
from taskq.testing.target import UrlTarget
from taskq_redis.client import Client
from taskq_redis.keys import Keys
from taskq_redis.options import DEFAULT_PORT, Options
from taskq_redis.records import read_result

FOREVER: Final = -1
"""What PTTL answers for a key that does not end by itself."""


class RedisTarget(UrlTarget):
    """A namespace in a Redis database.

    The clients of a breakable example can be broken over ``redis://`` only:
    ``unix://`` has no port for a proxy, and over ``rediss://`` the server's
    certificate does not fit the proxy.
    """

    processes = True

    @property
    def address(self) -> tuple[str, int] | None:
        if self.url.scheme != "redis":
            return None
        return self.url.host or "localhost", self.url.port or DEFAULT_PORT

    def crash(self, broker: Broker) -> None:
        super().crash(broker)
        # Closing says nothing to the server and releases nothing: it is what
        # the end of the process would do to the sockets.
        broker.close()

    @property
    def server(self) -> str:
        client = self._client()
        try:
            about = client.command("INFO", "server")
        except ServerRefused:
            # A user without the right to ask can have the rest tested all the same.
            return ""
        finally:
            client.close()
        text = about.decode() if isinstance(about, bytes) else str(about)
        found = re.search(r"redis_version:(\S+)", text)
        return f"Redis {found[1]}" if found else ""

    def footprint(self) -> list[str]:
        client, keys = self._client(), Keys(self.url.namespace)
        try:
            seconds, microseconds = map(int, client.command("TIME"))
            now = seconds * MICROSECONDS + microseconds + round(self.clock.offset * MICROSECONDS)
            return sorted(key for key in _all(client, keys) if not _spent(client, keys, key, now))
        finally:
            client.close()

    def wipe(self) -> None:
        client = self._client()
        try:
            found = list(_all(client, Keys(self.url.namespace)))
            for first in range(0, len(found), 1000):
                client.command("DEL", *found[first : first + 1000])
        finally:
            client.close()

    def _client(self) -> Client:
        return Client(Options.of(self.url))


def _all(client: Client, keys: Keys) -> Iterator[str]:
    cursor = b"0"
    seen = set()
    while True:
        cursor, page = client.command("SCAN", cursor, "MATCH", keys.prefix + "*", "COUNT", 1000)
        seen.update(page)
        if cursor == b"0":
            break
    yield from (key.decode() for key in seen)


def _spent(client: Client, keys: Keys, key: str, now: int) -> bool:
    """Say whether a key is a fixed object, or past its time by the moved clock, or soon will be."""
    if key == keys.queues:
        return True
    if key.startswith(keys.prefix + "queue:") and key.endswith(":wake"):
        return bool(client.command("PTTL", key) != FOREVER)
    if key in (keys.workers, keys.beats):
        return not client.command("ZRANGEBYSCORE", keys.workers, f"({now}", "+inf")
    if key.startswith(keys.result_prefix):
        value = client.command("GET", key)
        return value is None or read_result("", value, now) is None
    return False
