"""The worker: claims messages, runs tasks, concludes deliveries.

::

      broker ──reserve──▶ Claimer ──▶ Shelf ──▶ slots of the pool ──▶ Executor
        ▲  ▲                            │ held                          │
        │  └───extend── LeaseKeeper ◀───┘                               │
        └──────settle── Settler ◀───────────────── settlements ─────────┘

A worker is a handful of services, each with one job, a thread and a step that
tests can call (`taskq.worker.service`). They meet in two places only: the
*shelf*, where claimed deliveries wait for a slot and are accounted for until
they are concluded, and the settler's queue. Broker trouble is waited out in
one place (`taskq.worker.outage`). A service that dies of anything else stops
the worker, which says which one and exits with an error. Beside the lease
keeper stands a fence that asks no broker: it tells tasks whose leases are
running out, even while every call hangs.
"""
