"""What taskq finds: the hooks of the SQL backend.

SQLAlchemy is imported when the first client is opened, not before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from taskq.clock import Clock
from taskq.plugins import PluginInfo, hookimpl
from taskq.url import Url
from taskq_sql import __version__

if TYPE_CHECKING:
    from taskq.plugins import Plugins
    from taskq_sql.broker import SqlBroker
    from taskq_sql.outbox.writing import Outbox
    from taskq_sql.results import SqlResults
    from taskq_sql.target import SqlTarget
    from taskq_sql.transactions import SqlTransactions

SCHEMES: Final = ("sqlite", "postgresql", "mysql", "mariadb")


@hookimpl
def taskq_plugin() -> PluginInfo:
    """Name the plugin and the schemes it handles."""
    return PluginInfo("sql", __version__, SCHEMES)


@hookimpl
def taskq_open_broker(url: Url, clock: Clock) -> SqlBroker | None:
    """Return a broker that connects at its first call."""
    if url.scheme not in SCHEMES:
        return None
    from taskq_sql.broker import SqlBroker
    from taskq_sql.engine import open_database

    return SqlBroker(open_database(url, clock))


@hookimpl
def taskq_open_results(url: Url, clock: Clock) -> SqlResults | None:
    """Return a result store that connects at its first call."""
    if url.scheme not in SCHEMES:
        return None
    from taskq_sql.engine import open_database
    from taskq_sql.results import SqlResults

    return SqlResults(open_database(url, clock))


@hookimpl
def taskq_open_transactions(url: Url, clock: Clock) -> SqlTransactions | None:
    """Return the way into transactions of the broker's database."""
    if url.scheme not in SCHEMES:
        return None
    from taskq_sql.engine import open_database
    from taskq_sql.transactions import SqlTransactions

    return SqlTransactions(open_database(url, clock))


@hookimpl
def taskq_open_outbox(url: Url, clock: Clock) -> Outbox | None:
    """Return the way into transactions of any database, for a broker that is none."""
    if url.scheme in SCHEMES:
        return None
    from taskq_sql.outbox.writing import Outbox

    return Outbox(url, clock)


@hookimpl
def taskq_target(url: Url, plugins: Plugins) -> SqlTarget | None:
    """Return the conformance kit's target for the URL."""
    if url.scheme not in SCHEMES:
        return None
    from taskq_sql.target import ServerTarget, SqliteTarget

    return (SqliteTarget if url.scheme == "sqlite" else ServerTarget)(url, plugins)
