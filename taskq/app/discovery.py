"""Importing the modules that define tasks."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence


def autodiscover(packages: Sequence[str], related_name: str) -> list[str]:
    """Import `package.related_name` of each package that has one; return their names.

    An error inside such a module is raised; only its absence is silent.
    """
    imported: list[str] = []
    for package in packages:
        if not hasattr(importlib.import_module(package), "__path__"):
            continue
        name = f"{package}.{related_name}"
        if importlib.util.find_spec(name) is not None:
            importlib.import_module(name)
            imported.append(name)
    return imported
