"""The first tables: messages, results, workers, and the schema's own number."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def _ascii_text(length: int) -> sa.types.TypeEngine[str]:
    binary = mysql.VARCHAR(length, charset="ascii", collation="ascii_bin")
    return (
        sa.String(length)
        .with_variant(sa.String(length, "C"), "postgresql")
        .with_variant(binary, "mysql", "mariadb")
    )


NAME = _ascii_text(128)
SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
BYTES = sa.LargeBinary().with_variant(mysql.LONGBLOB(), "mysql", "mariadb")
INNODB: dict[str, Any] = {"mysql_engine": "InnoDB", "mariadb_engine": "InnoDB"}
# The reasons stand in `taskq_sql.tables`.
CHURN: dict[str, Any] = {
    "autovacuum_vacuum_scale_factor": 0,
    "autovacuum_vacuum_threshold": 5000,
    "autovacuum_vacuum_cost_delay": 0,
    "autovacuum_analyze_scale_factor": 0,
    "autovacuum_analyze_threshold": 1000,
}
MESSAGE_STORAGE = CHURN | {"fillfactor": 70}
RESULT_STORAGE: dict[str, Any] = {
    "autovacuum_vacuum_scale_factor": 0.02,
    "autovacuum_vacuum_threshold": 5000,
}

_IDENTITY = {
    "postgresql": "md5(random()::text || clock_timestamp()::text)",
    "mysql": "md5(uuid())",
    "mariadb": "md5(uuid())",
    "sqlite": "lower(hex(randomblob(16)))",
}


def upgrade() -> None:
    """Create everything."""
    options = op.get_context().opts
    prefix, place = options["prefix"], {"schema": options["schema"]}
    _create_messages(prefix, place)
    _create_results(prefix, place)
    _create_workers(prefix, place)
    _create_outbox(prefix, place)
    _create_schema(prefix, place)


def downgrade() -> None:
    """Drop everything."""
    options = op.get_context().opts
    for name in ("schema", "outbox", "worker", "result", "message"):
        op.drop_table(f"{options['prefix']}{name}", schema=options["schema"])


def _create_messages(prefix: str, place: dict[str, Any]) -> None:
    name = f"{prefix}message"
    op.create_table(
        name,
        sa.Column("seq", SERIAL, sa.Identity(), primary_key=True),
        sa.Column("namespace", NAME, nullable=False),
        sa.Column("id", NAME, nullable=False),
        sa.Column("queue", NAME, nullable=False),
        sa.Column("state", sa.SmallInteger, nullable=False),
        sa.Column("level", sa.SmallInteger, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column(
            "head", sa.SmallInteger, nullable=False, comment="1: to the head of its level if due"
        ),
        sa.Column("priority", sa.SmallInteger, nullable=False),
        sa.Column("max_deliveries", sa.Integer, nullable=False),
        sa.Column("sent", sa.BigInteger, nullable=False),
        sa.Column("expires", sa.BigInteger),
        sa.Column("token", _ascii_text(32), comment="of the present lease"),
        sa.Column("retries", sa.Integer, nullable=False, server_default="0"),
        sa.Column("losses", sa.Integer, nullable=False, server_default="0"),
        sa.Column("releases", sa.Integer, nullable=False, server_default="0"),
        sa.Column("run", sa.Integer, nullable=False, server_default="0"),
        sa.Column("first_released", sa.BigInteger),
        sa.Column("code", NAME, comment="why it is dead"),
        sa.Column("detail", BYTES, comment="why it is dead, in UTF-8"),
        sa.Column("envelope", BYTES, nullable=False),
        postgresql_with=MESSAGE_STORAGE,
        **place,
        **INNODB,
    )
    op.create_index(f"{name}_id", name, ["namespace", "id"], unique=True, **place)
    columns = ["namespace", "queue", "state", "level", "at", "seq"]
    op.create_index(f"{name}_place", name, columns, **place)


def _create_results(prefix: str, place: dict[str, Any]) -> None:
    name = f"{prefix}result"
    op.create_table(
        name,
        sa.Column("namespace", NAME, primary_key=True),
        sa.Column("id", NAME, primary_key=True),
        sa.Column("run", sa.Integer, nullable=False),
        sa.Column("state", _ascii_text(16), nullable=False),
        sa.Column("ttl", sa.BigInteger, nullable=False, comment="as it was stored"),
        sa.Column("expires", sa.BigInteger, nullable=False),
        sa.Column("payload", BYTES, nullable=False),
        postgresql_with=RESULT_STORAGE,
        **place,
        **INNODB,
    )
    op.create_index(f"{name}_expires", name, ["namespace", "expires"], **place)


def _create_workers(prefix: str, place: dict[str, Any]) -> None:
    op.create_table(
        f"{prefix}worker",
        sa.Column("namespace", NAME, primary_key=True),
        sa.Column("worker", NAME, primary_key=True),
        sa.Column("incarnation", NAME, primary_key=True),
        sa.Column("expires", sa.BigInteger, nullable=False),
        sa.Column("beat", BYTES, nullable=False),
        **place,
        **INNODB,
    )


def _create_outbox(prefix: str, place: dict[str, Any]) -> None:
    name = f"{prefix}outbox"
    op.create_table(
        name,
        sa.Column("seq", SERIAL, sa.Identity(), primary_key=True),
        sa.Column("namespace", NAME, nullable=False),
        sa.Column("id", NAME, nullable=False),
        sa.Column("queue", NAME, nullable=False),
        sa.Column("priority", sa.SmallInteger, nullable=False),
        sa.Column("max_deliveries", sa.Integer, nullable=False),
        sa.Column("due", sa.BigInteger, comment="when it may start, by the database's clock"),
        sa.Column("expires", sa.BigInteger),
        sa.Column("envelope", BYTES, nullable=False),
        sa.Column("refused", BYTES, comment="why the broker refused it, in UTF-8"),
        sa.Column(
            "state", sa.SmallInteger, nullable=False, comment="0: it waits, 1: it was refused"
        ),
        postgresql_with=CHURN,
        **place,
        **INNODB,
    )
    op.create_index(f"{name}_place", name, ["namespace", "state", "seq"], **place)


def _create_schema(prefix: str, place: dict[str, Any]) -> None:
    schema = op.create_table(
        f"{prefix}schema",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column(
            "reader", sa.Integer, nullable=False, comment="the oldest schema that may use it"
        ),
        sa.Column("identity", _ascii_text(32), nullable=False, comment="tells databases apart"),
        **place,
        **INNODB,
    )
    # In SQL: the script that a DBA runs must not give every database the same one.
    identity = _IDENTITY[op.get_context().dialect.name]
    op.execute(sa.insert(schema).values(number=1, reader=1, identity=sa.text(identity)))
