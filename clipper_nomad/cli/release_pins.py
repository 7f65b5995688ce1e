"""Which releases machines install: versions and SHA-256, for Terraform's variable `releases`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from clipper_nomad.cli.options import WrongUsage
from clipper_nomad.dev_cluster.checksums import OfficialChecksums, official_checksums
from clipper_nomad.dev_cluster.releases import ARCHITECTURES, PRODUCTS, Platform, Release, release_of

_PLACEHOLDER = "put the SHA-256 of {file} here"
Fetch = Callable[[Mapping[str, str]], Mapping[str, OfficialChecksums]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pins:
    """`releases`: the variable's value. `missing`: files whose checksum is to be filled in. `remarks`: of signatures."""

    releases: Mapping[str, Mapping[str, object]]
    missing: tuple[str, ...]
    remarks: tuple[str, ...]


def read_pairs(option: str, texts: Sequence[str], names: Sequence[str]) -> dict[str, str]:
    """Return name → value of NAME=VALUE texts. Raises: WrongUsage: one is no pair, or of another name."""
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not value or name not in names:
            raise WrongUsage(f"{option} is {text!r}.", hint=f"Write NAME=VALUE, where NAME is one of: {', '.join(names)}.")
        found[name] = value
    return found


def pins_of(
    versions: Mapping[str, str], sha256: Mapping[str, str], *, offline: bool, fetch: Fetch = official_checksums
) -> Pins:
    """Return the pins for product → version; others have the versions that this clipper-nomad was tried with.

    `sha256`: "nomad_amd64" → checksum; what it has of a product is all that is pinned of it. The others' are those that
    their makers signed, or with `offline` those that are known here. Raises: DownloadFailed, WrongUsage, InvalidSetting.
    """
    releases = {name: release_of(name, versions.get(name, product.pinned)) for name, product in PRODUCTS.items()}
    for key, value in sha256.items():
        if not re.fullmatch(r"[0-9a-f]{64}", value):
            raise WrongUsage(f"--sha256 of {key} is {value!r}.", hint="Write its 64 digits of 0-9 and a-f.")
    given = {
        name: {each: sha256[f"{name}_{each}"] for each in ARCHITECTURES if f"{name}_{each}" in sha256} for name in releases
    }
    asked = {name: release.version for name, release in releases.items() if not given[name]}
    official = fetch(asked) if asked and not offline else {}
    digests: dict[str, Mapping[str, str]] = {
        name: given[name] or (official[name].sha256 if name in official else _known(release))
        for name, release in releases.items()
    }
    return Pins(
        releases={name: {"version": each.version, "sha256": dict(digests[name])} for name, each in releases.items()},
        missing=tuple(
            release.file(_linux(architecture))
            for name, release in releases.items()
            for architecture, digest in digests[name].items()
            if " " in digest
        ),
        remarks=tuple(f"The signature of {releases[name]} {each.remark}." for name, each in official.items() if each.remark),
    )


def _known(release: Release) -> dict[str, str]:
    return {
        each: release.pinned_sha256(_linux(each)) or _PLACEHOLDER.format(file=release.file(_linux(each)))
        for each in ARCHITECTURES
    }


def _linux(architecture: str) -> Platform:
    return Platform(system="linux", architecture=architecture)
