"""Histories to begin with."""

from __future__ import annotations

import pytest

from tests.unit.testing.concurrency.script import Script, got


@pytest.fixture
def script():
    return Script()


@pytest.fixture
def lost():
    """A message whose lease of 1 s, from 1.0 on, has ended, and which came again at 3.0."""
    script = Script()
    script.sent("m", at=0)
    script.claimed(got("m", "t1"), at=1, lease=1.0)
    script.claimed(got("m", "t2", losses=1), at=3, who="d")
    return script
