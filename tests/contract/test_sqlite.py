from taskq.testing import BrokerConformance


class TestSqlite(BrokerConformance):
    target = "sqlite://"
