from taskq.testing import BrokerConformance
from tests.sql_servers import SHARED_POSTGRESQL, find_postgresql


class TestPostgresql(BrokerConformance):
    target = find_postgresql() or SHARED_POSTGRESQL
