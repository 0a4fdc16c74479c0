"""Broken parts: each has one method replaced, and the simulation has to notice.

Most are a worker's. Where no worker can break a rule by itself, it is a
sender's or the server's. A rule without a mutant is a rule nobody knows to be
tested.
"""

from __future__ import annotations

from . import concluding, holding, living, outside
from .mutant import MUTANTS, Mutant

__all__ = ["MUTANTS", "Mutant", "concluding", "holding", "living", "outside"]
