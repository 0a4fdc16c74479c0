"""Says where a run stands still: a call that does not return ends no part of the kit.

Nothing is killed, since a slow machine may be all there is to it. Whoever
waits learns which part it is and where its threads are, and presses Ctrl-C.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from taskq.clock import Seconds
from taskq.testing.record import Ledger

PATIENCE: Final[Seconds] = 60.0
"""Real time without a check, after which a part is taken to stand still."""
STDERR: Final = 2


@contextlib.contextmanager
def watched(
    part: str,
    laws: Sequence[str],
    ledger: Callable[[], Ledger | None],
    *,
    patience: Seconds | None = None,
    to: int = STDERR,
) -> Iterator[None]:
    """Watch a part of the kit while the block lasts; tell once if it stands still.

    It does when it has not ended and `patience` seconds of real time went by
    without a check in the ledger, which is asked for each time, since it may
    be made late. What there is to tell goes to the file descriptor `to`. The
    thread that watches ends with the block.
    """
    ended = threading.Event()
    arguments = (
        ended,
        f"{part} ({', '.join(laws) or 'all laws'})",
        ledger,
        PATIENCE if patience is None else patience,
        to,
    )
    thread = threading.Thread(target=_watch, args=arguments, name="taskq-watchdog", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _watch(
    ended: threading.Event,
    part: str,
    ledger: Callable[[], Ledger | None],
    patience: Seconds,
    to: int,
) -> None:
    checks = -1
    while checks != (checks := _checks(ledger())):
        if ended.wait(patience):
            return
    words = (
        f"\ntaskq: {part} stands still: {patience:g} s without an end or a check. "
        "Its threads are here (Ctrl-C ends the run):\n"
    )
    # Whoever reads may be gone; the part is not to suffer from it.
    with contextlib.suppress(OSError, ValueError):
        os.write(to, words.encode())
        faulthandler.dump_traceback(to)


def _checks(ledger: Ledger | None) -> int:
    # The counts grow meanwhile, in another thread: take them at once.
    return sum([*ledger.counts.values()]) if ledger else 0
