"""What a worker can be told, once: name, type, default, meaning."""

from __future__ import annotations

import os
import socket
from typing import Annotated, Any, Final

import msgspec

from taskq.clock import Seconds
from taskq.errors import ImproperlyConfigured, NotSupported, UnknownOption
from taskq.names import check_name

LONGEST: Final[Seconds] = 86400.0
"""Bound of every duration; keeps infinity out, too."""
Interval = Annotated[float, msgspec.Meta(gt=0, le=LONGEST)]
Whole = Annotated[int, msgspec.Meta(ge=1)]

POOLS: Final = ("threads", "solo")
ORDERS: Final = ("rotate", "strict")
DEFAULT_THREADS: Final = 10


class WorkerOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options of one worker. Names are those of the reference design."""

    name: str = ""
    """A label; host name and process id if empty. `%h` is the host, `%p` the process id."""
    queues: tuple[str, ...] = ()
    """In order of preference; the application's default queue if empty."""
    queue_order: str = "rotate"
    """rotate: each claim starts with another queue; strict: always in the order given."""
    pool: str = "threads"
    """threads: tasks run in threads of this process; solo: one at a time, in its main thread."""
    concurrency: Whole | None = None
    """How many tasks run at once: 10 threads, or 1."""
    prefetch: Whole = 1
    """Messages claimed per slot, the running one included, while run times are
    unknown or long; 1 holds nothing waiting."""
    prefetch_max: Whole = 1000
    """Most messages claimed per slot, however short the tasks. Equal to `prefetch`: no tuning."""
    visibility_timeout: Annotated[float, msgspec.Meta(ge=0.5, le=LONGEST)] = 30.0
    """Seconds a lease lasts without being renewed: how long a dead worker's tasks wait."""
    heartbeat_interval: Interval = 5.0
    """Seconds between signs of life; after three without one the worker is off the list."""
    schedule_poll_interval: Interval = 1.0
    """Seconds between looks at what is due in queues that nobody claims from."""
    reaper_interval: Interval = 10.0
    """Seconds between looks at lost leases in such queues, and at what has had its time."""
    shutdown_grace: Annotated[float, msgspec.Meta(ge=0, le=LONGEST)] = 25.0
    """Seconds running tasks have to finish after the first signal."""

    def resolved(self, default_queue: str) -> WorkerOptions:
        """Return the options with everything that was left open filled in.

        Raises:
            ImproperlyConfigured: a value is out of range.
            NotSupported: the pool does not exist, or cannot do what was asked.
        """
        worker_options(msgspec.structs.asdict(self))
        if self.pool not in POOLS:
            raise NotSupported(f"there is no pool {self.pool!r}; choose from {', '.join(POOLS)}")
        if self.queue_order not in ORDERS:
            raise ImproperlyConfigured(f"queue_order must be one of {', '.join(ORDERS)}")
        if self.prefetch_max < self.prefetch:
            raise ImproperlyConfigured("prefetch_max must not be below prefetch")
        if self.pool == "solo" and self.concurrency not in (None, 1):
            raise NotSupported("the pool solo runs one task at a time; use -P threads for more")
        host = socket.gethostname()
        name = self.name.replace("%h", host).replace("%p", str(os.getpid()))
        queues = tuple(dict.fromkeys(self.queues or (default_queue,)))
        return msgspec.structs.replace(
            self,
            name=check_name(name or f"{host}.{os.getpid()}"[-128:], "worker"),
            queues=tuple(check_name(queue, "queue") for queue in queues),
            concurrency=self.concurrency or (1 if self.pool == "solo" else DEFAULT_THREADS),
        )


def worker_options(values: dict[str, Any]) -> WorkerOptions:
    """Return options from keywords, checked.

    Raises:
        UnknownOption: there is no such option.
        ImproperlyConfigured: a value does not fit.
    """
    known = WorkerOptions.__struct_fields__
    for key in values:
        if key not in known:
            raise UnknownOption(key, known, what="worker option")
    try:
        return msgspec.convert(values, WorkerOptions)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at ")
        name = where.strip("`$.") or "?"
        raise ImproperlyConfigured(f"worker option {name}: {what[:1].lower()}{what[1:]}") from None
