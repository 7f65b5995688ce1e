"""Records of the catalog: their JSON forms, snapshots, mirrors."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipper_nomad.protocol.datatypes import InputType
from clipper_nomad.state.records import (
    App,
    Model,
    ModelVersion,
    Record,
    Snapshot,
    default_timeout_micros,
    field_of,
    from_json,
    from_mirror,
    snapshot,
    to_json,
    to_mirror,
)

NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20)
TYPES = st.sampled_from([kind.word for kind in InputType])
APPS = st.builds(
    App,
    name=NAMES,
    input_type=TYPES,
    default_output=st.text(st.characters(exclude_categories=["Cs"])),
    slo_micros=st.integers(1, 2**31),
    slo_policy=st.sampled_from(["late", "default", "error"]),
    timeout_micros=st.none() | st.integers(1, 2**40),
    linked_models=st.lists(NAMES, max_size=3).map(tuple),
)
VERSIONS = st.builds(
    ModelVersion,
    name=NAMES.filter(lambda name: ":" not in name),
    version=NAMES.filter(lambda name: ":" not in name),
    uid=st.uuids().map(lambda uid: uid.hex),
    input_type=TYPES,
    labels=st.lists(NAMES, max_size=3).map(tuple),
    batch_size=st.just(-1) | st.integers(1, 1000),
    sample=st.none() | st.just("[1.0]"),
    staged=st.booleans(),
)
RECORDS = st.one_of(APPS, st.builds(Model, name=NAMES, current_version=st.none() | NAMES), VERSIONS)


@given(RECORDS)
def test_a_record_comes_back_as_it_was(record: Record) -> None:
    assert from_json(field_of(record), to_json(record)) == record


@given(st.lists(RECORDS, max_size=5), st.integers(0, 2**40))
def test_a_catalog_comes_back_from_its_hash_and_from_its_mirror(records: list[Record], revision: int) -> None:
    found = snapshot("s", revision, {field_of(record): to_json(record) for record in records})

    assert {field_of(record): record for record in found.records} == {field_of(record): record for record in records}
    assert from_mirror(to_mirror(found)) == found


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("app/a", "7"),
        ("app/a", "{"),
        ("app/a", '{"name":"a"}'),
        ("app/a", '{"name":"b","input_type":"bytes","default_output":"","slo_micros":1}'),
        ("route/a", '{"name":"a"}'),
        ("", "{}"),
    ],
)
def test_what_is_no_record_is_refused(field: str, text: str) -> None:
    with pytest.raises(ValueError, match=r"catalog field|Expecting"):
        from_json(field, text)


def test_fields_of_a_newer_toolkit_are_passed_over() -> None:
    assert from_json("model/m", '{"name":"m","current_version":"1","colour":"red"}') == Model(name="m", current_version="1")


def test_fields_of_an_older_toolkit_get_their_defaults() -> None:
    app = from_json("app/a", '{"name":"a","input_type":"bytes","default_output":"","slo_micros":1}')

    assert app == App(name="a", input_type="bytes", default_output="", slo_micros=1)


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_a_mirror_with_one_wrong_byte_is_never_served(place: int, change: int) -> None:
    app = App(name="a", input_type="bytes", default_output="d", slo_micros=1)
    good = Snapshot(store_id="s", revision=3, apps={"a": app})
    raw = bytearray(to_mirror(good))
    raw[place % len(raw)] ^= change

    try:
        found = from_mirror(bytes(raw))
    except ValueError:
        return
    assert found == good  # white space between the outer fields is of no meaning


@pytest.mark.parametrize("raw", [b"", b"{}", b"[]", b'{"sha256":"x","body":"{}"}', b"\xff"])
def test_what_is_no_mirror_is_refused(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        from_mirror(raw)


def test_a_mirror_is_json_that_a_person_can_read() -> None:
    outer = json.loads(to_mirror(Snapshot(store_id="s", revision=3)))

    assert json.loads(outer["body"]) == {"catalog": {}, "revision": 3, "store_id": "s"}


def test_the_current_version_is_found_only_if_it_is_there() -> None:
    version = ModelVersion(name="m", version="1", uid="u", input_type="bytes")
    catalog = Snapshot(
        store_id="s",
        revision=1,
        models={"m": Model(name="m", current_version="1"), "n": Model(name="n"), "o": Model(name="o", current_version="1")},
        versions={version.key: version},
    )

    assert [catalog.current_version(name) for name in "mnox"] == [version, None, None, None]
    assert catalog.versions_of("m") == [version]


@pytest.mark.parametrize(
    ("slo_s", "timeout_s"), [(0.001, 10), (0.1, 10), (1, 10), (2, 20), (6, 60), (30, 60), (60, 60), (120, 120)]
)
def test_a_timeout_that_is_not_given_follows_from_the_slo(slo_s: float, timeout_s: float) -> None:
    assert default_timeout_micros(int(slo_s * 1e6)) == timeout_s * 1e6
    app = App(name="a", input_type="bytes", default_output="", slo_micros=int(slo_s * 1e6))
    assert app.effective_timeout_micros == timeout_s * 1e6


def test_a_timeout_that_is_given_stands() -> None:
    app = App(name="a", input_type="bytes", default_output="", slo_micros=1, timeout_micros=5)

    assert (app.effective_timeout_micros, app.kind) == (5, InputType.BYTES)
