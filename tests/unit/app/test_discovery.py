from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from taskq import TaskQ
from taskq.app.discovery import autodiscover


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name in ("disc_full", "disc_empty", "disc_broken"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("")
    (tmp_path / "disc_full" / "tasks.py").write_text("found = True\n")
    (tmp_path / "disc_broken" / "tasks.py").write_text("import disc_no_such_module\n")
    (tmp_path / "disc_module.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("disc_")]:
        del sys.modules[name]


@pytest.mark.usefixtures("packages")
def test_the_modules_there_are_are_imported() -> None:
    assert autodiscover(["disc_full", "disc_empty", "disc_module"], "tasks") == ["disc_full.tasks"]
    assert sys.modules["disc_full.tasks"].found is True


@pytest.mark.usefixtures("packages")
def test_an_error_inside_a_module_is_not_silenced() -> None:
    with pytest.raises(ModuleNotFoundError, match="disc_no_such_module"):
        TaskQ("shop").autodiscover_tasks(["disc_broken"])


def test_a_package_that_is_not_there_is_an_error() -> None:
    with pytest.raises(ModuleNotFoundError, match="disc_missing"):
        autodiscover(["disc_missing"], "tasks")
