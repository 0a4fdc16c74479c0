"""The schema's version: checked once per process, raised where it is behind.

An empty database gets the tables as they are now; one with older tables goes
through the migrations. Alembic is imported for those only: it takes 10 MiB
that a worker would carry for the rest of its life. Either happens in one
transaction that excludes all others, so processes that start together do it
once.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from taskq.errors import NotSupported

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from taskq_sql.statements import Statements

NUMBER: Final = 1
"""The schema these statements are written for: the newest migration's number."""
READER: Final = 1
"""The oldest taskq-sql schema whose statements still work on this one."""
VERSION_TABLE: Final = "taskq_alembic"
_MIGRATIONS: Final = Path(__file__).parent / "migrations"


def ensure(connection: Connection, statements: Statements) -> None:
    """Bring the database to the schema of this version, if it is behind.

    After an error the connection is in an unknown state: close it.

    Raises:
        NotSupported: a newer taskq has changed it in a way this one cannot use.
    """
    if _is_current(connection, statements):
        return
    connection.exec_driver_sql(statements.begin)
    if not _exists(connection, statements):
        create(connection)
    elif not _is_current(connection, statements):
        upgrade(connection)
    connection.exec_driver_sql("COMMIT")


def create(connection: Connection) -> None:
    """Make the tables of this version, in the transaction the connection is in."""
    from sqlalchemy import insert

    from taskq_sql import tables

    tables.metadata.create_all(connection, checkfirst=False)
    connection.execute(insert(tables.schema).values(number=NUMBER, reader=READER))
    connection.execute(insert(tables.alembic).values(version_num=f"{NUMBER:04}"))


def upgrade(connection: Connection) -> None:
    """Run the migrations that are due, in the transaction the connection is in."""
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory(str(_MIGRATIONS))
    with EnvironmentContext(
        Config(),
        scripts,
        fn=lambda revision, _: scripts._upgrade_revs("head", revision),
    ) as environment:
        environment.configure(connection=connection, version_table=VERSION_TABLE)
        environment.run_migrations()


def _exists(connection: Connection, statements: Statements) -> bool:
    return connection.exec_driver_sql(statements.has_schema).first() is not None


def _is_current(connection: Connection, statements: Statements) -> bool:
    if not _exists(connection, statements):
        return False
    number, reader = connection.exec_driver_sql("SELECT number, reader FROM taskq_schema").one()
    if reader > NUMBER:
        raise NotSupported(
            f"the database has schema {number} of taskq-sql, made by a newer version; this one "
            f"knows {NUMBER}; upgrade taskq-sql in every program that uses the database"
        )
    return bool(number >= NUMBER)
