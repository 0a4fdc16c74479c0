from __future__ import annotations

import runpy
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskq.errors import ImproperlyConfigured, InvalidName
from taskq.names import NAME_LIMIT, are_names, check_name, import_name, is_name

LEGAL = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.:-"
texts = st.text(alphabet="aZ.:\n é", max_size=4)
HOSTILE = [
    "", "a\r\nFLUSHALL", "a\n", "\na", "{x}:*", "../..", "%s", "'; drop", "#", "*", "amq/", "a b",
    "x" * 129, "💥", "é", "\u0430", "\u0661", "a\0", "a\u2028", "\x1b[31m", "<script>",
]  # fmt: skip


@given(st.text(alphabet=LEGAL, min_size=1, max_size=NAME_LIMIT))
def test_a_legal_name_is_returned_as_it_is(name: str) -> None:
    assert is_name(name)
    assert check_name(name, "queue") is name


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_anything_else_is_refused_in_a_message_that_is_safe_to_print(name: str) -> None:
    with pytest.raises(InvalidName, match=r"^queue .* is not a legal name") as caught:
        check_name(name, "queue")

    assert not is_name(name)
    assert isinstance(caught.value, ImproperlyConfigured)
    assert str(caught.value).replace("…", "").isascii()
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 160


@pytest.mark.parametrize("name", [None, 5, b"default", ["a"]], ids=repr)
def test_what_is_no_text_is_refused(name: object) -> None:
    with pytest.raises(InvalidName):
        check_name(name, "queue")


@given(st.lists(texts, min_size=1, max_size=4))
def test_many_names_are_legal_if_each_is(names: list[str]) -> None:
    assert are_names(*names) == all(map(is_name, names))


def test_names_that_differ_in_case_stay_two() -> None:
    assert check_name("Mail", "queue") != check_name("mail", "queue")


@pytest.mark.parametrize(
    ("main", "expected"),
    [
        (SimpleNamespace(__spec__=SimpleNamespace(name="shop.tasks")), "shop.tasks"),
        (SimpleNamespace(__spec__=SimpleNamespace(name="shop.__main__")), "shop"),
        (SimpleNamespace(__spec__=None, __file__="/srv/app/shop.py"), "shop"),
        (SimpleNamespace(__spec__=None), "__main__"),
    ],
)
def test_a_program_calls_itself_what_its_workers_import(
    monkeypatch: pytest.MonkeyPatch, main: ModuleType, expected: str
) -> None:
    monkeypatch.setitem(sys.modules, "__main__", main)

    assert import_name("__main__") == expected
    assert import_name("shop.tasks") == "shop.tasks"


def test_a_task_of_a_script_has_the_scripts_name(tmp_path: Path) -> None:
    script = tmp_path / "shop.py"
    script.write_text(
        "from taskq import TaskQ\n"
        "app = TaskQ('shop', broker='memory://')\n"
        "@app.task\n"
        "def add(x: int) -> int: return x\n"
    )

    found = runpy.run_path(str(script), run_name="shop")

    assert found["add"].name == "shop.add"
