"""The first tables: messages, results, workers, and the schema's own number."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

NAME = sa.String(128)
SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create everything."""
    _create_messages()
    _create_results()
    _create_workers()
    schema = op.create_table(
        "taskq_schema",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("reader", sa.Integer, nullable=False),
    )
    op.bulk_insert(schema, [{"number": 1, "reader": 1}])


def downgrade() -> None:
    """Drop everything."""
    for table in ("taskq_schema", "taskq_worker", "taskq_result", "taskq_message"):
        op.drop_table(table)


def _create_messages() -> None:
    op.create_table(
        "taskq_message",
        sa.Column("seq", SERIAL, primary_key=True),
        sa.Column("namespace", NAME, nullable=False),
        sa.Column("id", NAME, nullable=False),
        sa.Column("queue", NAME, nullable=False),
        sa.Column("state", sa.SmallInteger, nullable=False),
        sa.Column("rank", sa.SmallInteger, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("head", sa.SmallInteger, nullable=False),
        sa.Column("priority", sa.SmallInteger, nullable=False),
        sa.Column("max_deliveries", sa.Integer, nullable=False),
        sa.Column("sent", sa.BigInteger, nullable=False),
        sa.Column("expires", sa.BigInteger),
        sa.Column("token", sa.String(32)),
        sa.Column("retries", sa.Integer, nullable=False, server_default="0"),
        sa.Column("losses", sa.Integer, nullable=False, server_default="0"),
        sa.Column("releases", sa.Integer, nullable=False, server_default="0"),
        sa.Column("run", sa.Integer, nullable=False, server_default="0"),
        sa.Column("first_released", sa.BigInteger),
        sa.Column("code", sa.String(128)),
        sa.Column("detail", sa.LargeBinary),
        sa.Column("envelope", sa.LargeBinary, nullable=False),
    )
    op.create_index("taskq_message_id", "taskq_message", ["namespace", "id"], unique=True)
    op.create_index(
        "taskq_message_place",
        "taskq_message",
        ["namespace", "queue", "state", "rank", "at", "seq"],
    )


def _create_results() -> None:
    op.create_table(
        "taskq_result",
        sa.Column("namespace", NAME, primary_key=True),
        sa.Column("id", NAME, primary_key=True),
        sa.Column("run", sa.Integer, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("ttl", sa.BigInteger, nullable=False),
        sa.Column("expires", sa.BigInteger, nullable=False),
        sa.Column("payload", sa.LargeBinary, nullable=False),
    )
    op.create_index("taskq_result_expires", "taskq_result", ["namespace", "expires"])


def _create_workers() -> None:
    op.create_table(
        "taskq_worker",
        sa.Column("namespace", NAME, primary_key=True),
        sa.Column("worker", NAME, primary_key=True),
        sa.Column("incarnation", NAME, primary_key=True),
        sa.Column("expires", sa.BigInteger, nullable=False),
        sa.Column("beat", sa.LargeBinary, nullable=False),
    )
