"""How taskq finds this backend. Nothing here imports a driver before it is needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from taskq.clock import Clock
from taskq.plugins import PluginInfo, Plugins, hookimpl
from taskq.url import Url
from taskq_amqp import __version__

if TYPE_CHECKING:
    from taskq.contract.broker import Broker
    from taskq.contract.results import Results

SCHEMES: Final = ("amqp", "amqps")


@hookimpl
def taskq_plugin() -> PluginInfo:
    """Return who this is."""
    return PluginInfo("amqp", __version__, SCHEMES)


@hookimpl
def taskq_open_broker(url: Url, clock: Clock) -> Broker | None:
    """Return a broker for a URL of RabbitMQ."""
    if url.scheme not in SCHEMES:
        return None
    from taskq_amqp.broker import AmqpBroker
    from taskq_amqp.options import Options

    return AmqpBroker(Options.of(url), clock)


@hookimpl
def taskq_open_results(url: Url, clock: Clock) -> Results | None:
    """Return a result store for a URL of RabbitMQ."""
    if url.scheme not in SCHEMES:
        return None
    from taskq_amqp.options import Options
    from taskq_amqp.results.store import AmqpResults

    return AmqpResults(Options.of(url), clock)


@hookimpl
def taskq_target(url: Url, plugins: Plugins) -> Any | None:
    """Return the conformance kit's target for a URL of RabbitMQ."""
    if url.scheme not in SCHEMES:
        return None
    from taskq_amqp.target import AmqpTarget

    return AmqpTarget(url, plugins)
