"""`taskq sql`: the tables in a database server, for the operator who owns them.

SQLite files make theirs by themselves.
"""

from __future__ import annotations

import io

import click
from sqlalchemy.exc import DBAPIError

from taskq.errors import ImproperlyConfigured, UnknownScheme
from taskq.url import Url
from taskq_sql import schema
from taskq_sql.dialects import Dialect
from taskq_sql.dialects.choice import dialect_of
from taskq_sql.plugin import SCHEMES

url_argument = click.argument("url", envvar="TASKQ_BROKER_URL")


@click.group()
def sql() -> None:
    """Look after taskq's tables in a database.

    URL is the broker's, or the result store's; it may also stand in
    TASKQ_BROKER_URL. SQLite files look after themselves.
    """


@sql.command()
@url_argument
def upgrade(url: str) -> None:
    """Make the tables, or bring them to what this version needs.

    Programs of the version before may go on meanwhile, unless the change log
    says otherwise. It may be run by many at once.
    """
    dialect = _dialect(url)
    before = _find(dialect)
    if before.usable:
        click.echo(f"nothing to do: the database has schema {before.number}")
        return
    try:
        schema.make(dialect)
    except DBAPIError as error:
        raise dialect.translate(error) from error
    click.echo(f"the database has schema {schema.NUMBER} now; it had {before.number or 'none'}")


@sql.command()
@url_argument
def current(url: str) -> None:
    """Say which schema the database has, and which this version needs."""
    dialect = _dialect(url)
    found = _find(dialect)
    has = f"schema {found.number}" if found.number else f"no tables called {dialect.names}"
    click.echo(f"the database has {has}; this version needs {schema.NUMBER}")


@sql.command()
@url_argument
def check(url: str) -> None:
    """End with 0 if this version can use the database as it is, else with 1."""
    dialect = _dialect(url)
    found = _find(dialect)
    if found.usable:
        click.echo(f"the database has schema {found.number}, which this version can use")
        return
    cure = (
        "upgrade taskq-sql in this environment"
        if found.number > schema.NUMBER
        else f"run: taskq sql upgrade '{Url.parse(url)}'"
    )
    has = f"schema {found.number}" if found.number else f"no tables called {dialect.names}"
    click.echo(f"the database has {has}, and this version needs {schema.NUMBER}; {cure}", err=True)
    click.get_current_context().exit(1)


@sql.command("sql")
@url_argument
def statements(url: str) -> None:
    """Print the SQL that makes the tables, for somebody who may not run taskq there.

    The database is not contacted: postgresql://host/database is enough.
    """
    output = io.StringIO()
    schema.script(_dialect(url), output)
    click.echo(output.getvalue().strip())


def _dialect(text: str) -> Dialect:
    url = Url.parse(text)
    if url.scheme not in SCHEMES:
        raise UnknownScheme(
            f"{url.scheme}:// is no database of taskq-sql; it knows: {', '.join(SCHEMES)}"
        )
    if url.scheme == "sqlite":
        raise ImproperlyConfigured("a SQLite file gets its tables when it is first used")
    return dialect_of(url)


def _find(dialect: Dialect) -> schema.Found:
    try:
        return schema.find(dialect)
    except DBAPIError as error:
        raise dialect.translate(error) from error
