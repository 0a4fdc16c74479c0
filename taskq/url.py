"""Broker and result URLs, as a value that never shows its secrets.

``scheme://[user[:password]@]host[:port][/path][?option=value&…]``

The query holds options of the backend. Each backend says which it knows and of
what type (`Url.options`); an unknown one is an error that suggests the right
one.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from taskq.errors import ImproperlyConfigured, UnknownOption
from taskq.names import check_name

DEFAULT_NAMESPACE: Final = "taskq"
MASK: Final = "***"
_SECRET: Final = re.compile(r"pass|pwd|secret|token|key$|credential", re.IGNORECASE)
_TRUE: Final = frozenset({"1", "true", "yes", "on"})
_FALSE: Final = frozenset({"0", "false", "no", "off"})


@dataclasses.dataclass(frozen=True, slots=True, repr=False)
class Url:
    """A parsed URL. `str` and `repr` mask password and secret options."""

    scheme: str
    """Lower case, without a `+driver`."""
    driver: str
    """What stood behind a `+` in the scheme, or ""."""
    username: str
    password: str
    host: str
    port: int | None
    path: str
    """With its leading slash, percent-decoded."""
    query: Mapping[str, str]
    namespace: str

    @classmethod
    def parse(cls, text: str | Url) -> Url:
        """Read a URL.

        Raises:
            ImproperlyConfigured: it is none, or its namespace is no legal name.
                The message never holds the text itself, which may be a secret.
        """
        if isinstance(text, Url):
            return text
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError as error:
            reason = (
                "the port is no number up to 65535"
                if "port" in str(error).lower()
                else "it is garbled"
            )
            raise ImproperlyConfigured(f"not a broker URL: {reason}") from None
        if not parts.scheme or "://" not in text:
            raise ImproperlyConfigured(
                "not a broker URL: expected scheme://…, such as redis://localhost, "
                "sqlite:///tasks.db or memory://"
            )
        if parts.fragment or "@" in parts.query.partition("=")[0]:
            raise ImproperlyConfigured(
                "not a broker URL: in names and passwords write # as %23, ? as %3F, @ as %40"
            )
        query: dict[str, str] = {}
        for key, value in parse_qsl(parts.query, keep_blank_values=True):
            if key in query:
                raise ImproperlyConfigured(f"URL option {key!r} stands there twice")
            query[key] = value
        namespace = check_name(query.pop("namespace", DEFAULT_NAMESPACE), "namespace")
        scheme, _, driver = parts.scheme.lower().partition("+")
        return cls(
            scheme=scheme,
            driver=driver,
            username=unquote(parts.username or ""),
            password=unquote(parts.password or ""),
            host=parts.hostname or "",
            port=port,
            path=unquote(parts.path),
            query=query,
            namespace=namespace,
        )

    def options(self, **known: type) -> dict[str, Any]:
        """Return the query's options, converted to the types given.

        Types are `str`, `int`, `float` and `bool` (1/0, true/false, yes/no,
        on/off). Options that do not stand in the URL are left out.

        Raises:
            UnknownOption: one is not in `known`.
            ImproperlyConfigured: a value does not fit its type.
        """
        found: dict[str, Any] = {}
        for key, text in self.query.items():
            if key not in known:
                raise UnknownOption(key, {*known, "namespace"}, what=f"{self.scheme}:// option")
            try:
                found[key] = _converted(text, known[key])
            except ValueError:
                shown = MASK if _SECRET.search(key) else repr(text)
                raise ImproperlyConfigured(
                    f"URL option {key}={shown} is not of type {known[key].__name__}"
                ) from None
        return found

    def replace(self, **changes: Any) -> Url:
        """Return a copy with other parts."""
        return dataclasses.replace(self, **changes)

    def reveal(self) -> str:
        """Return the whole URL as text, secrets included. Never log it."""
        return self._text(mask=False)

    def _text(self, *, mask: bool) -> str:
        scheme = f"{self.scheme}+{self.driver}" if self.driver else self.scheme
        login = quote(self.username, safe="")
        if self.password:
            login += ":" + (MASK if mask else quote(self.password, safe=""))
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = f":{self.port}" if self.port is not None else ""
        query = {
            key: MASK if mask and _SECRET.search(key) else value
            for key, value in self.query.items()
        }
        if self.namespace != DEFAULT_NAMESPACE:
            query["namespace"] = self.namespace
        tail = "?" + urlencode(query, safe="*") if query else ""
        return f"{scheme}://{login}{'@' if login else ''}{host}{port}{quote(self.path)}{tail}"

    def __str__(self) -> str:
        return self._text(mask=True)

    def __repr__(self) -> str:
        return f"Url({self._text(mask=True)!r})"


def _converted(text: str, kind: type) -> Any:
    if kind is bool:
        return _boolean(text)
    value = kind(text)
    if kind is float and not math.isfinite(value):
        raise ValueError(text)
    return value


def _boolean(text: str) -> bool:
    lowered = text.lower()
    if lowered in _TRUE:
        return True
    if lowered in _FALSE:
        return False
    raise ValueError(text)
