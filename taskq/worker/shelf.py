"""Where claimed deliveries wait for a slot, and stay on record until concluded.

The hot path, `take`, is one `popleft` of a deque. Threads that find it empty
register as idle, look once more, and then block for a token; whoever adds
deliveries hands out as many tokens as there are idle slots. A token too many
wakes a slot for nothing; one too few cannot happen, because either the slot's
second look sees the delivery or the adder's count sees the slot.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Sequence
from queue import SimpleQueue

from taskq.app.request import Request
from taskq.clock import Seconds
from taskq.contract.delivery import Delivery
from taskq.worker.pace import Pace


class Held:
    """One delivery in this worker's hands."""

    __slots__ = ("delivery", "ended", "request", "shelved", "started", "until")

    def __init__(self, delivery: Delivery, shelved: float, until: float) -> None:
        self.delivery = delivery
        self.shelved = shelved
        """Monotonic time after the claim."""
        self.until = until
        """Monotonic time at which the lease is over for certain."""
        self.started = 0.0
        """Monotonic time at which a slot took it to run it; 0 until then."""
        self.ended = False
        """Its settlement is on its way."""
        self.request: Request | None = None

    def start(self, request: Request) -> None:
        """Note the run, so that it can be told of a lost lease."""
        self.request = request
        if not self.until:
            request.lost = True

    def warn(self) -> bool:
        """Tell the run that others may start the task; say whether that is news."""
        if self.request is None or self.request.lost or self.request.completed:
            return False
        self.request.lost = True
        return True

    def lose(self) -> bool:
        """Note that the lease is gone, and tell the run; say whether that is news."""
        self.until = 0.0
        return self.warn()


class Shelf:
    """The deliveries of one worker. Thread-safe."""

    def __init__(self, slots: int, pace: Pace | None = None) -> None:
        self._slots = slots
        self._pace = pace or Pace()
        self._now = self._pace.now
        self._waiting: deque[Held] = deque()
        self._held: dict[int, Held] = {}
        self._lock = threading.Lock()
        self._idle = 0
        self._tokens: SimpleQueue[None] = SimpleQueue()
        self._closed = False
        self._hungry = False
        self._low = 0
        self._refill = threading.Event()

    # -- For slots

    def take(self, *, block: bool = True) -> Held | None:
        """Return the next delivery to run, as started; None when the shelf is closed.

        Without `block` also None when nothing waits. One whose lease ended
        while it waited is not started, since somebody else may have it by now;
        the slot gives it back.
        """
        held = self._pop(block)
        if held is None:
            return None
        if self._hungry and len(self._waiting) <= self._low:
            self._hungry = False
            self._refill.set()
        now = self._now()
        if now < held.until:
            held.started = now
        return held

    def _pop(self, block: bool) -> Held | None:
        while not self._closed:
            try:
                return self._waiting.popleft()
            except IndexError:
                pass
            if not block:
                break
            self.rest()
            if not self._waiting and not self._closed:
                self._tokens.get()
            self.rise()
        return None

    def rest(self) -> None:
        """Count a slot as idle from now on."""
        with self._lock:
            self._idle += 1
        self._refill.set()

    def rise(self) -> None:
        """Count one slot less as idle."""
        with self._lock:
            self._idle -= 1

    # -- For the claimer

    @property
    def idle(self) -> int:
        """How many slots have nothing to do."""
        return self._idle

    @property
    def waiting(self) -> int:
        """How many deliveries wait for a slot."""
        return len(self._waiting)

    @property
    def room(self) -> int:
        """How many slots would be free if all that waits were started."""
        return self._idle - len(self._waiting)

    def record(self, batch: Iterable[Held]) -> None:
        """Put deliveries on record: from now on their leases are kept."""
        with self._lock:
            self._held.update((id(held.delivery), held) for held in batch)

    def add(self, batch: Sequence[Held], *, first: bool = False) -> None:
        """Let slots take what is on record; it goes to the shelf's end, or to its beginning."""
        if first:
            self._waiting.extendleft(reversed(batch))
        else:
            self._waiting.extend(batch)
        self._wake(len(batch))

    def _wake(self, count: int) -> None:
        """Wake slots for deliveries that were just put on the shelf."""
        for _ in range(min(count, self._idle)):
            self._tokens.put(None)

    def await_room(self, low: int, timeout: Seconds) -> None:
        """Wait until no more than `low` deliveries wait, or a slot is idle, or time is over."""
        self._refill.clear()
        self._low = low
        self._hungry = True
        if len(self._waiting) > low or not self._idle:
            self._refill.wait(self._pace.wait(timeout))
        self._hungry = False

    def interrupt(self) -> None:
        """End a wait for room that is under way."""
        self._refill.set()

    def take_back(self, older_than: float) -> list[Held]:
        """Remove and return what waits since before the monotonic time `older_than`.

        They stay on record, as ended, until their release is settled.
        """
        taken: list[Held] = []
        while True:
            try:
                held = self._waiting.popleft()
            except IndexError:
                return taken
            if held.shelved >= older_than:
                # A slot may have found the shelf empty just now, and gone to sleep.
                self._waiting.appendleft(held)
                self._wake(1)
                return taken
            held.ended = True
            taken.append(held)

    # -- For the lease keeper and the settler

    def held(self) -> list[Held]:
        """Return everything claimed and not yet concluded."""
        with self._lock:
            return list(self._held.values())

    def unfinished(self) -> list[Held]:
        """Return what waits for a slot or is in the hands of one."""
        return [held for held in self.held() if not held.ended]

    def running(self) -> list[Held]:
        """Return what slots are at work on."""
        return [held for held in self.unfinished() if held.started]

    def forget(self, deliveries: Sequence[Delivery]) -> None:
        """Strike concluded deliveries off the record."""
        with self._lock:
            for delivery in deliveries:
                self._held.pop(id(delivery), None)

    def close(self) -> None:
        """Let every slot end after what it is running."""
        self._closed = True
        self._refill.set()
        for _ in range(self._slots):
            self._tokens.put(None)
