from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from taskq.cli.demo.analysis import analyse_folder, source_files, summarise
from taskq.cli.demo.play import demo_url, owns_namespace

from .conftest import Run

FILES = {
    "a.py": "import os, sys\nfrom json import loads\n\n\ndef f():\n    return 1\n",
    "pkg/__init__.py": "",
    "pkg/b.py": (
        "from . import c\nimport os.path\n\n\nclass B:\n"
        "    async def g(self):\n        def h(): ...\n        return h\n"
    ),
    "pkg/broken.py": "def f(:\n",
    "pkg/nul.py": "x = '\0'\n",
    "site-packages/no.py": "x = 1\n",
    "__pycache__/no.py": "x = 1\n",
    "readme.txt": "import this",
}


@pytest.fixture
def sources(folder: Path) -> Path:
    place = folder / "sources"
    for path, text in FILES.items():
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        (place / path).write_text(text)
    return place


def test_a_folder_is_analysed(sources: Path) -> None:
    summary = summarise(analyse_folder(sources))

    assert source_files(sources) == [
        "a.py",
        "pkg/__init__.py",
        "pkg/b.py",
        "pkg/broken.py",
        "pkg/nul.py",
    ]
    assert (summary.files, summary.unparsable) == (5, 2)
    assert (summary.lines, summary.functions, summary.classes) == (16, 3, 1)
    assert summary.imported == (("os", 2), ("json", 1), ("sys", 1))
    assert summary.longest == (("g", "pkg/b.py", 3), ("f", "a.py", 2))


def test_a_server_gets_a_namespace_of_our_own_unless_one_is_named(tmp_path: Path) -> None:
    assert demo_url(None, tmp_path).scheme == "sqlite"
    assert demo_url("redis://host/1", tmp_path).namespace.startswith("demo-")
    assert demo_url("redis://host/1?namespace=mine", tmp_path).namespace == "mine"
    assert not owns_namespace("redis://host/1?namespace=mine")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["-b", "memory://"], "lives in one process"),
        (["--kill", "--workers", "1"], "at least two"),
        (["--workers", "0"], "range"),
        (["--folder", "nowhere"], "does not exist"),
        (["--folder", "."], "no Python files"),
    ],
)
def test_a_demo_that_cannot_be_is_refused(options: list[str], words: str, run: Run) -> None:
    result = run("demo", *options)

    assert result.exit_code == 2
    assert words in result.stderr


def demo(*options: str) -> list[str]:
    return [sys.executable, "-m", "taskq", "demo", *options]


def test_the_demo_comes_to_what_a_loop_comes_to(sources: Path) -> None:
    done = subprocess.run(
        demo("--folder", str(sources), "--check", "--json"),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    report = json.loads(done.stdout)
    assert report["tasks"] == report["answers"] == 5
    assert report["check"] is True
    assert report["summary"]["lines"] == 16


def test_the_demo_prints_tables(sources: Path) -> None:
    done = subprocess.run(
        demo("--folder", str(sources), "--workers", "1"), capture_output=True, text=True, timeout=60
    )

    assert done.returncode == 0
    assert "Longest functions" in done.stdout
    assert "Nothing is missing: 5 tasks, 5 answers." in done.stdout


def test_an_interrupted_demo_ends_its_workers(folder: Path) -> None:
    place = folder / "many"
    place.mkdir()
    source = "def f():\n    return [1, 2, 3]\n" * 2000
    for number in range(400):
        (place / f"m{number}.py").write_text(source)
    url = f"sqlite:///{folder}/tasks.db"
    process = subprocess.Popen(
        demo("--folder", str(place), "-b", url),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        # It is ignored if the tests run in the background.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 20
    while len(members(process.pid)) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)

    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)

    assert process.returncode == 1
    assert members(process.pid) == []


def members(session: int) -> list[int]:
    """Return the processes of a session that are alive."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if os.getsid(int(place.name)) == session and "Z" not in (place / "stat").read_text():
                found.append(int(place.name))
        except OSError:
            continue
    return found
