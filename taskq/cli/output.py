"""How things are shown: tables for people, one JSON document for programs.

What comes out of a broker was written by others. It reaches a terminal only
through `escape`, so that it can move no cursor and forge no line.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, TypeVar

import click

from taskq.clock import Seconds, Timestamp
from taskq.errors import ImproperlyConfigured

F = TypeVar("F", bound=Callable[..., Any])

_INVISIBLE: Final = (
    *range(0x20),
    *range(0x7F, 0xA0),
    *range(0x200E, 0x2010),
    *range(0x2028, 0x202F),
    *range(0x2066, 0x206A),
)
"""Control characters, line separators, and what turns the direction of text."""


def _visible(code: int) -> str:
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


_SHORT: Final = {0x09: "\\t", 0x0A: "\\n", 0x0D: "\\r"}
_LINE: Final = {code: _SHORT.get(code) or _visible(code) for code in _INVISIBLE}
_LINES: Final = {code: text for code, text in _LINE.items() if code not in (0x09, 0x0A)}


def escape(text: str, *, lines: bool = False) -> str:
    """Return `text` as one line without control characters; with `lines`, as several."""
    return text.translate(_LINES if lines else _LINE)


class Column(NamedTuple):
    """One column of a table."""

    title: str
    number: bool = False
    whole: bool = False
    """Never broken over lines, because people copy it."""


def json_option(function: F) -> F:
    """Add `--json`, as a flag called `as_json`."""
    decorate = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
    return decorate(function)


def show_json(value: Any) -> None:
    """Print a value as JSON, in ASCII."""
    click.echo(json.dumps(value, indent=2))


def show(text: str) -> None:
    """Print text that may have several lines."""
    click.echo(escape(text, lines=True))


def note(text: str) -> None:
    """Tell a person something, beside what the command prints."""
    click.echo(escape(text, lines=True), err=True)


def complain(text: str) -> None:
    """Say what went wrong: the first line in red."""
    first, _, rest = escape(text, lines=True).partition("\n")
    click.secho(f"error: {first}", fg="red", err=True)
    if rest:
        click.echo(rest, err=True)


def show_table(title: str, columns: Sequence[Column], rows: Sequence[Sequence[object]]) -> None:
    """Print a table: with lines on a terminal, plain where a program reads it."""
    cells = [[escape(str(cell)) for cell in row] for row in rows]
    if sys.stdout.isatty():
        _show_rich(title, columns, cells)
    else:
        _show_plain(title, columns, cells)


def _show_rich(title: str, columns: Sequence[Column], cells: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title, style="bold"), title_justify="left")
    for column in columns:
        table.add_column(
            Text(column.title),
            justify="right" if column.number else "left",
            no_wrap=column.whole or column.number,
            overflow="fold",
        )
    for row in cells:
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)


def _show_plain(title: str, columns: Sequence[Column], cells: Sequence[Sequence[str]]) -> None:
    rows = [[column.title for column in columns], *cells]
    widths = [max(len(row[place]) for row in rows) for place in range(len(columns))]
    click.echo(title)
    for row in rows:
        padded = [
            cell.rjust(width) if column.number else cell.ljust(width)
            for cell, width, column in zip(row, widths, columns, strict=True)
        ]
        click.echo(f"  {'  '.join(padded)}".rstrip())


def duration(length: Seconds) -> str:
    """Return a duration in its two largest units, such as `3 min 20 s`."""
    left = max(0, round(length))
    parts: list[str] = []
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        count, left = divmod(left, size)
        if count or (unit == "s" and not parts):
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])


def instant(moment: Timestamp) -> str:
    """Return an instant in local time, to the second."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment))


def shorten(text: str, limit: int) -> str:
    """Return `text`, cut where it is longer than `limit`."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def confirm(question: str, *, force: bool) -> None:
    """Ask before something is destroyed; return if the answer is yes.

    Raises:
        ImproperlyConfigured: nobody is there to ask, and `force` is not set.
        click.Abort: the answer is no.
    """
    if force:
        return
    if not sys.stdin.isatty():
        raise ImproperlyConfigured(f"{question} Nobody is here to confirm it; pass -f to do it")
    click.confirm(escape(question), abort=True, err=True)
