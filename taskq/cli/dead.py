"""`taskq dead`: looking at tasks that were given up, and bringing them back."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import click

from taskq.cli import letters
from taskq.cli.output import (
    Column,
    confirm,
    instant,
    json_option,
    note,
    shorten,
    show,
    show_json,
    show_table,
)
from taskq.cli.session import Session, queues_option, session_options
from taskq.contract.delivery import DeadLetter

COLUMNS: Final = (
    Column("id", whole=True),
    Column("queue"),
    Column("task"),
    Column("code"),
    Column("died"),
    Column("retries", number=True),
    Column("losses", number=True),
    Column("detail"),
)
DETAIL_LIMIT: Final = 80
BATCH: Final = 500


@click.group()
@session_options()
def dead() -> None:
    """Look at tasks that were given up."""


@dead.command("list")
@session_options()
@queues_option("Only these queues.")
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True)
@json_option
@click.pass_obj
def list_letters(session: Session, queues: tuple[str, ...], limit: int, as_json: bool) -> None:
    """List dead letters, oldest first in each queue."""
    broker = session.client().broker
    found = list(itertools.islice(letters.dead_letters(broker, queues), limit))
    if as_json:
        show_json([letters.summary(letter) for letter in found])
    elif found:
        show_table("Dead letters", COLUMNS, [_row(letter) for letter in found])
    else:
        note("there are no dead letters")


def _row(letter: DeadLetter) -> list[object]:
    return [
        letter.message.id,
        letter.message.queue,
        letters.task_of(letter) or "?",
        letter.code,
        instant(letter.died),
        letter.retries,
        letter.losses,
        shorten(letter.detail, DETAIL_LIMIT),
    ]


@dead.command("show")
@session_options()
@click.argument("id")
@json_option
@click.pass_obj
def show_letter(session: Session, id: str, as_json: bool) -> None:
    """Show one dead letter with its arguments."""
    app = session.client()
    letter = letters.find_letters(app.broker, (), [id])[id]
    if as_json:
        show_json(letters.document(letter, app.codecs))
    else:
        show(letters.describe(letter, app.codecs))


@dead.command("requeue")
@session_options()
@click.argument("ids", nargs=-1)
@click.option("--all", "every", is_flag=True, help="All there are, instead of IDS.")
@queues_option("Only these queues.")
@click.option("--code", help="With --all: only letters with this code, such as failed.")
@json_option
@click.pass_obj
def requeue_letters(
    session: Session,
    ids: tuple[str, ...],
    every: bool,
    queues: tuple[str, ...],
    code: str | None,
    as_json: bool,
) -> None:
    """Make dead letters ready to run again, as if new."""
    _check_choice(ids, every)
    if code is not None and not every:
        raise click.UsageError("--code goes with --all")
    broker = session.client().broker
    found: Iterable[DeadLetter] = (
        letters.dead_letters(broker, queues)
        if every
        else letters.find_letters(broker, queues, ids).values()
    )
    chosen = _by_queue(letter for letter in found if code in (None, letter.code))
    counts = _in_batches(broker.requeue_dead, chosen)
    _report("requeued", counts, as_json)


@dead.command("purge")
@session_options()
@click.argument("ids", nargs=-1)
@click.option("--all", "every", is_flag=True, help="All there are, instead of IDS.")
@queues_option("Only these queues.")
@click.option("-f", "--force", is_flag=True, help="Do not ask.")
@json_option
@click.pass_obj
def purge_letters(
    session: Session,
    ids: tuple[str, ...],
    every: bool,
    queues: tuple[str, ...],
    force: bool,
    as_json: bool,
) -> None:
    """Drop dead letters for good."""
    _check_choice(ids, every)
    app = session.client()
    counts: dict[str, int] = {}
    if every:
        wanted = {s.queue: s.dead for s in app.broker.stats() if s.dead}
        wanted = {queue: wanted[queue] for queue in wanted if not queues or queue in queues}
    else:
        chosen = _by_queue(letters.find_letters(app.broker, queues, ids).values())
        wanted = {queue: len(names) for queue, names in chosen.items()}
    if wanted:
        _ask(wanted, str(app.broker_url), force=force)
        if every:
            counts = {queue: app.broker.purge_dead(queue) for queue in wanted}
        else:
            counts = _in_batches(app.broker.purge_dead, chosen)
    _report("purged", counts, as_json)


def _check_choice(ids: Sequence[str], every: bool) -> None:
    if bool(ids) == every:
        raise click.UsageError("name the ids of dead letters, or pass --all")


def _ask(counts: dict[str, int], where: str, *, force: bool) -> None:
    shown = ", ".join(f"{queue}: {count}" for queue, count in counts.items())
    confirm(f"Drop {sum(counts.values())} dead letters ({shown}) from {where}?", force=force)


def _by_queue(found: Iterable[DeadLetter]) -> dict[str, list[str]]:
    """Gather ids before anything is changed, so that pages do not shift under the reader."""
    chosen: dict[str, list[str]] = {}
    for letter in found:
        chosen.setdefault(letter.message.queue, []).append(letter.message.id)
    return chosen


def _in_batches(
    change: Callable[[str, Sequence[str]], int], chosen: dict[str, list[str]]
) -> dict[str, int]:
    return {
        queue: sum(change(queue, ids[start : start + BATCH]) for start in range(0, len(ids), BATCH))
        for queue, ids in chosen.items()
    }


def _report(done: str, counts: dict[str, int], as_json: bool) -> None:
    document: dict[str, Any] = {done: counts}
    if as_json:
        show_json(document)
    elif counts:
        show("\n".join(f"{queue}: {count} {done}" for queue, count in counts.items()))
    else:
        note(f"nothing was {done}: there are no such dead letters")
