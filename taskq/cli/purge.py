"""`taskq purge`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from taskq.cli.output import confirm, json_option, note, show, show_json
from taskq.cli.session import Session, queues_option, session_options
from taskq.contract.delivery import WAITING, State

if TYPE_CHECKING:
    from taskq.contract.broker import Broker


@click.command()
@session_options()
@queues_option("Only these queues; all if left out.")
@click.option("--scheduled-only", is_flag=True, help="Only messages that wait for their time.")
@click.option("--ready-only", is_flag=True, help="Only messages that could start now.")
@click.option("-f", "--force", is_flag=True, help="Do not ask.")
@json_option
@click.pass_obj
def purge(
    session: Session,
    queues: tuple[str, ...],
    scheduled_only: bool,
    ready_only: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Drop the messages that wait. What runs and what is dead stays.

    Dropped tasks are gone for good: nothing runs them and nothing brings them back.
    """
    if scheduled_only and ready_only:
        raise click.UsageError("give --scheduled-only or --ready-only, not both")
    states = WAITING
    if scheduled_only or ready_only:
        states = frozenset({State.SCHEDULED if scheduled_only else State.READY})
    app = session.client()
    waiting = _waiting(app.broker, queues, states)
    total = sum(waiting.values())
    if total:
        counts = ", ".join(f"{queue}: {count}" for queue, count in waiting.items())
        confirm(f"Drop {total} messages ({counts}) from {app.broker_url}?", force=force)
    dropped = {queue: app.broker.purge(queue, states=states) for queue in waiting}
    if as_json:
        show_json({"purged": dropped})
    elif dropped:
        show("\n".join(f"{queue}: {count} dropped" for queue, count in dropped.items()))
    else:
        note("nothing waits")


def _waiting(broker: Broker, queues: tuple[str, ...], states: frozenset[State]) -> dict[str, int]:
    """Count what would be dropped of each queue that has any."""
    found: dict[str, int] = {}
    for stats in broker.stats():
        counts = {State.SCHEDULED: stats.scheduled, State.READY: stats.ready}
        count = sum(counts[state] for state in states)
        if count and (not queues or stats.queue in queues):
            found[stats.queue] = count
    return found
