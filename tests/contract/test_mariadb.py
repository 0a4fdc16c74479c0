from importlib.util import find_spec

import pytest

from taskq.testing import BrokerConformance
from taskq.testing.record import Ledger
from taskq.testing.runner import PARTS, look, perform
from taskq.url import Url
from taskq_sql.target import ServerTarget
from tests.sql_servers import SHARED_MARIADB, MariadbServer, find_mariadb, has_snapshot_isolation


@pytest.fixture(scope="module")
def server():
    shared = find_mariadb()
    setting = "OFF" if shared and has_snapshot_isolation(shared) else "ON"
    with MariadbServer(f"--innodb-snapshot-isolation={setting}", fsync=False) as server:
        assert has_snapshot_isolation(server.url) == (setting == "ON")
        yield server


@pytest.fixture(scope="module")
def target(server):
    return ServerTarget(server.url)


@pytest.fixture(scope="module")
def facts(target):
    return look(target, "mariadb")


@pytest.fixture(scope="module")
def other():
    url = Url.parse(find_mariadb() or SHARED_MARIADB)
    return ServerTarget(url.replace(driver="mysqldb"))


@pytest.fixture(scope="module")
def seen(other):
    return look(other, "mysqlclient")


class TestMariadb(BrokerConformance):
    target = find_mariadb() or SHARED_MARIADB


class TestMariadbWithTheOtherIsolation:
    """The kit where `innodb_snapshot_isolation` is set as it is not above.

    That is a setting and no backend of its own, so the report leaves it out.
    """

    @pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name.removeprefix("test_"))
    def test_the_laws_hold(self, part, target, facts):
        found = perform(part, target, facts, "smoke", Ledger("mariadb"))

        assert found.failure is None


@pytest.mark.skipif(find_spec("MySQLdb") is None, reason="mysqlclient is not installed")
class TestMariadbThroughMysqlclient:
    """The kit through the other driver: another way to the same server."""

    @pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name.removeprefix("test_"))
    def test_the_laws_hold(self, part, other, seen):
        found = perform(part, other, seen, "smoke", Ledger("mysqlclient"))

        assert found.failure is None
