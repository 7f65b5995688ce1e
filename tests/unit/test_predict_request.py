"""Bodies of predict requests, as far as tests/process/test_predict_bodies.py cannot try them quickly."""

from __future__ import annotations

import json

import pytest

from clipper_nomad.protocol.datatypes import InputType
from clipper_nomad_frontend import predict_request
from clipper_nomad_frontend.predict_request import RequestError, RequestReader

NUMBERS = 1000  # more than struct packs


@pytest.mark.parametrize(("kind", "width"), [(InputType.DOUBLES, 8), (InputType.FLOATS, 4), (InputType.INTEGERS, 4)])
def test_an_input_too_large_for_a_frame_is_refused_before_a_replica_gets_it(
    monkeypatch: pytest.MonkeyPatch, kind: InputType, width: int
) -> None:
    """Two bytes of JSON are eight of a double, so a body within its limit can be a frame beyond the channel's."""
    monkeypatch.setattr(predict_request, "MAX_FRAME_BYTES", width * NUMBERS)
    reader = RequestReader(kind)

    assert len(reader.read(json.dumps({"input": [1] * NUMBERS}).encode()).inputs[0][0]) == width * NUMBERS
    with pytest.raises(RequestError, match=f"{NUMBERS + 1} numbers takes {width * (NUMBERS + 1)} bytes"):
        reader.read(json.dumps({"input": [1] * (NUMBERS + 1)}).encode())


def test_a_large_body_is_not_looked_at_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second look at 16 MiB kept every other client waiting for two seconds."""

    def never(*_: object) -> str:
        raise AssertionError("looked at again")

    monkeypatch.setattr(predict_request, "explain", never)

    with pytest.raises(RequestError, match="null"):
        RequestReader(InputType.DOUBLES).read(b'{"input": [' + b"1," * 50_000 + b"null]}")
