"""Changes of Lua scripts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tests.mutation.lua_syntax import comparisons_of, statements_of
from tests.mutation.mutant import DELETED, Change, flat, line_at

FLIPS: Final[dict[str, str]] = {
    "<": "<=",
    "<=": "<",
    ">": ">=",
    ">=": ">",
    "==": "~=",
    "~=": "==",
}


def lua_changes(source: str) -> Iterator[Change]:
    """Yield every change of a script."""
    for statement in statements_of(source):
        original = flat(source[statement.start : statement.end])
        yield Change(statement.start, statement.end, "", statement.function, original, DELETED)
    for token, function in comparisons_of(source):
        new, line = FLIPS[token.text], line_at(source, token.start)
        yield Change(token.start, token.end, new, function, line, f"{token.text} becomes {new}")
