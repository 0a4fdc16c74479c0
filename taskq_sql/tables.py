"""The tables, as the newest migration leaves them.

An empty database is made from them, and the tests hold them against the
migrations; all else runs the sentences of `taskq_sql.statements`.

One index, ``taskq_message_place``, serves claiming, promoting, reclaiming,
dead letters and counts: within a namespace and a queue each of them is one
bounded range of it, because `at` means, in each state, what its rows are
sorted by:

=============  =========================  ==========================================
state          level                       at (microseconds since the epoch, UTC)
=============  =========================  ==========================================
0 SCHEDULED    0                          when it is due
1 READY        9 - priority               its place: when it joined the tail, or 0,
                                          the head, if it was lost or released
2 PROCESSING   0                          when its lease ends
3 DEAD         0                          when it died
=============  =========================  ==========================================
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Column,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    String,
    Table,
)
from sqlalchemy.dialects.mysql import LONGBLOB, VARCHAR
from sqlalchemy.types import TypeEngine

from taskq_sql.naming import Names


def ascii_text(length: int) -> TypeEngine[str]:
    """Return the type of names: they are compared byte by byte."""
    return (
        String(length)
        .with_variant(String(length, "C"), "postgresql")
        .with_variant(VARCHAR(length, charset="ascii", collation="ascii_bin"), "mysql", "mariadb")
    )


NAME: Final = ascii_text(128)
SERIAL: Final = BigInteger().with_variant(Integer(), "sqlite")
NUMBERED: Final = Identity()
"""Unlike that of a SERIAL, its counter needs no right of its own."""
BYTES: Final = LargeBinary().with_variant(LONGBLOB(), "mysql", "mariadb")
INNODB: Final[dict[str, Any]] = {"mysql_engine": "InnoDB", "mariadb_engine": "InnoDB"}

# A queue leaves dead rows by what it does, not by how much waits in it. So they are
# counted; by the server's own measure, a fifth of the table, a million scheduled
# messages would keep two hundred thousand of them in the way. What is set for a table
# holds for its TOAST table as well. ("Storage Parameters" under CREATE TABLE, and
# "Routine Vacuuming", in PostgreSQL's manual.)
CHURN: Final[dict[str, Any]] = {
    "autovacuum_vacuum_scale_factor": 0,
    "autovacuum_vacuum_threshold": 5000,
    # By default all vacuums of a server share what they may do between two pauses, and
    # one of a large table holds up this one. With a setting of its own it stands apart.
    "autovacuum_vacuum_cost_delay": 0,
    # Statistics are of a moment at which everything was ready, or leased, or gone. The
    # sentences do not depend on them for what comes first, only for that `id` tells
    # messages apart and `namespace` does not: any that are there are good enough.
    "autovacuum_analyze_scale_factor": 0,
    "autovacuum_analyze_threshold": 1000,
}
MESSAGE_STORAGE: Final = CHURN | {
    # Each change moves a row within an index, so none is heap-only. Room for the next
    # version beside the last still saves 5 % of the log, 11 % when a backlog is worked
    # off, for a table a third larger; with 50 it is 7 and 16 %, for two thirds.
    "fillfactor": 70,
}
RESULT_STORAGE: Final[dict[str, Any]] = {
    # Written once, deleted once, at a steady pace; read by primary key.
    "autovacuum_vacuum_scale_factor": 0.02,
    "autovacuum_vacuum_threshold": 5000,
}


@dataclasses.dataclass(frozen=True, slots=True)
class Tables:
    """All tables of one installation."""

    metadata: MetaData
    message: Table
    result: Table
    worker: Table
    outbox: Table
    schema: Table
    alembic: Table

    @property
    def namespaced(self) -> tuple[Table, ...]:
        """Those whose rows belong to a namespace."""
        return self.message, self.result, self.worker, self.outbox


@functools.cache
def tables(names: Names = Names()) -> Tables:  # noqa: B008 - a value
    """Return the tables, called as `names` says."""
    metadata = MetaData(schema=names.schema)
    return Tables(
        metadata,
        _message(names, metadata),
        _result(names, metadata),
        _worker(names, metadata),
        _outbox(names, metadata),
        Table(
            f"{names.prefix}schema",
            metadata,
            Column("number", Integer, primary_key=True, autoincrement=False),
            Column("reader", Integer, nullable=False, comment="the oldest schema that may use it"),
            Column("identity", ascii_text(32), nullable=False, comment="tells databases apart"),
            **INNODB,
        ),
        Table(
            f"{names.prefix}alembic",
            metadata,
            # As Alembic makes it.
            Column("version_num", String(32), nullable=False),
            PrimaryKeyConstraint("version_num", name=f"{names.prefix}alembic_pkc"),
        ),
    )


def _message(names: Names, metadata: MetaData) -> Table:
    return Table(
        f"{names.prefix}message",
        metadata,
        Column("seq", SERIAL, NUMBERED, primary_key=True),
        Column("namespace", NAME, nullable=False),
        Column("id", NAME, nullable=False),
        Column("queue", NAME, nullable=False),
        Column("state", SmallInteger, nullable=False),
        Column("level", SmallInteger, nullable=False),
        Column("at", BigInteger, nullable=False),
        Column("head", SmallInteger, nullable=False, comment="1: to the head of its level if due"),
        Column("priority", SmallInteger, nullable=False),
        Column("max_deliveries", Integer, nullable=False),
        Column("sent", BigInteger, nullable=False),
        Column("expires", BigInteger),
        Column("token", ascii_text(32), comment="of the present lease"),
        Column("retries", Integer, nullable=False, server_default="0"),
        Column("losses", Integer, nullable=False, server_default="0"),
        Column("releases", Integer, nullable=False, server_default="0"),
        Column("run", Integer, nullable=False, server_default="0"),
        Column("first_released", BigInteger),
        Column("code", NAME, comment="why it is dead"),
        Column("detail", BYTES, comment="why it is dead, in UTF-8"),
        Column("envelope", BYTES, nullable=False),
        Index(f"{names.prefix}message_id", "namespace", "id", unique=True),
        Index(f"{names.prefix}message_place", "namespace", "queue", "state", "level", "at", "seq"),
        postgresql_with=MESSAGE_STORAGE,
        **INNODB,
    )


def _result(names: Names, metadata: MetaData) -> Table:
    return Table(
        f"{names.prefix}result",
        metadata,
        Column("namespace", NAME, primary_key=True),
        Column("id", NAME, primary_key=True),
        Column("run", Integer, nullable=False),
        Column("state", ascii_text(16), nullable=False),
        Column("ttl", BigInteger, nullable=False, comment="as it was stored"),
        Column("expires", BigInteger, nullable=False),
        Column("payload", BYTES, nullable=False),
        Index(f"{names.prefix}result_expires", "namespace", "expires"),
        postgresql_with=RESULT_STORAGE,
        **INNODB,
    )


def _worker(names: Names, metadata: MetaData) -> Table:
    return Table(
        f"{names.prefix}worker",
        metadata,
        Column("namespace", NAME, primary_key=True),
        Column("worker", NAME, primary_key=True),
        Column("incarnation", NAME, primary_key=True),
        Column("expires", BigInteger, nullable=False),
        Column("beat", BYTES, nullable=False),
        **INNODB,
    )


def _outbox(names: Names, metadata: MetaData) -> Table:
    return Table(
        f"{names.prefix}outbox",
        metadata,
        Column("seq", SERIAL, NUMBERED, primary_key=True),
        Column("namespace", NAME, nullable=False),
        Column("id", NAME, nullable=False),
        Column("queue", NAME, nullable=False),
        Column("priority", SmallInteger, nullable=False),
        Column("max_deliveries", Integer, nullable=False),
        Column("due", BigInteger, comment="when it may start, by the database's clock"),
        Column("expires", BigInteger),
        Column("envelope", BYTES, nullable=False),
        Column("refused", BYTES, comment="why the broker refused it, in UTF-8"),
        Column("state", SmallInteger, nullable=False, comment="0: it waits, 1: it was refused"),
        Index(f"{names.prefix}outbox_place", "namespace", "state", "seq"),
        postgresql_with=CHURN,
        **INNODB,
    )
