"""The contract of a broker: five small roles, and one class that is all of them.

::

                  send(delay/eta)          due
    (nothing) ───────────────▶ SCHEDULED ──────▶ READY ◀──────────────┐
        │                          ▲               │ reserve          │
        └── send ──▶ READY         │               ▼                  │
                                   ├──────── PROCESSING ──────────────┤
                    Retry/Release  │   │      │      │  Release, Retry,│
                    with a delay,  │   │ Ack  │ Dead │  lease ended    │
                    2nd loss on ───┘   ▼      ▼      └─────────────────┘
                                     GONE    DEAD ── requeue_dead ──▶ READY

Components ask for the role they need; the author of a backend subclasses
`Broker`. The laws are in `taskq.contract.laws`; `taskq.testing` checks them.

How a worker uses it: one thread sits in `reserve`, others call `settle` and
`extend` at the same time, and any client of the namespace may call
`poll_schedule` and `recover_expired` at any time; nobody has to, because
`reserve` does the same for its own queues.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Protocol

from taskq.clock import Seconds, Timestamp
from taskq.contract.capabilities import Capabilities
from taskq.contract.delivery import (
    WAITING,
    Command,
    DeadLetter,
    Delivery,
    Extension,
    Heartbeat,
    QueueStats,
    State,
)
from taskq.contract.message import Message, Send
from taskq.contract.settlement import Ack, Dead, Retry, Settlement


class Producer(Protocol):
    """Brings messages in."""

    def send(self, items: Sequence[Send], /, *, timeout: Seconds = 10.0) -> None: ...


class Consumer(Protocol):
    """Takes messages out, and concludes them."""

    def reserve(
        self, queues: Sequence[str], /, *, limit: int, lease: Seconds, wait: Seconds = 0.0
    ) -> list[Delivery]: ...

    def settle(self, settlements: Sequence[Settlement], /) -> list[Delivery]: ...

    def extend(self, deliveries: Sequence[Delivery], /, *, lease: Seconds) -> Extension: ...


class Maintenance(Protocol):
    """Moves in bulk what time has moved. 0 is an honest answer."""

    def poll_schedule(self, *, limit: int = 1000) -> int: ...

    def recover_expired(self, *, limit: int = 1000) -> int: ...

    def expire_dead(self, *, older_than: Seconds, limit: int = 1000) -> int: ...


class Registry(Protocol):
    """Knows which workers are alive."""

    def send_heartbeat(self, beat: Heartbeat, /, *, ttl: Seconds) -> list[Command]: ...

    def list_alive_workers(self) -> list[Heartbeat]: ...


class Inspector(Protocol):
    """Shows an operator what there is, and lets him change it."""

    def stats(self) -> list[QueueStats]: ...

    def locate(self, ids: Sequence[str], /) -> dict[str, State]: ...

    def dead_letters(
        self, queue: str, /, *, limit: int = 100, after: DeadLetter | None = None
    ) -> list[DeadLetter]: ...

    def requeue_dead(self, queue: str, ids: Sequence[str], /) -> int: ...

    def purge_dead(self, queue: str, ids: Sequence[str] | None = None, /) -> int: ...

    def purge(self, queue: str, /, *, states: frozenset[State] = WAITING) -> int: ...


class Broker(ABC):
    """One client of one namespace of one broker.

    Thread-safe, and usable in a child process after a fork, which both sides of
    it may do at the same time (law: L1). Settle with the object that reserved.
    No method waits for a server longer than its own `timeout` argument or the
    one the client was opened with.

    Every method may raise `ConnectionFailed` (nothing happened),
    `OutcomeUnknown` (it may have), `ServerRefused` or `Closed`. All but
    `reserve` and `requeue_dead` may be repeated after an unknown outcome
    without harm; what an interrupted `reserve` claimed comes back when its
    lease ends. A settlement repeated after an unknown outcome is returned as
    lost if the first attempt had been carried out. Where `unique_ids` is denied,
    what failed half-way may have left a second copy, and so may its repetition.
    """

    capabilities: ClassVar[Capabilities] = Capabilities()

    # -- Producer

    @abstractmethod
    def send(self, items: Sequence[Send], /, *, timeout: Seconds = 10.0) -> None:
        """Accept the messages, in order.

        A batch is not a transaction. An id that exists already, as a message
        or as a stored result, is skipped: the first content stays.

        Laws: L1, L2, L9, L15.

        Raises:
            SendError: not all were accepted within `timeout` seconds.
        """

    def schedule(self, message: Message, /, *, eta: Timestamp) -> None:
        """Send one message that starts no earlier than the instant `eta`."""
        self.send([Send(message, eta=eta)])

    # -- Consumer

    @abstractmethod
    def reserve(
        self, queues: Sequence[str], /, *, limit: int, lease: Seconds, wait: Seconds = 0.0
    ) -> list[Delivery]:
        """Claim up to `limit` messages for `lease` seconds.

        `limit` is filled from the queues in the order given, within a queue by
        priority, and the list that is returned is in that order. The claim is
        one atomic step of the server, which records token, lease and counters
        before the messages leave it, and which first moves what is due and
        what was lost, looking at no fewer than `limit` of each in every queue.
        If nothing can be claimed, waits up to `wait` seconds for something,
        then returns []. Where `timed_leases` is denied, it takes back what this
        client itself has lost, and what lost its holder's connection it lets rest
        for `lease` seconds.

        Laws: L3, L5, L6, L7, L8, L9, L10, L11, L12, L18, L24, L28.
        """

    @abstractmethod
    def settle(self, settlements: Sequence[Settlement], /) -> list[Delivery]:
        """Conclude deliveries; return those whose lease was lost before.

        Their results are stored in the same step. A broker whose plugin keeps no
        results at its URL ignores them: nobody could read or expire them there.

        Laws: L4, L10, L11, L13, L14, L16, L17.
        """

    @abstractmethod
    def extend(self, deliveries: Sequence[Delivery], /, *, lease: Seconds) -> Extension:
        """Let leases end `lease` seconds from now. Laws: L3, L4."""

    @abstractmethod
    def interrupt(self) -> None:
        """End a waiting `reserve`, and keep later ones from claiming.

        May be called from any thread. Lasts until `close`. Law: L24.
        """

    def ack(self, delivery: Delivery, /) -> bool:
        """Conclude one delivery as done; say whether the lease still held."""
        return not self.settle([Ack(delivery)])

    def nack(self, delivery: Delivery, /, *, delay: Seconds = 0.0) -> bool:
        """Give one delivery back to be retried; say whether the lease still held."""
        return not self.settle([Retry(delivery, delay=delay)])

    def dead(self, delivery: Delivery, /, *, code: str, detail: str = "") -> bool:
        """Make one delivery a dead letter; say whether the lease still held."""
        return not self.settle([Dead(delivery, code, detail)])

    # -- Maintenance

    @abstractmethod
    def poll_schedule(self, *, limit: int = 1000) -> int:
        """Make up to `limit` due messages of any queue ready; return how many. Law: L26."""

    @abstractmethod
    def recover_expired(self, *, limit: int = 1000) -> int:
        """Reclaim up to `limit` messages whose lease has ended; return how many. Law: L26.

        Where `timed_leases` is denied, those of this client alone.
        """

    @abstractmethod
    def expire_dead(self, *, older_than: Seconds, limit: int = 1000) -> int:
        """Drop up to `limit` dead letters that died over `older_than` seconds ago. Law: L29."""

    # -- Registry

    @abstractmethod
    def send_heartbeat(self, beat: Heartbeat, /, *, ttl: Seconds) -> list[Command]:
        """List the worker as alive for `ttl` seconds; return what is asked of it. Law: L23."""

    @abstractmethod
    def list_alive_workers(self) -> list[Heartbeat]:
        """Return the last heartbeat of each live worker, sorted by name. Law: L23."""

    # -- Inspector

    @abstractmethod
    def stats(self) -> list[QueueStats]:
        """Count the messages of each queue that has any, sorted by name.

        A message whose time has come, or whose lease has ended, may be counted
        where it was until a claim or maintenance moves it. Law: L21.
        """

    @abstractmethod
    def locate(self, ids: Sequence[str], /) -> dict[str, State]:
        """Tell the states of messages; those that do not exist are left out. Law: L22.

        Raises:
            NotSupported: `capabilities.locate` is False.
        """

    @abstractmethod
    def dead_letters(
        self, queue: str, /, *, limit: int = 100, after: DeadLetter | None = None
    ) -> list[DeadLetter]:
        """List up to `limit` dead letters, oldest first, from behind `after`. Law: L19."""

    @abstractmethod
    def requeue_dead(self, queue: str, ids: Sequence[str], /) -> int:
        """Make dead letters ready again, as if new; return how many there were.

        Law: L19. Only their expiry stays what the sender said; one that has passed is
        delivered as expired.
        """

    @abstractmethod
    def purge_dead(self, queue: str, ids: Sequence[str] | None = None, /) -> int:
        """Drop the dead letters with these ids, or all; return how many. Law: L13."""

    @abstractmethod
    def purge(self, queue: str, /, *, states: frozenset[State] = WAITING) -> int:
        """Drop waiting messages; return how many. Law: L20.

        Raises:
            ValueError: `states` holds another state than SCHEDULED and READY.
        """

    # -- Life cycle

    @abstractmethod
    def check(self) -> list[str]:
        """Contact the server; return what an operator should know.

        One sentence for each way in which the server keeps less than taskq
        promises, such as a log that is not flushed.

        Raises:
            NotSupported: the server cannot be used as it is set up.
        """

    @abstractmethod
    def close(self) -> None:
        """Close the client. Leases it holds end as if it had died. Law: L25."""
