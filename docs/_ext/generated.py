"""The directive ``{generated} what``: reference pages written by the code itself.

Names, types, defaults and meanings stand once, in the source. This reads them
there: fields by import, the sentences below them by parsing the module.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import textwrap
import types
import typing
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import click
import conformance_page
import msgspec
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from taskq.app.definition import Definition
from taskq.app.settings import ENVIRONMENT, Settings
from taskq.app.signature import CallOptions
from taskq.cli.main import cli
from taskq.contract import broker as broker_contract
from taskq.contract.capabilities import Capabilities
from taskq.contract.laws import BROKER_LAWS, RESULT_LAWS
from taskq.testing import report
from taskq.worker.options import WorkerOptions
from taskq_sql.statements import Statements
from taskq_sql.statements.mysql import MYSQL
from taskq_sql.statements.postgresql import POSTGRESQL
from taskq_sql.statements.sqlite import SQLITE

BACKENDS: Final = (
    ("memory", "taskq.memory.broker:MemoryBroker"),
    ("SQL", "taskq_sql.broker:SqlBroker"),
    ("Redis", "taskq_redis.broker:RedisBroker"),
    ("RabbitMQ", "taskq_amqp.broker:AmqpBroker"),
)
SPOKEN: Final = {"SQLite": SQLITE, "PostgreSQL": POSTGRESQL, "MariaDB and MySQL": MYSQL}
REPORT: Final = ("Report", "Backend", "Facts", "Finding", "Part", "Failure")
BOUNDS: Final = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}


def meanings(cls: type) -> dict[str, str]:
    """Return the sentences that stand below the fields of a class."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
    (definition,) = tree.body
    assert isinstance(definition, ast.ClassDef)
    found: dict[str, str] = {}
    for field, below in zip(definition.body, [*definition.body[1:], None], strict=True):
        if not (isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)):
            continue
        found[field.target.id] = ""
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            found[field.target.id] = inspect.cleandoc(str(below.value.value))
    return found


def spell(hint: Any) -> str:
    """Return a type as a reader says it."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        bounds = [
            f"{words} {value:g}"
            for meta in parts[1:]
            for name, words in BOUNDS.items()
            if (value := getattr(meta, name, None)) is not None
        ]
        return ", ".join([spell(parts[0]), *bounds])
    if origin in {typing.Union, types.UnionType}:
        words = [spell(part) for part in parts]
        return ("; or " if any(", " in word for word in words) else " or ").join(words)
    if origin is not None and origin is not Callable:
        inner = ", ".join("…" if part is Ellipsis else spell(part) for part in parts)
        return f"{getattr(origin, '__name__', origin)}[{inner}]"
    return "None" if hint is types.NoneType else getattr(hint, "__name__", str(hint))


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    cells = [head, ["---"] * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(re.sub(r"\s+", " ", cell).replace("|", r"\|") for cell in row) + " |"
        for row in cells
    )


def struct_table(cls: Any, what: str) -> str:
    """Return the fields of a Struct: name, type, default, meaning."""
    text = meanings(cls)
    hints = typing.get_type_hints(cls, include_extras=True)
    rows = [
        (f"`{field.name}`", spell(hints[field.name]), f"`{_default(field)!r}`", text[field.name])
        for field in msgspec.structs.fields(cls)
    ]
    return table((what, "Type", "Default", "Meaning"), rows)


def _default(field: msgspec.structs.FieldInfo) -> Any:
    if field.default_factory is not msgspec.NODEFAULT:
        return field.default_factory()
    return field.default


def keys() -> str:
    """Return the keys of the conformance report, object by object."""
    parts: list[str] = []
    for cls in (getattr(report, name) for name in REPORT):
        text = meanings(cls)
        rows = [(f"`{name}`", spell(hint), text[name]) for name, hint in _hints(cls).items()]
        parts += [f"### {cls.__name__}", cls.__doc__, table(("Key", "Type", "Meaning"), rows)]
    return "\n\n".join(parts)


def options_table(cls: Any) -> str:
    """Return the keys of a TypedDict: name, type, meaning."""
    text = meanings(cls)
    rows = [(f"`{name}`", spell(hint), text[name]) for name, hint in _hints(cls).items()]
    return table(("Option", "Type", "Meaning"), rows)


def _hints(cls: Any) -> dict[str, Any]:
    return typing.get_type_hints(cls, include_extras=True)


def laws_table(laws: dict[str, str]) -> str:
    """Return laws with their numbers."""
    return table(("Law", "Sentence"), [(f"**{number}**", text) for number, text in laws.items()])


def capabilities_table() -> str:
    """Return what each backend declares."""
    declared = [_load(place).capabilities for _, place in BACKENDS]
    rows = [
        (f"`{name}`", text, *("yes" if getattr(one, name) else "**no**" for one in declared))
        for name, text in meanings(Capabilities).items()
    ]
    return table(("Capability", "Meaning", *(name for name, _ in BACKENDS)), rows)


def _load(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)


def environment_table() -> str:
    """Return the environment variables that a program or the command line reads."""
    text = meanings(Settings)
    rows = [
        (f"`{variable}`", f"The setting `{name}`, where the program names none. {text[name]}")
        for name, variable in ENVIRONMENT.items()
    ]
    rows += [
        (f"`{option.envvar}`", f"The command line's option `{option.opts[0]}`. {option.help}")
        for option in cli.params
        if isinstance(option, click.Option) and option.envvar
    ]
    return table(("Variable", "What it sets"), rows)


def diagram(module: types.ModuleType) -> str:
    """Return the drawing in a module's docstring."""
    drawing = (module.__doc__ or "").split("::\n\n", 1)[1]
    lines = drawing.splitlines()
    end = next(place for place, line in enumerate(lines) if line and not line.startswith(" "))
    return "```text\n" + textwrap.dedent("\n".join(lines[:end])).rstrip() + "\n```"


def sentences() -> str:
    """Return what each database is told, sentence by sentence."""
    text = meanings(Statements)
    parts: list[str] = []
    for name in text:
        parts += [f"## {name}", text[name]]
        for title, spoken in SPOKEN.items():
            if sentence := inspect.cleandoc(getattr(spoken, name)):
                parts.append(f"{title}:\n\n```sql\n{sentence}\n```")
    return "\n\n".join(parts)


def commands() -> str:
    """Return the help of every command, as the terminal shows it."""
    return "\n\n".join(_command(cli, "taskq", 2))


def _command(command: click.Command, path: str, level: int) -> list[str]:
    context = click.Context(command, info_name=path, max_content_width=88, terminal_width=88)
    shown = [f"{'#' * level} {path}", f"```text\n{command.get_help(context).rstrip()}\n```"]
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            if below is not None and not below.hidden:
                shown += _command(below, f"{path} {name}", level + 1)
    return shown


PARTS: Final[dict[str, Callable[[], str]]] = {
    "settings": lambda: struct_table(Settings, "Setting"),
    "worker-options": lambda: struct_table(WorkerOptions, "Option"),
    "task-options": lambda: options_table(Definition),
    "call-options": lambda: options_table(CallOptions),
    "broker-laws": lambda: laws_table(BROKER_LAWS),
    "result-laws": lambda: laws_table(RESULT_LAWS),
    "capabilities": capabilities_table,
    "environment": environment_table,
    "sql": sentences,
    "states": lambda: diagram(broker_contract),
    "worker-services": lambda: diagram(importlib.import_module("taskq.worker")),
    "commands": commands,
    "conformance": lambda: conformance_page.results(table),
    "conformance-keys": keys,
}


class Generated(SphinxDirective):
    """Puts one part of `PARTS` into a page."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        if self.arguments[0] == "conformance":
            self.env.note_dependency(conformance_page.place())
        return self.parse_text_to_nodes(PARTS[self.arguments[0]](), allow_section_headings=True)


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("generated", Generated)
    return {"parallel_read_safe": True}
