"""Inner runs are those of a developer, wherever the outer one is."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _locally(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
