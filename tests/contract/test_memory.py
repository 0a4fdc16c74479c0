from taskq.testing import BrokerConformance


class TestMemory(BrokerConformance):
    target = "memory://"
