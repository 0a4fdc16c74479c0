"""The first example of all: whether the target is one that the others can rely on."""

from __future__ import annotations

from taskq.testing.laws.case import Case, law


class TargetLaws:
    """L27, without which nobody would notice that namespaces are left behind."""

    @law("L27")
    def test_the_target_sees_what_is_in_a_namespace_and_removes_it(self, case: Case) -> None:
        found = case.target.footprint()
        case.same("L27", found, [], "footprint of a new namespace")

        case.send("m")

        found = case.target.footprint()
        blind = "footprint names nothing although a message waits: L27 would be blind"
        case.check("L27", found != [], blind)
        case.target.end()
        found = case.target.footprint()
        case.same("L27", found, [], "left in the namespace after the target has wiped it")
