"""How large the long form of a test is, on which backend."""

from __future__ import annotations

from typing import TypeVar

from taskq.url import Url

T = TypeVar("T")


def size_on(url: str, *, full: bool, small: T, part: T, whole: dict[str, T]) -> T:
    """Return a test's size: the small one, or the long form's on the backend of the URL.

    What is tested is mostly the worker and the harness around it, so the whole size
    is for one backend. What another one does in a way of its own shows in part of
    it: the long form there still deals several times the blows of the short one.
    """
    return whole.get(Url.parse(url).scheme, part) if full else small
