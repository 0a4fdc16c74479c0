"""Every broken part is noticed, and every rule notices one."""

from __future__ import annotations

from typing import Final

import pytest

from .mutants import MUTANTS, Mutant
from .rules import RULES, Rule, RuleBroken
from .world import World

ENOUGH: Final = 150
"""Seeds within which a mutant has to break its rule."""


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_breaks_its_rule(mutant: Mutant) -> None:
    with mutant.installed():
        broken = next((seed for seed in range(ENOUGH) if _broken(seed) == mutant.rule), None)

    assert broken is not None, f"{ENOUGH} seeds, and {mutant.rule!r} holds"


def _broken(seed: int) -> Rule | None:
    try:
        World(seed).run()
    except RuleBroken as error:
        return error.rule
    return None


def test_each_rule_has_a_mutant() -> None:
    assert {mutant.rule for mutant in MUTANTS} == set(RULES)


def test_mutants_have_names_of_their_own() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
