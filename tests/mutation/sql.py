"""Changes of sentences of SQL that stand as plain strings in a Python module."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterator
from typing import Final, NamedTuple

from tests.mutation.mutant import DELETED, Change, flat

FLIPS: Final[dict[str, str]] = {
    "=": "<>",
    "<>": "=",
    "<": "<=",
    "<=": "<",
    ">": ">=",
    ">=": ">",
    "IN": "NOT IN",
    "NOT IN": "IN",
    "EXISTS": "NOT EXISTS",
    "NOT EXISTS": "EXISTS",
}
_TOKEN: Final = re.compile(
    r"'[^']*'|ON CONFLICT|ORDER BY|GROUP BY|DO UPDATE|DO NOTHING|NOT IN\b|NOT EXISTS\b"
    r"|<=|>=|<>|[:\w.]+|[^\s\w]"
)
_CLAUSES: Final = frozenset(
    {"SELECT", "FROM", "WHERE", "SET", "VALUES", "ORDER BY", "GROUP BY", "LIMIT", "ON CONFLICT"}
)
_SEPARATORS: Final = {"SET": {","}, "WHERE": {"AND", "OR"}, "ORDER BY": {","}}
"""The clauses of which one part can be deleted, and what stands between their parts."""
_WHOLE: Final = frozenset({"LIMIT", "ON CONFLICT"})
"""The clauses that are deleted as a whole."""


class Token(NamedTuple):
    """A word or a sign."""

    text: str
    start: int
    end: int


class Clause(NamedTuple):
    """A clause: its first word, what follows up to the next clause, and what it is in."""

    word: Token
    rest: list[Token]
    """With all that stands in parentheses."""


def sql_changes(source: str, table: str, names: Collection[str]) -> Iterator[Change]:
    """Yield the changes of the named sentences of a table of them.

    The table is a call with one string for each sentence, assigned to the
    global name `table`.

    Raises:
        LookupError: there is no such table or sentence.
        TypeError: a sentence is not a plain string.
    """
    found = _sentences(source, table)
    missing = set(names) - set(found)
    if missing:
        raise LookupError(f"{table} has no sentences {', '.join(sorted(missing))}")
    for name in sorted(names):
        start, end = found[name]
        yield from _changes(source, start, end, f"{table}.{name}")


def _sentences(source: str, table: str) -> dict[str, tuple[int, int]]:
    """Return where the text of each sentence stands in the source."""
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    for node in ast.parse(source).body:
        target = node.target if isinstance(node, ast.AnnAssign) else None
        if isinstance(target, ast.Name) and target.id == table:
            call = node.value if isinstance(node, ast.AnnAssign) else None
            if isinstance(call, ast.Call):
                return dict(_literal(source, starts, keyword) for keyword in call.keywords)
    raise LookupError(f"no table {table} is assigned to a global name")


def _literal(source: str, starts: list[int], keyword: ast.keyword) -> tuple[str, tuple[int, int]]:
    value = keyword.value
    if not isinstance(value, ast.Constant) or not isinstance(value.value, str):
        raise TypeError(f"{keyword.arg} is not a plain string")
    start = source.index(value.value, starts[value.lineno - 1])
    return str(keyword.arg), (start, start + len(value.value))


def _changes(source: str, start: int, end: int, name: str) -> Iterator[Change]:
    tokens = [Token(m[0], *m.span()) for m in _TOKEN.finditer(source, start, end)]
    for clause in _clauses(tokens):
        if clause.word.text == "WHERE":
            yield from _flips(source, clause.rest, name)
        for first, last in _deletable(clause):
            original = flat(source[first:last])
            yield Change(first, last, "", name, original, DELETED)


def _clauses(tokens: list[Token]) -> Iterator[Clause]:
    """Yield every clause of a sentence, those of sentences in parentheses too."""
    for index, token in enumerate(tokens):
        if token.text in _CLAUSES:
            # What a conflict leads to has clauses of its own, and belongs to it.
            ends = _CLAUSES if token.text != "ON CONFLICT" else ()
            yield Clause(token, list(_until_next(tokens[index + 1 :], ends)))


def _until_next(tokens: list[Token], clauses: Collection[str]) -> Iterator[Token]:
    """Yield the tokens up to the next of these clauses, or the end of the sentence."""
    depth = 0
    for token in tokens:
        depth += (token.text == "(") - (token.text == ")")
        if depth < 0 or (depth == 0 and token.text in clauses):
            return
        yield token


def _flips(source: str, tokens: list[Token], name: str) -> Iterator[Change]:
    """Yield the flips of a WHERE, less those that belong to one inside of it."""
    inside = _nested(tokens)
    for index, token in enumerate(tokens):
        if token.text in FLIPS and token not in inside:
            new = FLIPS[token.text]
            around = tokens[max(index - 1, 0) : index + 2]
            original = flat(source[around[0].start : around[-1].end])
            mutation = f"{token.text} becomes {new}"
            yield Change(token.start, token.end, new, name, original, mutation)


def _nested(tokens: list[Token]) -> set[Token]:
    """Return the tokens that stand in a sentence in parentheses."""
    inside: set[Token] = set()
    for clause in _clauses(tokens):
        inside.update(clause.rest)
    return inside


def _deletable(clause: Clause) -> Iterator[tuple[int, int]]:
    """Yield what can be deleted of a clause: a part with a separator, or all of it."""
    word = clause.word.text
    end = clause.rest[-1].end if clause.rest else clause.word.end
    if word in _WHOLE:
        yield clause.word.start, end
    if word not in _SEPARATORS:
        return
    parts, depth = [[Token("", clause.word.end, clause.word.end)]], 0
    for token in clause.rest:
        depth += (token.text == "(") - (token.text == ")")
        if depth == 0 and token.text in _SEPARATORS[word]:
            parts.append([token])
        else:
            parts[-1].append(token)
    if len(parts) == 1 and word != "SET":
        yield clause.word.start, end
    for index, part in enumerate(parts if len(parts) > 1 else []):
        if index == 0:
            # The first part goes with the separator behind it.
            yield part[1].start, parts[1][0].end
        else:
            yield part[0].start, part[-1].end
