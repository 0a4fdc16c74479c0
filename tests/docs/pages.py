"""A page of the documentation as a program: its blocks, and how to run them."""

from __future__ import annotations

import doctest
import os
import re
import subprocess
import sys
import time
import types
from dataclasses import dataclass
from pathlib import Path

from taskq import TaskQ

ROOT = Path(__file__).parents[2]
EXECUTED = {"python", "sh", "console"}
APART = {"Try it", "Test it"}
"""Sections of the README that continuous integration runs on a fresh clone."""
REDIS = re.compile(r"redis://localhost(?![\w:/?])")
PATIENCE = 60.0
"""Seconds for one command, or for a background command's output to appear."""

_FENCE = re.compile(
    r"^(?P<fence>```+)(?P<language>[\w{}-]*)[^\n]*\n(?P<text>.*?)^(?P=fence)\s*$",
    re.MULTILINE | re.DOTALL,
)
_NOT_RUN = re.compile(r"<!-- not run:(?P<reason>[^>]*)-->\s*\Z")
_FILE = re.compile(r"\A# file: (?P<name>[\w./-]+)\n")
_HEADING = re.compile(r"^#{1,6} (?P<title>.+)$", re.MULTILINE)
_LOOSE = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    page: str
    line: int
    language: str
    text: str
    section: str
    not_run: str | None
    """Why not, in the author's words; None if nobody said that it is not to run."""

    @property
    def runs(self) -> bool:
        executed = self.language in EXECUTED or _FILE.match(self.text) is not None
        return executed and self.not_run is None and self.section not in APART

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[Path]:
    """Return the README and every page of the documentation."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(path: Path) -> list[Block]:
    """Return the fenced blocks of a page, in order."""
    text = path.read_text()
    found: list[Block] = []
    section, end = "", 0
    for fence in _FENCE.finditer(text):
        before = text[end : fence.start()]
        for heading in _HEADING.finditer(before):
            section = heading["title"]
        reason = _NOT_RUN.search(before)
        end = fence.end()
        found.append(
            Block(
                page=str(path.relative_to(ROOT)),
                line=text.count("\n", 0, fence.start()) + 1,
                language=fence["language"],
                text=fence["text"],
                section=section,
                not_run=None if reason is None else reason["reason"].strip(),
            )
        )
    return found


class Runner:
    """Runs the blocks of one page in one folder and one namespace.

    `redis_url` stands in for `redis://localhost`, so that a page cannot touch
    what a developer keeps there.
    """

    def __init__(self, folder: Path, redis_url: str) -> None:
        self._folder = folder
        self._redis_url = redis_url
        self._module = types.ModuleType("page")
        self._background: list[tuple[str, subprocess.Popen[bytes]]] = []
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        kept = {name: value for name, value in os.environ.items() if not name.startswith("TASKQ_")}
        self._environment = {**kept, "PATH": path, "PYTHONPATH": ""}

    def run(self, block: Block) -> None:
        text = REDIS.sub(self._redis_url, block.text)
        if named := _FILE.match(text):
            place = self._folder / named["name"]
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text)
        elif block.language == "python":
            source = "\n" * block.line + text
            exec(compile(source, block.page, "exec"), vars(self._module))
        elif block.language == "sh":
            self._command(text, expected="", block=block)
        else:
            for command, expected in transcript(text):
                self._command(command, expected, block)

    def _command(self, command: str, expected: str, block: Block) -> None:
        if command.endswith("&"):
            output, code = self._start(command.removesuffix("&").rstrip(), expected)
        else:
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", command],
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=PATIENCE,
            )
            output, code = done.stdout.decode(), done.returncode
        said = f"{block}: $ {command}\n{output}"
        assert code == 0 or "error: " in expected, f"{said}\nexit code {code}"
        right = looks_begun if command.endswith("&") else matches
        assert right(expected, output), f"{said}\n-- does not look like --\n{expected}"

    def _start(self, command: str, expected: str) -> tuple[str, int]:
        """Start a command, and wait until it has printed what is shown of it."""
        log = self._folder / f".background-{len(self._background)}"
        with log.open("wb") as sink:
            process = subprocess.Popen(
                ["bash", "-c", f"exec {command}"],
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
            )
        self._background.append((command, process))
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and process.poll() is None:
            if expected and looks_begun(expected, log.read_text()):
                break
            time.sleep(0.02)
        return log.read_text(), process.poll() or 0

    def close(self) -> list[str]:
        """End what runs in the background; return the complaints."""
        for value in vars(self._module).values():
            if isinstance(value, TaskQ):
                value.close()
        complaints = []
        for command, process in self._background:
            process.terminate()
            try:
                code = process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                code = process.wait()
            if code != 0:
                complaints.append(f"`{command}` ended with exit code {code}")
        return complaints


def transcript(text: str) -> list[tuple[str, str]]:
    """Return the commands of a `console` block, each with the output shown below it."""
    found: list[tuple[str, str]] = []
    for line in text.splitlines():
        if line.startswith("$ "):
            found.append((line[2:].rstrip(), ""))
        elif found and found[-1][0].endswith("\\"):
            found[-1] = (f"{found[-1][0][:-1]}{line.strip()}", "")
        else:
            command, shown = found[-1]
            found[-1] = (command, f"{shown}{line}\n")
    return found


def looks_begun(expected: str, output: str) -> bool:
    """Say whether what goes on printing has printed what was expected first."""
    return matches(expected, output) or matches(f"{expected}...\n", output)


def matches(expected: str, output: str) -> bool:
    """Compare output with what a page shows; nothing shown means that anything goes."""
    if not expected:
        return True
    wanted, got = f"{expected.strip()}\n", f"{output.strip()}\n"
    return doctest.OutputChecker().check_output(wanted, got, _LOOSE)
