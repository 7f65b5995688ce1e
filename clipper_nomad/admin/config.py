"""The settings of the admin service, from its environment. All problems are reported at once, before a socket opens."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from clipper_nomad.protocol.environment import Reader, file_url
from clipper_nomad.state.records import SLO_POLICIES, SloPolicy

_LISTEN = re.compile(r"fd://(?P<fd>\d+)\Z|(?P<host>[^/]+):(?P<port>\d{1,5})\Z")
LAST_PORT = 65_535
DEFAULT_BUNDLE_MAX_BYTES = 2 * 1024**3


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """Where to listen: an inherited, bound socket (`fd`), or host and port."""

    fd: int | None
    host: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleSettings:
    """Where bundles are kept, None: nowhere, and what a deployer is told of what runs them ("": nothing does)."""

    folder: Path | None = None
    max_bytes: int = DEFAULT_BUNDLE_MAX_BYTES
    runtime_image: str = ""
    cache_volume: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything the admin service can be told. Each field: docs/settings.md."""

    cluster: str
    store_url: str = field(repr=False)  # may hold a password
    address: ListenAddress
    token: str = field(repr=False)
    is_local: bool
    bundles: BundleSettings
    default_slo_policy: SloPolicy


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Return the settings in `environment`. Raises: SettingsError: all that is wrong with them."""
    reader = Reader(environment)
    settings = Settings(
        cluster=reader.text("CLIPPER_CLUSTER", "default-cluster"),
        store_url=reader.one_of(
            "the store",
            reader.optional("CLIPPER_STORE_URL", str, "a URL"),
            reader.optional("CLIPPER_STORE_URL_FILE", file_url, "an absolute path"),
        )
        or "",
        address=reader.parsed(
            "CLIPPER_ADMIN_ADDRESS", parse_address, ListenAddress(None, "127.0.0.1", 1338), "host:port or fd://N"
        ),
        token=reader.parsed("CLIPPER_TOKEN_FILE", _read_token, None, "a readable file with the admin token in it"),
        is_local=reader.flag("CLIPPER_ADMIN_LOCAL", default=False),
        bundles=BundleSettings(
            folder=reader.optional("CLIPPER_BUNDLES", Path, "a folder"),
            max_bytes=reader.integer("CLIPPER_BUNDLE_MAX_BYTES", DEFAULT_BUNDLE_MAX_BYTES, least=1),
            runtime_image=reader.text("CLIPPER_RUNTIME_IMAGE", ""),
            cache_volume=reader.text("CLIPPER_BUNDLE_CACHE_VOLUME", ""),
        ),
        default_slo_policy=reader.parsed(
            "CLIPPER_DEFAULT_SLO_POLICY", _read_policy, SLO_POLICIES["late"], f"one of {', '.join(SLO_POLICIES)}"
        ),
    )
    if not settings.store_url:
        reader.refuse("neither CLIPPER_STORE_URL nor CLIPPER_STORE_URL_FILE is set; expected one")
    reader.check()
    return settings


def parse_address(text: str) -> ListenAddress:
    """Return the address that `text` names: fd://N or host:port. Raises: ValueError: neither of the two."""
    found = _LISTEN.match(text)
    if found is None or int(found["port"] or 0) > LAST_PORT:
        raise ValueError(text)
    if found["fd"] is not None:
        return ListenAddress(int(found["fd"]), "", 0)
    return ListenAddress(None, found["host"].strip("[]"), int(found["port"]))


def _read_policy(word: str) -> SloPolicy:
    if word not in SLO_POLICIES:
        raise ValueError(word)
    return SLO_POLICIES[word]


def _read_token(path: str) -> str:
    try:
        token = Path(path).read_text().strip()
    except OSError as exc:
        raise ValueError(str(exc)) from exc
    if not token.isascii() or not token:
        raise ValueError("no token")
    return token
