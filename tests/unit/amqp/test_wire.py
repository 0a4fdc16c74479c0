"""Our own frames against pika's codec, which reads and writes the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pika import spec
from pika.frame import Body, Header, decode_frame
from pika.frame import Method as MethodFrame

from taskq_amqp.transport.wire import (
    BEAT,
    Confirmed,
    Delivered,
    ProtocolBroken,
    Reader,
    Returned,
    ack,
    address,
    content,
    method,
    passive,
)

names = st.text(st.characters(codec="ascii", categories=("L", "N")), max_size=60)
bodies = st.binary(max_size=400)


def frames_of(packed: bytes) -> list[object]:
    found = []
    while packed:
        size, frame = decode_frame(packed)
        assert size, "a frame is not complete"
        found.append(frame)
        packed = packed[size:]
    return found


def delivery(channel: int, tag: int, redelivered: bool, body: bytes, frame_max: int = 64) -> bytes:
    deliver = spec.Basic.Deliver("consumer", tag, redelivered, "exchange", "key")
    head = Header(channel, len(body), spec.BasicProperties(delivery_mode=2, headers={"a": 1}))
    parts = [body[at : at + frame_max] for at in range(0, len(body), frame_max)]
    return b"".join(
        [
            MethodFrame(channel, deliver).marshal(),
            head.marshal(),
            *(Body(channel, part).marshal() for part in parts),
        ]
    )


@given(names, names, bodies, st.integers(50, 500))
def test_what_is_published_is_what_pika_reads(to: str, key: str, body: bytes, most: int) -> None:
    frames = frames_of(address(7, to, key) + content(7, body, most))

    publish, header, *parts = frames
    assert (publish.method.exchange, publish.method.routing_key) == (to, key)
    assert publish.method.mandatory
    assert not publish.method.immediate
    assert header.body_size == len(body)
    assert header.properties.delivery_mode == 2
    assert b"".join(part.fragment for part in parts) == body
    assert all(len(part.marshal()) <= most for part in parts)
    assert {frame.channel_number for frame in frames} == {7}


@given(st.integers(1, 2**63), st.booleans())
def test_an_acknowledgement_is_what_pika_reads(tag: int, multiple: bool) -> None:
    [frame] = frames_of(ack(3, tag, multiple=multiple))

    assert isinstance(frame.method, spec.Basic.Ack)
    assert (frame.method.delivery_tag, frame.method.multiple) == (tag, multiple)


@given(names)
def test_a_question_for_a_count_is_what_pika_reads(name: str) -> None:
    [frame] = frames_of(passive(3, name))

    assert isinstance(frame.method, spec.Queue.Declare)
    assert (frame.method.queue, frame.method.passive) == (name, True)
    flags = (frame.method.durable, frame.method.exclusive, frame.method.nowait)
    assert flags == (False, False, False)


@given(
    st.lists(
        st.tuples(st.integers(1, 9), st.integers(1, 2**40), st.booleans(), bodies), max_size=6
    ),
    st.data(),
)
def test_deliveries_are_read_however_they_are_cut(
    given: list[tuple[int, int, bool, bytes]], data: st.DataObject
) -> None:
    stream = b"".join(BEAT + delivery(*one) for one in given)
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=8).map(sorted))
    reader = Reader()

    found = []
    for first, last in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += reader.feed(stream[first:last])

    assert [(n, e.tag, e.redelivered, e.body) for n, e in found] == given
    assert all(isinstance(event, Delivered) for _, event in found)
    assert {event.consumer for _, event in found} <= {b"consumer"}


@given(st.integers(1, 2**63), st.booleans(), st.booleans())
def test_confirms_and_refusals_are_told_apart(tag: int, multiple: bool, accepted: bool) -> None:
    kind = spec.Basic.Ack if accepted else spec.Basic.Nack

    found = Reader().feed(method(5, kind(tag, multiple)))

    assert found == [(5, Confirmed(tag, multiple, accepted))]


def test_what_comes_back_is_told_with_its_reason() -> None:
    returned = MethodFrame(2, spec.Basic.Return(312, "NO_ROUTE", "", "key")).marshal()
    header = Header(2, 4, spec.BasicProperties()).marshal()

    found = Reader().feed(returned + header + Body(2, b"body").marshal())

    assert found == [(2, Returned(312, "NO_ROUTE", "key", b"body"))]


def test_any_other_method_is_left_to_pika() -> None:
    [(channel, found)] = Reader().feed(method(4, spec.Queue.DeclareOk("name", 5, 6)))

    assert channel == 4
    assert (found.queue, found.message_count, found.consumer_count) == ("name", 5, 6)


@pytest.mark.parametrize(
    "nonsense",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\x01\x00\x01\x00\x00\x00\x04\x00\x3c\x00\x3c\x00",
        b"\x03\x00\x01\x00\x00\x00\x01x\xce",
        b"\x01\x00\x01\x00\x00\x00\x04\xff\xff\xff\xff\xce",
    ],
    ids=["another protocol", "no end", "a body of nothing", "an unknown method"],
)
def test_whatever_is_no_amqp_is_refused(nonsense: bytes) -> None:
    with pytest.raises(ProtocolBroken):
        Reader().feed(nonsense)
