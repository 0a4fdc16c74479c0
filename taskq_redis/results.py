"""The result store over Redis: one string with a time to live for each result."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final

from taskq.clock import Clock, Seconds
from taskq.contract.results import ResultRecord, Results
from taskq.errors import Closed, ServerRefused
from taskq_redis.client import Client, after
from taskq_redis.connection import Interrupt, Interrupted, Link, ReplyError, pack
from taskq_redis.keys import Keys
from taskq_redis.options import Options
from taskq_redis.records import CHUNK_ITEMS, chunks
from taskq_redis.scripts import Scripts

LONGEST_IDLE: Final[Seconds] = 1.0
"""After this time a wait looks by itself, whether it was told of a result or not."""

NOT_FINAL: Final = "RETRY"


class RedisResults(Results):
    """A client of the results in one namespace of one Redis database.

    Who waits listens on a channel named as the result's key. Whoever stores
    asks the server once per batch which channels have listeners, so that a
    result nobody waits for costs no announcement, and nothing has to be cleaned
    up after somebody who stopped waiting.
    """

    def __init__(self, options: Options, clock: Clock) -> None:
        self._client = Client(options)
        self._keys = Keys(options.url.namespace)
        self._scripts = Scripts(self._client, self._keys, clock)
        self._closing = Interrupt()

    def store(self, records: Sequence[ResultRecord], /) -> None:
        self._check_open()
        deadline = self._client.deadline()
        for number, chunk in enumerate(chunks(records, lambda record: len(record.payload))):
            with after(number):
                self._scripts.store(chunk, deadline=deadline)

    def fetch(self, ids: Sequence[str], /) -> dict[str, ResultRecord]:
        self._check_open()
        deadline = self._client.deadline()
        found: dict[str, ResultRecord] = {}
        for first in range(0, len(ids), CHUNK_ITEMS):
            found |= self._scripts.fetch(ids[first : first + CHUNK_ITEMS], deadline=deadline)
        return found

    def wait(self, ids: Sequence[str], /, *, timeout: Seconds) -> dict[str, ResultRecord]:
        deadline = time.monotonic() + timeout
        found = self._final(ids)
        if found or not ids or timeout <= 0:
            return found
        channels = [self._keys.result(id) for id in dict.fromkeys(ids)]
        try:
            with self._client.link(self._client.deadline()) as link:
                try:
                    return self._listen(link, ids, channels, deadline)
                except BaseException:
                    # It is still subscribed, and of no use for anything else.
                    link.close()
                    raise
        except Interrupted:
            raise Closed from None

    def _listen(
        self, link: Link, ids: Sequence[str], channels: Sequence[str], deadline: float
    ) -> dict[str, ResultRecord]:
        self._switch(link, "SUBSCRIBE", channels)
        with self._closing.watch() as alarm:
            while not (found := self._final(ids)):
                left = min(deadline - time.monotonic(), LONGEST_IDLE)
                if left <= 0:
                    break
                if link.await_data(left, alarm):
                    _checked(link.read(self._client.deadline()))
        self._switch(link, "UNSUBSCRIBE", channels)
        return found

    def _switch(self, link: Link, command: str, channels: Sequence[str]) -> None:
        """Subscribe or unsubscribe, and read all that is due to come."""
        deadline = self._client.deadline()
        link.write(pack(command, *channels), deadline)
        confirmed = 0
        while confirmed < len(channels):
            kind, _, _ = _checked(link.read(deadline))
            confirmed += kind != b"message"

    def _final(self, ids: Sequence[str]) -> dict[str, ResultRecord]:
        found = self.fetch(ids)
        return {id: record for id, record in found.items() if record.state != NOT_FINAL}

    def forget(self, ids: Sequence[str], /) -> None:
        self._check_open()
        for first in range(0, len(ids), CHUNK_ITEMS):
            self._client.command("DEL", *map(self._keys.result, ids[first : first + CHUNK_ITEMS]))

    def expire(self, limit: int = 1000, /) -> int:  # noqa: ARG002 - the server does it
        self._check_open()
        return 0

    def close(self) -> None:
        self._client.close()
        self._closing.set()

    def _check_open(self) -> None:
        if self._client.closed:
            raise Closed


def _checked(reply: Any) -> Any:
    if isinstance(reply, ReplyError):
        raise ServerRefused(f"the server refused to tell of results: {reply}") from reply
    return reply
