"""Every kind of mutant is made, from samples small enough to see that all of them are."""

from __future__ import annotations

import ast
import textwrap

import pytest

from tests.mutation.lua import lua_changes
from tests.mutation.lua_syntax import LuaError, statements_of
from tests.mutation.mutant import Change, name_changes
from tests.mutation.python import functions_of, python_changes, reach
from tests.mutation.sql import sql_changes


def _python(body: str) -> list[str]:
    source = "def function():\n" + textwrap.indent(textwrap.dedent(body), "    ")
    nodes = {one.name: one.node for one in functions_of("sample.py", source)}
    return _outcomes(source, list(python_changes(source, nodes)))


def _lua(source: str) -> list[str]:
    return _outcomes(source, list(lua_changes(source)))


def _sql(sentence: str) -> list[str]:
    source = f'TABLE: Final = Statements(\n    one="""{sentence}""",\n)\n'
    found = _outcomes(source, list(sql_changes(source, "TABLE", {"one"})))
    return [text.split('"""')[1].strip() for text in found]


def _outcomes(source: str, changes: list[Change]) -> list[str]:
    """Return the changed sources, each on one line."""
    mutants = name_changes("sample", source, changes)
    return [" ".join(mutant.apply(source).split()) for mutant in mutants]


def test_a_statement_of_python_becomes_nothing():
    assert _python("a = 1\nreturn a") == [
        "def function(): pass return a",
        "def function(): a = 1 pass",
    ]


def test_a_block_goes_as_a_whole_and_each_statement_in_it():
    found = _python("for x in y:\n    if x:\n        f(\n            x)\n    else:\n        g(x)")

    assert found == [
        "def function(): pass",
        "def function(): for x in y: pass",
        "def function(): for x in y: if x: pass else: g(x)",
        "def function(): for x in y: if x: f( x) else: pass",
    ]


def test_an_elif_goes_with_what_follows_it():
    found = _python("if a:\n    f()\nelif b:\n    g()\nelse:\n    h()")

    assert "def function(): if a: f() else: pass" in found


@pytest.mark.parametrize("statement", ["'''Say what this is for.'''", "pass", "...", "count: int"])
def test_what_does_nothing_is_not_deleted(statement):
    assert _python(f"{statement}\nf()") == [f"def function(): {statement} pass"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("a < b", "a <= b"),
        ("a <= b", "a < b"),
        ("a > b", "a >= b"),
        ("a >= b", "a > b"),
        ("a == b", "a != b"),
        ("a != b", "a == b"),
        ("a in b", "a not in b"),
        ("a not  in b", "a in b"),
        ("a is None", "a is not None"),
        ("a is not None", "a is None"),
    ],
)
def test_each_comparison_of_python_is_flipped(old, new):
    assert f"def function(): return {new}" in _python(f"return {old}")


def test_each_operator_of_a_chain_is_flipped_alone():
    found = _python("return (a) < f(x > 1) <= b")

    assert [text.removeprefix("def function(): ") for text in found] == [
        "pass",
        "return (a) <= f(x > 1) <= b",
        "return (a) < f(x >= 1) <= b",
        "return (a) < f(x > 1) < b",
    ]


def test_letters_outside_of_ascii_move_nothing():
    assert "def function(): s = 'äöü…'; return s <= t" in _python("s = 'äöü…'; return s < t")


def test_every_mutant_of_python_can_be_compiled():
    source = """
@decorated
def function():
    try:
        a = 1
    except E as e:
        raise X from e
    finally:
        with a as b, c: f()
    match a:
        case 1 if (a
                is not b):
            @other
            def g(): yield
"""
    nodes = {one.name: one.node for one in functions_of("sample.py", source)}

    mutants = name_changes("sample.py", source, python_changes(source, nodes))

    assert len(mutants) == 9
    for mutant in mutants:
        ast.parse(mutant.apply(source))


def test_what_a_function_mentions_is_reached_and_nothing_else():
    source = """
class Broker:
    def send(self): self._insert(helper)
    def _insert(self, work): Row(work)
    def stats(self): unreached()
class Row:
    def __init__(self, work): work()
def helper(): pass
def unreached(): pass
"""
    reached = reach(functions_of("sample.py", source), ["Broker.send"])

    assert [function.name for function in reached] == [
        "Broker.send",
        "Broker._insert",
        "Row.__init__",
        "helper",
    ]


def test_a_variable_is_no_function_of_the_same_name():
    source = "def send(queues):\n    return queues\ndef queues(): pass\n"

    assert len(reach(functions_of("sample.py", source), ["send"])) == 1


def test_a_root_that_is_not_there_is_an_error():
    with pytest.raises(LookupError, match=r"Broker\.send"):
        reach([], ["Broker.send"])


def test_every_kind_of_statement_of_lua_is_deleted():
    statements = [
        "local a, b = 1, { x = 2; [3] = 'x', f }",
        "local function f(a, ...) return a end",
        "function t.f() end",
        "if a then b() elseif c then d() else e() end",
        "for i = 1, #t do f(i) end",
        "for k, v in pairs(t) do f(k) end",
        "while not a do f() end",
        "repeat f() until a == 1",
        "t[#t + 1], b.c = 'a' .. [[b]] .. \"c\", -2 ^ 3",
        "f{ 1 }.g:h 'x' (2)",
        "do f() end",
        "return a and b or (function() return 1 end)()",
    ]
    source = "\n".join(statements)

    deleted = [one for one in statements_of(source) if source[one.start : one.end] in statements]

    assert [source[one.start : one.end] for one in deleted] == statements


def test_a_block_of_lua_goes_as_a_whole_and_each_statement_in_it():
    assert _lua("for i = 1, 2 do\n  f(i,\n    2)\n  break\nend -- that is all") == [
        "-- that is all",
        "for i = 1, 2 do break end -- that is all",
        "for i = 1, 2 do f(i, 2) end -- that is all",
    ]


@pytest.mark.parametrize(
    ("old", "new"),
    [("<", "<="), ("<=", "<"), (">", ">="), (">=", ">"), ("==", "~="), ("~=", "==")],
)
def test_each_comparison_of_lua_is_flipped(old, new):
    assert f"return '<' .. a {new} b -- a < b" in _lua(f"return '<' .. a {old} b -- a < b")


def test_a_statement_of_lua_knows_its_function():
    source = "local function outer()\n  f(function() g() end)\nend\nh()"

    names = {source[one.start : one.end][:3]: one.function for one in statements_of(source)}

    assert names == {"loc": "", "f(f": "outer", "g()": "outer", "h()": ""}


@pytest.mark.parametrize("source", ["if a then", "f(", "x = ", "end", "local t = { 1"])
def test_what_is_not_lua_is_an_error(source):
    with pytest.raises(LuaError, match="line 1"):
        statements_of(source)


def test_the_parts_of_a_where_are_deleted_and_flipped():
    assert _sql("DELETE FROM t WHERE a = :a AND b <= 2") == [
        "DELETE FROM t WHERE b <= 2",
        "DELETE FROM t WHERE a <> :a AND b <= 2",
        "DELETE FROM t WHERE a = :a",
        "DELETE FROM t WHERE a = :a AND b < 2",
    ]


def test_an_assignment_is_deleted_and_not_flipped():
    assert _sql("UPDATE t SET a = 1, b = f(a, 2) WHERE c > 0") == [
        "UPDATE t SET b = f(a, 2) WHERE c > 0",
        "UPDATE t SET a = 1 WHERE c > 0",
        "UPDATE t SET a = 1, b = f(a, 2)",
        "UPDATE t SET a = 1, b = f(a, 2) WHERE c >= 0",
    ]


def test_a_sentence_in_parentheses_is_changed_for_itself():
    assert _sql("DELETE FROM t WHERE a IN (SELECT a FROM u WHERE b < 1 ORDER BY c, d LIMIT 5)") == [
        "DELETE FROM t",
        "DELETE FROM t WHERE a NOT IN (SELECT a FROM u WHERE b < 1 ORDER BY c, d LIMIT 5)",
        "DELETE FROM t WHERE a IN (SELECT a FROM u ORDER BY c, d LIMIT 5)",
        "DELETE FROM t WHERE a IN (SELECT a FROM u WHERE b <= 1 ORDER BY c, d LIMIT 5)",
        "DELETE FROM t WHERE a IN (SELECT a FROM u WHERE b < 1 ORDER BY d LIMIT 5)",
        "DELETE FROM t WHERE a IN (SELECT a FROM u WHERE b < 1 ORDER BY c LIMIT 5)",
        "DELETE FROM t WHERE a IN (SELECT a FROM u WHERE b < 1 ORDER BY c, d )",
    ]


def test_what_follows_a_conflict_goes_as_a_whole_and_in_parts():
    assert _sql("INSERT INTO t (a) VALUES (1) ON CONFLICT (a) DO UPDATE SET b = 2, c = 3") == [
        "INSERT INTO t (a) VALUES (1)",
        "INSERT INTO t (a) VALUES (1) ON CONFLICT (a) DO UPDATE SET c = 3",
        "INSERT INTO t (a) VALUES (1) ON CONFLICT (a) DO UPDATE SET b = 2",
    ]


def test_whether_a_row_exists_is_flipped():
    found = _sql("INSERT INTO t SELECT 1 WHERE NOT EXISTS (SELECT 1 FROM u)")

    assert "INSERT INTO t SELECT 1 WHERE EXISTS (SELECT 1 FROM u)" in found


def test_a_sentence_that_is_not_there_is_an_error():
    with pytest.raises(LookupError, match="two"):
        list(sql_changes('TABLE: T = Statements(one="SELECT 1")', "TABLE", {"two"}))


def test_changes_that_look_the_same_are_told_apart_by_their_order():
    source = "def f():\n    g()\n    h()\n    g()\n"
    nodes = {one.name: one.node for one in functions_of("f.py", source)}

    keys = [mutant.key for mutant in name_changes("f.py", source, python_changes(source, nodes))]

    assert keys == [
        ("f.py", "f", "g()", "deleted", 1),
        ("f.py", "f", "h()", "deleted", 1),
        ("f.py", "f", "g()", "deleted", 2),
    ]
