"""taskq with its defaults."""

from __future__ import annotations

import platform
import threading
import time

from benchmarks.contender import BATCH, THREADS, Contender


class Taskq(Contender):
    """Results off."""

    ignore_result = True

    def __init__(self, url: str) -> None:
        super().__init__(url)
        from taskq import TaskQ

        self.app = TaskQ("bench", broker=url, task_ignore_result=self.ignore_result)

        @self.app.task(name="add")
        def add(x: int, y: int) -> int:
            return x + y

        self.add = add

    def prepare(self) -> None:
        import taskq.worker.worker  # noqa: F401 - importing is not what is measured

        if self.url.startswith(("postgresql:", "mariadb:")):
            from taskq.url import Url
            from taskq_sql import schema
            from taskq_sql.dialects.choice import dialect_of

            schema.make(dialect_of(Url.parse(self.url)))
        self.app.broker.check()

    def send(self, count: int) -> None:
        for number in range(count):
            self.add.delay(number, number)

    def bulk(self, count: int) -> None:
        for first in range(0, count, BATCH):
            last = min(first + BATCH, count)
            self.app.bulk([self.add.s(number, number) for number in range(first, last)])

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

    def versions(self) -> dict[str, str]:
        return {"Python": platform.python_version()}


class TaskqResults(Taskq):
    """Results on."""

    ignore_result = False
