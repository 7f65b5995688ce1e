"""The settings of a query frontend, from its environment. All problems are reported at once, before a socket opens."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from clipper_nomad.protocol.environment import Reader, file_url
from clipper_nomad.protocol.keys import parse_key, parse_keys
from clipper_nomad.protocol.mesh_messages import MAX_NAME, RosterEntry, can_be_told
from clipper_nomad.protocol.wire import MAX_FRAME_BYTES
from clipper_nomad_frontend.access_log import AccessLogMode, parse_mode
from clipper_nomad_frontend.admission import QueueBounds
from clipper_nomad_frontend.http_rules import HttpLimits
from clipper_nomad_frontend.turns import MOST_FRONTENDS, Share

MAX_SOCKET_PATH_BYTES = 107  # sun_path of Linux, less its closing zero


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen: an inherited descriptor, a unix socket, or host and port."""

    fd: int | None = None
    path: str | None = None
    host: str = ""
    port: int = 0

    def __str__(self) -> str:
        if self.fd is not None:
            return f"fd://{self.fd}"
        return f"unix://{self.path}" if self.path is not None else f"{self.host}:{self.port}"


def parse_tcp_address(text: str) -> Address:
    """Return the address that `text` names: fd://N or host:port ([host]:port for IPv6). Raises: ValueError."""
    if text.startswith("fd://"):
        return Address(fd=_number(text.removeprefix("fd://"), below=2**31))
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or "/" in host:
        raise ValueError(text)
    return Address(host=host, port=_number(port, below=65_536))


def parse_address(text: str) -> Address:
    """As `parse_tcp_address`, or unix:///path. Raises: ValueError."""
    if text.startswith("unix://"):
        return Address(path=_socket_path(text.removeprefix("unix://")))
    return parse_tcp_address(text)


def _parse_rpc_address(text: str) -> str:
    scheme, _, place = text.partition("://")
    if scheme == "ipc":
        _socket_path(place)
    elif scheme != "tcp" or parse_tcp_address(place.removesuffix("*") + "0" * place.endswith(":*")).fd is not None:
        raise ValueError(text)
    return text


def _parse_legacy_address(text: str) -> str:
    if text.startswith("fd://"):
        return str(parse_tcp_address(text))
    if not text.startswith("tcp://"):
        raise ValueError(text)
    return _parse_rpc_address(text)


def _parse_dialled_address(text: str) -> str:
    if text.endswith((":*", ":0")):
        raise ValueError(text)
    return _parse_rpc_address(text)


def _parse_peers(text: str) -> tuple[str, ...]:
    return tuple(_parse_dialled_address(part.strip()) for part in text.split(",") if part.strip())


def _parse_share(text: str) -> Share:
    path, _, index = text.rpartition(":")
    if not path.startswith("/"):
        raise ValueError(text)
    return Share(Path(path), _number(index, below=MOST_FRONTENDS))


def _number(text: str, *, below: int) -> int:
    number = int(text)
    if not 0 <= number < below:
        raise ValueError(text)
    return number


def _socket_path(path: str) -> str:
    if not path.startswith("/") or len(path.encode()) > MAX_SOCKET_PATH_BYTES:
        raise ValueError(path)
    return path


def _parse_name(text: str) -> str:
    if not can_be_told(RosterEntry(text, "")):
        raise ValueError(text)
    return text


def _parse_prefix(text: str) -> str:
    prefix = text.rstrip("/")
    if not re.fullmatch(r"(/[A-Za-z0-9._~-]+)*", prefix):
        raise ValueError(text)
    return prefix


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything a query frontend can be told. Each field: docs/settings.md."""

    cluster: str
    frontend_id: str
    http: Address
    share: Share | None
    rpc: str
    advertised_rpc: str | None
    legacy_rpc: str | None
    peers: tuple[str, ...]
    internal: Address | None
    advertised_internal: str | None
    store_url: str | None
    mirror: Path | None
    token: str | None
    curve_secret: bytes | None
    curve_server_keys: Path | None
    path_prefix: str
    access_log: AccessLogMode
    http_limits: HttpLimits
    queue_bounds: QueueBounds
    cache_bytes: int
    drain_s: float


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Return the settings in `environment`. Raises: SettingsError: all that is wrong with them."""
    reader = Reader(environment)
    unix = f"unix:///path (at most {MAX_SOCKET_PATH_BYTES} bytes)"
    settings = Settings(
        cluster=reader.text("CLIPPER_CLUSTER", "default-cluster"),
        frontend_id=reader.parsed(
            "CLIPPER_FRONTEND_ID",
            _parse_name,
            f"frontend-{secrets.token_hex(4)}",
            f"1 to {MAX_NAME} printable characters",
        ),
        http=reader.parsed(
            "CLIPPER_HTTP_ADDRESS", parse_tcp_address, Address(host="127.0.0.1", port=1337), "host:port or fd://N"
        ),
        share=reader.optional(
            "CLIPPER_HTTP_SHARE", _parse_share, f"/path:N, a file and a number from 0 to {MOST_FRONTENDS - 1}"
        ),
        rpc=reader.parsed(
            "CLIPPER_RPC_ADDRESS",
            _parse_rpc_address,
            "tcp://127.0.0.1:7000",
            f"tcp://host:port or ipc:///path (at most {MAX_SOCKET_PATH_BYTES} bytes)",
        ),
        advertised_rpc=reader.optional(
            "CLIPPER_ADVERTISED_RPC_ADDRESS", _parse_dialled_address, "tcp://host:port or ipc:///path"
        ),
        legacy_rpc=reader.optional("CLIPPER_LEGACY_RPC_ADDRESS", _parse_legacy_address, "tcp://host:port or fd://N"),
        peers=reader.parsed(
            "CLIPPER_PEER_ADDRESSES",
            _parse_peers,
            (),
            "tcp://host:port or ipc:///path of model channels, separated by commas",
        ),
        internal=reader.optional("CLIPPER_INTERNAL_ADDRESS", parse_address, f"host:port, {unix} or fd://N"),
        advertised_internal=reader.optional(
            "CLIPPER_ADVERTISED_INTERNAL_ADDRESS", lambda text: str(parse_tcp_address(text)), "host:port"
        ),
        store_url=reader.one_of(
            "the store",
            reader.optional("CLIPPER_STORE_URL", str, "a URL"),
            reader.optional("CLIPPER_STORE_URL_FILE", file_url, "an absolute path"),
        ),
        mirror=reader.optional("CLIPPER_MIRROR_PATH", Path, "a path"),
        token=reader.optional("CLIPPER_TOKEN_FILE", _read_token, "a readable file with a token in it"),
        curve_secret=reader.optional("CLIPPER_CURVE_SECRET_FILE", _read_key, "a readable file with a CURVE key in it"),
        curve_server_keys=reader.optional("CLIPPER_CURVE_SERVER_KEYS_FILE", Path, "a path"),
        path_prefix=reader.parsed(
            "CLIPPER_PATH_PREFIX", _parse_prefix, "/clipper", "a path such as /clipper, or / for none"
        ),
        access_log=reader.parsed("CLIPPER_ACCESS_LOG", parse_mode, AccessLogMode(), "off, slow, sample:N or all"),
        http_limits=HttpLimits(
            body_bytes=reader.integer("CLIPPER_MAX_BODY_BYTES", HttpLimits().body_bytes, least=1024, most=MAX_FRAME_BYTES),
            is_local=reader.flag("CLIPPER_HTTP_LOCAL", default=False),
        ),
        queue_bounds=QueueBounds(
            queries=reader.integer("CLIPPER_MAX_QUEUED_QUERIES", QueueBounds().queries, least=1),
            input_bytes=reader.integer("CLIPPER_MAX_QUEUED_BYTES", QueueBounds().input_bytes, least=1),
        ),
        cache_bytes=reader.integer("CLIPPER_CACHE_BYTES", 0, least=0),
        drain_s=reader.seconds("CLIPPER_DRAIN_S", 15.0),
    )
    if settings.store_url is None and settings.mirror is None:
        reader.refuse(
            "none of CLIPPER_STORE_URL, CLIPPER_STORE_URL_FILE and CLIPPER_MIRROR_PATH is set: one must say what to serve"
        )
    reader.check()
    return settings


def _read_key(path: str) -> bytes:
    """Return the CURVE key in a file. Raises: ValueError: there is none."""
    try:
        return parse_key(Path(path).read_text())
    except OSError as exc:
        raise ValueError(str(exc)) from exc


def read_keys(path: Path | None) -> tuple[bytes, ...]:
    """Return the public keys in a file that may change; none where there is no file, or it cannot be read just now."""
    try:
        return () if path is None else parse_keys(path.read_text())
    except (OSError, ValueError):
        return ()


def _read_token(path: str) -> str:
    try:
        token = Path(path).read_text().strip()
    except OSError as exc:
        raise ValueError(str(exc)) from exc
    if not token:
        raise ValueError("empty")
    return token
