"""Backends: how they are found, and how a URL becomes a broker.

A backend is a module named by an entry point of the group ``taskq``, with
these hooks. pluggy does the finding and the assembly; no message ever passes
through it. A plugin module imports nothing heavy at its top.

A `Plugins` object belongs to one application. Backends are loaded at the first
URL that the built-in one does not handle, since finding entry points reads the
metadata of everything that is installed.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any, Final

import msgspec
import pluggy

from taskq.clock import Clock, SystemClock
from taskq.contract import CONTRACT
from taskq.errors import ImproperlyConfigured, UnknownScheme
from taskq.url import Url

if TYPE_CHECKING:
    from taskq.contract.broker import Broker
    from taskq.contract.results import Results
    from taskq.contract.transaction import Transactions

PROJECT: Final = "taskq"
log = logging.getLogger(__name__)
hookspec: Final = pluggy.HookspecMarker(PROJECT)
hookimpl: Final = pluggy.HookimplMarker(PROJECT)

INSTALL: Final = {
    "amqp": "amqp",
    "amqps": "amqp",
    "redis": "redis",
    "rediss": "redis",
    "unix": "redis",
    "sqlite": "sql",
    "postgresql": "postgresql",
    "mysql": "mysql",
    "mariadb": "mysql",
}
"""The extra of taskq-core that brings the first-party plugin of a scheme.
It only words the hint in an error."""


class PluginInfo(msgspec.Struct, frozen=True):
    """What a plugin says of itself."""

    name: str
    version: str
    schemes: tuple[str, ...]
    contract: int = CONTRACT


class Hooks:
    """What a plugin may implement. Mark each with `taskq.plugins.hookimpl`."""

    @hookspec
    def taskq_plugin(self) -> PluginInfo:  # type: ignore[empty-body]
        """Return who you are and which URL schemes you handle."""

    @hookspec(firstresult=True)
    def taskq_open_broker(self, url: Url, clock: Clock) -> Broker | None:
        """Return a broker for the URL, or None if it is not yours.

        Make no connection yet: the first call that needs one does.
        """

    @hookspec(firstresult=True)
    def taskq_open_results(self, url: Url, clock: Clock) -> Results | None:
        """Return a result store for the URL, or None if it is not yours."""

    @hookspec(firstresult=True)
    def taskq_open_transactions(self, url: Url, clock: Clock) -> Transactions | None:
        """Return the way into transactions of the database that is the broker, or None."""

    @hookspec(firstresult=True)
    def taskq_open_outbox(self, url: Url, clock: Clock) -> Transactions | None:
        """Return the way into transactions of any database, for a broker that is none.

        What is sent there is kept with the caller's data, and carried to the
        broker of the URL after the commit, by a process of yours.
        """

    @hookspec(firstresult=True)
    def taskq_target(self, url: Url, plugins: Plugins) -> Any | None:
        """Return the `taskq.testing.target.Target` of the URL, or None."""


class Plugins:
    """The backends one application can use. Thread-safe once loaded."""

    def __init__(self) -> None:
        self._manager = pluggy.PluginManager(PROJECT)
        self._manager.add_hookspecs(Hooks)
        self._loaded = False
        self._schemes: dict[str, PluginInfo] = {}
        self._owners: dict[str, object] = {}
        self._broken: dict[str, str] = {}
        self._untold: dict[str, str] = {}
        """What of it was neither logged nor part of an error so far."""
        memory = importlib.import_module("taskq.memory.plugin")
        self.register(memory.MemoryPlugin())

    def register(self, plugin: object) -> PluginInfo:
        """Add a plugin by hand, as tests and unpackaged backends do.

        Raises:
            ImproperlyConfigured: it was made for another contract, misspells a
                hook, or handles a scheme that another plugin has.
        """
        if self._manager.is_registered(plugin):
            raise ImproperlyConfigured(f"plugin {plugin!r} is registered already")
        try:
            self._manager.register(plugin)
            return self._admit(plugin)
        except BaseException as error:
            if self._manager.is_registered(plugin):
                self._manager.unregister(plugin)
            if isinstance(error, pluggy.PluginValidationError):
                raise ImproperlyConfigured(f"not a taskq plugin: {error}") from error
            raise

    def _admit(self, plugin: object) -> PluginInfo:
        declare = getattr(plugin, "taskq_plugin", None)
        if declare is None:
            raise ImproperlyConfigured(
                f"{plugin!r} has no taskq_plugin hook: not a taskq plugin; "
                "an entry point names the module that has the hooks, such as taskq_files.plugin"
            )
        info: PluginInfo = declare()
        # Without a type checker a forgotten comma makes five schemes of "files".
        schemes: object = info.schemes
        if isinstance(schemes, str):
            raise ImproperlyConfigured(
                f"plugin {info.name} {info.version} has text for schemes; "
                f"make it a tuple: schemes=({schemes!r},)"
            )
        if info.contract != CONTRACT:
            raise ImproperlyConfigured(
                f"plugin {info.name} {info.version} is made for contract {info.contract} of taskq; "
                f"this one has {CONTRACT}; install versions that belong together"
            )
        for scheme in info.schemes:
            other = self._schemes.get(scheme)
            if other is not None:
                raise ImproperlyConfigured(
                    f"plugins {other.name} and {info.name} both handle {scheme}://; "
                    "uninstall one of them"
                )
        self._manager.check_pending()
        self._schemes.update(dict.fromkeys(info.schemes, info))
        self._owners.update(dict.fromkeys(info.schemes, plugin))
        return info

    def load(self) -> list[PluginInfo]:
        """Load every installed plugin, once; return all, sorted by name.

        First-party plugins come first, so that nobody can shadow their schemes.
        One that cannot be loaded is left out with a warning: it must not take
        the others with it.
        """
        self._load()
        self._warn()
        return self.known()

    def _load(self) -> None:
        if self._loaded:
            return
        from importlib.metadata import entry_points

        found = entry_points(group=PROJECT)
        for point in sorted(found, key=lambda p: (not p.value.startswith("taskq_"), p.name)):
            try:
                self.register(point.load())
            except Exception as error:  # noqa: BLE001 - another package's import may raise anything
                self._broken[point.name] = f"{type(error).__name__}: {error}"
        self._untold = dict(self._broken)
        self._loaded = True

    def _warn(self) -> None:
        """Log what was left out, unless that was told already."""
        untold, self._untold = self._untold, {}
        for name, why in untold.items():
            log.warning("plugin %s was left out: %s", name, why)

    def known(self) -> list[PluginInfo]:
        """Return the plugins loaded so far, sorted by name."""
        unique = {info.name: info for info in self._schemes.values()}
        return [unique[name] for name in sorted(unique)]

    def open_broker(self, url: str | Url, *, clock: Clock | None = None) -> Broker:
        """Return a client of the broker the URL names.

        Raises:
            UnknownScheme: no installed plugin handles it; says what to install.
            ImproperlyConfigured: the URL has an error.
        """
        url = self._resolve(url)
        clock = clock or SystemClock()
        broker: Broker | None = self._ask("taskq_open_broker", url, clock=clock)
        if broker is None:
            raise UnknownScheme(
                f"plugin for {url.scheme}:// opened no broker for {url}; does its "
                "taskq_open_broker have @hookimpl, and return one for this scheme?"
            )
        return broker

    def open_results(self, url: str | Url, *, clock: Clock | None = None) -> Results:
        """Return a client of the result store the URL names; raises as `open_broker`."""
        url = self._resolve(url)
        clock = clock or SystemClock()
        results: Results | None = self._ask("taskq_open_results", url, clock=clock)
        if results is None:
            raise UnknownScheme(
                f"plugin for {url.scheme}:// keeps no results; set another `results` URL"
            )
        return results

    def open_transactions(self, url: str | Url, *, clock: Clock | None = None) -> Transactions:
        """Return the way into callers' transactions for the broker the URL names.

        If that is no database, messages go by an outbox in the caller's.

        Raises:
            UnknownScheme: as `open_broker`.
            ImproperlyConfigured: no installed plugin can write into transactions.
        """
        url = self._resolve(url)
        clock = clock or SystemClock()
        found: Transactions | None = self._ask("taskq_open_transactions", url, clock=clock)
        if found is None:
            self._load()
            found = self._manager.hook.taskq_open_outbox(url=url, clock=clock)
        if found is None:
            raise ImproperlyConfigured(
                f"no installed plugin writes tasks for {url.scheme}:// into a transaction; "
                "try: pip install 'taskq-core[sql]'"
            )
        return found

    def target(self, url: str | Url) -> Any:
        """Return the conformance kit's target for the URL; raises as `open_broker`."""
        url = self._resolve(url)
        target = self._ask("taskq_target", url, plugins=self)
        if target is None:
            raise UnknownScheme(
                f"plugin for {url.scheme}:// has no target for the conformance kit; "
                "implement taskq_target, with @hookimpl"
            )
        return target

    def _ask(self, hook: str, url: Url, **more: Any) -> Any:
        """Call a hook of the plugin that declared the scheme, and of no other."""
        owner = self._owners[url.scheme]
        others = [plugin for plugin in self._manager.get_plugins() if plugin is not owner]
        return self._manager.subset_hook_caller(hook, others)(url=url, **more)

    def _resolve(self, url: str | Url) -> Url:
        parsed = Url.parse(url)
        if parsed.scheme not in self._schemes:
            self._load()
            if parsed.scheme not in self._schemes:
                # The error tells what was left out; a warning as well would say it twice.
                self._untold = {}
                raise UnknownScheme(self._hint(parsed.scheme))
            self._warn()
        return parsed

    def _hint(self, scheme: str) -> str:
        installed = ", ".join(sorted(self._schemes))
        installed += "".join(f"; {name} was left out: {why}" for name, why in self._broken.items())
        extra = INSTALL.get(scheme)
        if scheme == "postgres":
            return "write postgresql:// instead of postgres://"
        if extra is None:
            return f"no plugin handles {scheme}:// URLs; installed are: {installed}"
        return (
            f"no plugin for {scheme}:// is installed; "
            f"try: pip install 'taskq-core[{extra}]' (installed are: {installed})"
        )
