"""How taskq finds this backend. Nothing heavy is imported before it is needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from taskq.clock import Clock
from taskq.plugins import PluginInfo, Plugins, hookimpl
from taskq.url import Url
from taskq_files import __version__

if TYPE_CHECKING:
    from taskq.contract.broker import Broker
    from taskq.contract.results import Results
    from taskq_files.store import Store


@hookimpl
def taskq_plugin() -> PluginInfo:
    """Return who this is, and the number of the contract it was written for."""
    return PluginInfo("files", __version__, ("files",), contract=1)


@hookimpl
def taskq_open_broker(url: Url, clock: Clock) -> Broker | None:
    """Return a broker for a URL of files."""
    if url.scheme != "files":
        return None
    from taskq_files.broker import FilesBroker

    return FilesBroker(_store(url, clock))


@hookimpl
def taskq_open_results(url: Url, clock: Clock) -> Results | None:
    """Return a result store for a URL of files."""
    if url.scheme != "files":
        return None
    from taskq_files.results import FilesResults

    return FilesResults(_store(url, clock))


@hookimpl
def taskq_target(url: Url, plugins: Plugins) -> Any | None:
    """Return the conformance kit's target for a URL of files."""
    if url.scheme != "files":
        return None
    from taskq_files.target import FilesTarget

    return FilesTarget(url, plugins)


def _store(url: Url, clock: Clock) -> Store:
    from taskq_files.journal import Journal
    from taskq_files.options import Options
    from taskq_files.store import Store

    return Store(Journal(Options.of(url)), clock)
