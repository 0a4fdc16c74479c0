"""What the tables of one installation are called.

Everything that knows a name of a table asks `Names`, so that two of them in one
database are two installations that never meet.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any, Final

from taskq.errors import ImproperlyConfigured

PREFIX: Final = "taskq_"
"""What names begin with in every sentence of SQL that is written down."""
LONGEST_NAME: Final = 63
"""Bytes that PostgreSQL keeps of a name. MySQL keeps one more, SQLite any number."""
LONGEST_PREFIX: Final = LONGEST_NAME - len("message_seq_seq")
"""Leaves room for the longest name there is, that of PostgreSQL's counter for `seq`."""
_is_plain: Final = re.compile(r"[a-z_][a-z0-9_]*", re.ASCII).fullmatch
_THEIR_OWN: Final = ("pg_", "sqlite_")


@dataclasses.dataclass(frozen=True, slots=True)
class Names:
    """What names begin with, and the schema they are in. Both are plain: a-z, 0-9 and _."""

    prefix: str = PREFIX
    schema: str | None = None
    """None: the first of the search path; elsewhere than in PostgreSQL always."""

    def __str__(self) -> str:
        return f"{self.schema}.{self.prefix}…" if self.schema else f"{self.prefix}…"

    @classmethod
    def take(cls, options: dict[str, Any]) -> Names:
        """Take `prefix` and `schema` out of a URL's options.

        Raises:
            ImproperlyConfigured: one is no name that every database takes as it is.
        """
        prefix = options.pop("prefix", PREFIX)
        schema = options.pop("schema", None)
        _check("prefix", prefix, LONGEST_PREFIX)
        if schema is not None:
            _check("schema", schema, LONGEST_NAME)
        return cls(prefix, schema)

    def table(self, name: str) -> str:
        """Return a table's whole name, as SQL wants it: of "message", `taskq_message`."""
        # A schema may be called like a word of SQL; what begins with a prefix is none.
        qualifier = f'"{self.schema}".' if self.schema else ""
        return f"{qualifier}{self.prefix}{name}"

    def index(self, name: str) -> str:
        """Return an index's name, which no sentence qualifies."""
        return f"{self.prefix}{name}"


def _check(option: str, name: str, limit: int) -> None:
    shown = f"URL option {option}={name!a:.80}"
    if not _is_plain(name):
        raise ImproperlyConfigured(
            f"{shown} is no plain name; write a-z, 0-9 and _, and no digit first"
        )
    if len(name) > limit:
        raise ImproperlyConfigured(
            f"{shown} is too long: {len(name)} characters, and databases take {limit}; shorten it"
        )
    if name.startswith(_THEIR_OWN):
        raise ImproperlyConfigured(
            f"{shown} begins as names that databases keep for themselves "
            f"({', '.join(_THEIR_OWN)}); choose another"
        )
