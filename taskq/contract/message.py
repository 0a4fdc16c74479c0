"""What a producer hands to a broker.

A message is two things: the *envelope*, the sender's bytes, which every
backend stores as they are (`taskq.wire.envelope` knows what is in them), and
the few fields a broker needs in order to place and count it.

The values of this package are `msgspec.Struct`s: frozen, and ten times cheaper
to make than a frozen dataclass, which counts where one is made per task.
"""

from __future__ import annotations

from typing import Final

import msgspec

from taskq.clock import Seconds, Timestamp

LOWEST: Final = 0
HIGHEST: Final = 9
DEFAULT_PRIORITY: Final = 5
DEFAULT_MAX_DELIVERIES: Final = 5


class Message(msgspec.Struct, frozen=True, gc=False):
    """One task on its way. Never changed by a broker.

    `priority` is 0 to 9, 9 the most urgent; `max_deliveries` at least 2.
    """

    id: str
    """UUIDv7 text, or any legal name the sender chose."""
    queue: str
    envelope: bytes
    """Opaque to brokers; delivered byte for byte."""
    priority: int = DEFAULT_PRIORITY
    """0 to 9; 9 is the most urgent on every backend."""
    max_deliveries: int = DEFAULT_MAX_DELIVERIES
    """At this many lost leases the message becomes a dead letter; at least 2."""


class Send(msgspec.Struct, frozen=True):
    """A message and when it may start.

    Give `delay` (from now, by the broker's clock) or `eta` (an instant), or
    neither; and `ttl` or `expires` in the same way, or neither. A time that has
    passed already is legal in both: the message is ready, or expired, at once.
    """

    message: Message
    delay: Seconds = 0.0
    eta: Timestamp | None = None
    ttl: Seconds | None = None
    expires: Timestamp | None = None
