"""Servers that are not there: skipped with a loud reason, or an error if required."""

import os
import socket
from pathlib import Path

import pytest

SERVERS = {"test_redis.py": ("redis", "127.0.0.1", 6379)}


def _is_up(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=1):
            return True
    except OSError:
        return False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    required = os.environ.get("TASKQ_TEST_REQUIRE", "").split(",")
    for file, (name, host, port) in SERVERS.items():
        mine = [item for item in items if Path(item.path).name == file]
        if not mine or _is_up(host, port):
            continue
        reason = f"NO {name.upper()} SERVER at {host}:{port}: its conformance was NOT tested"
        if name in required:
            raise pytest.UsageError(f"{reason}, but TASKQ_TEST_REQUIRE lists it")
        for item in mine:
            item.add_marker(pytest.mark.skip(reason=reason))
