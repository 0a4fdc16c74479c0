"""The conformance kit's way to a SQL database: one namespace per example.

A URL without a path (``sqlite://``) means a file in a temporary folder that
lives as long as the target, without flushing: the kit tests laws, not disks.
"""

from __future__ import annotations

import tempfile
from contextlib import closing
from functools import partial

from sqlalchemy import Table, delete, func, select

from taskq.plugins import Plugins
from taskq.testing.target import UrlTarget
from taskq.url import Url
from taskq_sql.engine import Session, open_database
from taskq_sql.tables import NAMESPACED


class SqlTarget(UrlTarget):
    """A database that the kit may fill, count and wipe."""

    def __init__(self, url: str | Url, plugins: Plugins | None = None) -> None:
        super().__init__(url, plugins)
        if not self.url.path:
            self._folder = tempfile.TemporaryDirectory(prefix="taskq-kit-")
            query = {"synchronous": "off", **self.url.query}
            self.url = self.url.replace(path=f"/{self._folder.name}/kit.db", query=query)

    def footprint(self) -> list[str]:
        def count(session: Session, table: Table) -> int:
            query = select(func.count()).where(table.c.namespace == self.url.namespace)
            return session.connection.execute(query).scalar_one()

        with closing(open_database(self.url, self.clock)) as database:
            counts = {
                table.name: database.read(partial(count, table=table)) for table in NAMESPACED
            }
        return [f"{count} rows in {name}" for name, count in counts.items() if count]

    def wipe(self) -> None:
        def empty(session: Session) -> None:
            for table in NAMESPACED:
                query = delete(table).where(table.c.namespace == self.url.namespace)
                session.connection.execute(query)

        with closing(open_database(self.url, self.clock)) as database:
            database.transact(empty)
