"""The host's pip settings, so that installs within a build use the same index, proxy and certificates."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

# what concerns where packages come from; other settings (paths, styles) are the host's own
KEYS = ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout", "retries")
CA_IN_BUILD = "/build/ca.pem"
_CA_VARIABLES = ("PIP_CERT", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE")
_ASK_WITHIN_S = 30.0


@dataclass(frozen=True, slots=True)
class IndexSettings:
    """What a build installs with. Secret: an index URL may hold a password. `ca_bundle`: PEM, or None for the base's own."""

    pip_conf: str
    ca_bundle: bytes | None

    def __repr__(self) -> str:
        return "IndexSettings(…)"


def read_index_settings() -> IndexSettings:
    """Return the settings of this Python's pip, from its files and the environment."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"],
        capture_output=True,
        text=True,
        timeout=_ASK_WITHIN_S,
        check=False,
    )
    values = parse_list(listed.stdout.splitlines()) if listed.returncode == 0 else {}
    return made_from(values, os.environ)


def parse_list(lines: Iterable[str]) -> dict[str, str]:
    """Return setting → value out of `pip config list`. Later lines count: pip lists them by their rank. Pure."""
    values: dict[str, str] = {}
    for line in lines:
        name, equals, quoted = line.partition("=")
        section, _, key = name.strip().rpartition(".")
        if not equals or section not in {"global", "install", ":env:"}:
            continue
        try:
            value = ast.literal_eval(quoted)
        except (ValueError, SyntaxError):
            continue
        values[key] = str(value)
    return values


def made_from(values: Mapping[str, str], environment: Mapping[str, str]) -> IndexSettings:
    """Return the settings for a build from pip's and the environment's."""
    lines = ["[global]"]
    for key in KEYS:
        words = values.get(key, "").split()
        if words:
            lines.append(f"{key} = " + "\n    ".join(words))
    ca = next((path for path in (values.get("cert"), *map(environment.get, _CA_VARIABLES)) if path), None)
    ca_bundle = None
    if ca is not None:
        try:
            ca_bundle = Path(ca).read_bytes()
            lines.append(f"cert = {CA_IN_BUILD}")
        except OSError:  # the host's own pip would fail too; the base image's certificates may do
            ca_bundle = None
    return IndexSettings("\n".join(lines) + "\n", ca_bundle)
