from taskq.plugins import Plugins
from taskq.testing.conformance import BrokerConformance, ResultsConformance

TARGET = Plugins().target("memory://")


class TestMemoryBroker(BrokerConformance):
    target = TARGET


class TestMemoryResults(ResultsConformance):
    target = TARGET
