"""What a replica reads before it starts: its environment, and the sample of its bundle."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from clipper_nomad.protocol.bundle import DamagedBundle
from clipper_nomad.protocol.datatypes import INPUT_TYPE_WORDS, InputType
from clipper_nomad.protocol.environment import SettingsError
from clipper_nomad_runtime.config import MetricsAddress, Settings, read_settings
from clipper_nomad_runtime.loader import sample_array
from clipper_nomad_runtime.mesh import Mode

NEEDED = {"CLIPPER_MODEL_NAME": "iris", "CLIPPER_MODEL_VERSION": "3", "CLIPPER_MODEL_PATH": "/model"}


def read(**more: str) -> Settings:
    return read_settings(NEEDED | {f"CLIPPER_{name}": value for name, value in more.items()})


def test_clippers_variables_are_enough() -> None:
    settings = read(IP="10.0.0.7", PORT="7001", INPUT_TYPE=" Ints ")

    assert (settings.model, settings.version, settings.bundle) == ("iris", "3", Path("/model"))
    assert settings.frontends == ("tcp://10.0.0.7:7001",)
    assert settings.input_type is InputType.INTEGERS
    assert (settings.hang_after_s, settings.drain_s) == (120.0, 30.0)
    assert (settings.metrics, settings.digest, settings.ready_file) == (None, None, None)
    assert settings.replica
    assert settings.rpc_mode is Mode.AUTO


def test_clippers_defaults_stand_where_nothing_is_set() -> None:
    settings = read()

    assert settings.frontends == ("tcp://127.0.0.1:7000",)
    assert settings.input_type is None  # the bundle says it
    assert not settings.texts_as_bytes


@pytest.mark.parametrize("name", ["CLIPPER_MODEL_NAME", "CLIPPER_MODEL_VERSION", "CLIPPER_MODEL_PATH"])
def test_what_must_be_set_is_named(name: str) -> None:
    with pytest.raises(SettingsError, match=f"{name} is not set"):
        read_settings({each: value for each, value in NEEDED.items() if each != name})


@pytest.mark.parametrize(("word", "kind"), list(INPUT_TYPE_WORDS.items()))
def test_every_word_of_clippers_names_its_input_type_in_any_case(word: str, kind: InputType) -> None:
    assert read(INPUT_TYPE=f" {word.upper()} ").input_type is kind


def test_texts_can_be_given_as_bytes() -> None:
    assert read(STRINGS_AS=" Bytes ").texts_as_bytes
    assert not read(STRINGS_AS="str").texts_as_bytes


def test_the_way_to_frontends_can_be_chosen() -> None:
    assert read(RPC_MODE=" Proxy ").rpc_mode is Mode.PROXY
    assert read(RPC_MODE="direct").rpc_mode is Mode.DIRECT


def test_each_replica_has_a_name_of_its_own() -> None:
    assert read().replica != read().replica
    assert read(REPLICA_ID="iris-3-0").replica == "iris-3-0"


def test_several_frontends_are_listed_once_each() -> None:
    settings = read(RPC_ADDRESSES="ipc:///run/a, tcp://f-1:7000 ,ipc:///run/a,tcp://[::1]:7000")

    assert settings.frontends == ("ipc:///run/a", "tcp://f-1:7000", "tcp://[::1]:7000")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("unix:///run/m.sock", MetricsAddress(path=Path("/run/m.sock"))),
        ("0.0.0.0:1390", MetricsAddress(host="0.0.0.0", port=1390)),
        ("[::1]:1390", MetricsAddress(host="::1", port=1390)),
    ],
)
def test_metrics_have_an_address_of_either_kind(text: str, address: MetricsAddress) -> None:
    assert read(METRICS_ADDRESS=text).metrics == address


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RPC_ADDRESSES", ","),
        ("RPC_ADDRESSES", "udp://x:1"),
        ("RPC_ADDRESSES", "tcp://x"),
        ("RPC_ADDRESSES", "tcp://:7000"),
        ("RPC_ADDRESSES", "tcp://x:70000"),
        ("RPC_ADDRESSES", "ipc://relative"),
        ("RPC_ADDRESSES", "ipc:///" + "x" * 107),
        ("RPC_MODE", "both"),
        ("METRICS_ADDRESS", "unix://relative"),
        ("METRICS_ADDRESS", "1390"),
        ("INPUT_TYPE", "complex"),
        ("STRINGS_AS", "unicode"),
        ("PORT", "0"),
        ("DRAIN_S", "-1"),
        ("MODEL_NAME", ""),
    ],
)
def test_a_wrong_setting_is_named(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"CLIPPER_{name} is"):
        read(**{name: value})


@pytest.mark.parametrize(
    ("kind", "sample", "inputs"),
    [
        (InputType.DOUBLES, [0.5, 1], [[0.5, 1.0]]),
        (InputType.FLOATS, [], [[]]),
        (InputType.INTEGERS, [1, 2], [[1, 2]]),
        (InputType.STRINGS, "naïve", ["naïve"]),
        (InputType.BYTES, base64.b64encode(b"\x01\xff").decode(), [[1, -1]]),
        (InputType.BYTES, "Af8", [[1, -1]]),
    ],
)
def test_a_sample_is_a_batch_of_one(kind: InputType, sample: object, inputs: list[object]) -> None:
    assert sample_array(sample, kind).tolist() == inputs


@pytest.mark.parametrize(
    ("kind", "sample"),
    [
        (InputType.DOUBLES, "text"),
        (InputType.DOUBLES, [[1.0], [2.0]]),
        (InputType.DOUBLES, [[1.0], [2.0, 3.0]]),
        (InputType.DOUBLES, 7),
        (InputType.INTEGERS, [2**40]),
        (InputType.STRINGS, [1]),
        (InputType.STRINGS, "\ud800"),
        (InputType.BYTES, "not base64!"),
    ],
)
def test_a_sample_of_another_type_is_a_damaged_bundle(kind: InputType, sample: object) -> None:
    with pytest.raises(DamagedBundle, match=kind.word):
        sample_array(sample, kind)
