import pytest

from taskq.errors import ImproperlyConfigured, InvalidName, UnknownOption
from taskq.url import Url
from taskq_redis.keys import PARTS, WAKE, Keys
from taskq_redis.options import Options
from taskq_redis.plugin import taskq_open_broker, taskq_plugin
from taskq_redis.records import chunks, pack_reason


def test_all_keys_of_a_namespace_share_one_hash_tag():
    keys = Keys("shop")
    names = [*keys.fixed, keys.workers, keys.beats, keys.result("x"), *keys.queue("mail")]

    assert all(name.startswith("{taskq:shop}:") for name in names)
    assert len(set(names)) == len(names)


def test_a_queue_has_one_key_for_each_part_the_scripts_count_on():
    block = Keys("shop").queue("mail")

    assert len(block) == len(PARTS) == 15
    assert block[0] == "{taskq:shop}:queue:mail:processing"
    assert block[WAKE] == "{taskq:shop}:queue:mail:wake"
    assert block[5:] == tuple(f"{{taskq:shop}}:queue:mail:ready:{level}" for level in range(10))


def test_queues_with_colons_in_their_names_do_not_share_keys():
    keys = Keys("shop")
    names = ["a", "a:ready:9", "a:ready", "a:wake", "queue:a"]

    every = [key for name in names for key in keys.queue(name)]

    assert len(set(every)) == len(every)


def test_an_illegal_queue_name_makes_no_key():
    with pytest.raises(InvalidName):
        Keys("shop").queue("a b\r\n")


@pytest.mark.parametrize(
    ("text", "db"),
    [
        ("redis://host", 0),
        ("redis://host/3", 3),
        ("redis://host?db=4", 4),
        ("unix:///run/redis.sock?db=2", 2),
    ],
)
def test_a_url_names_its_database(text, db):
    assert Options.of(Url.parse(text)).db == db


@pytest.mark.parametrize(
    "text",
    [
        "redis://host/first",
        "redis://host/1?db=2",
        "redis://host?db=-1",
        "redis://host?timeout=0",
        "redis://host?timeout=nan",
        "redis://host?tls_insecure=1",
    ],
)
def test_a_url_without_sense_is_refused(text):
    with pytest.raises(ImproperlyConfigured):
        Options.of(Url.parse(text))


def test_an_unknown_option_is_answered_by_the_right_one():
    with pytest.raises(UnknownOption, match="did you mean 'timeout'"):
        Options.of(Url.parse("redis://host?timeuot=3"))


def test_certificates_are_checked_unless_the_url_says_otherwise(caplog):
    checked = Options.of(Url.parse("rediss://host"))
    assert not checked.tls_insecure
    assert not caplog.messages

    unchecked = Options.of(Url.parse("rediss://user:hush@host?tls_insecure=1"))

    assert unchecked.tls_insecure
    assert "not checked" in caplog.text
    assert "hush" not in caplog.text


def test_the_plugin_leaves_other_schemes_to_others():
    assert taskq_plugin().schemes == ("redis", "rediss", "unix")
    assert taskq_open_broker(Url.parse("amqp://host"), None) is None


def test_chunks_are_bounded_by_number_and_by_size():
    by_number = [len(chunk) for chunk in chunks(range(1001), lambda _: 0)]
    by_size = [len(chunk) for chunk in chunks(range(5), lambda _: 400_000)]
    too_large = [len(chunk) for chunk in chunks(range(2), lambda _: 5_000_000)]

    assert by_number == [500, 500, 1]
    assert by_size == [2, 2, 1]
    assert too_large == [1, 1]


def test_a_reason_holds_any_text():
    assert pack_reason("failed", "a b\n\udc80") == b"6 faileda b\n\xed\xb2\x80"
