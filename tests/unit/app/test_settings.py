from __future__ import annotations

import datetime as dt
import logging
from pathlib import Path
from typing import Any

import pytest

from taskq import TaskQ
from taskq.app.settings import Settings, check, instant, seconds
from taskq.errors import ImproperlyConfigured, UnknownOption, UnknownScheme
from taskq.plugins import Plugins


def test_an_unknown_setting_suggests_the_right_one() -> None:
    with pytest.raises(
        UnknownOption, match="unknown setting 'task_default_que'; did you mean 'task_default_queue'"
    ):
        TaskQ("shop", task_default_que="x")
    with pytest.raises(UnknownOption, match="broker_url"):
        Settings().broker_ulr = "redis://h"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("task_default_priority", 10),
        ("task_default_priority", -1),
        ("task_default_priority", "5"),
        ("task_default_priority", True),
        ("task_default_queue", "a b"),
        ("task_default_queue", ""),
        ("task_max_deliveries", 1),
        ("enqueue_timeout", 0),
        ("enqueue_timeout", float("inf")),
        ("result_expires", float("nan")),
        ("message_limit", 10),
        ("include", "shop.tasks"),
        ("task_routes", {"a": 5}),
        ("task_routes", {"a": {"quue": "x"}}),
        ("task_routes", {"a": {"priority": 11}}),
        ("task_serializer", "pickle"),
        ("task_ignore_result", 1),
        ("broker_url", 5),
    ],
)
def test_a_value_that_does_not_fit_is_refused(name: str, value: Any) -> None:
    settings = Settings()
    before = getattr(settings, name)

    with pytest.raises(ImproperlyConfigured):
        setattr(settings, name, value)
    with pytest.raises(ImproperlyConfigured):
        TaskQ("shop", **{name: value})

    assert getattr(settings, name) == before


def test_an_update_changes_all_or_nothing() -> None:
    settings = Settings()

    with pytest.raises(UnknownOption):
        settings.update({"enqueue_timeout": 1}, nonsense=2)
    assert settings.enqueue_timeout == 10.0

    settings.update({"enqueue_timeout": 1}, include=("a", "b"))
    assert (settings.enqueue_timeout, settings.include) == (1.0, ["a", "b"])


def test_two_applications_share_no_defaults() -> None:
    Settings().include.append("x")

    assert Settings().include == []


def test_a_url_may_be_given_by_the_settings_own_name() -> None:
    app = TaskQ("shop", broker_url="memory://?namespace=a", result_url="memory://?namespace=b")

    assert (app.broker_url.namespace, app.result_url.namespace) == ("a", "b")


def test_numbers_are_converted() -> None:
    assert type(check("enqueue_timeout", 3)) is float


def test_the_program_goes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKQ_BROKER_URL", "memory://?namespace=env")
    monkeypatch.setenv("TASKQ_RESULT_URL", "memory://?namespace=results")

    assert TaskQ("shop").broker_url.namespace == "env"
    assert TaskQ("shop").result_url.namespace == "results"
    assert TaskQ("shop", broker="memory://").broker_url.namespace == "taskq"
    assert TaskQ("shop", results="memory://").result_url.namespace == "taskq"


def test_an_empty_variable_counts_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKQ_RESULT_URL", "")
    app = TaskQ("shop", broker="memory://")

    assert app.result_url == app.broker_url
    assert app.results_with_broker


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("TASKQ_BROKER_URI", "TASKQ_BROKER_URL"),
        ("TASKQ_BROKER", "TASKQ_BROKER_URL"),
        ("TASKQ_BORKER_URL", "TASKQ_BROKER_URL"),
        ("TASKQ_RESULTS_URL", "TASKQ_RESULT_URL"),
    ],
)
def test_a_misspelt_variable_is_refused_where_it_would_have_counted(
    monkeypatch: pytest.MonkeyPatch, variable: str, meant: str
) -> None:
    monkeypatch.setenv(variable, "redis://h")

    with pytest.raises(UnknownOption, match=f"{variable}'; did you mean '{meant}'"):
        _ = TaskQ("shop").result_url
    assert TaskQ("shop", broker="memory://", results="memory://").result_url.scheme == "memory"
    monkeypatch.setenv(meant, "memory://")
    assert TaskQ("shop", results="memory://?namespace=a").result_url.namespace == "a"


@pytest.mark.parametrize(
    "variable",
    ["TASKQ_APP", "TASKQ_REDIS_URL", "TASKQ_BROKER_PORT", "TASKQ_BROKER_SERVICE_HOST"],
)
def test_other_variables_are_left_alone(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "x")

    assert TaskQ("shop", broker="memory://").result_url.scheme == "memory"
    assert TaskQ("shop").broker_url.scheme == "sqlite"


def test_without_a_url_an_absolute_file_named_after_the_application_serves(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))

    url = TaskQ("shop").broker_url

    assert url.scheme == "sqlite"
    assert Path(url.path[1:]).is_absolute()
    assert url.path.endswith("/shop.db")


def test_without_a_url_and_without_sql_the_error_shows_both_cures(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr(Plugins, "_load", lambda _: None)

    with pytest.raises(UnknownScheme, match=r"TASKQ_BROKER_URL.*pip install") as caught:
        _ = TaskQ("shop").broker

    assert caught.value.__suppress_context__
    assert not [r for r in caplog.records if r.levelno > logging.INFO]


@pytest.mark.parametrize(
    ("value", "expected"), [(3, 3.0), (0.5, 0.5), (-1, -1.0), (dt.timedelta(minutes=1), 60.0)]
)
def test_a_duration_is_a_number_or_a_timedelta(value: Any, expected: float) -> None:
    assert seconds(value, "countdown") == expected


@pytest.mark.parametrize("value", ["3", None, True, float("nan"), float("inf"), 10**400])
def test_anything_else_is_no_duration(value: Any) -> None:
    with pytest.raises(ImproperlyConfigured, match="countdown must be a number of seconds"):
        seconds(value, "countdown")


def test_an_instant_has_a_time_zone() -> None:
    moment = dt.datetime(2026, 11, 21, tzinfo=dt.UTC)

    assert instant(moment, "eta") == moment.timestamp()
    for wrong in (moment.replace(tzinfo=None), moment.date(), 5, None):
        with pytest.raises(ImproperlyConfigured, match="eta must be a datetime with a time zone"):
            instant(wrong, "eta")
