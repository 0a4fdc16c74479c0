"""Which dialect a URL means."""

from __future__ import annotations

from typing import Final

from taskq.errors import ImproperlyConfigured
from taskq.url import Url
from taskq_sql.dialects import Dialect

EXTRAS: Final = {"postgresql": "postgresql", "mysql": "mysql", "mariadb": "mysql"}
"""The extra that brings the driver of a scheme."""


def dialect_of(url: Url) -> Dialect:
    """Return how to speak with the database a URL names.

    Raises:
        ImproperlyConfigured: the URL has an error.
    """
    # Each imports a driver of its own, which need not be installed for the others.
    try:
        match url.scheme:
            case "postgresql":
                from taskq_sql.dialects.postgresql import PostgresqlDialect

                return PostgresqlDialect(url)
            case "mysql" | "mariadb":
                from taskq_sql.dialects.mysql import MysqlDialect

                return MysqlDialect(url)
    except ModuleNotFoundError as error:
        extra = f"'taskq-core[{EXTRAS[url.scheme]}]'"
        what = "mysqlclient" if url.driver == "mysqldb" else extra
        raise ImproperlyConfigured(
            f"{url.scheme}:// needs the driver {error.name}, which is not installed: "
            f"pip install {what}"
        ) from error
    from taskq_sql.dialects.sqlite import SqliteDialect

    return SqliteDialect(url)
