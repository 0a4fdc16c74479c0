"""The worker's log: one event, one line, no control characters."""

from __future__ import annotations

import logging
from typing import Final

from taskq.cli.output import escape

LEVELS: Final = ("debug", "info", "warning", "error", "critical")
FORMAT: Final = "%(asctime)s.%(msecs)03d %(levelname)-8s %(name)s: %(message)s"
TIME: Final = "%Y-%m-%d %H:%M:%S"


class LineFormatter(logging.Formatter):
    """Writes events so that no text in them can look like another event.

    The message stays on its line; the lines of a traceback are indented.
    """

    def __init__(self) -> None:
        super().__init__(FORMAT, TIME)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        return escape(super().formatMessage(record))

    def formatException(self, ei: object) -> str:  # noqa: N802 - logging's name
        text = super().formatException(ei)  # type: ignore[arg-type]  # as logging declares it
        return _indent(text)

    def formatStack(self, stack_info: str) -> str:  # noqa: N802 - logging's name
        return _indent(super().formatStack(stack_info))


def _indent(text: str) -> str:
    return "\n".join(f"    {line}" for line in escape(text, lines=True).split("\n"))


def configure(level: str) -> None:
    """Send the log of the whole process to stderr, from `level` on."""
    handler = logging.StreamHandler()
    handler.setFormatter(LineFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
