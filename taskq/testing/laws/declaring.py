"""Examples of what a backend declares: each capability is there if and only if it is claimed."""

from __future__ import annotations

from typing import Final

import msgspec

from taskq.clock import Seconds
from taskq.contract.capabilities import Capabilities
from taskq.contract.delivery import State
from taskq.contract.settlement import Release
from taskq.errors import NotSupported
from taskq.testing.laws.case import Case, ids_of, item, law

WRONG: Final[Seconds] = -1000.0
"""So far behind the others is a clock that is set wrong."""


class DeclaringLaws:
    """L5, L7, L15, L18 and L22, where a backend may lack what they ask for."""

    @law("L15", "L22")
    def test_only_what_may_be_denied_is_denied(self, case: Case) -> None:
        names = [field.name for field in msgspec.structs.fields(Capabilities)]
        denied = {name for name in names if not getattr(case.target.capabilities, name)}
        excess = sorted(denied - case.target.allowed_denials)
        if excess:
            raise AssertionError(f"denied without being an allowed denial: {excess}")

    @law("L22")
    def test_a_message_can_be_located_if_that_is_claimed(self, case: Case) -> None:
        case.send("m")
        try:
            found = case.broker.locate(["m"]) == {"m": State.READY}
        except NotSupported:
            found = False
        case.same("L22", found, case.target.capabilities.locate, "locate works")

    @law("L15")
    def test_ids_are_unique_if_that_is_claimed(self, case: Case) -> None:
        case.send("m")
        case.broker.send([item("m", envelope=b"other")])
        copies = len(case.claim())
        case.same("L15", copies == 1, case.target.capabilities.unique_ids, "ids are unique")

    @law("L5", "L3", "L26")
    def test_leases_end_by_time_alone_if_that_is_claimed(self, case: Case) -> None:
        holder = case.other()
        case.send("m")
        held = case.one("L3", "m", lease=10, broker=holder)
        case.advance(11)
        came = ids_of(case.claim()) == ["m"]
        case.same("L5", came, not case.tied, "leases end by time alone")
        if came:
            return
        case.same("L26", case.broker.recover_expired(), 0, "recovered of another's")
        case.same("L3", holder.extend([held], lease=10).lost, [], "lost, though nobody took it")
        case.advance(11)
        case.settle("L3", Release(held), broker=holder)
        case.one("L3", "m", lease=10, broker=holder)
        case.cut(holder, lease=10)
        case.advance(9)
        case.stays("L3")
        case.advance(2)
        case.comes("L5", "m")

    @law("L7", "L18")
    def test_instants_are_by_the_servers_clock_if_that_is_claimed(self, case: Case) -> None:
        case.claim()
        wrong = case.target.open(skew=WRONG)
        now = case.clock.now()
        wrong.send([item("due", eta=now + 20), item("expired", expires=now - 20)])
        case.advance(21)
        found = {delivery.id: delivery.expired for delivery in case.claim()}
        claimed = case.target.capabilities.server_time
        case.same("L7", "due" in found, claimed, "an eta is judged by the server's clock")
        case.same("L18", found["expired"], claimed, "an expiry is judged by the server's clock")
