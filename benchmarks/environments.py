"""Environments of the peers' own, so that what they require does not meet what taskq requires."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from benchmarks.peers import REQUIREMENTS


def python_of(name: str) -> str:
    """Return the interpreter of a peer's environment; it is made if it is missing.

    It lies in the folder for temporary files and is found again by its requirements.
    """
    wanted = " ".join((sys.version, *REQUIREMENTS[name]))
    digest = hashlib.sha256(wanted.encode()).hexdigest()[:12]
    place = Path(tempfile.gettempdir()) / f"taskq-benchmarks-{name}-{digest}"
    python, finished = place / "bin" / "python", place / "finished"
    if not finished.exists():
        venv.create(place, clear=True, with_pip=True)
        command = [str(python), "-m", "pip", "install", "--quiet", *REQUIREMENTS[name]]
        subprocess.run(command, check=True)
        finished.touch()
    return str(python)
