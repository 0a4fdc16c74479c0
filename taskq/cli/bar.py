"""The bar that shows how far `taskq broker check` is."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task
from rich.progress import TimeElapsedColumn as Elapsed
from rich.text import Text

from taskq.testing.record import Ledger


class _State(ProgressColumn):
    """What moves where the bar cannot: the checks so far, and what was found."""

    def render(self, task: Task) -> Text:
        ledger: Ledger = task.fields["ledger"]
        words = task.description
        if ledger.broken:
            words = f"{ledger.broken} is broken; looking for the shortest way"
        # The counts grow meanwhile, in another thread: take them at once.
        checks = task.fields["before"] + sum([*ledger.counts.values()])
        return Text(f"{checks:,} checks  {words}", no_wrap=True, overflow="ellipsis")


class Bar:
    """A bar on stderr with a part's name and the checks so far; nothing where that is no terminal.

    A context manager.
    """

    def __init__(self, total: int) -> None:
        console = Console(stderr=True)
        self._bars = Progress(
            BarColumn(),
            MofNCompleteColumn(),
            Elapsed(),
            _State(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bars.add_task("", total=total, ledger=Ledger(""), before=0)

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

    def begin(self, part: str, ledger: Ledger) -> None:
        """Show which part runs; its ledger is looked at again and again."""
        words = part.removeprefix("test_").replace("_", " ")
        self._bars.update(self._task, description=words, ledger=ledger)

    def end(self) -> None:
        """Show that the part is through."""
        fields = self._bars.tasks[self._task].fields
        before = fields["before"] + fields["ledger"].counts.total()
        self._bars.update(self._task, advance=1, before=before, ledger=Ledger(""))
