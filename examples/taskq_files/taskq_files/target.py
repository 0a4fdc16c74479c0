"""How the conformance kit breaks and empties a folder.

Without flushing, which is for power cuts and no law's business, and with a journal
that is rewritten all the time, which else would never happen in a short test.
"""

from __future__ import annotations

import errno
import shutil
from io import FileIO
from typing import Final

from taskq.contract.broker import Broker
from taskq.contract.results import Results
from taskq.plugins import Plugins
from taskq.testing.faults import Fault, Trigger
from taskq.testing.target import UrlTarget
from taskq.url import Url
from taskq_files.broker import FilesBroker
from taskq_files.journal import Journal
from taskq_files.options import Options
from taskq_files.results import FilesResults
from taskq_files.store import Store

FIXED: Final = {"journal", "lock"}
"""The files that stay; the README names them."""


class FilesTarget(UrlTarget):
    """A folder that the kit may fill, break and wipe."""

    processes = True
    """Other processes reach it by its URL."""

    def __init__(self, url: str | Url, plugins: Plugins | None = None) -> None:
        super().__init__(url, plugins)
        self.url = self.url.replace(query={"fsync": "0", "waste": "4000", **self.url.query})

    @property
    def faults(self) -> frozenset[Fault]:
        return frozenset(Fault)

    def new_broker(self, url: Url) -> Broker:
        if not self.breakable:
            return super().new_broker(url)
        trigger = Trigger()
        broker = FilesBroker(Store(FailingJournal(Options.of(url), trigger), self.clock))
        self.may_break(broker, trigger)
        return broker

    def new_results(self, url: Url) -> Results:
        if not self.breakable:
            return super().new_results(url)
        trigger = Trigger()
        results = FilesResults(Store(FailingJournal(Options.of(url), trigger), self.clock))
        self.may_break(results, trigger)
        return results

    def unreachable(self) -> Broker:
        """Open a client of a folder that nobody can make, since a file is in its place."""
        return self.new_broker(self.url.replace(path="/dev/null"))

    def footprint(self) -> list[str]:
        store = Store(Journal(Options.of(self.url)), self.clock)
        with store.step(lambda: None) as namespace:
            rows = [*namespace.messages, *namespace.results, *namespace.workers]
        return [*rows, *(file.name for file in store.folder.iterdir() if file.name not in FIXED)]

    def wipe(self) -> None:
        shutil.rmtree(Options.of(self.url).folder, ignore_errors=True)


class FailingJournal(Journal):
    """A journal on a disk that fails when the trigger says so; a step is one exchange.

    BEFORE: it cannot be read. AFTER: what is written cannot be flushed. MIDDLE: the
    same, and half of it has not even been written.
    """

    def __init__(self, options: Options, trigger: Trigger) -> None:
        super().__init__(options)
        self._trigger = trigger
        self._fault: Fault | None = None

    def read(self) -> tuple[bool, list[bytes]]:
        self._fault = self._trigger.pull()
        self._fail(Fault.BEFORE)
        return super().read()

    def _write(self, file: FileIO, data: bytes) -> None:
        half = len(data) // 2
        super()._write(file, data[:half] if self._fault is Fault.MIDDLE else data)

    def _flush(self, descriptor: int) -> None:
        super()._flush(descriptor)
        self._fail(Fault.MIDDLE, Fault.AFTER)

    def _fail(self, *faults: Fault) -> None:
        if self._fault in faults:
            self._fault = None
            raise OSError(errno.EIO, "the disk fails, since the kit has asked it to")
