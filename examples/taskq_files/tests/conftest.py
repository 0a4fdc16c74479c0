"""What the tests of the files themselves begin with."""

from collections.abc import Callable
from pathlib import Path

import pytest

from taskq.contract.broker import Broker
from taskq.plugins import Plugins


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"files://{tmp_path}/queue?fsync=0"


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "queue" / "taskq.taskq" / "journal"


@pytest.fixture
def opened(url: str) -> Callable[..., Broker]:
    def open_one(**options: object) -> Broker:
        return Plugins().open_broker("&".join([url, *(f"{k}={v}" for k, v in options.items())]))

    return open_one
