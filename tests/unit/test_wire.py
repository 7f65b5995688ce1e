"""Wire version 4: whatever one side writes the other reads. What else may come: test_wire_broken.py."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipper_nomad.protocol import wire
from clipper_nomad.protocol.wire import (
    ErrorKind,
    Header,
    Hello,
    MessageType,
    OutputError,
    OutputType,
    Reject,
    Welcome,
)

WIDTH = {1: 4, 2: 4, 3: 8}  # input type → bytes of a number

u32 = st.integers(0, 2**32 - 1)
u64 = st.integers(0, 2**64 - 1)
words = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
headers = st.builds(Header, st.just(MessageType.PREDICT), st.just(0), st.integers(0, 50), epoch=u64, session=u64, batch=u64)


def result_frames(
    answers: Header, *, backlog: int = 0, exec_micros: int = 0, errors: Sequence[OutputError] = ()
) -> list[bytes]:
    return wire.encode_result(
        answers=answers,
        output_type=OutputType.FLOAT64,
        backlog=backlog,
        exec_micros=exec_micros,
        lengths=None,
        data=b"",
        errors=errors,
    )


@given(
    epoch=u64, session=u64, batch=u64, budget=u64, kind=st.sampled_from([1, 2, 3]), length=st.integers(0, 5), data=st.data()
)
def test_a_batch_of_numbers_arrives_as_it_was_sent(
    epoch: int, session: int, batch: int, budget: int, kind: int, length: int, data: st.DataObject
) -> None:
    size = length * WIDTH[kind]
    inputs = data.draw(st.lists(st.binary(min_size=size, max_size=size), min_size=1, max_size=6))

    frames = wire.encode_predict(
        epoch=epoch,
        session=session,
        batch=batch,
        input_type=kind,
        item_length=length,
        budget_micros=budget,
        inputs=inputs,
    )
    header = wire.header_of(frames[0])
    predict = wire.decode_predict(header, frames)

    assert (header.type, header.epoch, header.session, header.batch) == (MessageType.PREDICT, epoch, session, batch)
    assert (header.count, predict.input_type, predict.item_length) == (len(inputs), kind, length)
    assert (predict.budget_micros, predict.lengths, predict.data) == (budget, None, b"".join(inputs))


@given(kind=st.sampled_from([0, 4]), inputs=st.lists(st.binary(max_size=20), min_size=1, max_size=8))
def test_a_batch_of_texts_or_bytes_arrives_as_it_was_sent(kind: int, inputs: list[bytes]) -> None:
    frames = wire.encode_predict(epoch=1, session=2, batch=3, input_type=kind, item_length=0, budget_micros=4, inputs=inputs)

    predict = wire.decode_predict(wire.header_of(frames[0]), frames)

    assert predict.lengths is not None
    assert predict.lengths.tolist() == [len(each) for each in inputs]
    assert predict.data == b"".join(inputs)


errors = st.builds(OutputError, st.integers(0, 49), st.sampled_from(ErrorKind), words, words)


@given(header=headers, kind=st.sampled_from(OutputType), backlog=u32, exec_micros=u32, data=st.data())
def test_a_result_arrives_as_it_was_sent(
    header: Header, kind: OutputType, backlog: int, exec_micros: int, data: st.DataObject
) -> None:
    lengths = None
    if kind is OutputType.TEXT:
        texts = data.draw(st.lists(st.binary(max_size=9), min_size=header.count, max_size=header.count))
        lengths, block = np.array([len(text) for text in texts], np.uint32), b"".join(texts)
    else:
        block = bytes(header.count * wire.OUTPUT_WIDTH[kind].itemsize)
    wrong = [each for each in data.draw(st.lists(errors, max_size=3)) if each.index < header.count]  # type: ignore[operator]  # none is None

    frames = wire.encode_result(
        answers=header,
        output_type=kind,
        backlog=backlog,
        exec_micros=exec_micros,
        lengths=lengths,
        data=block,
        errors=wrong,
    )
    read_header = wire.header_of(frames[0])
    result = wire.decode_result(read_header, frames)

    assert (read_header.type, read_header.count) == (MessageType.RESULT, header.count)
    assert (read_header.epoch, read_header.session, read_header.batch) == (header.epoch, header.session, header.batch)
    assert (result.output_type, result.backlog, result.exec_micros) == (kind, backlog, exec_micros)
    assert (result.data, result.errors) == (block, tuple(wrong))
    assert (result.lengths is None) == (lengths is None)
    assert lengths is None or result.lengths.tolist() == lengths.tolist()  # type: ignore[union-attr]  # the line above


@given(epoch=u64, session=u64, waited=u64)
def test_an_ask_arrives_as_it_was_sent(epoch: int, session: int, waited: int) -> None:
    frames = wire.encode_ask(epoch=epoch, session=session, waited_micros=waited)

    header = wire.header_of(frames[0])

    assert (header.type, header.epoch, header.session) == (MessageType.ASK, epoch, session)
    assert wire.decode_ask(frames) == waited


@given(header=headers, asks_first=st.booleans())
def test_a_result_tells_whether_its_replica_is_to_be_asked_first(header: Header, *, asks_first: bool) -> None:
    frames = wire.encode_result(
        answers=header, output_type=OutputType.BOOL, backlog=0, exec_micros=0, lengths=None, data=bytes(header.count),
        ask_first=asks_first,
    )  # fmt: skip

    flags = wire.decode_result(wire.header_of(frames[0]), frames).header.flags

    assert flags == (wire.ASK_FIRST if asks_first else 0)


@given(header=headers, kind=st.sampled_from(ErrorKind), message=words)
def test_a_batch_that_failed_as_a_whole_arrives_with_its_reason(header: Header, kind: ErrorKind, message: str) -> None:
    error = OutputError(None, kind, message, "trace")

    frames = result_frames(header, errors=[error])

    assert wire.decode_result(wire.header_of(frames[0]), frames).errors == (error,)


def test_times_and_backlogs_beyond_their_fields_are_the_largest_that_fit() -> None:
    frames = result_frames(Header(MessageType.PREDICT, 0, 0, 1, 2, 3), backlog=2**40, exec_micros=2**40)

    result = wire.decode_result(wire.header_of(frames[0]), frames)

    assert (result.backlog, result.exec_micros) == (2**32 - 1, 2**32 - 1)


introductions = (
    st.builds(Hello, model=words, version=words, uid=words, input_type=words, replica=words, python=words, toolkit=words)
    | st.builds(Welcome, frontend=words, toolkit=words)
    | st.builds(Reject, reason=words, final=st.booleans())
)
KINDS = {Hello: MessageType.HELLO, Welcome: MessageType.WELCOME, Reject: MessageType.REJECT}


@given(body=introductions, epoch=u64, session=u64)
def test_an_introduction_arrives_as_it_was_sent(body: Hello | Welcome | Reject, epoch: int, session: int) -> None:
    frames = wire.encode_introduction(KINDS[type(body)], body, epoch=epoch, session=session)

    header = wire.header_of(frames[0])

    assert (header.type, header.epoch, header.session) == (KINDS[type(body)], epoch, session)
    form: Any = type(body)  # one of three, which mypy cannot tell apart here
    assert wire.decode_introduction(frames, form) == body


@pytest.mark.parametrize("kind", [MessageType.CANCEL, MessageType.DRAIN, MessageType.DRAINED])
def test_a_control_message_is_its_header(kind: MessageType) -> None:
    (frame,) = wire.encode_control(kind, epoch=1, session=2, batch=3)

    assert wire.header_of(frame) == Header(kind, 0, 0, 1, 2, 3)


def test_what_a_newer_peer_says_more_is_passed_over() -> None:
    sent = wire.encode_introduction(MessageType.WELCOME, Welcome(frontend="f", toolkit="9"))
    frames = [sent[0], sent[1].replace(b"{", b'{"roster":["x"],')]

    assert wire.decode_introduction(frames, Welcome) == Welcome(frontend="f", toolkit="9")
