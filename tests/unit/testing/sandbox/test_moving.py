"""Moving an application into a sandbox, and out again."""

from __future__ import annotations

import time

import pytest

from taskq import TaskQ
from taskq.errors import ImproperlyConfigured
from taskq.testing.sandbox import Sandbox

from .conftest import URL, Shop


def test_what_was_sent_in_a_sandbox_is_gone_after_it(shop: Shop) -> None:
    with Sandbox(shop.app):
        result = shop.add.delay(1)
    with Sandbox(shop.app) as box:
        assert box.sent() == []
        assert box.run() == []
        assert result.state == "PENDING"
        assert result.known is False


def test_settings_changed_in_a_sandbox_are_as_before_after_it(shop: Shop) -> None:
    with Sandbox(shop.app):
        shop.app.conf.task_always_eager = True
        shop.app.conf.task_routes["add"] = "elsewhere"
        shop.app.conf.include.append("x")

    assert shop.app.conf.task_always_eager is False
    assert shop.app.conf.task_routes == {}
    assert shop.app.conf.include == []
    assert shop.app.conf.broker_url == URL


def test_a_sandbox_tells_whose_it_is_and_what_time_it_is(box: Sandbox) -> None:
    assert repr(box) == f"<Sandbox of shop at {box.now}>"
    assert abs(box.now.timestamp() - time.time()) < 60


def test_an_exception_leaves_nothing_behind_either(shop: Shop) -> None:
    def leave() -> None:
        with Sandbox(shop.app):
            shop.add.delay(1)
            raise KeyError

    with pytest.raises(KeyError):
        leave()


def test_results_of_another_url_and_of_the_environment_are_in_the_sandbox_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TASKQ_BROKER_URL", URL)
    monkeypatch.setenv("TASKQ_RESULT_URL", URL)
    app = TaskQ("shop")
    add = app.task(name="t")(lambda: 1)

    with Sandbox(app) as box:
        result = add.delay()
        box.run()
        assert result.get() == 1
        assert app.results_with_broker


def test_an_application_that_was_used_before_is_refused_with_the_cure() -> None:
    app = TaskQ("shop", broker="memory://")
    app.send_task("t")

    with pytest.raises(ImproperlyConfigured, match=r"opened memory://.* app\.close"):
        Sandbox(app).__enter__()

    app.close()
    with Sandbox(app):
        pass


def test_one_whose_results_were_read_before_is_refused_too() -> None:
    app = TaskQ("shop", broker="memory://")
    assert app.results is not None

    with pytest.raises(ImproperlyConfigured, match="before the sandbox"):
        Sandbox(app).__enter__()
    app.close()


def test_the_refusal_shows_no_password() -> None:
    app = TaskQ("shop", broker="memory://me:secret@x")
    assert app.broker is not None

    with pytest.raises(ImproperlyConfigured) as caught:
        Sandbox(app).__enter__()
    assert "secret" not in str(caught.value)
    app.close()
