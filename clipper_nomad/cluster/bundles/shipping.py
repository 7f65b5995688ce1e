"""A folder with a bundle → a reference that a version can run from, its archive kept by the cluster's admin service.

All that can be known here is looked at before anything is sent: the bundle itself, its Python, its packages, its size.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path

from clipper_nomad.admin.bundle_client import BundleClient, TakenBundles
from clipper_nomad.cluster.bundles.wheels import by_path, download_wheels, is_for_any_machine
from clipper_nomad.cluster.jobs.requirements import Placement
from clipper_nomad.cluster.nomad_api import NomadApi
from clipper_nomad.errors import BundleError
from clipper_nomad.protocol.bundle import (
    MANIFEST_NAME,
    WHEELS_NAME,
    DamagedBundle,
    Manifest,
    file_digest,
    manifest_bytes,
    manifest_digest,
    read_manifest,
)
from clipper_nomad.protocol.bundle_archive import pack_archive
from clipper_nomad.protocol.bundle_store import BundleReference, python_of

_READY = "ready"
_ARCHITECTURE = "cpu.arch"
_ITS_CONSTRAINT = "${attr.cpu.arch}"

Said = Callable[[str, str], None]  # (what, how far it is)


class BundleShipping:
    """Sends bundles to one cluster. Every method raises AdminRefused and AdminUnreachable."""

    def __init__(self, client: BundleClient, nomad: NomadApi, placement: Placement, *, said: Said) -> None:
        self._client = client
        self._nomad = nomad
        self._placement = placement
        self._said = said

    def publish(self, bundle: Path, *, packages: Sequence[str], runtime: str, title: str) -> BundleReference:
        """Complete the bundle with its packages, send it unless it is there, and return what to deploy.

        `runtime`: the image that it runs on, "" for the cluster's own.
        Raises: BundleError: it is damaged, too large, for another Python, or one of its packages has no wheel.
        """
        try:
            manifest = read_manifest(bundle)
        except DamagedBundle as exc:
            raise BundleError(f"{bundle} is no bundle: {exc}.") from exc
        taken = self._client.taken()
        runtime = self._runtime(manifest, taken, runtime)
        files = {path: bundle / path for path in manifest.files}
        with tempfile.TemporaryDirectory(prefix="clipper-shipping-") as name:
            folder = Path(name)
            if packages:
                wheels = self._wheels(packages, folder / WHEELS_NAME, python=manifest.python, title=title)
                brought = by_path(wheels, below=WHEELS_NAME)
                digests = {path: file_digest(wheel) for path, wheel in brought.items()}
                files |= brought
                manifest = replace(manifest, files={**manifest.files, **digests})
            content = manifest_bytes(manifest) if packages else (bundle / MANIFEST_NAME).read_bytes()
            _check_size(len(content) + sum(path.stat().st_size for path in files.values()), taken)
            archive = folder / "bundle.tar"
            try:
                pack_archive(content, files, archive)
            except OSError as exc:
                raise BundleError(f"The bundle could not be packed in {folder}: {exc}.", hint="Set TMPDIR.") from exc
            _check_size(archive.stat().st_size, taken)
            digest = manifest_digest(content)
            self._client.send(
                digest, archive, piece_bytes=taken.piece_bytes, said=lambda line: self._said(title, f"bundle: {line}")
            )
        return BundleReference(digest=digest, runtime=runtime)

    def withdraw(self, reference: BundleReference) -> None:
        """Remove a bundle that no version runs from. Raises: AdminRefused: with status 409 if one does."""
        self._client.drop(reference.digest)

    def cache_volume(self) -> str | None:
        """Return the host volume in which the cluster's clients keep bundles that they fetched, None without one."""
        return self._client.taken().cache_volume or None

    def _runtime(self, manifest: Manifest, taken: TakenBundles, given: str) -> str:
        if taken.problem:
            raise BundleError(
                f"This cluster keeps no bundles: {taken.problem}.",
                hint="Bring it up again (clipper-nomad up), or deploy an image: give registry=.",
            )
        runtime = given or taken.runtime_image
        if not runtime:
            raise BundleError(
                "This cluster was brought up without a runtime image, so nothing of it runs bundles.",
                hint="Name one as runtime_image=, or when it is brought up: clipper-nomad up --runtime-image IMAGE",
            )
        python = python_of(runtime)
        if python is not None and python != manifest.python:
            raise BundleError(
                f"The model is packed with Python {manifest.python}, and {runtime} has Python {python}; code objects do not "
                "load on another minor version. Nothing was sent.",
                hint=f"Deploy from Python {python}, or push the images with Python {manifest.python} (clipper-nomad images "
                f"push) and name that one: --runtime-image {_for_python(runtime, python, manifest.python)}",
            )
        return runtime

    def _wheels(self, packages: Sequence[str], folder: Path, *, python: str, title: str) -> list[Path]:
        self._said(title, f"downloading wheels of {', '.join(packages)}")
        architectures = self._architectures()
        first = min(architectures, default="amd64")
        wheels = download_wheels(packages, folder, python=python, architecture=first)
        compiled = [wheel.name for wheel in wheels if not is_for_any_machine(wheel)]
        if len(architectures) > 1 and compiled:
            raise BundleError(
                f"The Nomad clients are of several architectures, {', '.join(sorted(architectures))}, and packages hold "
                f"compiled code, such as {compiled[0]}.",
                hint=f"Say which is meant, by a constraint of the placement: {_ITS_CONSTRAINT} = {first}",
            )
        return wheels

    def _architectures(self) -> set[str]:
        """Return what the clients that may run a replica are, in Nomad's words."""
        for constraint in self._placement.constraints:
            if constraint.attribute == _ITS_CONSTRAINT and constraint.operator == "=":
                return {constraint.value}
        datacenters, pool = self._placement.datacenters, self._placement.node_pool or "default"
        fitting = [
            node["ID"]
            for node in self._nomad.nodes()
            if node["Status"] == _READY
            and any(fnmatchcase(node["Datacenter"], each) for each in datacenters)
            and pool in {"all", node.get("NodePool")}
        ]
        found = {str((self._nomad.node(each).get("Attributes") or {}).get(_ARCHITECTURE) or "") for each in fitting}
        return found - {""}


def _check_size(size: int, taken: TakenBundles) -> None:
    if size > taken.max_bytes:
        raise BundleError(
            f"The bundle has {size / 1024**2:,.1f} MiB with its packages, and this cluster takes "
            f"{taken.max_bytes / 1024**2:,.1f} MiB.",
            hint="Deploy an image (give registry=), load large weights from a volume, or raise the cluster's limit: "
            "clipper-nomad up --bundle-limit MIB",
        )


def _for_python(runtime: str, python: str, wanted: str) -> str:
    """Return the name of the same image for another Python, without a digest or an id, which are another one's."""
    return re.sub(rf"py{re.escape(python)}(-[0-9a-f]{{12}})?(@.*)?\Z", f"py{wanted}", runtime)
