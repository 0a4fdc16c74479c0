"""What a URL says, and what is wrong with it."""

from collections.abc import Callable
from pathlib import Path

import pytest
from taskq_files.options import Options

from taskq.contract.broker import Broker
from taskq.errors import ImproperlyConfigured, UnknownOption
from taskq.plugins import Plugins
from taskq.url import Url


@pytest.mark.parametrize(
    ("wrong", "cure"),
    [
        ("files://host/folder", "three slashes"),
        ("files+fast:///folder", "three slashes"),
        ("files:///", "names no folder"),
        ("files:///folder?timeout=-1", "below 0"),
        ("files:///folder?timeout=soon", "not of type float"),
    ],
)
def test_a_wrong_url_is_refused_with_its_cure(wrong: str, cure: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=cure):
        Plugins().open_broker(wrong)


def test_an_unknown_option_is_refused_with_the_right_one() -> None:
    with pytest.raises(UnknownOption, match="did you mean 'fsync'"):
        Plugins().open_broker("files:///folder?fsnyc=0")


def test_no_namespace_leads_out_of_the_folder(tmp_path: Path) -> None:
    for namespace in (".", ".."):
        options = Options.of(Url.parse(f"files://{tmp_path}?namespace={namespace}"))

        assert options.folder.resolve().parent == tmp_path


def test_the_operator_learns_what_a_power_cut_costs(opened: Callable[..., Broker]) -> None:
    [warning] = opened().check()

    assert "fsync=0" in warning
