"""The names of everything taskq keeps in a Redis database.

All keys of a namespace share one hash tag, so that a script may touch any of
them on a cluster too. For a namespace ``shop``, behind ``{taskq:shop}:``

===================== ======= ======================================================
messages              hash    id → record; what was sent, see `taskq_redis.records`
counters              hash    id → counters, while one of them is not zero
queues                set     every queue that ever held a message
queue:Q:ready:0 … 9   list    ids, one list for each priority
queue:Q:scheduled     zset    priority, head or tail, id → when due
queue:Q:processing    zset    priority, id, token → when the lease ends
queue:Q:dead          zset    id → when it died
queue:Q:reasons       hash    id → counters, code and detail of a dead letter
queue:Q:wake          list    one token that wakes one waiting claim; ends by itself
result:ID             string  a result, with the server's own time to live
workers               zset    incarnation → when its listing ends
beats                 hash    incarnation → last heartbeat
===================== ======= ======================================================

Fixed objects, which stay when all is concluded: `queues`, and until the next
heartbeat the entries of ended workers in `workers` and `beats`. A `wake` list
stays for a minute at most.
"""

from __future__ import annotations

from typing import Final

from taskq.names import check_name

PARTS: Final = (
    "processing",
    "scheduled",
    "dead",
    "reasons",
    "wake",
    *(f"ready:{priority}" for priority in range(10)),
)
"""A queue's keys in the order in which the scripts count on them."""

WAKE: Final = PARTS.index("wake")
_REMEMBERED: Final = 1000


class Keys:
    """The keys of one namespace. Thread-safe."""

    def __init__(self, namespace: str) -> None:
        self.prefix = f"{{taskq:{namespace}}}:"
        self.messages = self.prefix + "messages"
        self.counters = self.prefix + "counters"
        self.queues = self.prefix + "queues"
        self.workers = self.prefix + "workers"
        self.beats = self.prefix + "beats"
        self.result_prefix = self.prefix + "result:"
        self.fixed = (self.messages, self.counters, self.queues)
        self._blocks: dict[str, tuple[str, ...]] = {}

    def queue(self, name: str) -> tuple[str, ...]:
        """Return the keys of one queue, in the order of `PARTS`.

        Raises:
            InvalidName: the queue's name is not legal.
        """
        block = self._blocks.get(name)
        if block is None:
            check_name(name, "queue")
            block = tuple(f"{self.prefix}queue:{name}:{part}" for part in PARTS)
            if len(self._blocks) >= _REMEMBERED:
                self._blocks.clear()
            self._blocks[name] = block
        return block

    def result(self, id: str) -> str:
        """Return the key of a result, which is its channel's name too."""
        return self.result_prefix + id
