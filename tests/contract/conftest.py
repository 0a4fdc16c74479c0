"""A server that is not there: its tests are skipped with a loud reason, or fail if required."""

from __future__ import annotations

import pytest

from tests.servers import shared_redis


@pytest.fixture(autouse=True, scope="class")
def _server(request: pytest.FixtureRequest) -> None:
    if request.path.name == "test_redis.py":
        shared_redis()
