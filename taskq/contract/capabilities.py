"""What a backend can do, as values.

Everything is True unless the server makes it impossible. Core reads two of
them (`unique_ids` before it repeats a send, `locate` before it asks); the
conformance kit verifies each, claims and denials alike.
"""

from __future__ import annotations

import msgspec


class Capabilities(msgspec.Struct, frozen=True):
    """The facts about a backend that its users can notice."""

    unique_ids: bool = True
    """Sending an id again while its message or its result exists changes nothing."""
    locate: bool = True
    """`locate` finds a message by id."""
    server_time: bool = True
    """Absolute etas and expiries are judged by the server's clock."""
    timed_leases: bool = True
    """A lease ends by time alone, whatever becomes of its holder's connection."""
