"""`taskq status`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click
import msgspec

from taskq.cli.output import Column, duration, json_option, note, show_json, show_table
from taskq.cli.session import Session, session_options

if TYPE_CHECKING:
    from taskq.clock import Timestamp
    from taskq.contract.delivery import Heartbeat, QueueStats

WORKERS: Final = (
    Column("worker", whole=True),
    Column("host"),
    Column("pid", number=True),
    Column("pool"),
    Column("running", number=True),
    Column("done", number=True),
    Column("up for", number=True),
    Column("queues"),
)
QUEUES: Final = (
    Column("queue", whole=True),
    Column("ready", number=True),
    Column("scheduled", number=True),
    Column("processing", number=True),
    Column("dead", number=True),
    Column("oldest ready", number=True),
)


@click.command()
@session_options()
@json_option
@click.pass_obj
def status(session: Session, as_json: bool) -> None:
    """Show the workers that are alive, and what is in the queues."""
    app = session.client()
    workers = app.broker.list_alive_workers()
    queues = app.broker.stats()
    if as_json:
        show_json(msgspec.to_builtins({"workers": workers, "queues": queues}))
        return
    if workers:
        now = app.clock.now()
        show_table("Workers", WORKERS, [_worker(worker, now) for worker in workers])
    else:
        note("no worker is alive")
    if queues:
        show_table("Queues", QUEUES, [_queue(queue) for queue in queues])
    else:
        note("no queue holds anything")


def _worker(beat: Heartbeat, now: Timestamp) -> list[object]:
    return [
        beat.worker,
        beat.host,
        beat.pid,
        beat.pool,
        f"{beat.running}/{beat.concurrency}",
        beat.done,
        duration(now - beat.started),
        ", ".join(beat.queues),
    ]


def _queue(stats: QueueStats) -> list[object]:
    oldest = "" if stats.oldest_ready is None else duration(stats.oldest_ready)
    return [stats.queue, stats.ready, stats.scheduled, stats.processing, stats.dead, oldest]
