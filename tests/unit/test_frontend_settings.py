"""The settings of a query frontend: what is taken, and that all that is wrong is said at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from clipper_nomad.protocol.environment import SettingsError
from clipper_nomad_frontend.access_log import AccessLogMode
from clipper_nomad_frontend.config import Address, Settings, read_settings
from clipper_nomad_frontend.turns import Share


def settings(**variables: str) -> Settings:
    return read_settings({"CLIPPER_MIRROR_PATH": "/m"} | {f"CLIPPER_{name}": value for name, value in variables.items()})


def problem(**variables: str) -> str:
    with pytest.raises(SettingsError) as caught:
        settings(**variables)
    return str(caught.value)


def test_a_mirror_is_all_that_must_be_given() -> None:
    read = settings()

    assert read.mirror == Path("/m")
    assert (read.http, read.rpc) == (Address(host="127.0.0.1", port=1337), "tcp://127.0.0.1:7000")
    assert (read.internal, read.store_url, read.token) == (None, None, None)
    assert (read.path_prefix, read.access_log, read.drain_s) == ("/clipper", AccessLogMode("slow"), 15.0)


def test_a_share_of_a_socket_is_a_file_and_a_number() -> None:
    assert settings(HTTP_SHARE="/run/shares:3").share == Share(Path("/run/shares"), 3)
    assert settings().share is None


@pytest.mark.parametrize("text", ["/run/shares", "shares:1", "/run/shares:64", "/run/shares:-1", "/run/shares:x", ":1"])
def test_what_is_no_share_is_refused(text: str) -> None:
    assert "CLIPPER_HTTP_SHARE" in problem(HTTP_SHARE=text)


def test_the_store_may_be_named_by_a_file_that_will_hold_its_url() -> None:
    assert settings(STORE_URL_FILE="/secrets/store.url").store_url == "file:///secrets/store.url"
    assert "the store is given 2 times" in problem(STORE_URL_FILE="/f", STORE_URL="redis://s")
    assert "CLIPPER_STORE_URL_FILE is 'f'" in problem(STORE_URL_FILE="f")


def test_each_start_has_a_name_of_its_own() -> None:
    assert settings().frontend_id != settings().frontend_id


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:80", Address(host="127.0.0.1", port=80)),
        ("0.0.0.0:0", Address(host="0.0.0.0", port=0)),
        ("localhost:65535", Address(host="localhost", port=65535)),
        ("[::1]:80", Address(host="::1", port=80)),
        ("fd://3", Address(fd=3)),
    ],
)
def test_predictions_are_asked_for_on_tcp_or_on_an_inherited_socket(text: str, address: Address) -> None:
    assert settings(HTTP_ADDRESS=text).http == address
    assert settings(INTERNAL_ADDRESS=text).internal == address


@pytest.mark.parametrize(
    "text", [":80", "80", "host", "host:", "host:x", "host:65536", "host:-1", "fd://", "fd://x", "fd://-1"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    assert "CLIPPER_HTTP_ADDRESS" in problem(HTTP_ADDRESS=text)
    assert "CLIPPER_INTERNAL_ADDRESS" in problem(INTERNAL_ADDRESS=text)


def test_a_unix_socket_is_an_internal_address_only() -> None:
    """As the public address it once meant a random port on every interface."""
    assert settings(INTERNAL_ADDRESS="unix:///run/x").internal == Address(path="/run/x")
    assert "expected host:port or fd://N" in problem(HTTP_ADDRESS="unix:///run/x")


@pytest.mark.parametrize(
    "text", ["tcp://0.0.0.0:7000", "tcp://*:7000", "tcp://127.0.0.1:*", "tcp://[::1]:7000", "ipc:///run/x"]
)
def test_replicas_connect_to_tcp_or_a_unix_socket(text: str) -> None:
    assert settings(RPC_ADDRESS=text).rpc == text


@pytest.mark.parametrize(
    "text", ["x", "127.0.0.1:7000", "tcp://", "tcp://host", "tcp://fd://3", "ipc://x", "inproc://x", "udp://a:1"]
)
def test_what_is_no_place_for_replicas_is_refused(text: str) -> None:
    assert "CLIPPER_RPC_ADDRESS" in problem(RPC_ADDRESS=text)


@pytest.mark.parametrize(("name", "scheme"), [("RPC_ADDRESS", "ipc"), ("INTERNAL_ADDRESS", "unix")])
def test_a_path_too_long_for_a_unix_socket_is_refused(name: str, scheme: str) -> None:
    settings(**{name: f"{scheme}:///{'x' * 106}"})

    assert "107 bytes" in problem(**{name: f"{scheme}:///{'x' * 107}"})


@pytest.mark.parametrize(
    ("text", "prefix"), [("/clipper", "/clipper"), ("/a/b/", "/a/b"), ("/", ""), ("//", ""), ("/v1.0_x~y-z", "/v1.0_x~y-z")]
)
def test_a_prefix_is_a_path(text: str, prefix: str) -> None:
    assert settings(PATH_PREFIX=text).path_prefix == prefix


@pytest.mark.parametrize("text", ["clipper", "/a b", "/{app}", "/a//b", "/a?b", "/ä"])
def test_a_prefix_that_no_url_could_have_is_refused(text: str) -> None:
    assert "CLIPPER_PATH_PREFIX" in problem(PATH_PREFIX=text)


def test_a_body_may_be_as_large_as_a_frame_of_the_model_channel() -> None:
    assert settings(MAX_BODY_BYTES=str(64 * 1024 * 1024)).http_limits.body_bytes == 64 * 1024 * 1024
    assert "CLIPPER_MAX_BODY_BYTES" in problem(MAX_BODY_BYTES=str(64 * 1024 * 1024 + 1))


def test_a_token_comes_from_its_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret\n")
    (tmp_path / "empty").write_text("\n")

    assert settings(TOKEN_FILE=str(tmp_path / "token")).token == "secret"
    assert "CLIPPER_TOKEN_FILE" in problem(TOKEN_FILE=str(tmp_path / "empty"))


def test_all_that_is_wrong_is_said_at_once() -> None:
    said = problem(
        MIRROR_PATH="", HTTP_ADDRESS="x", ACCESS_LOG="loud", DRAIN_S="0", MAX_QUEUED_QUERIES="none", TOKEN_FILE="/no"
    )

    for name in ("STORE_URL", "HTTP_ADDRESS", "ACCESS_LOG", "DRAIN_S", "MAX_QUEUED_QUERIES", "TOKEN_FILE"):
        assert f"CLIPPER_{name}" in said


@pytest.mark.parametrize("text", ["x" * 129, "a\nb", "\ud800"])
def test_a_name_that_other_frontends_would_refuse_is_refused_here(text: str) -> None:
    assert "CLIPPER_FRONTEND_ID" in problem(FRONTEND_ID=text)


def test_peers_and_the_address_to_be_dialled_are_model_channels() -> None:
    read = settings(PEER_ADDRESSES="tcp://10.0.0.1:7000, ipc:///run/f2", ADVERTISED_RPC_ADDRESS="tcp://10.0.0.9:7000")

    assert read.peers == ("tcp://10.0.0.1:7000", "ipc:///run/f2")
    assert read.advertised_rpc == "tcp://10.0.0.9:7000"
    assert (settings().peers, settings().advertised_rpc) == ((), None)


@pytest.mark.parametrize("text", ["10.0.0.1:7000", "tcp://10.0.0.1:*", "tcp://10.0.0.1:0", "ipc://relative", "http://x:1"])
def test_what_cannot_be_dialled_is_no_peer_and_no_address_to_be_dialled(text: str) -> None:
    assert "CLIPPER_PEER_ADDRESSES" in problem(PEER_ADDRESSES=f"ipc:///f1,{text}")
    assert "CLIPPER_ADVERTISED_RPC_ADDRESS" in problem(ADVERTISED_RPC_ADDRESS=text)


def test_there_is_no_cache_unless_its_size_is_given() -> None:
    assert settings().cache_bytes == 0
    assert settings(CACHE_BYTES="33554432").cache_bytes == 33_554_432
    assert "CLIPPER_CACHE_BYTES is '-1'" in problem(CACHE_BYTES="-1")
    assert "CLIPPER_CACHE_BYTES" in problem(CACHE_BYTES="32M")
