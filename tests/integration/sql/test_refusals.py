"""Of a PostgreSQL server's refusals, which come without a code, some are worth another try."""

from __future__ import annotations

import psycopg
import pytest
from sqlalchemy.exc import OperationalError

from taskq.errors import ConnectionFailed, ServerRefused, TaskqError
from taskq.url import Url
from taskq_sql.dialects.postgresql import PostgresqlDialect


def told(text: str) -> TaskqError:
    """Return what becomes of a server's refusal to connect."""
    refusal = psycopg.OperationalError(
        f'connection failed: connection to server at "127.0.0.1", port 5432 failed: FATAL:  {text}'
    )
    dialect = PostgresqlDialect(Url.parse("postgresql://shop@127.0.0.1/shop"))
    return dialect.translate(OperationalError("", None, refusal))


@pytest.mark.parametrize(
    "text",
    [
        "the database system is starting up",
        "the database system is not yet accepting connections",
        "the database system is not accepting connections",
        "the database system is shutting down",
        "the database system is in recovery mode",
        "terminating connection due to administrator command",
        "sorry, too many clients already",
        "remaining connection slots are reserved for non-replication superuser connections",
        "das Datenbanksystem startet",
    ],
)
def test_a_server_that_is_not_ready_is_worth_another_try(text: str) -> None:
    assert type(told(text)) is ConnectionFailed


@pytest.mark.parametrize(
    ("text", "cure"),
    [
        ('password authentication failed for user "shop"', "user or password were refused"),
        (
            'no pg_hba.conf entry for host "10.0.0.1", user "shop", database "shop", no encryption',
            "or pg_hba.conf",
        ),
        ('database "shop" does not exist', "create it, or correct the URL"),
        ('role "shop" does not exist', "user or password were refused"),
        ('role "shop" is not permitted to log in', "grant it"),
        ('permission denied for database "shop"', "grant it"),
    ],
)
def test_a_server_that_knows_better_refuses_with_the_cure(text: str, cure: str) -> None:
    error = told(text)

    assert isinstance(error, ServerRefused)
    assert cure in str(error)
    assert str(error).endswith(f": {text}")
