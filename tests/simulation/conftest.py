"""Which seeds the simulation runs, and where it writes down those that fail."""

from __future__ import annotations

import logging
import os

import pytest

from .seeds import Keeper, seeds_to_run


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("taskq").addoption(
        "--taskq-seed",
        action="append",
        type=int,
        metavar="N",
        help="a seed of the simulation to run, and no others; may be repeated",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" in metafunc.fixturenames:
        metafunc.parametrize("seed", _named(metafunc.config) or seeds_to_run())


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not _named(config):
        return
    others = [item for item in items if "seed" not in getattr(item, "fixturenames", ())]
    config.hook.pytest_deselected(items=others)
    items[:] = [item for item in items if item not in others]


def _named(config: pytest.Config) -> list[int]:
    # In a run of all tests pytest reads this file too late to know its option.
    return list(config.getoption("taskq_seed", default=None) or [])


@pytest.fixture(scope="session")
def keeper() -> Keeper:
    """Return who writes failing seeds down; on CI there is nobody to commit them."""
    return Keeper(writes=not os.environ.get("CI"))


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Let workers keep their troubles to themselves: a failing seed tells its own story."""
    caplog.set_level(logging.CRITICAL + 1, "taskq")
