"""The tables, as the newest migration leaves them.

An empty database is made from them, and the tests hold them against the
migrations; all else runs the sentences of `taskq_sql.statements`.

One index, ``taskq_message_place``, serves claiming, promoting, reclaiming,
dead letters and counts: within a namespace and a queue each of them is one
bounded range of it, because `at` means, in each state, what its rows are
sorted by:

=============  =========================  ==========================================
state          rank                       at (microseconds since the epoch, UTC)
=============  =========================  ==========================================
0 SCHEDULED    0                          when it is due
1 READY        9 - priority               its place: when it joined the tail, or 0,
                                          the head, if it was lost or released
2 PROCESSING   0                          when its lease ends
3 DEAD         0                          when it died
=============  =========================  ==========================================
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
)

NAME: Final = String(128)
SERIAL: Final = BigInteger().with_variant(Integer(), "sqlite")
metadata: Final = MetaData()

message: Final = Table(
    "taskq_message",
    metadata,
    Column("seq", SERIAL, primary_key=True),
    Column("namespace", NAME, nullable=False),
    Column("id", NAME, nullable=False),
    Column("queue", NAME, nullable=False),
    Column("state", SmallInteger, nullable=False),
    Column("rank", SmallInteger, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("head", SmallInteger, nullable=False, comment="1: to the head of its level when due"),
    Column("priority", SmallInteger, nullable=False),
    Column("max_deliveries", Integer, nullable=False),
    Column("sent", BigInteger, nullable=False),
    Column("expires", BigInteger),
    Column("token", String(32), comment="of the present lease"),
    Column("retries", Integer, nullable=False, server_default="0"),
    Column("losses", Integer, nullable=False, server_default="0"),
    Column("releases", Integer, nullable=False, server_default="0"),
    Column("run", Integer, nullable=False, server_default="0"),
    Column("first_released", BigInteger),
    Column("code", String(128), comment="why it is dead"),
    Column("detail", LargeBinary, comment="why it is dead, in UTF-8"),
    Column("envelope", LargeBinary, nullable=False),
    Index("taskq_message_id", "namespace", "id", unique=True),
    Index("taskq_message_place", "namespace", "queue", "state", "rank", "at", "seq"),
)

result: Final = Table(
    "taskq_result",
    metadata,
    Column("namespace", NAME, primary_key=True),
    Column("id", NAME, primary_key=True),
    Column("run", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("ttl", BigInteger, nullable=False, comment="as it was stored"),
    Column("expires", BigInteger, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Index("taskq_result_expires", "namespace", "expires"),
)

worker: Final = Table(
    "taskq_worker",
    metadata,
    Column("namespace", NAME, primary_key=True),
    Column("worker", NAME, primary_key=True),
    Column("incarnation", NAME, primary_key=True),
    Column("expires", BigInteger, nullable=False),
    Column("beat", LargeBinary, nullable=False),
)

schema: Final = Table(
    "taskq_schema",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("reader", Integer, nullable=False, comment="the oldest taskq schema that may use it"),
)

alembic: Final = Table(
    "taskq_alembic",
    metadata,
    Column("version_num", String(32), primary_key=True, comment="Alembic's own"),
)

NAMESPACED: Final = (message, result, worker)
"""The tables whose rows belong to a namespace."""
