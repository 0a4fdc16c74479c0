"""How a machine breaks a call, and what has to hold after it, whatever it was."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Final, TypeVar

from hypothesis import strategies as st

from taskq.contract.laws import RESULT_LAWS
from taskq.contract.results import Results
from taskq.errors import BrokerError, OutcomeUnknown, SendError
from taskq.testing.faults import Fault
from taskq.testing.machine.driver import Client
from taskq.testing.machine.plain import BrokerMachine
from taskq.testing.model.cutting import shake
from taskq.testing.model.entry import Span
from taskq.testing.record import LawBroken

Answer = TypeVar("Answer")
NOTHING: Final = "an error said that nothing had happened"

faults = st.fixed_dictionaries(
    {
        "kind": st.sampled_from([str(fault) for fault in Fault]),
        "skip": st.sampled_from([0, 0, 0, 1, 2]),
    }
)


class BreakingMachine(BrokerMachine):
    """Can break the calls of its clients."""

    breakable: ClassVar[bool] = True

    def _broken(
        self, client: Client | Results, fault: dict[str, Any], call: Callable[[], Answer]
    ) -> tuple[Answer | None, BrokerError | None, Span]:
        """Call with a connection that is about to break; return the answer or the error."""
        kind = Fault(fault["kind"])
        if kind in self.target.faults:
            broken = client.broker if isinstance(client, Client) else client
            self.target.break_next(broken, kind, skip=fault["skip"])
        before = self.clock.now()
        answer: Answer | None = None
        error: BrokerError | None = None
        try:
            answer = call()
        except BrokerError as failure:
            error = failure
        finally:
            self.target.heal()
        self.target.calm()
        if isinstance(client, Client):
            # Before its answer is judged, which may tell that a lease was cut.
            self._shake(client)
        return answer, error, Span(before, self.clock.now())

    def _shake(self, client: Client) -> None:
        """Take in that a client may have lost a connection, if it can."""
        if self.target.faults:
            shake(self.spec, client.number, self._present())

    def _after(self, client: Client, error: BrokerError | None) -> None:
        """Check that the client goes on, and that nothing has happened if its error says so."""
        self._shake(client)
        self._goes_on("L31", client.broker.stats)
        if error is not None and not isinstance(error, OutcomeUnknown | SendError):
            with self._instead("L30", NOTHING):
                self._look()
            self.ledger.check("L30", True, "")

    def _goes_on(self, law: str, call: Callable[[], object]) -> None:
        """Check that a client works again by itself, the first call at most excepted."""
        with contextlib.suppress(BrokerError):
            call()
            self.ledger.check(law, True, "")
            return
        try:
            call()
        except BrokerError as error:
            self.ledger.check(
                law, False, f"the server answers again, and the client does not: {error}"
            )
        self.ledger.check(law, True, "")

    @contextlib.contextmanager
    def _instead(self, law: str, why: str) -> Iterator[None]:
        """Blame a law for what another one finds."""
        try:
            yield
        except LawBroken as error:
            law = "R9" if error.law in RESULT_LAWS else law
            raise LawBroken(law, f"{why}, but {error}") from error
