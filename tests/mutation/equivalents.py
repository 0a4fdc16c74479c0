"""The mutants that nobody could tell from the original, each with the reason."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from tests.mutation.mutant import Key, Mutant, flat

FILE: Final = Path(__file__).with_name("equivalent.toml")


class StaleEntry(Exception):
    """An entry of no mutant: the code has changed, so the argument has to be made again."""


def load_equivalents(path: Path = FILE) -> dict[Key, str]:
    """Return the reasons by mutant.

    Raises:
        ValueError: two entries are of the same mutant, or one has no reason.
    """
    found: dict[Key, str] = {}
    for entry in tomllib.loads(path.read_text("utf-8")).get("equivalent", []):
        key: Key = (
            entry["file"],
            entry.get("function", ""),
            flat(entry["original"]),
            entry["mutation"],
            entry.get("occurrence", 1),
        )
        if key in found or not entry["because"].strip():
            raise ValueError(f"{path.name}: {key} stands there twice, or without a reason")
        found[key] = flat(entry["because"])
    return found


def check_fresh(entries: Mapping[Key, str], mutants: Iterable[Mutant]) -> None:
    """See that each entry is of one of these mutants.

    Raises:
        StaleEntry: one is not.
    """
    known = {mutant.key for mutant in mutants}
    stale = [key for key in entries if key not in known]
    if stale:
        shown = "\n".join(f"  {key}" for key in stale)
        raise StaleEntry(f"remove these entries, or argue them anew:\n{shown}")
