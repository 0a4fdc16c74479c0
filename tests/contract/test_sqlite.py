import tempfile

from taskq.plugins import Plugins
from taskq.testing.conformance import BrokerConformance, ResultsConformance

FOLDER = tempfile.TemporaryDirectory(prefix="taskq-contract-")
TARGET = Plugins().target(f"sqlite:///{FOLDER.name}/tasks.db")


class TestSqliteBroker(BrokerConformance):
    target = TARGET


class TestSqliteResults(ResultsConformance):
    target = TARGET
