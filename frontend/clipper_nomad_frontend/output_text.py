"""Outputs of a result → JSON texts, one per input. Pure. The rules are in docs/behaviour.md, "Outputs".

Numbers are written in the shortest form that reads back as the same number of their width. A text is taken as JSON if it
parses, else it is a JSON string: Clipper's rule, so that "1" → 1, "[1,2]" → [1,2], "NaN" → "NaN".
"""

from __future__ import annotations

import msgspec
import numpy as np

from clipper_nomad.protocol.wire import OUTPUT_WIDTH, OutputType, Result

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
_BOOLS = (b"false", b"true")
_JSON_STARTS = frozenset(b'-0123456789"[{tfn \t\r\n')  # what a JSON text can start with


def output_texts(result: Result) -> list[bytes]:
    """Return the outputs of `result` as JSON texts, in order. A text that is not UTF-8 shows U+FFFD where it is not."""
    kind = result.output_type
    if kind is OutputType.TEXT:
        assert result.lengths is not None  # noqa: S101  # decode_result made sure; for the type checker
        texts, start = [], 0
        for length in result.lengths.tolist():
            texts.append(text_as_json(result.data[start : start + length]))
            start += length
        return texts
    numbers = np.frombuffer(result.data, OUTPUT_WIDTH[kind])
    if kind is OutputType.BOOL:
        return [_BOOLS[flag] for flag in numbers.tolist()]
    if kind in (OutputType.INT64, OutputType.FLOAT64):
        listed = _encode(numbers.tolist())[1:-1].split(b",")
        if b"null" not in listed:
            return listed
    return [_number(str(number)) for number in numbers]  # str of a NumPy scalar is the shortest form of its width


def _number(text: str) -> bytes:
    match text:
        case "nan":
            return b'"NaN"'
        case "inf":
            return b'"Infinity"'
        case "-inf":
            return b'"-Infinity"'
        case _:
            return text.encode()


def text_as_json(text: bytes) -> bytes:
    """Return `text` itself if it is JSON, else as a JSON string."""
    if text and text[0] in _JSON_STARTS:
        try:
            _decode(text)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            pass
        else:
            return text
    return _encode(text.decode(errors="replace"))
