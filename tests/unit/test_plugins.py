from __future__ import annotations

import importlib.metadata
import sys
import types
from typing import Any

import pytest

from taskq.clock import Clock, SystemClock
from taskq.contract import CONTRACT
from taskq.contract.broker import Broker
from taskq.errors import ImproperlyConfigured, UnknownScheme
from taskq.memory.broker import MemoryBroker
from taskq.memory.server import MemoryServer
from taskq.plugins import PluginInfo, Plugins, hookimpl
from taskq.url import Url


class Post:
    """A backend for `post://`."""

    def __init__(self, *schemes: str, contract: int = CONTRACT) -> None:
        self.info = PluginInfo(name="post", version="1", schemes=schemes, contract=contract)

    @hookimpl
    def taskq_plugin(self) -> PluginInfo:
        return self.info

    @hookimpl
    def taskq_open_broker(self, url: Url, clock: Clock) -> Broker | None:
        return MemoryBroker(MemoryServer(clock)) if url.scheme in self.info.schemes else None


class Careless(Post):
    """Forgot a comma."""

    def __init__(self, schemes: Any) -> None:
        super().__init__()
        self.info = PluginInfo("post", "1", schemes)


class Unmarked:
    """Forgot to mark its hooks."""

    def taskq_plugin(self) -> PluginInfo:
        return PluginInfo("post", "1", ("post",))

    def taskq_open_broker(self, url: Url, clock: Clock) -> Broker | None:
        return MemoryBroker(MemoryServer(clock))


class Misspelled(Post):
    @hookimpl
    def taskq_open_brokr(self, url: Url) -> None:
        """Never called."""


class Misdeclared(Post):
    @hookimpl
    def taskq_open_results(self, adress: Url) -> None:
        """Never called."""


def installed(monkeypatch: pytest.MonkeyPatch, **plugins: object) -> None:
    points = []
    for name, plugin in plugins.items():
        module = types.ModuleType(f"{name}_plugin_module")
        if plugin is not None:
            module.plugin = plugin  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, module.__name__, module)
        points.append(importlib.metadata.EntryPoint(name, f"{module.__name__}:plugin", "taskq"))
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda **_: points)


def test_a_plugin_opens_the_urls_it_declared() -> None:
    plugins = Plugins()

    plugins.register(Post("post"))

    assert isinstance(plugins.open_broker("post://h"), MemoryBroker)
    assert [info.name for info in plugins.known()] == ["memory", "post"]


@pytest.mark.parametrize(
    ("plugin", "reason"),
    [
        (Post("post", contract=CONTRACT + 1), "made for contract"),
        (Post("memory"), "both handle memory://"),
        (Misspelled("post"), "taskq_open_brokr"),
        (Misdeclared("post"), "adress"),
        (object(), "no taskq_plugin hook.*names the module that has the hooks"),
        (Careless("post"), r"post 1 has text for schemes; make it a tuple: schemes=\('post',\)"),
    ],
)
def test_a_plugin_that_does_not_fit_is_refused_and_leaves_nothing(plugin: Any, reason: str) -> None:
    plugins = Plugins()

    with pytest.raises(ImproperlyConfigured, match=reason):
        plugins.register(plugin)

    plugins.register(Post("post"))
    assert isinstance(plugins.open_broker("post://h"), MemoryBroker)


def test_a_plugin_is_registered_once() -> None:
    plugins, plugin = Plugins(), Post("post")
    plugins.register(plugin)

    with pytest.raises(ImproperlyConfigured, match="already"):
        plugins.register(plugin)

    assert isinstance(plugins.open_broker("post://h"), MemoryBroker)


def test_nobody_takes_a_scheme_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, aaa=Post("post", "memory"), bbb=Post("letter"))
    plugins = Plugins()

    names = {scheme for info in plugins.load() for scheme in info.schemes}

    assert names == {"memory", "letter"}
    with pytest.raises(UnknownScheme):
        plugins.open_broker("post://h")


def test_a_plugin_is_asked_about_its_own_schemes_only() -> None:
    asked: list[str] = []

    class Greedy(Post):
        @hookimpl
        def taskq_open_broker(self, url: Url) -> Broker | None:
            asked.append(url.scheme)
            return MemoryBroker(MemoryServer(SystemClock()))

    plugins = Plugins()
    plugins.register(Greedy("greedy"))
    plugins.open_broker("memory://")
    assert asked == []

    plugins.open_broker("greedy://")
    assert asked == ["greedy"]


def test_a_broken_plugin_takes_no_other_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, aaa=None, bbb=Post("post"))
    plugins = Plugins()

    assert isinstance(plugins.open_broker("post://h"), MemoryBroker)


def test_what_was_left_out_is_told_by_the_error_that_comes_of_it_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    installed(monkeypatch, aaa=None)
    plugins = Plugins()

    with pytest.raises(UnknownScheme, match="aaa was left out: AttributeError"):
        plugins.open_broker("post://h")

    plugins.load()
    assert caplog.messages == []


@pytest.mark.parametrize("way", ["load", "open_broker"])
def test_what_was_left_out_is_logged_once_where_no_error_tells(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, way: str
) -> None:
    installed(monkeypatch, aaa=None, bbb=Post("post"))
    plugins = Plugins()

    if way == "open_broker":
        plugins.open_broker("post://h")
    plugins.load()
    plugins.load()

    (told,) = caplog.messages
    assert told.startswith("plugin aaa was left out: AttributeError")


def test_two_applications_share_no_memory() -> None:
    first, second = Plugins(), Plugins()

    first.open_broker("memory://").close()

    assert first.target("memory://").url.scheme == "memory"
    assert first is not second


@pytest.mark.parametrize(
    ("scheme", "cure"), [("amqp", "installed are:"), ("nosuch", "installed are:")]
)
def test_an_unknown_scheme_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, scheme: str, cure: str
) -> None:
    installed(monkeypatch)

    for operation in ("open_broker", "open_results", "target"):
        with pytest.raises(UnknownScheme, match=cure):
            getattr(Plugins(), operation)(f"{scheme}://h")


def test_a_plugin_without_results_or_target_says_so() -> None:
    plugins = Plugins()
    plugins.register(Post("post"))

    with pytest.raises(UnknownScheme, match="keeps no results"):
        plugins.open_results("post://h")
    with pytest.raises(UnknownScheme, match=r"no target.*; implement taskq_target"):
        plugins.target("post://h")


def test_a_plugin_that_opens_nothing_is_told_why_that_may_be() -> None:
    plugins = Plugins()
    plugins.register(Unmarked())

    with pytest.raises(UnknownScheme, match="does its taskq_open_broker have @hookimpl, and"):
        plugins.open_broker("post://h")
