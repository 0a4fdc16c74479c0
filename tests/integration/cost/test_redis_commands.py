"""What a task costs the Redis server, by its own count of commands.

Counted in a drain of no-op tasks that wait already, commands inside scripts
included. A bare worker needs 0.1. Commands, unlike microseconds, do not depend
on the machine.
"""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from taskq import TaskQ
from taskq.worker.options import worker_options
from taskq.worker.worker import Worker
from tests.servers import RedisServer
from tests.waiting import until

TASKS = 5_000
BATCH = 500


def commands(server: RedisServer) -> int:
    with server.admin() as client:
        stats = client.info("commandstats")
    own = {"cmdstat_info", "cmdstat_client|setinfo", "cmdstat_ping", "cmdstat_hello"}
    return sum(int(line["calls"]) for name, line in stats.items() if name not in own)


def drain(app: TaskQ) -> None:
    worker = Worker(app, worker_options({}))
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        until(lambda: worker.settler.settled == TASKS, "every task is concluded")
    finally:
        worker.stop()
        thread.join()


@pytest.mark.parametrize(
    ("ignore_result", "limit"), [(True, 0.5), (False, 1.6)], ids=["without results", "with results"]
)
def test_a_drained_task_costs_few_redis_commands(
    tmp_path: Path, ignore_result: bool, limit: float, record_property: pytest.RecordProperty
) -> None:
    with RedisServer(tmp_path / "redis") as server:
        app = TaskQ("cost", broker=server.url, task_ignore_result=ignore_result)

        @app.task(name="nothing")
        def nothing() -> None:
            pass

        for _ in range(TASKS // BATCH):
            app.bulk([nothing.s() for _ in range(BATCH)])
        before = commands(server)
        drain(app)
        each = (commands(server) - before) / TASKS

    record_property("commands per task", each)
    print(f"\n{each:.3f} Redis commands per task (limit {limit})")
    assert each <= limit
