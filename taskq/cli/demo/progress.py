"""The bar that shows how far the demo is."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars


class Progress:
    """A bar on stderr with rate and time left; says nothing where that is no terminal."""

    def __init__(self, total: int) -> None:
        console = Console(stderr=True)
        self._bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._sent = self._bars.add_task("sending tasks", total=total, rate="")
        self._done = self._bars.add_task("answers", total=total, start=False, rate="")

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bars.stop()

    def sent(self, count: int) -> None:
        """Show how many tasks were sent."""
        self._bars.update(self._sent, completed=count)

    def answered(self, count: int) -> None:
        """Show how many answers have come."""
        if count:
            self._bars.start_task(self._done)
        task = self._bars.tasks[self._done]
        rate = f"{task.speed:,.0f}/s" if task.speed else ""
        self._bars.update(self._done, completed=count, rate=rate)

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        self._bars.console.print(text, markup=False, highlight=False)
