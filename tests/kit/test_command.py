"""The kit as an operator runs it: no pytest, everything, once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from taskq.contract.laws import LAWS
from taskq.testing import runner
from taskq.testing.report import read_report

WITHOUT_PYTEST = """
import sys
blocked = {"pytest", "_pytest"}
assert not blocked & sys.modules.keys()
sys.modules.update(dict.fromkeys(blocked))  # as if they were not installed
from taskq.cli.main import main
sys.argv[0] = "taskq"
main()
"""


def test_a_right_backend_passes_whole_without_pytest(tmp_path: Path) -> None:
    place = tmp_path / "made" / "report.json"

    done = subprocess.run(
        [
            *(sys.executable, "-c", WITHOUT_PYTEST),
            *("broker", "check", "memory://", "--profile", "smoke", "--report", str(place)),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "Every law holds." in done.stdout
    assert "Laws on memory://" in done.stdout
    report = read_report(place.read_bytes())
    (backend,) = report.backends
    assert report.passed
    assert {part.part for part in backend.parts} == {
        part.name for part in (*runner.BROKER_PARTS, *runner.STORE_PARTS)
    }
    assert {finding.law for finding in backend.laws if finding.verdict == "holds"} == set(LAWS)
    assert [path.name for path in tmp_path.iterdir()] == ["made"]
