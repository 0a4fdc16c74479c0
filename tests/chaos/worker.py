"""The program of a worker under test: `python -m tests.chaos.worker JSON`."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Any

import msgspec

from taskq.plugins import Plugins
from taskq.worker.options import worker_options
from taskq.worker.worker import Exit, Worker
from tests.chaos.faults import FaultyPlugins
from tests.chaos.ledger import Ledger
from tests.chaos.shop import make_app


class Setup(msgspec.Struct):
    """What a worker is told by the harness."""

    url: str
    ledger: str
    folder: str
    options: dict[str, Any] = {}
    settings: dict[str, Any] = {}
    fault: str | None = None


def main(text: str) -> None:
    """Run a worker until it ends, and end the process with its exit code."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    setup = msgspec.json.decode(text, type=Setup)
    plugins = FaultyPlugins(setup.fault, Path(setup.folder)) if setup.fault else Plugins()
    app = make_app(setup.url, Ledger(Path(setup.ledger)), plugins=plugins, **setup.settings)
    code = Worker(app, worker_options(setup.options)).run()
    if code == Exit.COLD:
        # Unfinished tasks still run in threads of this process.
        logging.shutdown()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    main(sys.argv[1])
