"""The specification names what the code has, and its examples are read as it says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from taskq.wire import envelope, outcome, tagged
from taskq.wire.codecs import Codecs

PAGE = (Path(__file__).parents[3] / "docs" / "reference" / "wire.md").read_text()
ROWS = re.findall(r"^\| `(\$?\w+)` \| (.+?) \| (.*?) \|", PAGE, re.MULTILINE)
EXAMPLES = {tag: value.strip("`") for tag, value, _ in ROWS if tag.startswith("$")}


def test_every_tag_is_specified() -> None:
    assert EXAMPLES.keys() == tagged._TEXTS.keys() | tagged._STRUCTURES.keys()


def test_every_field_is_specified_in_the_order_it_is_written() -> None:
    fields = [name for name, _, _ in ROWS if not name.startswith("$")]

    expected = [*envelope.Envelope.__struct_fields__, *outcome.Outcome.__struct_fields__]
    assert fields[: len(expected)] == expected


@pytest.mark.parametrize("tag", EXAMPLES.keys() - {"$enum", "$dataclass", "$timedelta"})
def test_the_example_of_a_tag_is_read(tag: str) -> None:
    data = json.dumps({tag: json.loads(EXAMPLES[tag])}).encode()

    assert Codecs().default.decode(data) is not None


def test_the_examples_of_both_formats_are_read_and_written_identically() -> None:
    message, result = re.findall(r"^```text\n(.*?)\n```$", PAGE, re.MULTILINE | re.DOTALL)

    assert envelope.write(*envelope.read(message.encode())) == message.encode()
    assert outcome.write(*outcome.read(result.encode())) == result.encode()
