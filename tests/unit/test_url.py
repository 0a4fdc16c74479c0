from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskq import TaskQ
from taskq.errors import ImproperlyConfigured, InvalidName, TaskqError, UnknownOption
from taskq.plugins import Plugins
from taskq.url import Url

SECRET = "s3cr3t-pa55"
texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("memory://", ("memory", "", "", "", "", None, "")),
        ("redis://localhost", ("redis", "", "", "", "localhost", None, "")),
        ("REDISS://u:p@Host:6380/2", ("rediss", "", "u", "p", "host", 6380, "/2")),
        ("redis://:p@[::1]:1/0", ("redis", "", "", "p", "::1", 1, "/0")),
        ("mysql+x://u%40x:p%2F%23@h/db", ("mysql", "x", "u@x", "p/#", "h", None, "/db")),
        ("sqlite:////var/a%20b.db", ("sqlite", "", "", "", "", None, "//var/a b.db")),
        ("unix:///run/redis.sock", ("unix", "", "", "", "", None, "/run/redis.sock")),
    ],
)  # fmt: skip
def test_a_url_is_read_into_its_parts(text: str, parts: tuple[Any, ...]) -> None:
    url = Url.parse(text)

    assert (
        url.scheme, url.driver, url.username, url.password, url.host, url.port, url.path,
    ) == parts  # fmt: skip
    assert Url.parse(url) is url


@given(
    username=texts,
    password=texts,
    host=st.sampled_from(["localhost", "10.0.0.1", "::1", "db.example.org"]),
    port=st.none() | st.integers(0, 65535),
    path=texts.map(lambda text: "/" + text),
    query=st.dictionaries(texts.filter(lambda key: key != "namespace"), texts, max_size=3),
    namespace=st.sampled_from(["taskq", "shop-1"]),
)
def test_what_is_revealed_is_read_as_the_same_url(**parts: Any) -> None:
    url = Url(scheme="redis", driver="", **parts)

    assert Url.parse(url.reveal()) == url


def test_the_namespace_is_no_option() -> None:
    url = Url.parse("redis://h?namespace=shop&timeout=3")

    assert url.namespace == "shop"
    assert url.options(timeout=float) == {"timeout": 3.0}
    with pytest.raises(InvalidName, match="namespace"):
        Url.parse("redis://h?namespace=a%20b")


@pytest.mark.parametrize(
    "text",
    ["", "redis", "redis:/x", "//h", "://h", "localhost:6379", "redis://h:port", "redis://[::1", "redis://h:99999"],
)  # fmt: skip
def test_what_is_no_url_is_refused(text: str) -> None:
    with pytest.raises(ImproperlyConfigured, match="not a broker URL"):
        Url.parse(text)


def test_options_are_converted_and_unknown_ones_suggest() -> None:
    url = Url.parse("redis://h?retries=3&wait=0.5&tls=on&name=x")

    assert url.options(retries=int, wait=float, tls=bool, name=str, other=int) == {
        "retries": 3,
        "wait": 0.5,
        "tls": True,
        "name": "x",
    }
    with pytest.raises(UnknownOption, match="redis:// option 'retries'; did you mean 'retry'"):
        url.options(retry=int, wait=float, tls=bool, name=str)


@pytest.mark.parametrize(
    ("query", "kind"),
    [("a=x", int), ("a=1.5", int), ("a=maybe", bool), ("a=nan", float), ("a=inf", float)],
)
def test_an_option_of_the_wrong_type_is_refused(query: str, kind: type) -> None:
    with pytest.raises(ImproperlyConfigured, match=f"is not of type {kind.__name__}"):
        Url.parse(f"redis://h?{query}").options(a=kind)


def test_an_option_given_twice_is_refused() -> None:
    with pytest.raises(ImproperlyConfigured, match="twice"):
        Url.parse("redis://h?a=1&a=2")


def app(**settings: Any) -> TaskQ:
    return TaskQ("shop", **settings)


SHOWN: dict[str, Callable[[], object]] = {
    "str": lambda: str(Url.parse(f"redis://u:{SECRET}@h/0")),
    "repr": lambda: repr(Url.parse(f"redis://:{SECRET}@h/0")),
    "format": lambda: f"{Url.parse(f'redis://u:{SECRET}@h?sslpassword={SECRET}&api_key={SECRET}')}",
    "container": lambda: str([Url.parse(f"redis://u:{SECRET}@h")]),
    "replace": lambda: str(Url.parse("redis://u@h").replace(password=SECRET)),
    "settings": lambda: repr(app(broker=f"redis://u:{SECRET}@h", results=f"redis://u:{SECRET}@h").conf),
    "garbled setting": lambda: repr(app(broker=f"{SECRET}").conf),
    "rich": lambda: app(broker=f"redis://u:{SECRET}@h").conf.__rich_repr__(),
    "application": lambda: repr(app(broker=f"redis://u:{SECRET}@h")),
    "broker_url": lambda: repr(app(broker=f"redis://u:{SECRET}@h").broker_url),
}  # fmt: skip
FAILING: dict[str, Callable[[], object]] = {
    "no scheme": lambda: Url.parse(f"u:{SECRET}@h"),
    "port": lambda: Url.parse(f"redis://u:{SECRET}@h:x{SECRET}"),
    "? in the password": lambda: Url.parse(f"redis://u:12?{SECRET}@h").options(timeout=float),
    "# in the password": lambda: Url.parse(f"redis://u:12#{SECRET}@h"),
    "/ in the password": lambda: Url.parse(f"redis://u:{SECRET}/x@h"),
    "bracket": lambda: Url.parse(f"redis://u:[{SECRET}@h"),
    "twice": lambda: Url.parse(f"redis://h?password={SECRET}&password={SECRET}"),
    "unknown option": lambda: Url.parse(f"redis://u:{SECRET}@h?tiemout=1").options(timeout=float),
    "secret of the wrong type": lambda: Url.parse(f"redis://h?password={SECRET}").options(password=int),
    "unknown scheme": lambda: Plugins().open_broker(f"nosuch://u:{SECRET}@h?token={SECRET}"),
    "unknown results": lambda: Plugins().open_results(f"nosuch://u:{SECRET}@h"),
    "option of memory": lambda: Plugins().open_broker(f"memory://u:{SECRET}@?x={SECRET}"),
    "application": lambda: app(broker=f"nosuch://u:{SECRET}@h").broker,
    "send": lambda: app(broker=f"nosuch://u:{SECRET}@h").send_task("add"),
    "setting": lambda: app(broker=[SECRET]),
    "setting of the wrong name": lambda: app(brokr=f"redis://u:{SECRET}@h"),
    "namespace": lambda: Url.parse(f"redis://u:{SECRET}@h?namespace=a b"),
}  # fmt: skip


@pytest.mark.parametrize("show", SHOWN.values(), ids=SHOWN)
def test_a_password_is_never_shown(show: Callable[[], object]) -> None:
    assert SECRET not in str(show())


@pytest.mark.parametrize("operate", FAILING.values(), ids=FAILING)
def test_a_password_is_in_no_error_and_in_no_cause_of_it(operate: Callable[[], object]) -> None:
    with pytest.raises(TaskqError) as caught:
        operate()

    text = "".join(line for line in traceback.format_exception(caught.value))
    code = [line for line in text.splitlines() if SECRET in line]
    seen: BaseException | None = caught.value
    while seen is not None:
        assert SECRET not in str(seen)
        assert SECRET not in repr(seen)
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
    assert code == []
