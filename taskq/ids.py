"""Ids of messages: UUID version 7 (RFC 9562), as text.

They sort by creation time, which keeps the indexes of a SQL broker append-only.
"""

from __future__ import annotations

from uuid_utils import uuid7


def new_id() -> str:
    """Return a new UUIDv7 in canonical text form. Thread-safe, fork-safe."""
    return str(uuid7())
