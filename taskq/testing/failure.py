"""What the author of a backend is shown when something goes wrong.

The law and its sentence, what happened, the line of the example or the
sequence of calls that led there, and of a traceback the author's own frames;
nothing of how the kit, hypothesis or pytest got there.
"""

from __future__ import annotations

import linecache
import textwrap
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from taskq.contract.laws import LAWS
from taskq.testing.record import LawBroken
from taskq.testing.report import Failure

_KIT: Final = Path(__file__).parent
_HIDDEN: Final = ("hypothesis", "_pytest", "pluggy", "contextlib.py", "runpy.py")
_HYPOTHESIS: Final = ("Failing test case", "Falsifying example")
"""How the notes begin that hypothesis adds after those of the kit."""
_ADVICE: Final = "You can reproduce"
"""How its notes begin that advise a decorator: there is no test of the author's to decorate."""
_LINE: Final = 200
_LONG: Final = 1000
"""Characters of a line of what happened: payloads may be large."""


def explain(error: BaseException) -> Failure:
    """Return what to show of an error that ended a part of the kit."""
    errors = list(_causes(error))
    # Of several, a breach says more than what it led to.
    error = next((one for one in errors if isinstance(one, LawBroken)), errors[0])
    others = [one for one in errors if one is not error]
    law = error.law if isinstance(error, LawBroken) else None
    head = "\n".join(_shortened(line, _LONG) for line in _head(error).splitlines())
    paragraphs = [head, f"  {law}: {LAWS[law]}"] if law else [head]
    paragraphs += ["\n".join(_place(error)), "\n".join(_notes(error))]
    if others:
        paragraphs.append("\n".join(["The same run also found:", *map(_indented_head, others)]))
    text = "\n\n".join(paragraph for paragraph in paragraphs if paragraph)
    return Failure(what=_shortened(head), text=text, law=law, unwritten=_unwritten(error))


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Return what a group holds, what hypothesis was at a loss about, or the error alone."""
    by_hypothesis = type(error).__module__.startswith("hypothesis.")
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            if by_hypothesis and isinstance(one, LawBroken):
                one.add_note("It happened once; a replay of the same calls went another way.")
            yield from _causes(one)
    elif by_hypothesis and error.__context__ is not None:
        yield from _causes(error.__context__)
    else:
        yield error


def _head(error: BaseException) -> str:
    if isinstance(error, LawBroken):
        return f"{error.law} is broken: {error.what}"
    if method := _unwritten(error):
        return f"{method} raised NotImplementedError" + (f": {error}" if str(error) else "")
    return f"{type(error).__name__}: {error}"


def _unwritten(error: BaseException) -> str:
    """Return the method that has raised NotImplementedError itself; "" for another error."""
    if type(error) is not NotImplementedError:
        return ""
    frames = [frame.f_code.co_name for frame, _ in traceback.walk_tb(error.__traceback__)]
    return frames[-1] if frames else ""


def _indented_head(error: BaseException) -> str:
    return f"  {_shortened(_head(error))}"


def _shortened(text: str, limit: int = _LINE) -> str:
    line = text.partition("\n")[0]
    return line if len(line) <= limit else line[: limit - 1] + "…"


def _place(error: BaseException) -> list[str]:
    """Return where it happened: the example up to the line, and the way from there to an error."""
    lines: list[str] = []
    for frame, line in traceback.walk_tb(error.__traceback__):
        code = frame.f_code
        path = Path(code.co_filename)
        if _KIT / "laws" in path.parents and code.co_name.startswith("test_"):
            lines.append(f"  {path}:{line}: in {code.co_name}")
            lines += _source(path, code.co_firstlineno, line)
        elif not isinstance(error, LawBroken) and not _is_hidden(path):
            lines.append(f"  {path}:{line}: in {code.co_name}")
            lines.append(f"      {linecache.getline(str(path), line).strip()}")
    return lines


def _source(path: Path, first: int, last: int) -> list[str]:
    """Return the lines of an example up to the one that failed, which is marked."""
    text = "".join(linecache.getline(str(path), number) for number in range(first, last + 1))
    lines = textwrap.dedent(text).splitlines()
    return [f"    {'>' if line is lines[-1] else ' '} {line}".rstrip() for line in lines]


def _is_hidden(path: Path) -> bool:
    return _KIT in path.parents or any(part in _HIDDEN for part in path.parts)


def _notes(error: BaseException) -> list[str]:
    """Return the kit's own notes; if it made none, those of hypothesis."""
    notes = [
        note for note in getattr(error, "__notes__", []) if not note.lstrip().startswith(_ADVICE)
    ]
    first = next((n for n, note in enumerate(notes) if note.startswith(_HYPOTHESIS)), len(notes))
    return notes[:first] or notes
