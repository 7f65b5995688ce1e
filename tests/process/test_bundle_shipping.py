"""What is refused before a byte of a bundle is sent, by whoever deploys, at a real admin service."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from clipper_nomad.admin.bundle_client import BundleClient
from clipper_nomad.cluster.bundles.shipping import BundleShipping
from clipper_nomad.cluster.endpoints import Endpoint
from clipper_nomad.cluster.jobs.requirements import Placement
from clipper_nomad.cluster.nomad_api import NomadApi
from clipper_nomad.errors import BundleError
from clipper_nomad.protocol.bundle import python_minor
from clipper_nomad.protocol.bundle_store import BundleReference
from tests.process.admins import TOKEN, AdminServer
from tests.process.bundles import pack
from tests.process.stores import StoreServer

pytestmark = pytest.mark.process

RUNTIME = f"r.example/clipper-nomad-runtime:1-py{python_minor()}"
NO_NOMAD = NomadApi(Endpoint(url="http://127.0.0.1:9"))  # a bundle without packages asks it nothing


@pytest.fixture
def admin(one_store_server: StoreServer, tmp_path: Path) -> Iterator[AdminServer]:
    server = AdminServer(
        one_store_server, tmp_path, BUNDLES=tmp_path / "bundles", BUNDLE_MAX_BYTES=10_240, RUNTIME_IMAGE=RUNTIME
    )
    try:
        server.start()
        yield server
    finally:
        server.close()


def publish(admin: AdminServer, bundle: Path, *, runtime: str = "") -> BundleReference:
    client = BundleClient(lambda: admin.address, lambda: TOKEN)
    shipping = BundleShipping(client, NO_NOMAD, Placement(), said=lambda _title, _line: None)
    return shipping.publish(bundle, packages=(), runtime=runtime, title="m:1")


def kept(tmp_path: Path) -> list[str]:
    return [path.name for path in (tmp_path / "bundles").glob("*")]


def test_a_bundle_is_kept_under_the_digest_that_replicas_will_ask_for(admin: AdminServer, tmp_path: Path) -> None:
    digest = pack(tmp_path / "bundle", len)

    assert publish(admin, tmp_path / "bundle") == BundleReference(digest=digest, runtime=RUNTIME)
    assert publish(admin, tmp_path / "bundle", runtime="mine:1").runtime == "mine:1"
    assert kept(tmp_path) == [f"{digest}.tar"]


@pytest.mark.parametrize("given", ["", "r.example/clipper-nomad-runtime:1-py3.9@sha256:ab"])
def test_another_python_is_refused_with_the_image_to_use(admin: AdminServer, tmp_path: Path, given: str) -> None:
    pack(tmp_path / "bundle", len, python="3.8")

    with pytest.raises(BundleError) as caught:
        publish(admin, tmp_path / "bundle", runtime=given)

    assert "The model is packed with Python 3.8, and r.example/clipper-nomad-runtime:1-py" in caught.value.msg
    assert "--runtime-image r.example/clipper-nomad-runtime:1-py3.8" in str(caught.value.hint)
    assert kept(tmp_path) == []


def test_a_bundle_over_the_limit_is_refused_with_what_else_there_is(admin: AdminServer, tmp_path: Path) -> None:
    pack(tmp_path / "bundle", len, modules={"weights.py": "#" * 10_000})

    with pytest.raises(BundleError, match="--bundle-limit MIB"):
        publish(admin, tmp_path / "bundle")

    assert kept(tmp_path) == []


def test_a_damaged_bundle_is_refused(admin: AdminServer, tmp_path: Path) -> None:
    pack(tmp_path / "bundle", len)
    (tmp_path / "bundle/func.pkl").write_bytes(b"changed")

    with pytest.raises(BundleError, match=r"is no bundle: files of the bundle are missing, added or changed: func\.pkl"):
        publish(admin, tmp_path / "bundle")


def test_a_cluster_without_a_runtime_image_says_how_it_gets_one(one_store_server: StoreServer, tmp_path: Path) -> None:
    pack(tmp_path / "bundle", len)
    admin = AdminServer(one_store_server, tmp_path, BUNDLES=tmp_path / "bundles")
    try:
        admin.start()
        with pytest.raises(BundleError, match="clipper-nomad up --runtime-image IMAGE"):
            publish(admin, tmp_path / "bundle")
    finally:
        admin.close()


def test_a_cluster_that_keeps_no_bundles_says_what_to_do(one_store_server: StoreServer, tmp_path: Path) -> None:
    pack(tmp_path / "bundle", len)
    admin = AdminServer(one_store_server, tmp_path)
    try:
        admin.start()
        with pytest.raises(BundleError, match="This cluster keeps no bundles: this admin service has no place"):
            publish(admin, tmp_path / "bundle")
    finally:
        admin.close()
