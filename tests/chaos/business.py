"""A program's own table in the database that is the broker."""

from __future__ import annotations

import functools
from typing import Final

from sqlalchemy import Connection, Engine, create_engine, make_url, text

import taskq_sql
from taskq.url import Url

_DRIVERS: Final = {
    "sqlite": "sqlite",
    "postgresql": "postgresql+psycopg",
    "mariadb": "mariadb+pymysql",
}


@functools.cache
def engine_of(url: str, pid: int) -> Engine:
    """Return the program's engine for a broker's URL, as the program would make it."""
    broker = Url.parse(url)
    plain = broker.replace(scheme="sqlite", query={}, namespace="taskq").reveal()
    engine = create_engine(make_url(plain).set(drivername=_DRIVERS[broker.scheme]))
    taskq_sql.prepare(engine)
    return engine


class Business:
    """A table of numbers, and what else is in the database at the same instant."""

    def __init__(self, engine: Engine, name: str) -> None:
        self.engine = engine
        self.name = name

    def create(self) -> None:
        with self.engine.begin() as connection:
            connection.execute(text(f"CREATE TABLE {self.name} (task VARCHAR(64) PRIMARY KEY)"))

    def drop(self) -> None:
        with self.engine.begin() as connection:
            connection.execute(text(f"DROP TABLE {self.name}"))

    def add(self, connection: Connection, task: str) -> None:
        """Write the row of a task; an error if it is there."""
        connection.execute(text(f"INSERT INTO {self.name} VALUES (:task)"), {"task": task})

    def rows(self) -> set[str]:
        with self.engine.connect() as connection:
            return set(connection.execute(text(f"SELECT task FROM {self.name}")).scalars())

    def with_message(self) -> list[str]:
        """Return the rows whose task's message is there as well, at one instant."""
        query = f"SELECT task FROM {self.name} JOIN taskq_message ON id = task"
        with self.engine.connect() as connection:
            return list(connection.execute(text(query)).scalars())
