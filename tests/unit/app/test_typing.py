"""Type checkers see a task's parameters and its result."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CASES = Path(__file__).with_name("typing_cases.py")
ROOT = CASES.parents[3]
EXPECTED = {
    number
    for number, line in enumerate(CASES.read_text().splitlines(), 1)
    if line.endswith("  # error")
}


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=90
    )


def test_mypy_sees_every_mistake_and_no_other(tmp_path: Path) -> None:
    pytest.importorskip("mypy")

    done = run(
        sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--output=json",
        f"--cache-dir={os.environ.get('MYPY_CACHE_DIR', ROOT / '.mypy_cache')}", str(CASES),
    )  # fmt: skip

    found = [json.loads(line) for line in done.stdout.splitlines()]
    errors = {entry["line"] for entry in found if entry["severity"] == "error"}
    assert errors == EXPECTED, done.stdout + done.stderr


def test_pyright_sees_every_mistake_and_no_other() -> None:
    beside = Path(sys.executable).with_name("pyright")
    pyright = str(beside) if beside.exists() else shutil.which("pyright")
    if pyright is None:
        pytest.skip("pyright is not installed")

    done = run(pyright, "--pythonpath", sys.executable, "--outputjson", str(CASES))
    if not done.stdout.startswith("{") and not os.environ.get("CI"):
        pytest.skip(f"pyright does not run here: {done.stderr.strip()[-200:]}")

    found = json.loads(done.stdout)["generalDiagnostics"]
    errors = {e["range"]["start"]["line"] + 1 for e in found if e["severity"] == "error"}
    assert errors == EXPECTED, json.dumps(found, indent=1)
