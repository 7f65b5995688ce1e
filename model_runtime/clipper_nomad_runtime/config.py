"""Every setting of a model replica, read from its environment and checked before anything is loaded.

The variables are Clipper's where Clipper has them. docs/settings.md describes each.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from clipper_nomad.protocol.datatypes import InputType, input_type
from clipper_nomad.protocol.environment import Reader, file_url
from clipper_nomad.protocol.keys import parse_key, parse_keys
from clipper_nomad_runtime.mesh import Mode

MAX_SOCKET_PATH_BYTES = 107  # sun_path of Linux, less its closing zero
CLIPPER_RPC_PORT = 7000
CLIPPER_RPC_VERSION = 3  # rpc3.py
OUR_RPC_VERSION = 4  # wire.py
_TEXT_FORMS = {"str": False, "bytes": True}


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsAddress:
    """Where metrics are served: a unix socket if `path` is set, else a TCP port."""

    path: Path | None = None
    host: str = ""
    port: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleSource:
    """Where the bundle `digest` comes from, to be unpacked at `folder`.

    `addresses`: a file with URLs of admin, separated by commas. `cache`: a folder that survives allocations, or None.
    """

    digest: str
    folder: Path
    addresses: Path
    token: Path
    cache: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What this process was told.

    `input_type` and `digest` are None where the bundle's own stand, `source` where the bundle is here. `texts_as_bytes`:
    the predict function gets strings as `bytes`, as Clipper gives them.
    """

    model: str
    version: str
    uid: str
    replica: str
    bundle: Path
    digest: str | None
    source: BundleSource | None
    input_type: InputType | None
    texts_as_bytes: bool
    frontends: tuple[str, ...]
    rpc_mode: Mode
    rpc_version: int
    curve_server: bytes | Path | None
    curve_secret: bytes | None = field(repr=False)
    metrics: MetricsAddress | None
    hang_after_s: float
    drain_s: float
    ready_file: Path | None


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Return the settings in `environment`. Raises: SettingsError: it lists everything that is wrong."""
    reader = Reader(environment)
    default_frontend = _default_frontend(reader)
    server_key = reader.optional("CLIPPER_CURVE_SERVER_KEY", parse_key, "a CURVE key, 40 characters of Z85")
    server_keys = reader.optional("CLIPPER_CURVE_SERVER_KEYS_FILE", _server_keys, "a readable file with CURVE keys in it")
    if server_key is not None and server_keys is not None:
        reader.refuse("CLIPPER_CURVE_SERVER_KEY and CLIPPER_CURVE_SERVER_KEYS_FILE are both set; expected one of them")
    settings = Settings(
        model=reader.text("CLIPPER_MODEL_NAME"),
        version=reader.text("CLIPPER_MODEL_VERSION"),
        uid=reader.text("CLIPPER_MODEL_UID", ""),
        replica=reader.text("CLIPPER_REPLICA_ID", secrets.token_hex(4)),
        bundle=reader.parsed("CLIPPER_MODEL_PATH", Path, None, "the folder of a bundle"),
        digest=reader.optional("CLIPPER_MODEL_DIGEST", str, "a digest"),
        source=_source(reader),
        input_type=reader.optional(
            "CLIPPER_INPUT_TYPE",
            lambda word: input_type(word.strip().lower()),
            "one of bytes, integers, floats, doubles, strings",
        ),
        texts_as_bytes=texts_as_bytes(reader),
        frontends=reader.one_of(
            "the way to the frontends",
            reader.optional(
                "CLIPPER_RPC_ADDRESSES",
                _frontends,
                f"tcp://host:port or ipc:///path (at most {MAX_SOCKET_PATH_BYTES} bytes), separated by commas",
            ),
            reader.optional("CLIPPER_RPC_ADDRESSES_FILE", lambda path: (file_url(path),), "an absolute path"),
        )
        or (default_frontend,),
        rpc_mode=reader.parsed(
            "CLIPPER_RPC_MODE", lambda word: Mode(word.strip().lower()), Mode.AUTO, "one of direct, proxy, auto"
        ),
        rpc_version=reader.integer("CLIPPER_RPC_VERSION", OUR_RPC_VERSION, least=CLIPPER_RPC_VERSION, most=OUR_RPC_VERSION),
        curve_server=server_key if server_keys is None else server_keys,
        curve_secret=reader.optional("CLIPPER_CURVE_SECRET_FILE", _read_key, "a readable file with a CURVE key in it"),
        metrics=reader.optional(
            "CLIPPER_METRICS_ADDRESS",
            _metrics_address,
            f"host:port or unix:///path (at most {MAX_SOCKET_PATH_BYTES} bytes)",
        ),
        hang_after_s=reader.seconds("CLIPPER_HANG_AFTER_S", 120),
        drain_s=reader.seconds("CLIPPER_DRAIN_S", 30),
        ready_file=reader.optional("CLIPPER_READY_FILE", Path, "a file"),
    )
    if (settings.curve_server is None) != (settings.curve_secret is None):
        reader.refuse(
            "one of CLIPPER_CURVE_SERVER_KEY (or CLIPPER_CURVE_SERVER_KEYS_FILE) and CLIPPER_CURVE_SECRET_FILE is set;"
            " expected both, or none"
        )
    if settings.rpc_version == CLIPPER_RPC_VERSION and settings.curve_server is not None:
        reader.refuse("CLIPPER_RPC_VERSION is 3 and there are CURVE keys; a frontend of RPC version 3 knows no encryption")
    reader.check()
    return settings


def texts_as_bytes(reader: Reader) -> bool:
    """Return whether the predict function gets strings as `bytes`."""
    return reader.parsed("CLIPPER_STRINGS_AS", lambda word: _TEXT_FORMS[word.strip().lower()], False, "str or bytes")


def _source(reader: Reader) -> BundleSource | None:
    addresses = reader.optional("CLIPPER_BUNDLE_ADDRESS_FILE", Path, "a file")
    if addresses is None:
        return None
    return BundleSource(
        digest=reader.text("CLIPPER_MODEL_DIGEST"),
        folder=reader.parsed("CLIPPER_MODEL_PATH", Path, None, "the folder of a bundle"),
        addresses=addresses,
        token=reader.parsed("CLIPPER_BUNDLE_TOKEN_FILE", Path, None, "a file"),
        cache=reader.optional("CLIPPER_BUNDLE_CACHE", Path, "a folder"),
    )


def _default_frontend(reader: Reader) -> str:
    host = reader.text("CLIPPER_IP", "127.0.0.1")
    port = reader.integer("CLIPPER_PORT", CLIPPER_RPC_PORT, least=1, most=65535)
    return f"tcp://{host}:{port}"


def _frontends(text: str) -> tuple[str, ...]:
    addresses = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not addresses:
        raise ValueError
    for address in addresses:
        scheme, _, rest = address.partition("://")
        if scheme == "tcp":
            _host_and_port(rest)
        elif scheme == "ipc":
            _socket_path(rest)
        else:
            raise ValueError
    return addresses


def _read_key(path: str) -> bytes:
    try:
        return parse_key(Path(path).read_text())
    except OSError as exc:
        raise ValueError(str(exc)) from exc


def _server_keys(path: str) -> Path:
    """Return the path of a file with keys. Raises: ValueError: it cannot be read, or holds none."""
    try:
        parse_keys(Path(path).read_text())
    except OSError as exc:
        raise ValueError(str(exc)) from exc
    return Path(path)


def _metrics_address(text: str) -> MetricsAddress:
    if text.startswith("unix://"):
        return MetricsAddress(path=_socket_path(text.removeprefix("unix://")))
    host, port = _host_and_port(text)
    return MetricsAddress(host=host, port=port)


def _host_and_port(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    number = int(port)
    if not host or not 0 < number <= 65535:
        raise ValueError
    return host.strip("[]"), number


def _socket_path(text: str) -> Path:
    path = Path(text)
    if not path.is_absolute() or len(text.encode()) > MAX_SOCKET_PATH_BYTES:
        raise ValueError
    return path
