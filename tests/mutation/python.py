"""Changes of Python code, and which functions of a package a few others reach."""

from __future__ import annotations

import ast
import re
from collections import deque
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, TypeAlias

from tests.mutation.mutant import DELETED, Change, flat, line_at

Node: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef

FLIPS: Final[dict[str, str]] = {
    "<": "<=",
    "<=": "<",
    ">": ">=",
    ">=": ">",
    "==": "!=",
    "!=": "==",
    "in": "not in",
    "not in": "in",
    "is": "is not",
    "is not": "is",
}
_OPERATOR: Final = re.compile(r"not\s+in\b|is\s+not\b|<=|>=|==|!=|<|>|\bin\b|\bis\b")


@dataclass(frozen=True, slots=True)
class Function:
    """A function of a module, or a method of one of its classes."""

    file: str
    name: str
    """With its class: `SqlBroker.send`."""
    node: Node

    @property
    def last_name(self) -> str:
        return self.name.rpartition(".")[2]


def functions_of(file: str, source: str) -> list[Function]:
    """Return the functions and methods of a module; those inside of others belong to them."""
    found: list[Function] = []

    def look(nodes: list[ast.stmt], prefix: str) -> None:
        for node in nodes:
            if isinstance(node, Node):
                found.append(Function(file, prefix + node.name, node))
            elif isinstance(node, ast.ClassDef):
                look(node.body, f"{prefix}{node.name}.")

    look(ast.parse(source).body, "")
    return found


def reach(functions: Collection[Function], roots: Collection[str]) -> list[Function]:
    """Return the functions called `roots`, and all that those mention, and so on.

    A name stands for every function that has it, whichever object it is looked
    up on, and a class for its constructor: too much rather than too little.

    Raises:
        LookupError: a root does not exist.
    """
    by_name: dict[str, list[Function]] = {}
    for function in functions:
        name = function.last_name
        owner = function.name.split(".")[-2] if name == "__init__" else name
        by_name.setdefault(owner, []).append(function)
    reached: dict[tuple[str, str], Function] = {}
    waiting = deque(function for function in functions if function.name in roots)
    missing = set(roots) - {function.name for function in waiting}
    if missing:
        raise LookupError(f"there are no functions {', '.join(sorted(missing))}")
    while waiting:
        function = waiting.popleft()
        if (function.file, function.name) not in reached:
            reached[function.file, function.name] = function
            for name in mentioned(function.node):
                waiting.extend(by_name.get(name, ()))
    return [function for function in functions if (function.file, function.name) in reached]


def mentioned(node: Node) -> set[str]:
    """Return the names that a function looks up: attributes, and what is not its own variable."""
    own = {one.arg for one in ast.walk(node) if isinstance(one, ast.arg)}
    names = [one for one in ast.walk(node) if isinstance(one, ast.Name)]
    own |= {name.id for name in names if isinstance(name.ctx, ast.Store)}
    attributes = {one.attr for one in ast.walk(node) if isinstance(one, ast.Attribute)}
    return attributes | ({name.id for name in names} - own)


def python_changes(source: str, functions: Mapping[str, Node]) -> Iterator[Change]:
    """Yield the changes of these functions, which are parts of the source, by name."""
    text = _Text(source)
    for name, node in functions.items():
        yield from _changes(text, name, node)


def _changes(text: _Text, name: str, function: Node) -> Iterator[Change]:
    for statement in _statements(function):
        start, end = text.extent(statement)
        replacement = "pass"
        if text.source.startswith("elif", start):
            replacement = "else: pass"
        original = flat(text.source[start:end])
        yield Change(start, end, replacement, name, original, DELETED)
    for node in ast.walk(function):
        if isinstance(node, ast.Compare):
            yield from _flips(text, name, node)


def _statements(function: Node) -> Iterator[ast.stmt]:
    for node in ast.walk(function):
        if isinstance(node, ast.stmt) and node is not function and _does_something(node):
            yield node


def _does_something(node: ast.stmt) -> bool:
    """Say whether a statement is more than a docstring, an annotation or a `pass`."""
    match node:
        case ast.Expr(value=ast.Constant()) | ast.Pass() | ast.AnnAssign(value=None):
            return False
    return True


def _flips(text: _Text, name: str, node: ast.Compare) -> Iterator[Change]:
    operands = [node.left, *node.comparators]
    for left, right in pairwise(operands):
        first, last = text.extent(left)[1], text.extent(right)[0]
        found = _OPERATOR.search(text.source, first, last)
        if found is None:
            raise ValueError(f"no operator in {text.source[first:last]!r}")
        old = flat(found[0])
        start, end = found.span()
        line = line_at(text.source, start)
        yield Change(start, end, FLIPS[old], name, line, f"{old} becomes {FLIPS[old]}")


class _Text:
    """A source, and where in it the parts of its tree stand."""

    def __init__(self, source: str) -> None:
        self.source = source
        self._lines = source.splitlines(keepends=True)
        self._starts = [0]
        for line in self._lines:
            self._starts.append(self._starts[-1] + len(line))

    def extent(self, node: ast.stmt | ast.expr) -> tuple[int, int]:
        """Return where a node begins and where it has ended."""
        line, column = node.lineno, node.col_offset
        decorators = getattr(node, "decorator_list", None)
        if decorators:
            line, column = decorators[0].lineno, decorators[0].col_offset - 1
        if node.end_lineno is None or node.end_col_offset is None:
            raise ValueError(f"{ast.dump(node)} does not say where it ends")
        return self._place(line, column), self._place(node.end_lineno, node.end_col_offset)

    def _place(self, line: int, column: int) -> int:
        # The tree counts columns in bytes of UTF-8.
        before = self._lines[line - 1].encode()[:column].decode()
        return self._starts[line - 1] + len(before)
