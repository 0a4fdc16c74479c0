"""taskq over a SQL database."""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"
__all__ = ["prepare"]


def prepare(engine: Any, /) -> None:
    """Set up a SQLite engine for `session=` and `connection=`; see `taskq_sql.preparation`."""
    from taskq_sql.preparation import prepare as prepare_engine  # loads SQLAlchemy

    prepare_engine(engine)
