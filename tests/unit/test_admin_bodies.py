"""Fields of a request's body. Clipper's words are checked against a real service in tests/process/test_admin_calls.py."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipper_nomad.admin.bodies import BadBody, Body, type_name

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_whatever_comes_is_an_object_or_is_refused(raw: bytes) -> None:
    try:
        body = Body(raw)
    except BadBody:
        return
    assert isinstance(json.loads(raw), dict)
    with pytest.raises(BadBody, match="does not have required key: no such key"):
        body.json("no such key")


@given(JSON)
def test_a_field_is_of_the_type_that_was_asked_for_or_is_refused(value: object) -> None:
    body = Body(json.dumps({"k": value}).encode())

    for read, kind in [(body.text, str), (body.integer, int), (body.flag, bool), (body.texts, tuple)]:
        try:
            found = read("k")  # type: ignore[operator]  # each takes a key
        except BadBody:
            continue
        assert type(found) is kind
        assert found == (tuple(value) if isinstance(value, list) else value)


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (None, "Null"),
        (True, "True"),
        (False, "False"),
        ({}, "Object"),
        ([], "Array"),
        ("", "String"),
        (1, "Number"),
        (0.5, "Number"),
    ],
)
def test_types_have_rapidjson_s_names(value: object, name: str) -> None:
    assert type_name(value) == name


@pytest.mark.parametrize(
    ("read", "default"),
    [
        (lambda body, default: body.text("k", default), "d"),
        (lambda body, default: body.integer("k", default), 7),
        (lambda body, default: body.flag("k", default), True),
        (lambda body, default: body.texts("k", default), ("d",)),
    ],
)
@pytest.mark.parametrize("raw", [b"{}", b'{"k":null}'])
def test_a_field_that_is_absent_or_null_has_its_default(raw: bytes, read: Callable[..., object], default: object) -> None:
    assert read(Body(raw), default) == default


def test_optional_fields_may_be_absent_and_not_wrong() -> None:
    body = Body(b'{"t":"x","i":5,"n":null}')

    assert (body.optional_text("t"), body.optional_integer("i")) == ("x", 5)
    assert (body.optional_text("n"), body.optional_integer("absent")) == (None, None)
    with pytest.raises(BadBody):
        body.optional_text("i")


@pytest.mark.parametrize("value", [2**31, -(2**31) - 1, 1.0, 1e3])
def test_integers_have_32_bits_and_no_point(value: float) -> None:
    with pytest.raises(BadBody, match="must be an integer from -2147483648 to 2147483647"):
        Body(json.dumps({"k": value}).encode()).integer("k")
