"""An example of what holds in a child process that was made by a fork."""

from __future__ import annotations

import os
import select
import signal
import warnings
from collections.abc import Sequence
from typing import Final, NoReturn

from taskq.clock import Seconds
from taskq.contract.broker import Broker
from taskq.testing.laws.case import Case, ids_of, item, law
from taskq.testing.record import NotApplicable

PATIENCE: Final[Seconds] = 30.0
"""How long a child may take that waits, perhaps for ever, for a thread it has not got."""
NO_PROCESSES: Final = "the target says that no other process reaches the store (processes = False)"
MESSAGES: Final = 50
DONE: Final = 0
FAILED: Final = 1


class ForkingLaws:
    """L1, on both sides of a fork."""

    @law("L1")
    def test_a_client_can_be_used_after_a_fork(self, case: Case) -> None:
        if not hasattr(os, "fork"):
            raise NotApplicable("this system has no fork")
        if not getattr(case.target, "processes", False):
            raise NotApplicable(NO_PROCESSES)
        mine = [f"parent{number}" for number in range(MESSAGES)]
        its = [f"child{number}" for number in range(MESSAGES)]
        case.send("before", queue="parent")

        child = _Child(case.broker, its)
        try:
            # At the same time, and calls of two kinds: if both use one connection, one of
            # them is likely to get an answer that was meant for the other.
            for sent, id in enumerate(mine, 2):
                case.send(id, queue="parent")
                case.same("L1", case.stats("parent").ready, sent, "ready, while a child sends")
        finally:
            trouble = child.wait(PATIENCE)

        case.check("L1", not trouble, f"send in a forked child {trouble}")
        for queue, ids in (("child", its), ("parent", ["before", *mine])):
            found = ids_of(case.claim(queue))
            what = f"of {len(ids)} messages that the {queue} sent came {len(found)}: {found}"
            case.check("L1", found == ids, what)


class _Child:
    """A child process that sends with a client of its parent, one message after the other."""

    def __init__(self, broker: Broker, ids: Sequence[str]) -> None:
        self._pipe, told = os.pipe()
        with warnings.catch_warnings():
            # Said of any process with threads: what they hold is what is put to the test.
            warnings.simplefilter("ignore", DeprecationWarning)
            self._pid = os.fork()
        if not self._pid:
            _send_and_exit(broker, ids, told)
        os.close(told)

    def wait(self, timeout: Seconds) -> str:
        """Await the end of the child; return what went wrong, "" if nothing did."""
        ended, _, _ = select.select([self._pipe], [], [], timeout)
        if not ended:
            os.kill(self._pid, signal.SIGKILL)
        with os.fdopen(self._pipe, "rb") as pipe:
            told = pipe.read().decode()
        _, status = os.waitpid(self._pid, 0)
        code = os.waitstatus_to_exitcode(status)
        if not ended:
            return f"has not returned within {timeout:g} s"
        return "" if code == DONE else told or f"ended its process with {code}"


def _send_and_exit(broker: Broker, ids: Sequence[str], told: int) -> NoReturn:
    """Send, and leave without a word to anything else that the parent has open."""
    code = FAILED
    try:
        for id in ids:
            broker.send([item(id, queue="child")])
        code = DONE
    except BaseException as error:  # noqa: BLE001 - nothing may get back into the parent's code
        os.write(told, f"raised {error!r}".encode()[:4000])
    finally:
        os._exit(code)
