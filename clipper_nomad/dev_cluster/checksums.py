"""The checksums of a release, as its makers signed them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from clipper_nomad.dev_cluster.releases import (
    ARCHITECTURES,
    PRODUCTS,
    Platform,
    Release,
    mirror_of,
    read_checksums,
    release_of,
)
from clipper_nomad.dev_cluster.signature import SIGNERS, Signer, check_signature
from clipper_nomad.dev_cluster.transfer import fetch_small
from clipper_nomad.errors import DownloadFailed


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedChecksums:
    """A release's list: file → SHA-256. `remark`: what is to be known about its signature, "" for nothing."""

    release: Release
    sha256: Mapping[str, str]
    remark: str

    def of(self, platform: Platform) -> str:
        """Return the checksum of a platform's file.

        Raises: DownloadFailed: the list has none, or another one than this clipper-nomad knows.
        """
        file = self.release.file(platform)
        found = self.sha256.get(file)
        if found is None:
            raise DownloadFailed(
                f"{self.release} has no file {file}.",
                hint=f"Its list of checksums has: {', '.join(sorted(self.sha256)[:8])}, …",
            )
        known = self.release.pinned_sha256(platform)
        if known not in {None, found}:
            raise DownloadFailed(
                f"The signed list says {found} of {file}, and clipper-nomad knows its SHA-256 as {known}.",
                hint="One of the two was tampered with: use neither, and tell the makers of clipper-nomad.",
            )
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class OfficialChecksums:
    """Of one product for Linux. `sha256`: "amd64", "arm64" → checksum. `remark`: as SignedChecksums."""

    version: str
    sha256: Mapping[str, str]
    remark: str


def official_checksums(
    versions: Mapping[str, str], *, environ: Mapping[str, str] | None = None, signers: Mapping[str, Signer] = SIGNERS
) -> dict[str, OfficialChecksums]:
    """Return what Terraform pins, for product → version ("consul", "nomad", "fabio"). Needs the network and gpgv.

    Raises: DownloadFailed: a list cannot be had, or is not signed as it should be. InvalidSetting: a version, the mirror.
    """
    mirror = mirror_of(os.environ if environ is None else environ)
    found = {}
    for release in [release_of(product, version) for product, version in versions.items()]:
        signed = signed_checksums(release, mirror=mirror, signers=signers)
        digests = {each: signed.of(Platform(system="linux", architecture=each)) for each in ARCHITECTURES}
        found[release.product] = OfficialChecksums(version=release.version, sha256=digests, remark=signed.remark)
    return found


def signed_checksums(release: Release, *, mirror: str | None, signers: Mapping[str, Signer] = SIGNERS) -> SignedChecksums:
    """Fetch a release's list of checksums and check who signed it. Raises: DownloadFailed."""
    url = release.url(release.checksums, mirror=mirror)
    content = fetch_small(url)
    signer = signers[PRODUCTS[release.product].signer]
    remark = check_signature(content, fetch_small(f"{url}.sig"), signer=signer, what=url)
    try:
        sha256 = read_checksums(content.decode())
    except ValueError as exc:
        raise DownloadFailed(f"{url} is no list of checksums: {exc}.") from exc
    return SignedChecksums(release=release, sha256=sha256, remark=remark)
