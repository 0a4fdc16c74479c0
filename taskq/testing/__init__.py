"""The conformance kit: the laws of the contract, put to the test on any backend.

An author's test file, whole::

    from taskq.testing import BrokerConformance, UrlTarget

    class TestMyBroker(BrokerConformance):
        target = "mybroker://localhost"

Without a file: ``pytest --pyargs taskq.testing.conformance
--taskq-broker-url=mybroker://localhost``; without pytest: ``taskq broker check
mybroker://localhost``. Needs the extra ``testing``. The names below are loaded
when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from taskq.testing.conformance import BrokerConformance, ResultsConformance
    from taskq.testing.faults import Fault
    from taskq.testing.record import LawBroken
    from taskq.testing.target import Target, UrlTarget

__all__ = [
    "BrokerConformance",
    "Fault",
    "LawBroken",
    "ResultsConformance",
    "Target",
    "UrlTarget",
]

_HOMES: Final = {
    "BrokerConformance": "conformance",
    "Fault": "faults",
    "LawBroken": "record",
    "ResultsConformance": "conformance",
    "Target": "target",
    "UrlTarget": "target",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = importlib.import_module(f"{__name__}.{home}")
    except ModuleNotFoundError as error:
        if error.name not in {"hypothesis", "pytest"}:
            raise
        raise ModuleNotFoundError(
            f"{error.name} is not installed; try: pip install 'taskq-core[testing]'",
            name=error.name,
        ) from error
    return getattr(module, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
