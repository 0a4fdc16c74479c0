"""What a backend can do, as values.

Everything is True unless the server makes it impossible. Core reads two of
them (`unique_ids` before it repeats a send, `locate` before it asks); the
conformance kit verifies each, claims and denials alike.

Where `timed_leases` is denied, a lease is tied to its holder's connection:

- While that lives, nobody but the holder ends the lease. After its end the
  holder's own next `reserve` or `recover_expired` takes the message back, with
  all that this means elsewhere; until then it can be settled and extended.
- When the connection is lost, at the holder's death or for a moment, the server
  gives the message back at once, while the holder may still be at work. A
  `reserve` that finds it does not return it: it counts the loss, and lets it rest
  for the lease that was asked for, and for its backoff. Then it comes like any
  other, before those that were never delivered. `recover_expired` finds nothing.

Where `unique_ids` is denied too, a settlement may be a copy and then the end of
the original. So a step whose outcome is unknown may leave a second copy, never
none: of the message, of an ack's successors, of a requeued dead letter. All laws
hold for each copy, and who acks one has not acked the other.
"""

from __future__ import annotations

import msgspec


class Capabilities(msgspec.Struct, frozen=True):
    """The facts about a backend that its users can notice."""

    unique_ids: bool = True
    """Sending an id again while its message or its result exists changes nothing. Without this
    a step that failed half-way may leave a second copy."""
    locate: bool = True
    """`locate` finds a message by id, and `stats` knows the age of the next one."""
    server_time: bool = True
    """Absolute etas and expiries are judged by the server's clock."""
    timed_leases: bool = True
    """A lease ends by time alone, whatever becomes of its holder's connection. Without this
    a lost connection costs a loss, and the message rests for a lease once a claim has found it."""
