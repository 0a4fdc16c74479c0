"""Placeholders as drivers of servers want them: ``%(name)s`` for ``:name``."""

from __future__ import annotations

import functools
import re
from typing import Final

from taskq_sql.statements import Statements, each_sentence

_PLACEHOLDER: Final = re.compile(r"(?<!:):([a-z_]+)")


@functools.cache
def pyformat(statements: Statements) -> Statements:
    """Return the same sentences with the other placeholders."""
    return each_sentence(statements, lambda sentence: _PLACEHOLDER.sub(r"%(\1)s", sentence))
