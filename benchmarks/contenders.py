"""Who is measured: each enqueues and drains the same no-op tasks.

Run as ``python -m benchmarks.contenders NAME STEP URL COUNT``; prints the CPU
and wall seconds of the step as JSON. A process per step keeps the contenders
out of each other's way.
"""

from __future__ import annotations

import json
import sqlite3
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable

BATCH = 500
THREADS = 10


class Contender(ABC):
    """Something that can send and drain."""

    def __init__(self, url: str) -> None:
        self.url = url

    @abstractmethod
    def send(self, count: int) -> None:
        """Send `count` tasks one by one."""

    def bulk(self, count: int) -> None:
        """Send `count` tasks in batches."""
        self.send(count)

    @abstractmethod
    def drain(self, count: int) -> None:
        """Run `count` tasks that are there already."""


class Bare(Contender):
    """The least at-least-once worker there is: batches, one script, json, a dict of functions."""

    CLAIM = """
        local ids = redis.call('LPOP', KEYS[1], ARGV[1]) or {}
        if #ids > 0 then redis.call('RPUSH', KEYS[2], unpack(ids)) end
        return ids"""

    def send(self, count: int) -> None:
        import redis

        client = redis.Redis.from_url(self.url)
        for number in range(count):
            client.rpush("ready", json.dumps(["add", [number, number]]))

    def bulk(self, count: int) -> None:
        import redis

        client = redis.Redis.from_url(self.url)
        for first in range(0, count, BATCH):
            batch = [json.dumps(["add", [n, n]]) for n in range(first, first + BATCH)]
            client.rpush("ready", *batch)

    def drain(self, count: int) -> None:
        import redis

        client = redis.Redis.from_url(self.url)
        claim = client.register_script(self.CLAIM)
        tasks: dict[str, Callable[..., int]] = {"add": lambda x, y: x + y}
        done = 0
        while done < count:
            batch = claim(keys=["ready", "leased"], args=[100])
            for text in batch:
                name, args = json.loads(text)
                tasks[name](*args)
            client.ltrim("leased", len(batch), -1)
            done += len(batch)


class BareSqlite(Contender):
    """The same on an SQLite file, with a flush per commit."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.connection = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
        for pragma in ("journal_mode = WAL", "synchronous = FULL"):
            self.connection.execute(f"PRAGMA {pragma}")
        self.connection.execute(
            "CREATE TABLE IF NOT EXISTS task (id INTEGER PRIMARY KEY, body TEXT, leased INTEGER)"
        )
        self.connection.execute("CREATE INDEX IF NOT EXISTS place ON task (leased, id)")

    def send(self, count: int) -> None:
        for number in range(count):
            self._insert([number])

    def bulk(self, count: int) -> None:
        for first in range(0, count, BATCH):
            self._insert(range(first, first + BATCH))

    def _insert(self, numbers: Iterable[int]) -> None:
        rows = [(json.dumps(["add", [number, number]]),) for number in numbers]
        self.connection.execute("BEGIN IMMEDIATE")
        self.connection.executemany("INSERT INTO task (body, leased) VALUES (?, 0)", rows)
        self.connection.execute("COMMIT")

    def drain(self, count: int) -> None:
        tasks: dict[str, Callable[..., int]] = {"add": lambda x, y: x + y}
        execute = self.connection.execute
        done: list[tuple[int]] = []
        for _ in range(count // 100 + 1):
            execute("BEGIN IMMEDIATE")
            self.connection.executemany("DELETE FROM task WHERE id = ?", done)
            batch = execute(
                "UPDATE task SET leased = 1 WHERE id IN "
                "(SELECT id FROM task WHERE leased = 0 ORDER BY id LIMIT 100) RETURNING id, body"
            ).fetchall()
            execute("COMMIT")
            for _, text in batch:
                name, args = json.loads(text)
                tasks[name](*args)
            done = [(number,) for number, _ in batch]


class Taskq(Contender):
    """taskq with its defaults, results off."""

    ignore_result = True

    def __init__(self, url: str) -> None:
        super().__init__(url)
        from taskq import TaskQ

        self.app = TaskQ("bench", broker=url, task_ignore_result=self.ignore_result)

        @self.app.task(name="add")
        def add(x: int, y: int) -> int:
            return x + y

        self.add = add

    def send(self, count: int) -> None:
        for number in range(count):
            self.add.delay(number, number)

    def bulk(self, count: int) -> None:
        for first in range(0, count, BATCH):
            self.app.bulk([self.add.s(n, n) for n in range(first, first + BATCH)])

    def drain(self, count: int) -> None:
        from taskq.worker.options import worker_options
        from taskq.worker.worker import Worker

        worker = Worker(self.app, worker_options({"concurrency": THREADS}))
        thread = threading.Thread(target=worker.run)
        thread.start()
        while worker.settler.settled < count:
            time.sleep(0.01)
        worker.stop()
        thread.join()


class TaskqResults(Taskq):
    """taskq with results."""

    ignore_result = False


class Dramatiq(Contender):
    """Dramatiq with its defaults."""

    prefetch = 0

    def __init__(self, url: str) -> None:
        super().__init__(url)
        import os

        if self.prefetch:
            os.environ["dramatiq_queue_prefetch"] = str(self.prefetch)  # noqa: SIM112
        import dramatiq
        from dramatiq.brokers.redis import RedisBroker

        self.broker = RedisBroker(url=url)
        dramatiq.set_broker(self.broker)

        @dramatiq.actor
        def add(x: int, y: int) -> int:
            return x + y

        self.add = add

    def send(self, count: int) -> None:
        for number in range(count):
            self.add.send(number, number)

    def drain(self, count: int) -> None:  # noqa: ARG002 - it drains what there is
        import dramatiq

        worker = dramatiq.Worker(self.broker, worker_threads=THREADS)
        worker.start()
        self.broker.join("default")
        worker.join()
        worker.stop()


class DramatiqPrefetch(Dramatiq):
    """Dramatiq told to take 1000 messages at a time."""

    prefetch = 1000


REDIS: dict[str, type[Contender]] = {
    "bare": Bare,
    "taskq": Taskq,
    "taskq, results": TaskqResults,
    "dramatiq": Dramatiq,
    "dramatiq, prefetch 1000": DramatiqPrefetch,
}
SQLITE: dict[str, type[Contender]] = {
    "bare SQLite": BareSqlite,
    "taskq": Taskq,
    "taskq, results": TaskqResults,
}


def main() -> None:
    """Take one step of one contender."""
    name, step, url, count = sys.argv[1:]
    contender = (REDIS | SQLITE)[name](url)
    cpu, wall = time.process_time(), time.perf_counter()
    getattr(contender, step)(int(count))
    print(json.dumps({"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}))


if __name__ == "__main__":
    main()
