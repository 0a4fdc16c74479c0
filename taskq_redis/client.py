"""A thread-safe client of one server: a pool of links, scripts, and errors.

Nothing is repeated here, since a script is not idempotent; the one exception
is a script the server does not know yet, which has certainly not run.
"""

from __future__ import annotations

import collections
import contextlib
import os
import re
import time
from collections.abc import Iterator, Sequence
from typing import Any, Final

from taskq.clock import Seconds
from taskq.errors import BrokerError, Closed, ConnectionFailed, OutcomeUnknown, ServerRefused
from taskq_redis.connection import Argument, Interrupt, Link, ReplyError, pack
from taskq_redis.options import Options
from taskq_redis.scripts import Script

IDLE_LIMIT: Final = 16
"""Links kept for later; more only while more threads use them at once."""

_CURES: Final = {
    "OOM": "its memory is full; raise maxmemory or drain the queues",
    "MISCONF": "it cannot save to disk; free disk space or see its log",
    "READONLY": "it is a replica; connect to the primary",
    "BUSY": "a script of somebody blocks it; end that with SCRIPT KILL",
    "WRONGTYPE": "another program uses a key of this namespace; choose another namespace",
    "NOAUTH": "it wants a password; put one into the URL",
    "NOPERM": "the user lacks a permission; grant it by ACL SETUSER",
    "MOVED": "the namespace lives on another node of the cluster; connect to that one",
    "CLUSTERDOWN": "the cluster is down",
    "NOREPLICAS": "too few replicas are connected to accept writes",
}
_CODE: Final = re.compile(rf"\b({'|'.join(_CURES)})\b")
_NOT_YET: Final = ("LOADING", "MASTERDOWN")


@contextlib.contextmanager
def after(done: int) -> Iterator[None]:
    """Run one step of many: after `done` others, "nothing happened" is not true.

    Raises:
        OutcomeUnknown: the step failed, and others had been carried out.
    """
    try:
        yield
    except (ConnectionFailed, ServerRefused) as error:
        if done:
            raise OutcomeUnknown(f"carried out in part, then: {error}") from error
        raise


class _Idle:
    """The idle links of one process."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.links: collections.deque[Link] = collections.deque()


class Client:
    """Talks to one server. Thread-safe, and usable in a child process after a fork.

    Without locks: a deque's methods are atomic, and a lock could be held by a
    thread that a forked child does not have.
    """

    def __init__(self, options: Options) -> None:
        self.options = options
        self.closed = False
        self._name = str(options.url)
        self._idle = _Idle()

    def deadline(self) -> float:
        """Return when a call that begins now must end, on the monotonic clock."""
        return time.monotonic() + self.options.timeout

    def command(self, *command: Argument) -> Any:
        """Return the answer to a command; raises as `run`."""
        deadline = self.deadline()
        with self.link(deadline) as link:
            return self._checked(link, link.request(pack(*command), deadline))

    def run(
        self,
        script: Script,
        keys: Sequence[str],
        arguments: Sequence[Argument],
        *,
        deadline: float | None = None,
        interrupt: Interrupt | None = None,
    ) -> Any:
        """Return the answer of a script.

        Raises:
            ConnectionFailed: it did not run.
            OutcomeUnknown: it may have run.
            ServerRefused: the server said no.
            Interrupted: `interrupt` was set before the answer came.
            Closed: the client is closed.
        """
        deadline = self.deadline() if deadline is None else deadline
        rest = (len(keys), *keys, *arguments)
        with self.link(deadline, interrupt) as link:
            packed = pack("EVALSHA", script.sha, *rest)
            reply = link.request(packed, deadline, interrupt)
            if isinstance(reply, ReplyError) and str(reply).startswith("NOSCRIPT"):
                packed = pack("EVAL", script.body, *rest)
                reply = link.request(packed, deadline, interrupt)
            return self._checked(link, reply)

    def block(self, command: Sequence[Argument], seconds: Seconds, interrupt: Interrupt) -> None:
        """Sit in a blocking command that the server ends after `seconds`.

        Raises as `run`; after an interruption the command goes with its link.
        """
        deadline = time.monotonic() + seconds + self.options.timeout
        with interrupt.watch() as alarm, self.link(self.deadline(), interrupt) as link:
            link.write(pack(*command), deadline)
            link.await_data(deadline - time.monotonic(), alarm)
            self._checked(link, link.read(deadline))

    @contextlib.contextmanager
    def link(self, deadline: float, interrupt: Interrupt | None = None) -> Iterator[Link]:
        """Lend a link: an idle one that is still sound, else a new one.

        Leave it open only if every answer was read.
        """
        link = self._take() or self._connect(deadline, interrupt)
        try:
            yield link
        except BrokerError:
            # Raised by the link, which is closed then, or for an answer that was read.
            self._give(link)
            raise
        except BaseException:
            link.close()
            raise
        self._give(link)

    def close(self) -> None:
        """Close what is idle; what is in use closes when it is given back."""
        self.closed = True
        self._drop_idle()

    def _take(self) -> Link | None:
        if self.closed:
            raise Closed
        idle = self._idle
        if idle.pid != os.getpid():
            self._drop_idle()
            idle = self._idle = _Idle()
        while True:
            try:
                link = idle.links.pop()
            except IndexError:
                return None
            if not link.is_stale():
                return link
            link.close()

    def _give(self, link: Link) -> None:
        idle = self._idle
        if link.closed:
            return
        if self.closed or idle.pid != link.pid or len(idle.links) >= IDLE_LIMIT:
            link.close()
        else:
            idle.links.append(link)

    def _drop_idle(self) -> None:
        links = self._idle.links
        while links:
            with contextlib.suppress(IndexError):
                links.pop().close()

    def _connect(self, deadline: float, interrupt: Interrupt | None) -> Link:
        left = deadline - time.monotonic()
        if left <= 0:
            raise ConnectionFailed(f"no time is left to connect to {self._name}")
        link = Link(self.options.open_socket(left), self._name)
        try:
            self._greet(link, deadline, interrupt)
        except BaseException:
            link.close()
            raise
        return link

    def _greet(self, link: Link, deadline: float, interrupt: Interrupt | None) -> None:
        url = self.options.url
        greetings: list[tuple[str, ...]] = []
        if url.password:
            user = (url.username,) if url.username else ()
            greetings.append(("AUTH", *user, url.password))
        if self.options.db:
            greetings.append(("SELECT", str(self.options.db)))
        for greeting in greetings:
            try:
                reply = link.request(pack(*greeting), deadline, interrupt)
            except BrokerError as error:
                raise ConnectionFailed(f"cannot connect to {self._name}: {error}") from error
            if isinstance(reply, ReplyError):
                if str(reply).startswith(_NOT_YET):
                    raise ConnectionFailed(f"{self._name} is not ready yet: {reply}") from reply
                raise ServerRefused(f"{self._name} refused {greeting[0]}: {reply}") from reply

    def _checked(self, link: Link, reply: Any) -> Any:
        if isinstance(reply, ReplyError):
            raise self._refusal(link, reply) from reply
        return reply

    def _refusal(self, link: Link, reply: ReplyError) -> BrokerError:
        text = str(reply)
        if text.startswith(_NOT_YET):
            return ConnectionFailed(f"{self._name} is not ready yet: {text}")
        found = _CODE.search(text)
        if found is None:
            return ServerRefused(f"{self._name} refused: {text}")
        if found[1] == "READONLY":
            # A name may lead to the new primary after a failover: connect anew.
            link.close()
            self._drop_idle()
        return ServerRefused(f"{self._name} refused: {_CURES[found[1]]} ({text})")
