"""`taskq demo`, as a command."""

from __future__ import annotations

from pathlib import Path

import click

from taskq.cli.output import json_option, show_json
from taskq.cli.session import Session, session_options


@click.command()
@session_options()
@click.option(
    "--folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Files to analyse. Default: Python's standard library.",
)
@click.option("--workers", type=click.IntRange(1, 64), default=2, show_default=True)
@click.option("--concurrency", type=click.IntRange(1, 256), default=4, show_default=True)
@click.option("--kill", is_flag=True, help="Kill a worker half way, and see what becomes of it.")
@click.option("--check", is_flag=True, help="Compare with a plain loop over the same files.")
@json_option
@click.pass_obj
def demo(
    session: Session,
    folder: Path | None,
    workers: int,
    concurrency: int,
    kill: bool,
    check: bool,
    as_json: bool,
) -> None:
    """Analyse a folder of Python files with real workers.

    One task per file, on an SQLite file of its own or on the broker that -b
    names. Everything it makes there is removed afterwards.
    """
    from taskq.cli.demo import report as reports
    from taskq.cli.demo.play import Plan, default_folder, perform

    if kill and workers < 2:
        raise click.UsageError("--kill needs at least two --workers: one has to survive")
    plan = Plan(
        broker_url=session.broker_url,
        folder=(folder or default_folder()).resolve(),
        workers=workers,
        concurrency=concurrency,
        kill=kill,
        check=check,
    )
    report = perform(plan)
    if as_json:
        show_json(reports.document(report))
    else:
        reports.show_report(report, kill_wanted=kill)
    if report.check is False or report.answers != report.tasks:
        click.get_current_context().exit(1)
