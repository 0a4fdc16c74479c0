"""What is in a Python file, and in a folder of them. Knows nothing of tasks."""

from __future__ import annotations

import ast
import collections
import os
import threading
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

SKIPPED: Final = frozenset({"site-packages", "dist-packages", "__pycache__"})
TOP: Final = 10
"""How many rows the tables of a summary have."""

_PARSING: Final = threading.Lock()
"""CPython 3.11 counts the depth of a tree for all threads together, and raises
SystemError if two of them parse at once. The GIL lets only one work at a time
anyway."""
_FUNCTIONS: Final = (ast.FunctionDef, ast.AsyncFunctionDef)


class FileReport(msgspec.Struct, frozen=True):
    """One file. One that cannot be parsed has lines, and nothing else."""

    path: str
    lines: int
    parsed: bool = True
    functions: int = 0
    classes: int = 0
    imports: tuple[str, ...] = ()
    """Top-level modules it imports by absolute names, sorted."""
    longest: str = ""
    """Its longest function."""
    longest_lines: int = 0


class Summary(msgspec.Struct, frozen=True):
    """A folder. The tables hold their largest rows; equal ones by name."""

    files: int
    unparsable: int
    lines: int
    functions: int
    classes: int
    largest: tuple[tuple[str, int], ...]
    """Path and lines."""
    imported: tuple[tuple[str, int], ...]
    """Module and in how many files it is imported."""
    longest: tuple[tuple[str, str, int], ...]
    """Function, path and lines."""


def source_files(folder: Path) -> list[str]:
    """Return the paths of all Python files below a folder, relative to it, sorted."""
    found: list[str] = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in SKIPPED]
        found += [
            (Path(place) / name).relative_to(folder).as_posix()
            for name in names
            if name.endswith(".py")
        ]
    return sorted(found)


def analyse_file(folder: Path, path: str) -> FileReport:
    """Return what is in one file."""
    source = (folder / path).read_bytes()
    lines = len(source.splitlines())
    try:
        with _PARSING:
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return FileReport(path, lines, parsed=False)
    nodes = list(ast.walk(tree))
    functions = [node for node in nodes if isinstance(node, _FUNCTIONS)]
    longest = max(functions, key=lambda node: (_length(node), node.name), default=None)
    return FileReport(
        path,
        lines,
        functions=len(functions),
        classes=sum(isinstance(node, ast.ClassDef) for node in nodes),
        imports=tuple(sorted(_imports(nodes))),
        longest="" if longest is None else longest.name,
        longest_lines=0 if longest is None else _length(longest),
    )


def analyse_folder(folder: Path) -> list[FileReport]:
    """Return what is in each file of a folder, one after the other, without tasks."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [analyse_file(folder, path) for path in source_files(folder)]


def summarise(reports: Iterable[FileReport]) -> Summary:
    """Put reports together; their order does not matter."""
    files = list(reports)
    imports = collections.Counter(name for file in files for name in file.imports)
    return Summary(
        files=len(files),
        unparsable=sum(not file.parsed for file in files),
        lines=sum(file.lines for file in files),
        functions=sum(file.functions for file in files),
        classes=sum(file.classes for file in files),
        largest=_top((file.path, file.lines) for file in files),
        imported=_top(imports.items()),
        longest=_longest(files),
    )


def _length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def _imports(nodes: Iterable[ast.AST]) -> set[str]:
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.partition(".")[0])
    return found


def _top(rows: Iterable[tuple[str, int]]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(rows, key=lambda row: (-row[1], row[0]))[:TOP])


def _longest(files: Iterable[FileReport]) -> tuple[tuple[str, str, int], ...]:
    rows = [(file.longest, file.path, file.longest_lines) for file in files if file.longest]
    return tuple(sorted(rows, key=lambda row: (-row[2], row[1]))[:TOP])
