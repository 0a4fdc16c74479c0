"""What is said of mutants that nobody can tell from the original is said of mutants there are."""

from __future__ import annotations

import pytest

from tests.mutation.equivalents import StaleEntry, check_fresh, load_equivalents
from tests.mutation.mutant import Change, Mutant
from tests.mutation.subjects import SUBJECTS

ENTRY = """
[[equivalent]]
file = "f.py"
function = "f"
original = '''
    a <
    b'''
mutation = "< becomes <="
because = "{}"
"""


def test_every_entry_is_of_a_mutant_that_is_made():
    entries = load_equivalents()

    check_fresh(entries, [one for subject in SUBJECTS.values() for one in subject.mutants()])


def test_every_backend_has_mutants_in_each_of_its_files():
    for subject in SUBJECTS.values():
        assert len(subject.mutants()) > 100
        assert len({mutant.key for mutant in subject.mutants()}) == len(subject.mutants())


def test_an_entry_of_code_that_has_changed_is_an_error(tmp_path):
    path = tmp_path / "equivalent.toml"
    path.write_text(ENTRY.format("nobody asks for b"))
    entries = load_equivalents(path)
    change = Change(0, 1, "<=", "f", "a < b", "< becomes <=")

    check_fresh(entries, [Mutant("f.py", 1, change, 1)])
    with pytest.raises(StaleEntry, match=r"f\.py"):
        check_fresh(entries, [Mutant("f.py", 1, change._replace(original="a < c"), 1)])


def test_an_entry_without_a_reason_is_an_error(tmp_path):
    path = tmp_path / "equivalent.toml"
    path.write_text(ENTRY.format("  "))

    with pytest.raises(ValueError, match="without a reason"):
        load_equivalents(path)


def test_two_entries_of_one_mutant_are_an_error(tmp_path):
    path = tmp_path / "equivalent.toml"
    path.write_text(ENTRY.format("one reason") + ENTRY.format("another"))

    with pytest.raises(ValueError, match="twice"):
        load_equivalents(path)
