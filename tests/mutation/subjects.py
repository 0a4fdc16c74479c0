"""The backends that are broken, and which of their code counts."""

from __future__ import annotations

import ast
import fnmatch
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from tests.mutation.ground import URL_OF_FILES, URL_OF_SQLITE, FileGround, Ground, RedisGround
from tests.mutation.lua import lua_changes
from tests.mutation.mutant import Change, Mutant, name_changes
from tests.mutation.python import Function, functions_of, python_changes, reach
from tests.mutation.sql import sql_changes

ROOT: Final = Path(__file__).parents[2]
_SENTENCE: Final = re.compile(r"\b(?:sql|statements)\.(\w+)\b")


@dataclass(frozen=True, slots=True)
class Subject:
    """One backend."""

    name: str
    package: str
    """Its folder, from the root of the checkout; the last part is what is imported."""
    mutants: Callable[[], list[Mutant]]
    """Return every breakage of `send`, `reserve`, `settle` and `extend`."""
    ground: Callable[[Path], Ground]
    """Return what it runs on, with its files in a folder."""
    plugin: str = ""
    """Its entry point, where the package is not one of those a checkout installs."""


def _redis() -> list[Mutant]:
    scripts = ("send", "accept", "claim", "move", "settle", "keep", "hold", "extend", "common")
    mutants: list[Mutant] = []
    for script in scripts:
        file = f"taskq_redis/lua/{script}.lua"
        source = (ROOT / file).read_text("utf-8")
        mutants += name_changes(file, source, lua_changes(source))
    return mutants + _REDIS.mutants()


@dataclass(frozen=True, slots=True)
class _Python:
    """A backend in Python: a class, and the modules its four methods lead through."""

    broker: str
    modules: Sequence[str]
    beyond: Sequence[str] = ()
    """Patterns of functions and sentences that are no part of the four, though mentioned."""
    sentences: tuple[str, str] | None = None
    """A module and its table of SQL, of which those count that the functions use."""

    def mutants(self) -> list[Mutant]:
        sources = {file: (ROOT / file).read_text("utf-8") for file in self.modules}
        reached = self._reached(sources)
        mutants: list[Mutant] = []
        for file, source in sources.items():
            nodes = {one.name: one.node for one in reached if one.file == file}
            mutants += name_changes(file, source, python_changes(source, nodes))
        if self.sentences is not None:
            mutants += self._sentences(*self.sentences, reached)
        return mutants

    def _reached(self, sources: dict[str, str]) -> list[Function]:
        functions = [
            function
            for file, source in sources.items()
            for function in functions_of(file, source)
            if not self._is_beyond(function.name)
        ]
        methods = ("send", "reserve", "settle", "extend")
        return reach(functions, [f"{self.broker}.{method}" for method in methods])

    def _sentences(self, file: str, table: str, reached: list[Function]) -> Iterator[Mutant]:
        source = (ROOT / file).read_text("utf-8")
        used: set[str] = set()
        for function in reached:
            used.update(_SENTENCE.findall(ast.unparse(function.node)))
        counted = {name for name in used if not self._is_beyond(f"{table}.{name}")}
        changes: Iterator[Change] = sql_changes(source, table, counted)
        yield from name_changes(file, source, changes)

    def _is_beyond(self, name: str) -> bool:
        return any(fnmatch.fnmatch(name, pattern) for pattern in self.beyond)


_REDIS: Final = _Python(
    broker="RedisBroker",
    # Without `connection`, which is a driver, as SQLAlchemy is one elsewhere:
    # tests/integration/redis breaks it in ways that no other backend knows.
    modules=[
        f"taskq_redis/{module}.py" for module in ("broker", "scripts", "records", "client", "keys")
    ],
    # As below; the scripts of other methods are called by the names of these.
    beyond=[
        "*.close",
        "Scripts.workers",
        "Client._connect",
        "Client._greet",
        "Client._refusal",
        "Client._take",
        "Client._give",
        "Client._drop_idle",
        "_Idle.*",
    ],
)

_SQL: Final = _Python(
    broker="SqlBroker",
    # Without `reach`, of which SQLite has no sentence, `lanes`, which is about forks,
    # and `listener`: a file tells nobody of changes.
    modules=[
        f"taskq_sql/{module}.py"
        for module in (
            "broker",
            "claim",
            "conclude",
            "moves",
            "results",
            "engine",
            "link",
            "session",
            "site",
            "dialects/sqlite",
        )
    ],
    # Other methods with the names of those that are called; what opens and closes
    # connections and words errors; what only servers need, whose writers do not exclude
    # each other, and which wake other processes; what only callers' transactions bring about.
    beyond=[
        "SqlResults.*",
        "SqlBroker._dead",
        "*.close",
        "Database.echoes",
        "Database.listen",
        "Database._notify",
        "_left",
        "Link.connect",
        "Bell.promises",
        "any_ready",
        "claim_on",
        "SqliteDialect.engine",
        "SqliteDialect.listen",
        "SqliteDialect.prepare",
        "SqliteDialect.translate",
        "SqliteDialect.busy",
        "SQLITE.select_concluded",
        "SQLITE.unsend",
    ],
    sentences=("taskq_sql/statements/sqlite.py", "SQLITE"),
)

_EXAMPLE: Final = "examples/taskq_files/taskq_files"
_FILES: Final = _Python(
    broker="FilesBroker",
    modules=[
        f"{_EXAMPLE}/{module}.py"
        for module in ("broker", "store", "namespace", "journal", "records")
    ],
    # The system's function of this name is called.
    beyond=["FilesBroker.close"],
)

SUBJECTS: Final = {
    subject.name: subject
    for subject in (
        Subject("redis", "taskq_redis", _redis, RedisGround),
        Subject("sqlite", "taskq_sql", _SQL.mutants, partial(FileGround, URL_OF_SQLITE)),
        Subject(
            "files",
            _EXAMPLE,
            _FILES.mutants,
            partial(FileGround, URL_OF_FILES),
            plugin="files = taskq_files.plugin",
        ),
    )
}
