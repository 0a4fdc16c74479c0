from __future__ import annotations

import logging
import sys

import pytest

from taskq.cli.logs import LineFormatter
from taskq.cli.output import Column, duration, escape, show_table


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text, ümlaut", "plain text, ümlaut"),
        ("a\r\nb\tc", "a\\r\\nb\\tc"),
        ("\x1b[31mred\x9b0m\x7f", "\\x1b[31mred\\x9b0m\\x7f"),
        ("a\u2028b\u202ec\u2066d", "a\\u2028b\\u202ec\\u2066d"),
        ("nul\x00", "nul\\x00"),
    ],
)
def test_control_characters_are_shown_not_obeyed(text: str, shown: str) -> None:
    assert escape(text) == shown


def test_lines_stay_lines_where_asked() -> None:
    assert escape("a\n\tb\r\x1b", lines=True) == "a\n\tb\\r\\x1b"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3, "0 s"),
        (0.4, "0 s"),
        (59, "59 s"),
        (200, "3 min 20 s"),
        (3600, "1 h"),
        (90061, "1 d 1 h"),
    ],
)
def test_durations_have_two_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def record(message: str) -> logging.LogRecord:
    return logging.LogRecord("taskq.x", logging.INFO, __file__, 1, message, None, None)


def test_an_event_is_one_line() -> None:
    line = LineFormatter().format(record("a\n2026-01-01 INFO forged \x1b[2J"))

    assert "\n" not in line
    assert "\x1b" not in line
    assert line.endswith("INFO     taskq.x: a\\n2026-01-01 INFO forged \\x1b[2J")


def test_a_traceback_is_indented_and_escaped() -> None:
    event = record("failed")
    try:
        raise ValueError("x\n2026-01-01 forged \x1b[2J")
    except ValueError:
        event.exc_info = sys.exc_info()

    first, *rest = LineFormatter().format(event).split("\n")

    assert first.endswith("failed")
    assert rest
    assert all(line.startswith("    ") for line in rest)
    assert "\x1b" not in "".join(rest)


def test_a_table_in_a_pipe_cuts_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    long = "x" * 300

    show_table(
        "Things", (Column("id", whole=True), Column("n", number=True)), [(long, 7), ("y", 12)]
    )

    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Things"
    assert lines[2] == f"  {long}   7"
    assert lines[3].endswith(" 12")


def test_a_table_on_a_terminal_takes_no_markup(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    id = "01a1fdc6-bc0c-739a-b868-921d72f24239"

    show_table("Things", (Column("id", whole=True), Column("detail")), [(id, "[red]x[/red] " * 20)])

    out = capsys.readouterr().out
    assert id in out
    assert "[red]" in out
