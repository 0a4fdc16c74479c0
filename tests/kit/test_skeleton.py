"""What an author begins with: every method, and none of them written."""

from __future__ import annotations

import inspect
import runpy
from pathlib import Path

from taskq.clock import Clock
from taskq.contract.broker import Broker
from taskq.plugins import PluginInfo, Plugins, hookimpl
from taskq.testing import runner
from taskq.testing.record import Ledger
from taskq.testing.tables import unwritten
from taskq.testing.target import UrlTarget
from taskq.url import Url

SKELETON = runpy.run_path(str(Path(__file__).parents[2] / "examples" / "broker_skeleton.py"))
MyBroker: type[Broker] = SKELETON["MyBroker"]


class Plugin:
    @hookimpl
    def taskq_plugin(self) -> PluginInfo:
        return PluginInfo("mine", "0", ("mine",))

    @hookimpl
    def taskq_open_broker(self, url: Url, clock: Clock) -> Broker:
        return MyBroker(url, clock)  # type: ignore[call-arg]  # a class that was read from a file


class MyTarget(UrlTarget):
    def footprint(self) -> list[str]:
        return []

    def wipe(self) -> None: ...


def test_the_skeleton_has_every_method_as_the_contract_has_it() -> None:
    written = {name: f for name, f in vars(MyBroker).items() if not name.startswith("_")}

    assert written.keys() == Broker.__abstractmethods__
    for name, method in written.items():
        assert inspect.signature(method) == inspect.signature(getattr(Broker, name)), name


def test_the_kit_tells_of_the_skeleton_what_to_write_first() -> None:
    plugins = Plugins()
    plugins.register(Plugin())
    target = MyTarget("mine://", plugins)
    facts = runner.look(target, "mine")
    outcomes = [
        runner.perform(part, target, facts, "smoke", Ledger("mine"))
        for part in runner.parts_of(facts, ["L9", "L20"])
    ]

    (backend,) = runner.judge(outcomes, "smoke").backends
    assert backend.failures[0].what == "send raised NotImplementedError"
    assert len(backend.failures) == len(outcomes)
    assert all(failure.unwritten for failure in backend.failures)
    assert unwritten(backend).startswith("send (")
