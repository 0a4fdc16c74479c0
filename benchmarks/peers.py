"""Other task queues, each as its own documentation starts it, with results off.

They run in environments of their own (`benchmarks.environments`): this module
and what it imports must not need taskq, nor anything of a peer but the one
that is measured.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import threading
import time
from importlib.metadata import version
from typing import Any

from benchmarks.contender import BATCH, THREADS, Contender


class Dramatiq(Contender):
    """Dramatiq with its defaults."""

    prefetch = 0

    def __init__(self, url: str) -> None:
        super().__init__(url)
        if self.prefetch:
            os.environ["dramatiq_queue_prefetch"] = str(self.prefetch)  # noqa: SIM112
        import dramatiq

        self.broker = self.connect(url)
        dramatiq.set_broker(self.broker)

        @dramatiq.actor
        def add(x: int, y: int) -> None:
            # A value that is returned would be warned of: results are off.
            x + y

        self.add = add

    def connect(self, url: str) -> Any:
        from dramatiq.brokers.redis import RedisBroker

        return RedisBroker(url=url)

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

    def versions(self) -> dict[str, str]:
        return {"dramatiq": version("dramatiq")}


class DramatiqPrefetch(Dramatiq):
    """Dramatiq told to take 1000 messages at a time."""

    prefetch = 1000


class DramatiqRabbitmq(Dramatiq):
    """Dramatiq over RabbitMQ, confirmed."""

    def connect(self, url: str) -> Any:
        from dramatiq.brokers.rabbitmq import RabbitmqBroker

        return RabbitmqBroker(url=url, confirm_delivery=True)


class DramatiqRabbitmqPrefetch(DramatiqRabbitmq):
    """Told to take 1000 messages at a time."""

    prefetch = 1000


class Celery(Contender):
    """Celery over RabbitMQ in threads, confirmed, and acknowledged after the run."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        from celery import Celery as App

        self.ran = itertools.count(1)
        self.done = 0
        self.app = App("bench", broker=url)
        self.app.conf.update(
            broker_transport_options={"confirm_publish": True},
            task_acks_late=True,
            task_ignore_result=True,
            worker_hijack_root_logger=False,
            worker_redirect_stdouts=False,
        )

        @self.app.task(name="add")
        def add(x: int, y: int) -> int:
            self.done = next(self.ran)
            return x + y

        self.add = add

    def send(self, count: int) -> None:
        for number in range(count):
            self.add.delay(number, number)

    def drain(self, count: int) -> None:
        worker = self.app.Worker(pool="threads", concurrency=THREADS, without_gossip=True)
        thread = threading.Thread(target=worker.start, daemon=True)
        thread.start()
        while self.done < count:
            time.sleep(0.01)
        worker.stop()
        thread.join(10)

    def versions(self) -> dict[str, str]:
        return {"celery": version("celery"), "py-amqp": version("amqp")}


class Huey(Contender):
    """Huey on SQLite with a flush per commit. It deletes before it runs: at most once."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        from huey import SqliteHuey

        path = url.removeprefix("sqlite:///")
        self.huey = SqliteHuey("bench", filename=path, fsync=True, results=False)
        self.ran = itertools.count(1)
        self.done = 0

        @self.huey.task()
        def add(x: int, y: int) -> int:
            self.done = next(self.ran)
            return x + y

        self.add = add

    def send(self, count: int) -> None:
        for number in range(count):
            self.add(number, number)

    def drain(self, count: int) -> None:
        consumer = self.huey.create_consumer(workers=THREADS, periodic=False)
        consumer.start()
        while self.done < count:
            time.sleep(0.01)
        consumer.stop(graceful=True)

    def versions(self) -> dict[str, str]:
        return {"huey": version("huey")}


class PgQueuer(Contender):
    """PgQueuer with asyncpg and uvloop, as its command runs it, and coroutines for tasks."""

    batch = 10
    """Its default."""

    def prepare(self) -> None:
        self._run(self._prepare())

    def send(self, count: int) -> None:
        self._run(self._send(count))

    def bulk(self, count: int) -> None:
        self._run(self._bulk(count))

    def drain(self, count: int) -> None:
        self._run(self._drain(count))

    def versions(self) -> dict[str, str]:
        return {"pgqueuer": version("pgqueuer"), "asyncpg": version("asyncpg")}

    @staticmethod
    def _run(work: Any) -> None:
        import uvloop

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(work)

    async def _connect(self) -> Any:
        import asyncpg
        from pgqueuer import AsyncpgDriver

        return AsyncpgDriver(await asyncpg.connect(self.url))

    async def _prepare(self) -> None:
        from pgqueuer import Queries, QueueManager  # noqa: F401 - importing is not measured

        connection = await self._connect()
        if not await connection.fetch("SELECT 1 WHERE to_regclass('pgqueuer') IS NOT NULL"):
            await Queries(connection).install()

    async def _send(self, count: int) -> None:
        from pgqueuer import Queries

        queries = Queries(await self._connect())
        for number in range(count):
            await queries.enqueue("add", json.dumps([number, number]).encode())

    async def _bulk(self, count: int) -> None:
        from pgqueuer import Queries

        queries = Queries(await self._connect())
        for first in range(0, count, BATCH):
            numbers = range(first, min(first + BATCH, count))
            payloads = [json.dumps([number, number]).encode() for number in numbers]
            await queries.enqueue(["add"] * len(payloads), payloads, [0] * len(payloads))

    async def _drain(self, count: int) -> None:
        from pgqueuer import Queries, QueueManager
        from pgqueuer.types import QueueExecutionMode

        manager = QueueManager(Queries(await self._connect()))
        ran = 0

        @manager.entrypoint("add")
        async def add(job: Any) -> None:
            nonlocal ran
            x, y = json.loads(job.payload)
            ran += bool(x + y + 1)

        await manager.run(batch_size=self.batch, mode=QueueExecutionMode.drain)
        assert ran == count, f"{ran} of {count} ran"


class PgQueuer100(PgQueuer):
    """PgQueuer told to take 100 jobs at a time."""

    batch = 100


REQUIREMENTS: dict[str, tuple[str, ...]] = {
    "dramatiq": ("dramatiq[redis,rabbitmq]==2.2.1",),
    "celery": ("celery==5.7.0",),
    "huey": ("huey==3.5.4",),
    "pgqueuer": ("pgqueuer==1.6.0", "asyncpg==0.32.0", "uvloop==0.23.0"),
}
"""What is installed for each peer, by the name of its environment."""
