"""The schema's version: checked once per process, raised where it is behind.

An empty database gets the tables as they are now; one with older tables goes
through the migrations. Alembic is imported for those only: it takes 10 MiB
that a worker would carry for the rest of its life. Either happens in one
transaction that excludes all others, so processes that start together do it
once. A server of MySQL or MariaDB ends a transaction at each table; there a lock
excludes the others, and what somebody left half made is completed.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TextIO

from taskq.errors import ImproperlyConfigured, NotSupported
from taskq_sql.moves import nonce

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from taskq_sql.dialects import Dialect
    from taskq_sql.naming import Names

NUMBER: Final = 1
"""The schema these statements are written for: the newest migration's number."""
READER: Final = 1
"""The oldest taskq-sql schema whose statements still work on this one."""
_MIGRATIONS: Final = Path(__file__).parent / "migrations"


class Found(NamedTuple):
    """The schema of a database."""

    number: int
    """0: there is none."""
    reader: int
    """The oldest taskq-sql schema that may use it."""

    @property
    def usable(self) -> bool:
        """Whether the statements of this version work on it."""
        return self.number >= NUMBER >= self.reader


def ensure(connection: Connection, dialect: Dialect) -> None:
    """Bring the database to the schema of this version, if it is behind.

    After an error the connection is in an unknown state: close it.

    Raises:
        NotSupported: a newer taskq has changed it in a way this one cannot use.
        ImproperlyConfigured: it is behind, and on a server only its operator changes it.
    """
    found = _read(connection, dialect)
    if found.usable:
        return
    _refuse_newer(found)
    if not dialect.creates:
        raise _behind(found, dialect)
    _raise_to_ours(connection, dialect)


def admit(connection: Connection, dialect: Dialect) -> None:
    """Look whether a caller's transaction finds tables that this version can use.

    In a SQLite file they are made, as part of the transaction.

    Raises:
        NotSupported: a newer taskq has changed it in a way this one cannot use.
        ImproperlyConfigured: they are missing, or too old.
    """
    found = _read(connection, dialect)
    if found.usable:
        return
    _refuse_newer(found)
    if not dialect.creates:
        raise _behind(found, dialect)
    _bring_up(connection, dialect, found)


def make(dialect: Dialect) -> None:
    """Bring a server's database to the schema of this version. Safe in many processes at once.

    Raises:
        NotSupported: a newer taskq has changed it in a way this one cannot use.
    """
    engine = dialect.engine()
    with engine.connect() as connection:
        dialect.prepare(connection)
        _raise_to_ours(connection, dialect)
    engine.dispose()


def _raise_to_ours(connection: Connection, dialect: Dialect) -> None:
    connection.exec_driver_sql(dialect.statements.begin)
    dialect.lock_schema(connection)
    found = _read(connection, dialect)
    _refuse_newer(found)
    _bring_up(connection, dialect, found)
    connection.exec_driver_sql("COMMIT")


def _bring_up(connection: Connection, dialect: Dialect, found: Found) -> None:
    if not found.number:
        create(connection, dialect.names)
    elif found.number < NUMBER:
        upgrade(connection, dialect.names)


def create(connection: Connection, names: Names) -> None:
    """Make the tables of this version, or those of them that are missing.

    It happens in the transaction the connection is in, where the database has
    such transactions. The number comes last: until then there is no schema.
    """
    from sqlalchemy import delete, insert, inspect
    from sqlalchemy.schema import CreateSchema

    from taskq_sql.tables import tables

    if names.schema and not inspect(connection).has_schema(names.schema):
        connection.execute(CreateSchema(names.schema))
    ours = tables(names)
    for table in ours.metadata.tables.values():
        table.create(connection, checkfirst=True)
        for index in table.indexes:
            index.create(connection, checkfirst=True)
    for table, row in (
        (ours.alembic, {"version_num": f"{NUMBER:04}"}),
        (ours.schema, {"number": NUMBER, "reader": READER, "identity": nonce()}),
    ):
        connection.execute(delete(table))
        connection.execute(insert(table).values(row))


def upgrade(connection: Connection, names: Names) -> None:
    """Run the migrations that are due, in the transaction the connection is in."""
    _migrate(names, connection=connection)


def script(dialect: Dialect, output: TextIO) -> None:
    """Write what makes the tables from nothing, for somebody who runs it by hand."""
    if dialect.names.schema:
        output.write(f'CREATE SCHEMA IF NOT EXISTS "{dialect.names.schema}";\n\n')
    _migrate(
        dialect.names,
        dialect_name=dialect.family,
        output_buffer=output,
        as_sql=True,
        dialect_opts={"paramstyle": "named"},
        literal_binds=True,
    )


def _migrate(names: Names, *, as_sql: bool = False, **options: Any) -> None:
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory(str(_MIGRATIONS))
    with EnvironmentContext(
        Config(),
        scripts,
        fn=lambda revision, _: scripts._upgrade_revs("head", revision),
        as_sql=as_sql,
    ) as environment:
        environment.configure(
            version_table=f"{names.prefix}alembic",
            version_table_schema=names.schema,
            # For the migrations: `op.get_context().opts` has them.
            prefix=names.prefix,
            schema=names.schema,
            **options,
        )
        # Who runs the script has no transaction yet.
        with environment.begin_transaction() if as_sql else contextlib.nullcontext():
            environment.run_migrations()


def find(dialect: Dialect) -> Found:
    """Look which schema a database has, changing nothing."""
    engine = dialect.engine()
    with engine.connect() as connection:
        dialect.prepare(connection)
        return _read(connection, dialect)


def _read(connection: Connection, dialect: Dialect) -> Found:
    if connection.exec_driver_sql(dialect.statements.has_schema).first() is None:
        return Found(0, 0)
    row = connection.exec_driver_sql(dialect.statements.select_schema).first()
    # Somebody who made the tables came no further.
    return Found(0, 0) if row is None else Found(*row)


def _behind(found: Found, dialect: Dialect) -> ImproperlyConfigured:
    lacks = (
        f"has schema {found.number} of taskq-sql, and this version needs {NUMBER}"
        if found.number
        else f"has no tables called {dialect.names}"
    )
    return ImproperlyConfigured(
        f"the database {lacks}; make them with: taskq sql upgrade DATABASE_URL"
    )


def _refuse_newer(found: Found) -> None:
    if found.reader > NUMBER:
        raise NotSupported(
            f"the database has schema {found.number} of taskq-sql, made by a newer version; this "
            f"one knows {NUMBER}; upgrade taskq-sql in every program that uses the database"
        )
