"""Random sequences of calls against a backend, each answer compared with the model."""

from taskq.testing.machine.faulty import FaultyMachine
from taskq.testing.machine.plain import BrokerMachine
from taskq.testing.machine.running import replay, run_faulty_machine, run_machine
from taskq.testing.machine.strategies import profile

__all__ = [
    "BrokerMachine",
    "FaultyMachine",
    "profile",
    "replay",
    "run_faulty_machine",
    "run_machine",
]
