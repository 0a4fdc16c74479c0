"""Many clients at once, on real time: what they saw is recorded, and judged afterwards.

::

    this process                         each further process (`process`)
    ┌─────────── Crew ───────────┐       ┌─────────── Crew ───────────┐
    │ producers ─┐               │       │            … the same      │
    │ consumers ─┴─ list of calls│       │            list of calls   │
    └──────────────┬─────────────┘       └──────────────┬─────────────┘
                   └───────────▶ History ◀── a file ────┘
                                    │  a drain settles what is left
                                    ▼
                       Life of each message: its leases
                         │                        │
                       rules                    order
              one message at a time      messages against each other

The random machine (`taskq.testing.machine`) makes one call after the other and
knows what each has to answer. Here calls overlap, so nobody knows in which
order the server took them. Each call is recorded with the instants before and
after it, on the clock that all processes of a machine share; the server's step
lies between the two. The rules say "broken" only where every order of these
steps breaks a law, so a right broker never fails, however busy the machine is.

Consumers conclude most deliveries at once, in mixed batches. Some claims have
short leases, and are held until the lease ends, or a little longer, so that
others reclaim the messages while their first holder settles or extends them.
Some deliveries are settled by two threads of one client at the same instant.
A further process has its own clients, which it opens by the target's URL.
"""

from taskq.testing.concurrency.run import SIZES, Size, Summary, check_concurrency

__all__ = ["SIZES", "Size", "Summary", "check_concurrency"]
