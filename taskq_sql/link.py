"""What a client has open in one process: two connections, made when they are needed."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from taskq.clock import Seconds
from taskq_sql import schema
from taskq_sql.dialects import Dialect
from taskq_sql.lanes import Lane
from taskq_sql.site import Site

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine


class Link:
    """What one process has open."""

    def __init__(self, dialect: Dialect, site: Site) -> None:
        self._dialect = dialect
        self._engine: Engine | None = None
        self._current = False
        """The schema was found to be this version's."""
        self._patience = threading.local()
        self._lost = 0
        """How often a connection was lost: those opened before are lost as well."""
        self.site = site
        self.writing = Lane(site.writing if dialect.exclusive else threading.Lock())
        self.reading = Lane(threading.Lock())

    def connect(self, lane: Lane, left: Seconds) -> Connection:
        """Return the lane's connection; call it with the lane's lock held.

        To connect, and each answer then, may take as long as is left.
        """
        self._patience.left = left
        if lane.connection is not None and lane.opened < self._lost:
            lane.drop()
        if lane.connection is None:
            lane.opened = self._lost
            if self._engine is None:
                # What the engine is given must not lead back here: engines outlive their clients.
                patience = self._patience
                self._engine = self._dialect.engine(lambda: patience.left)
            lane.connection = self._engine.connect()
            try:
                self._dialect.prepare(lane.connection, reading=lane is self.reading)
                if not self._current:
                    schema.ensure(lane.connection, self._dialect)
            except BaseException:
                lane.drop()
                raise
            self._current = True
        self._dialect.limit(lane.connection, left)
        return lane.connection

    def lose(self, lane: Lane) -> None:
        """Take in that a connection was lost: the other one is of no use either."""
        lane.drop()
        self._lost += 1
