from __future__ import annotations

import builtins
import inspect
import re

import pytest

from taskq import errors
from taskq.errors import DecodeError, SendError, TaskError, TaskqError, UnknownOption

CLASSES = [
    cls
    for _, cls in inspect.getmembers(errors, inspect.isclass)
    if cls.__module__ == errors.__name__
]


def test_there_is_one_root() -> None:
    assert all(issubclass(cls, TaskqError) for cls in CLASSES)


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    drawn: dict[str, str] = {}
    path: dict[int, str] = {-1: ""}
    for line in (errors.__doc__ or "").splitlines():
        found = re.fullmatch(
            r"((?:│   |    )*)(?:├── |└── )?(\w+)(?:  .*)?", line.removeprefix("    ")
        )
        if not found or not hasattr(errors, found[2]):
            continue
        level = len(found[1]) // 4 + ("──" in line)
        path[level] = found[2]
        drawn[found[2]] = path[level - 1]

    assert drawn == {cls.__name__: _parent(cls) for cls in CLASSES}


def _parent(cls: type) -> str:
    base = cls.__bases__[0]
    return base.__name__ if base in CLASSES else ""


@pytest.mark.parametrize("cls", [c for c in CLASSES if c not in (TaskError, UnknownOption)])
def test_the_docstrings_first_paragraph_is_the_default_message(cls: type[TaskqError]) -> None:
    assert str(cls()) == inspect.getdoc(cls).split("\n\n")[0]  # type: ignore[union-attr]
    assert str(cls("other")) == "other"


def test_an_unknown_option_suggests_the_right_one() -> None:
    assert "did you mean 'queue'" in str(UnknownOption("que", ["queue", "priority"]))
    assert (
        str(UnknownOption("zzz", ["b", "a"], what="setting"))
        == "unknown setting 'zzz'; known: a, b"
    )


def test_errors_carry_what_happened() -> None:
    error = SendError(sent=["a"], unsent=["b"], unknown=["c"], refused=True)

    assert (error.sent, error.unsent, error.unknown, error.refused) == (
        ("a",),
        ("b",),
        ("c",),
        True,
    )
    assert DecodeError("x").code == "undecodable"
    assert issubclass(errors.TimeoutError, builtins.TimeoutError)
    assert errors.TimeoutError(state="RETRY").state == "RETRY"
    assert str(TaskError("a.B", "")) == "a.B"
