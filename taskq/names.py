"""The one grammar for names of queues, tasks, workers and for ids.

Names reach keys, routing, logs and pages of every backend, so what is allowed
is what is harmless in all of them. It is checked where a name comes in and
again where it comes out of a broker.
"""

from __future__ import annotations

import re
import sys
from pathlib import PurePath
from typing import Final

from taskq.errors import InvalidName

NAME_LIMIT: Final = 128
_GRAMMAR: Final = rf"[A-Za-z0-9_.:\-]{{1,{NAME_LIMIT}}}"
_matches: Final = re.compile(_GRAMMAR, re.ASCII).fullmatch
_matches_lines: Final = re.compile(rf"{_GRAMMAR}(?:\n{_GRAMMAR})*", re.ASCII).fullmatch


def is_name(text: str) -> bool:
    """Say whether `text` is a legal name."""
    return _matches(text) is not None


def are_names(*texts: str) -> bool:
    """Say whether all of `texts` are legal names, for the price of one look."""
    lines = "\n".join(texts)
    return lines.count("\n") == len(texts) - 1 and _matches_lines(lines) is not None


def check_name(text: object, what: str) -> str:
    """Return `text` if it is a legal name.

    `what` says in the error what the name is of ("queue", "task", ...).

    Raises:
        InvalidName: it is not; the message shows it, shortened and escaped.
    """
    if isinstance(text, str) and _matches(text) is not None:
        return text
    shown = ascii(text)
    shown = shown if len(shown) <= 44 else f"{shown[:40]}…"
    raise InvalidName(
        f"{what} {shown} is not a legal name: 1 to {NAME_LIMIT} of A-Z a-z 0-9 _ . : -"
    )


def import_name(module: str) -> str:
    """Return the name a module is imported by, for one that may run as a script.

    A program started as a file calls its own module ``__main__``; its workers
    import the same file by name. Both must agree on what things are called.
    """
    if module != "__main__":
        return module
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    if spec is not None and spec.name != "__main__":
        return str(spec.name.removesuffix(".__main__"))
    path = getattr(main, "__file__", None)
    return PurePath(path).stem if path else module
