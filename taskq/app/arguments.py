"""A task's parameters: checked where it is called, converted where it runs.

Built once per task. The usual call, positional arguments with plain
annotations, costs one C call; everything else takes the road through
`inspect.Signature.bind`.
"""

from __future__ import annotations

import dataclasses
import enum
import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

_POSITIONAL: Final = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class Arguments:
    """What a function takes. Thread-safe after its first use."""

    def __init__(self, function: Callable[..., Any], *, bound: bool) -> None:
        signature = inspect.signature(function)
        parameters = list(signature.parameters.values())[1 if bound else 0 :]
        self._function = function
        self._signature = signature.replace(parameters=parameters)
        self._parameters = parameters
        self._types: dict[str, Any] | None = None
        self._row: Any = None
        self._return: Any = None

    def convert(
        self, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[Sequence[Any], Mapping[str, Any]]:
        """Return the arguments as the annotations want them.

        Raises:
            TypeError: they do not fit. Names the parameter, never the value.
        """
        types = self._types if self._types is not None else self._resolve()
        if not kwargs and len(args) == len(self._parameters) and self._row is not None:
            try:
                return msgspec.convert(args, self._row), kwargs
            except msgspec.ValidationError:
                pass  # The long way names the parameter.
        bound = self._signature.bind(*args, **kwargs)
        for name, value in bound.arguments.items():
            if name in types:
                bound.arguments[name] = _convert(name, value, types[name])
        return bound.args, bound.kwargs

    def convert_return(self, value: Any) -> Any:
        """Return a result's value as the annotation has it, if it can be."""
        if self._types is None:
            self._resolve()
        if self._return is None or value is None:
            return value
        if isinstance(self._return, type) and isinstance(value, self._return):
            return value
        try:
            return msgspec.convert(value, self._return)
        except msgspec.ValidationError:
            return value

    def values(self) -> list[type]:
        """Return the enums and dataclasses that stand in the annotations."""
        self._resolve()
        found: dict[type, None] = {}
        for hint in _hints(self._function).values():
            _collect(hint, found)
        return list(found)

    def _resolve(self) -> dict[str, Any]:
        hints = _hints(self._function)
        plain = [p for p in self._parameters if p.kind in _POSITIONAL or p.kind is p.KEYWORD_ONLY]
        types = {p.name: hints[p.name] for p in plain if _convertible(hints.get(p.name, Any))}
        if len(plain) == len(self._parameters) and all(p.kind in _POSITIONAL for p in plain):
            row = tuple[tuple(types.get(p.name, Any) for p in plain)] if plain else tuple[()]  # type: ignore[misc]
            self._row = row if _passes_instances(types.values()) else None
        self._return = hints.get("return") if _convertible(hints.get("return", Any)) else None
        self._types = types
        return types


def _convert(name: str, value: Any, hint: Any) -> Any:
    if isinstance(hint, type) and isinstance(value, hint):
        return value
    try:
        return msgspec.convert(value, hint)
    except msgspec.ValidationError as error:
        reason = str(error).partition(" - at ")[0]
        if reason.startswith("Invalid") and "'" in reason:
            # Such as "Invalid enum value 'x'", which shows what may be a secret.
            reason = reason.partition("'")[0].rstrip()
        raise TypeError(f"argument {name!r}: {reason}") from None


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function)
    except (NameError, TypeError, AttributeError):
        # An annotation that exists for type checkers only cannot be checked here.
        return {}


def _convertible(hint: Any) -> bool:
    """Say whether msgspec knows how to check and convert this annotation."""
    if hint is Any or hint is inspect.Parameter.empty:
        return False
    try:
        info = msgspec.inspect.type_info(hint)
    except (TypeError, NameError):
        return False
    return not _has_custom(info)


def _has_custom(info: Any) -> bool:
    if isinstance(info, msgspec.inspect.CustomType):
        return True
    if isinstance(info, msgspec.inspect.Type):
        parts = (getattr(info, name) for name in info.__struct_fields__)
        return any(_has_custom(part) for part in parts)
    return isinstance(info, tuple) and any(_has_custom(part) for part in info)


def _passes_instances(hints: Any) -> bool:
    """Say whether values already of these types pass `msgspec.convert` as they are."""
    found: dict[type, None] = {}
    for hint in hints:
        _collect(hint, found)
    return not found


def _collect(hint: Any, found: dict[type, None]) -> None:
    for part in typing.get_args(hint):
        _collect(part, found)
    if isinstance(hint, type) and hint not in found:
        if issubclass(hint, enum.Enum):
            found[hint] = None
        elif dataclasses.is_dataclass(hint):
            found[hint] = None
            for inner in _hints(hint).values():
                _collect(inner, found)
