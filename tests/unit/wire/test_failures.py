"""Exceptions as data, and back."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any, NoReturn, Self

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskq.errors import TaskError
from taskq.wire.codecs import JSON, MSGPACK, Codecs
from taskq.wire.failures import (
    TEXT_LIMIT,
    TRACEBACK_LIMIT,
    Failure,
    RemoteTraceback,
    describe,
    rebuild,
)

CODECS = Codecs()
BOTH = pytest.mark.parametrize("codec", [CODECS.of(JSON), CODECS.of(MSGPACK)], ids=["json", "mp"])
HERE = __name__
ran: list[str] = []


class Shout(Exception):
    def __init__(self, code: int, *, secret: str = "") -> None:
        ran.append("init")
        super().__init__(f"code {code}")
        self.code = code


class Maker(ValueError):
    def __new__(cls, *args: Any) -> Self:
        ran.append("new")
        return super().__new__(cls, *args)


class Texty(Exception):
    def __str__(self) -> str:
        return self.text  # type: ignore[attr-defined,no-any-return]  # set nowhere after a rebuild


class Outer:
    class Inner(LookupError):
        pass


class Meta(type):
    def __getattr__(cls, name: str) -> NoReturn:
        ran.append("metaclass")
        raise AttributeError(name)


class Strange(metaclass=Meta):
    pass


def _raiser(method: str, error: type[BaseException]) -> BaseException:
    def fail(self: object, *args: object) -> NoReturn:
        raise error("from the exception itself")

    return type("Hostile", (Exception,), {method: fail})("x")  # type: ignore[no-any-return]


def _args_raiser() -> BaseException:
    def fail(self: object) -> NoReturn:
        raise RuntimeError("no args")

    return type("Hostile", (Exception,), {"args": property(fail)})("x")  # type: ignore[no-any-return]


def _raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


HARMLESS = {
    "str": _raiser("__str__", RuntimeError),
    "str exits": _raiser("__str__", SystemExit),
    "repr": _raiser("__repr__", RuntimeError),
    "reduce": _raiser("__reduce_ex__", RuntimeError),
    "both recurse": _raiser("__str__", RecursionError),
    "args": _args_raiser(),
    "argument": Exception(_raiser("__repr__", RuntimeError)),
    "surrogate": Exception("\ud800", "a\0b\u2028"),
    "huge": Exception("x" * 10_000_000),
    "many": Exception(*range(100_000)),
    "nan": Exception(float("nan")),
    "nothing": Exception(),
    "group": ExceptionGroup("some", [ValueError(1), TypeError(2)]),
    "exit": SystemExit(3),
    "interrupt": KeyboardInterrupt(),
    "generator": GeneratorExit(),
    "unicode": UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
    "os": FileNotFoundError(2, "No such file", "x"),
    "local": type("Local", (KeyError,), {"__module__": "nowhere.at.all"})("k"),
}


@BOTH
@pytest.mark.parametrize("error", HARMLESS.values(), ids=HARMLESS)
def test_any_exception_travels_and_comes_back_harmlessly(codec: Any, error: BaseException) -> None:
    failure = describe(_raised(error), codec)
    written = codec.encode([failure.name, failure.text, failure.traceback, failure.args])

    back = rebuild(Failure(*codec.decode(written)))

    assert isinstance(back, Exception)
    assert len(failure.text) <= TEXT_LIMIT + 1
    assert len(failure.traceback) <= TRACEBACK_LIMIT + 2
    assert isinstance(back.__cause__, RemoteTraceback)
    assert str(back) is not None


@pytest.mark.parametrize(
    "error",
    [
        ValueError("a", 1, None),
        KeyError("k"),
        FileNotFoundError(2, "No such file"),
        PermissionError(13, "Permission denied"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
        ZeroDivisionError(),
        Outer.Inner("deep"),
        StopIteration(7),
    ],
    ids=repr,
)
def test_a_known_class_comes_back_as_itself(error: Exception) -> None:
    back = rebuild(describe(error, CODECS.default))

    assert type(back) is type(error)
    assert back.args == error.args
    assert str(back) == str(error)
    assert getattr(back, "errno", None) == getattr(error, "errno", None)


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()], ids=repr)
def test_what_ends_a_process_comes_back_as_a_task_error(error: BaseException) -> None:
    back = rebuild(describe(error, CODECS.default))

    assert isinstance(back, TaskError)
    assert back.name == f"builtins.{type(error).__name__}"


def test_no_constructor_runs() -> None:
    failures = [describe(Shout(7), CODECS.default), describe(Maker(7), CODECS.default)]
    ran.clear()

    shout, maker = [rebuild(failure) for failure in failures]

    assert type(shout) is Shout
    assert str(shout) == "code 7"
    assert not hasattr(shout, "code")
    assert type(maker) is Maker
    assert ran == []


def test_a_class_that_cannot_show_itself_comes_back_as_a_task_error() -> None:
    back = rebuild(Failure(f"{HERE}.Texty", "the text", "the trace", ["x"]))

    assert isinstance(back, TaskError)
    assert (back.text, back.remote_traceback) == ("the text", "the trace")


@pytest.mark.parametrize(
    "name",
    [
        "", ".", "builtins", "builtins.", "builtins.eval", "builtins.print", "os.system", "os",
        "subprocess.Popen", "builtins.BaseException", "builtins.object", "builtins.NoSuch",
        "..ValueError", "builtins.ValueError.__class__", f"{HERE}.ran", f"{HERE}.ran.append",
        f"{HERE}.Strange.Error", f"{HERE}.Outer", f"{HERE}.pytest.fail.Exception",
        "taskq.TaskError", "x" * 100_000, "a." * 5_000,
    ],
    ids=lambda name: name[:30] or "empty",
)  # fmt: skip
def test_a_name_that_is_not_an_exceptions_own_is_not_used(name: str) -> None:
    ran.clear()

    back = rebuild(Failure(name, "t", "", ["x"]))

    assert type(back) is TaskError
    assert ran == []


def test_no_module_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "canary_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "canary.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    __import__("canary_package")

    for name in ("canary_package.canary.Error", "canary_package.canary", "canary_other.Error"):
        assert type(rebuild(Failure(name, "t", "", []), frozenset({name}))) is TaskError

    assert "canary_package.canary" not in sys.modules
    del sys.modules["canary_package"]


def test_a_lazy_module_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    lazy = types.ModuleType("lazy_module")
    asked: list[str] = []
    monkeypatch.setattr(lazy, "__getattr__", asked.append, raising=False)
    monkeypatch.setitem(sys.modules, "lazy_module", lazy)

    back = rebuild(Failure("lazy_module.Error", "t", "", []), frozenset({"lazy_module.Error"}))

    assert type(back) is TaskError
    assert asked == []


def test_another_name_of_a_class_is_used_only_if_it_is_allowed() -> None:
    failure = Failure("taskq.TaskError", "t", "", ["shop.Error", "gone"])

    assert rebuild(failure) != rebuild(failure, frozenset({"taskq.TaskError"}))
    assert rebuild(failure).__class__ is TaskError
    assert rebuild(failure, frozenset({"taskq.TaskError"})).args == ("shop.Error", "gone")


def test_the_workers_traceback_is_the_cause() -> None:
    back = rebuild(describe(_raised(ValueError("x")), CODECS.default))

    assert "in _raised" in str(back.__cause__)


@given(
    name=st.sampled_from(["builtins.OSError", "builtins.UnicodeError", "builtins.ExceptionGroup",
                          "builtins.SyntaxError", "builtins.ImportError", "builtins.KeyError",
                          "builtins.UnicodeEncodeError", "builtins.StopAsyncIteration"])
    | st.text(max_size=20),
    args=st.lists(
        st.none() | st.integers() | st.text() | st.binary() | st.lists(st.text()), max_size=6
    ),
)  # fmt: skip
def test_forged_arguments_make_an_exception_at_most(name: str, args: list[Any]) -> None:
    back = rebuild(Failure(name, "t", "trace", args))

    assert isinstance(back, Exception)
    assert isinstance(str(back), str)
