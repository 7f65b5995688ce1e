"""The releases of Consul, Nomad and Fabio: pinned versions, the names of their files, and where they are. Pure.

HashiCorp: <base>/nomad/1.11.3/nomad_1.11.3_linux_amd64.zip, …_SHA256SUMS, …_SHA256SUMS.sig
Fabio:     <base>/v1.7.3/fabio-1.7.3-linux_amd64 (the program itself), fabio-1.7.3.sha256, ….sha256.sig
A mirror (CLIPPER_RELEASES_URL) has the same below <mirror>/ and <mirror>/fabio/, as the Terraform module's release_mirror.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from clipper_nomad.errors import InvalidSetting

MIRROR = "CLIPPER_RELEASES_URL"
HASHICORP_URL = "https://releases.hashicorp.com"
FABIO_URL = "https://github.com/fabiolb/fabio/releases/download"
ARCHITECTURES = ("amd64", "arm64")
SYSTEMS = ("linux", "darwin")
_MACHINES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
_VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)(?:-[0-9A-Za-z.]+)?\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """As releases name it: "linux", "amd64"."""

    system: str
    architecture: str

    def __str__(self) -> str:
        return f"{self.system}_{self.architecture}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """One program. `pinned`: the version that is downloaded; `sha256`: platform → checksum of its file, where its makers
    published that elsewhere too. `oldest`: the oldest (major, minor) that works here. `signer`: whose key, signature.py.
    """

    name: str
    pinned: str
    oldest: tuple[int, int]
    signer: str
    sha256: Mapping[str, str] = field(default_factory=dict)


# Checksums: HashiCorp's own Homebrew tap, revisions "Bump consul to 1.22.7" and "Bump nomad to 1.11.3". Fabio's makers
# publish them nowhere but in the signed file of the release itself.
PRODUCTS = {
    "consul": Product(
        name="consul",
        pinned="1.22.7",
        oldest=(1, 8),  # what Debian 12 and 13 have
        signer="hashicorp",
        sha256={
            "darwin_amd64": "4c768e809905e4ea1869a956e307d6311ebd592888f1dba2a2fbd72bcfe4f18e",
            "darwin_arm64": "6356b66f92f81d20e13129b09cdbacae7179952b7285e22f8ef8f8dffbf49758",
            "linux_amd64": "fe25cecd8dd3552a8e5b0941cde1d79bb6004eac384aa45679dd1398f947201d",
            "linux_arm64": "db54c5fb7c5ceaef97a38ca45dcc0f649ff592a48c73ab320e2d535c78e136cc",
        },
    ),
    "nomad": Product(
        name="nomad",
        pinned="1.11.3",
        oldest=(1, 8),  # the block `disconnect` of the jobspecs
        signer="hashicorp",
        sha256={
            "darwin_amd64": "ca8bf44452296db8750b411c73c6d38a872a9fae2632f93164edbc6573433814",
            "darwin_arm64": "8f8bbc6064a039df772fa7daa865185760111d2e2a1f2953ade2b126dff8e5dd",
            "linux_amd64": "19dac5642a2ba5305e6ff8efee06a708d760ebe4d1cd7936bc3dc526f477dc12",
            "linux_arm64": "902e44260fcd9297af7042fb33ccd5a29cc2202b57199724f17c96fcd67414d2",
        },
    ),
    "fabio": Product(name="fabio", pinned="1.7.3", oldest=(1, 6), signer="fabio"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """One version of a product, and the names and addresses of its files."""

    product: str
    version: str

    def __str__(self) -> str:
        return f"{self.product.capitalize()} {self.version}"

    def file(self, platform: Platform) -> str:
        """Return the name of the file for a platform."""
        if self.product == "fabio":
            return f"fabio-{self.version}-{platform}"
        return f"{self.product}_{self.version}_{platform}.zip"

    @property
    def checksums(self) -> str:
        """The name of the list of checksums; its signature's is that with ".sig"."""
        if self.product == "fabio":
            return f"fabio-{self.version}.sha256"
        return f"{self.product}_{self.version}_SHA256SUMS"

    def url(self, file: str, *, mirror: str | None) -> str:
        """Return where a file of this release is: at its makers', or on a mirror."""
        if self.product == "fabio":
            return f"{FABIO_URL if mirror is None else f'{mirror}/fabio'}/v{self.version}/{file}"
        return f"{HASHICORP_URL if mirror is None else mirror}/{self.product}/{self.version}/{file}"

    def pinned_sha256(self, platform: Platform) -> str | None:
        """Return the checksum that this version of clipper-nomad knows, None if it knows none."""
        product = PRODUCTS[self.product]
        return product.sha256.get(str(platform)) if self.version == product.pinned else None


def release_of(product: str, version: str) -> Release:
    """Return the release. Raises: InvalidSetting: no such product, or no version."""
    if product not in PRODUCTS:
        raise InvalidSetting(f"There are releases of {', '.join(PRODUCTS)}, and none of {product!r}.")
    if not _VERSION.match(version):
        raise InvalidSetting(
            f"The version of {product} is {version!r}.",
            hint=f"Write it as the release is called, such as {PRODUCTS[product].pinned}.",
        )
    return Release(product=product, version=version)


def pinned_release(product: str) -> Release:
    """Return the release that is downloaded where no other is asked for."""
    return release_of(product, PRODUCTS[product].pinned)


def platform_of(system: str, machine: str) -> Platform:
    """Return the platform by the names of Python's `platform`. Raises: InvalidSetting: there are no releases for it."""
    architecture = _MACHINES.get(machine.lower())
    if system.lower() not in SYSTEMS or architecture is None:
        raise InvalidSetting(
            f"There is no release of Consul, Nomad and Fabio for {system} on {machine} that clipper-nomad can download; "
            "there are those for Linux and macOS on x86-64 and arm64.",
            hint="Put consul, nomad and fabio on PATH yourself.",
        )
    return Platform(system=system.lower(), architecture=architecture)


def mirror_of(environ: Mapping[str, str]) -> str | None:
    """Return the mirror that CLIPPER_RELEASES_URL names. Raises: InvalidSetting: it is no URL."""
    named = environ.get(MIRROR, "").strip().rstrip("/")
    if not named:
        return None
    parts = urlsplit(named)
    if parts.scheme not in {"http", "https"} or not parts.netloc or parts.query or parts.fragment:
        raise InvalidSetting(
            f"{MIRROR} is {named!r}.",
            hint="Write a URL; its files are found as URL/nomad/1.11.3/nomad_1.11.3_linux_amd64.zip.",
        )
    return named


def read_checksums(text: str) -> dict[str, str]:
    """Return file → SHA-256 of a list as sha256sum writes it. Raises: ValueError: a line is none of it."""
    found = {}
    for line in text.splitlines():
        if not line.strip():
            continue
        digest, _, file = line.strip().partition(" ")
        if not re.fullmatch(r"[0-9a-f]{64}", digest) or not file.strip():
            raise ValueError(f"a line reads {line[:100]!r}")
        found[file.strip().removeprefix("*").removeprefix("./")] = digest
    return found
