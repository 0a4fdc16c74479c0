"""How the conformance kit breaks and empties Redis."""

from __future__ import annotations

from collections.abc import Iterator

from taskq.clock import MICROSECONDS
from taskq.contract.broker import Broker
from taskq.testing.target import UrlTarget
from taskq_redis.client import Client
from taskq_redis.keys import Keys
from taskq_redis.options import Options
from taskq_redis.records import read_result


class RedisTarget(UrlTarget):
    """A namespace in a Redis database."""

    def crash(self, broker: Broker) -> None:
        super().crash(broker)
        # Closing says nothing to the server and releases nothing: it is what
        # the end of the process would do to the sockets.
        broker.close()

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
    """Say whether a key is a fixed object, or past its time by the moved clock."""
    if key == keys.queues or (key.startswith(keys.prefix + "queue:") and key.endswith(":wake")):
        return True
    if key in (keys.workers, keys.beats):
        return not client.command("ZRANGEBYSCORE", keys.workers, f"({now}", "+inf")
    if key.startswith(keys.result_prefix):
        value = client.command("GET", key)
        return value is None or read_result("", value, now) is None
    return False
