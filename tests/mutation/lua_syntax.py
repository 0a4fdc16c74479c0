"""Where the statements of a Lua script begin and end, by the grammar of Lua 5.1."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

_TOKEN: Final = re.compile(
    r"--\[\[.*?\]\]|--[^\n]*|\[\[.*?\]\]|'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\""
    r"|\.\.\.|\.\.|==|~=|<=|>=|0x[0-9a-fA-F]+|\d+\.?\d*(?:[eE][+-]?\d+)?|\w+|[^\s\w]",
    re.DOTALL,
)
_BINARY: Final = frozenset(
    ("+", "-", "*", "/", "%", "^", "..", "<", "<=", ">", ">=", "==", "~=", "and", "or")
)
_UNARY: Final = frozenset({"not", "-", "#"})
_ENDS: Final = frozenset({"end", "else", "elseif", "until", ""})


class Token(NamedTuple):
    """A word or a sign; the last one is empty."""

    text: str
    start: int
    end: int


class Statement(NamedTuple):
    """A statement, with all the statements in it."""

    start: int
    end: int
    function: str
    """The named function it is in; "" outside of all."""


class LuaError(Exception):
    """A script that is not Lua, as far as this grammar goes."""


def tokens_of(source: str) -> list[Token]:
    """Return the tokens of a script, without comments."""
    found = [Token(m[0], *m.span()) for m in _TOKEN.finditer(source)]
    return [token for token in found if not token.text.startswith("--")]


def statements_of(source: str) -> list[Statement]:
    """Return every statement of a script, outer ones before those in them.

    Raises:
        LuaError: something is not as the grammar wants it.
    """
    return sorted(_Parser(source).chunk(), key=lambda one: (one.start, -one.end))


class _Parser:
    """Reads tokens from left to right; each method reads one thing of the grammar."""

    def __init__(self, source: str) -> None:
        self._source = source
        end = Token("", len(source), len(source))
        # Two of them, as a table looks one further ahead.
        self._tokens = [*tokens_of(source), end, end]
        self._next = 0
        self._functions = [""]
        self._found: list[Statement] = []

    def chunk(self) -> list[Statement]:
        self._block()
        if self._see():
            raise self._error("a statement")
        return self._found

    def _see(self) -> str:
        return self._tokens[self._next].text

    def _read(self, expected: str | None = None) -> Token:
        token = self._tokens[self._next]
        if expected is not None and token.text != expected:
            raise self._error(repr(expected))
        if not token.text:
            raise self._error("more")
        self._next += 1
        return token

    def _skip(self, text: str) -> bool:
        if self._see() == text:
            self._next += 1
            return True
        return False

    def _error(self, expected: str) -> LuaError:
        token = self._tokens[self._next]
        line = self._source.count("\n", 0, token.start) + 1
        return LuaError(f"line {line}: {expected} expected, not {token.text!r}")

    def _block(self) -> None:
        while self._see() not in _ENDS:
            start = self._tokens[self._next].start
            self._statement()
            end = self._tokens[self._next - 1].end
            self._found.append(Statement(start, end, self._functions[-1]))
            self._skip(";")

    def _statement(self) -> None:
        match self._see():
            case "if":
                self._if()
            case "for":
                self._for()
            case "while":
                self._read()
                self._expression()
                self._body("do")
            case "do":
                self._body("do")
            case "repeat":
                self._read()
                self._block()
                self._read("until")
                self._expression()
            case "local":
                self._local()
            case "function":
                self._read()
                self._function(self._name())
            case "return":
                self._read()
                if self._see() not in _ENDS and self._see() != ";":
                    self._expressions()
            case "break":
                self._read()
            case _:
                self._call_or_assignment()

    def _body(self, opening: str) -> None:
        self._read(opening)
        self._block()
        self._read("end")

    def _if(self) -> None:
        while self._see() in {"if", "elseif"}:
            self._read()
            self._expression()
            self._read("then")
            self._block()
        if self._skip("else"):
            self._block()
        self._read("end")

    def _for(self) -> None:
        self._read("for")
        while not (self._skip("=") or self._skip("in")):
            self._read()
        self._expressions()
        self._body("do")

    def _local(self) -> None:
        self._read("local")
        if self._skip("function"):
            self._function(self._name())
            return
        self._read()
        while self._skip(","):
            self._read()
        if self._skip("="):
            self._expressions()

    def _name(self) -> str:
        name = self._read().text
        while self._see() in {".", ":"}:
            name += self._read().text + self._read().text
        return name

    def _function(self, name: str) -> None:
        """Read parameters and body; `name` is what its statements are said to be in."""
        self._functions.append(name or self._functions[-1])
        self._read("(")
        while not self._skip(")"):
            self._read()
        self._block()
        self._read("end")
        self._functions.pop()

    def _call_or_assignment(self) -> None:
        self._suffixed()
        while self._skip(","):
            self._suffixed()
        if self._skip("="):
            self._expressions()

    def _expressions(self) -> None:
        self._expression()
        while self._skip(","):
            self._expression()

    def _expression(self) -> None:
        while self._see() in _UNARY:
            self._read()
        self._operand()
        if self._see() in _BINARY:
            self._read()
            self._expression()

    def _operand(self) -> None:
        text = self._see()
        if text == "function":
            self._read()
            self._function("")
        elif text == "{":
            self._table()
        elif text[:1] in {"'", '"'} or text[:2] == "[[" or text[:1].isdigit() or text == "...":
            self._read()
        else:
            self._suffixed()

    def _table(self) -> None:
        self._read("{")
        while not self._skip("}"):
            if self._skip("["):
                self._expression()
                self._read("]")
                self._read("=")
            elif self._tokens[self._next + 1].text == "=":
                self._read()
                self._read()
            self._expression()
            if not self._skip(","):
                self._skip(";")

    def _suffixed(self) -> None:
        if self._skip("("):
            self._expression()
            self._read(")")
        elif self._see()[:1].isalpha() or self._see()[:1] == "_":
            self._read()
        else:
            raise self._error("a name")
        while self._suffix():
            pass

    def _suffix(self) -> bool:
        text = self._see()
        if text in {".", ":"}:
            self._read()
            self._read()
        elif text == "[":
            self._read()
            self._expression()
            self._read("]")
        elif text == "(":
            self._read()
            if self._see() != ")":
                self._expressions()
            self._read(")")
        elif text == "{":
            self._table()
        elif text[:1] in {"'", '"'}:
            self._read()
        else:
            return False
        return True


def comparisons_of(source: str) -> Iterator[tuple[Token, str]]:
    """Yield every comparison's operator, and the named function it is in."""
    statements = statements_of(source)
    for token in tokens_of(source):
        if token.text in {"<", "<=", ">", ">=", "==", "~="}:
            around = [one for one in statements if one.start <= token.start < one.end]
            yield token, around[-1].function
