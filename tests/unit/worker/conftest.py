from __future__ import annotations

import pytest

from .bench import Bench


@pytest.fixture
def bench() -> Bench:
    """One whose time passes by `advance` alone."""
    return Bench()


@pytest.fixture
def live() -> Bench:
    """One whose clock goes by itself, for whole workers."""
    return Bench(frozen=False)
