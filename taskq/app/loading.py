"""From `module[:name]` to an application: what `-A` and pytest's `taskq_app` take."""

from __future__ import annotations

import importlib
import traceback
from collections.abc import Sequence
from types import ModuleType
from typing import Final

from taskq.app.application import TaskQ
from taskq.errors import ImproperlyConfigured

CONVENTION: Final = "app"
"""The name looked for first where none is given."""
FRAMES: Final = 6
"""How much of a traceback is shown: the last calls, without the import system's."""


def find_app(spec: str) -> TaskQ:
    """Return the application that `spec` names.

    Without a name it is the module's `app`, else the only `TaskQ` in it.

    Raises:
        ImproperlyConfigured: there is no such module or application, several
            could be meant, or importing the module failed.
    """
    module_name, _, name = spec.partition(":")
    module = import_module(module_name)
    return _named(module, name) if name else _only(module)


def import_tasks(app: TaskQ, modules: Sequence[str] = ()) -> None:
    """Import the modules with tasks that the application includes, and more.

    Raises:
        ImproperlyConfigured: one does not exist, or its own code raises.
    """
    for name in (*app.conf.include, *modules):
        import_module(name)


def import_module(name: str) -> ModuleType:
    """Import a module of the user's.

    Raises:
        ImproperlyConfigured: it does not exist, or its own code raises; in that
            case the message holds the end of the traceback.
    """
    if not all(part.isidentifier() for part in name.split(".")):
        raise ImproperlyConfigured(
            f"{name!r} is not the name of a module; write it as in an import, such as shop.tasks, "
            "and name its folder by --workdir, or in pytest by pythonpath"
        )
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise _failed(name, error) from error
        raise ImproperlyConfigured(_missing(name, error.name)) from None
    except (Exception, SystemExit) as error:
        raise _failed(name, error) from error


def _missing(name: str, absent: str) -> str:
    head, _, tail = name.rpartition(".")
    hint = ""
    if head and absent == name:
        hint = f"; if {tail} is a variable, write {head}:{tail}"
        if tail == "py":
            hint = f"; leave out the ending: {head}"
    return (
        f"there is no module {absent!r} in the current directory or among what is installed{hint}"
    )


def _failed(name: str, error: BaseException) -> ImproperlyConfigured:
    calls = "".join(traceback.format_list(_frames(error)[-FRAMES:]))
    reason = "".join(traceback.format_exception_only(error))
    return ImproperlyConfigured(f"module {name!r} cannot be imported:\n{calls}{reason}".rstrip())


def _frames(error: BaseException) -> list[traceback.FrameSummary]:
    return [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith("<frozen")
        and frame.filename not in (__file__, importlib.__file__)
    ]


def _named(module: ModuleType, path: str) -> TaskQ:
    found: object = module
    for part in path.split("."):
        found = getattr(found, part, None)
    if isinstance(found, TaskQ):
        return found
    there = f"is a {type(found).__name__}, not a TaskQ" if found is not None else "does not exist"
    raise ImproperlyConfigured(f"{module.__name__}:{path} {there}; {_offer(module)}")


def _only(module: ModuleType) -> TaskQ:
    conventional = getattr(module, CONVENTION, None)
    if isinstance(conventional, TaskQ):
        return conventional
    apps = _apps(module)
    if len(set(apps.values())) == 1:
        return next(iter(apps.values()))
    problem = "has several applications" if apps else "has no application"
    raise ImproperlyConfigured(f"module {module.__name__!r} {problem}; {_offer(module)}")


def _apps(module: ModuleType) -> dict[str, TaskQ]:
    return {name: value for name, value in vars(module).items() if isinstance(value, TaskQ)}


def _offer(module: ModuleType) -> str:
    names = sorted(_apps(module))
    if names:
        return "choose one: " + ", ".join(f"{module.__name__}:{name}" for name in names)
    return 'make one there: app = TaskQ("name")'
