"""A bundle as an archive, its reference and its token: what is taken out again, and what is not believed."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from clipper_nomad.protocol.bundle import DamagedBundle, file_digests, manifest_digest, read_manifest
from clipper_nomad.protocol.bundle_archive import check_archive, pack_archive, unpack_archive
from clipper_nomad.protocol.bundle_store import BundleReference, fetch_token, parse_reference, python_of
from tests.process.bundles import pack

DIGEST = f"sha256-{'0a' * 32}"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    pack(tmp_path / "bundle", len, modules={"helper.py": "x = 1\n"})
    return tmp_path / "bundle"


def packed(bundle: Path) -> tuple[Path, str]:
    manifest = (bundle / "manifest.json").read_bytes()
    archive = bundle.with_name("archive.tar")
    pack_archive(manifest, {path: bundle / path for path in file_digests(bundle)}, archive)
    return archive, manifest_digest(manifest)


def test_what_is_packed_is_unpacked(bundle: Path, tmp_path: Path) -> None:
    archive, digest = packed(bundle)

    check_archive(archive, digest)
    unpack_archive(archive, digest, tmp_path / "copy")

    assert read_manifest(tmp_path / "copy", digest=digest) == read_manifest(bundle)
    assert file_digests(tmp_path / "copy") == file_digests(bundle)


def test_the_same_content_gives_the_same_bytes(bundle: Path) -> None:
    first = packed(bundle)[0].read_bytes()
    for path in bundle.rglob("*"):
        path.touch()

    assert packed(bundle)[0].read_bytes() == first


def test_another_bundle_is_refused_by_its_manifest(bundle: Path) -> None:
    archive, digest = packed(bundle)

    with pytest.raises(DamagedBundle, match=f"the archive is of the bundle {digest}; {DIGEST} was expected"):
        check_archive(archive, DIGEST)


@pytest.mark.parametrize("left", [0, 100, 700, 2000])
def test_an_archive_that_ends_too_soon_is_refused(bundle: Path, left: int) -> None:
    archive, digest = packed(bundle)
    archive.write_bytes(archive.read_bytes()[:left])

    with pytest.raises(DamagedBundle):
        check_archive(archive, digest)


def member(name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE) -> tuple[tarfile.TarInfo, bytes]:
    entry = tarfile.TarInfo(name)
    entry.size, entry.type, entry.linkname = len(content), kind, "/etc/passwd" if kind == tarfile.SYMTYPE else ""
    return entry, content


EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"  # SHA-256 of nothing


@pytest.mark.parametrize(
    ("files", "members", "problem"),
    [
        ({}, [member("more")], "'more', which is no file of the manifest"),
        ({"../out": EMPTY}, [member("../out")], "'../out', which is no file of the manifest"),
        ({"/out": EMPTY}, [member("/out")], "'/out', which is no file of the manifest"),
        ({"link": EMPTY}, [member("link", kind=tarfile.SYMTYPE)], "'link', which is no file of the manifest"),
        ({"folder": EMPTY}, [member("folder", kind=tarfile.DIRTYPE)], "'folder', which is no file of the manifest"),
        ({"a": EMPTY}, [member("a"), member("a")], "'a', which is no file of the manifest"),
        ({"a": EMPTY}, [member("a", b"x")], "a is not what the manifest says"),
        ({"a": EMPTY, "b": EMPTY}, [member("a")], "the archive lacks b"),
        (["a"], [member("a")], "the archive cannot be read"),
    ],
)
def test_nothing_that_the_manifest_does_not_name_is_written(
    tmp_path: Path, files: object, members: list[tuple[tarfile.TarInfo, bytes]], problem: str
) -> None:
    manifest = json.dumps({"files": files}).encode()
    archive = tmp_path / "inside/archive.tar"
    archive.parent.mkdir()
    with tarfile.open(archive, "w") as tar:
        for entry, content in [member("manifest.json", manifest), *members]:
            tar.addfile(entry, io.BytesIO(content))

    with pytest.raises(DamagedBundle, match=problem):
        unpack_archive(archive, manifest_digest(manifest), tmp_path / "inside/copy")

    assert not (tmp_path / "out").exists()
    assert not Path("/out").exists()


@pytest.mark.parametrize(
    "write", [lambda path: path.write_bytes(b"no archive"), lambda path: path.write_bytes(bytes(10_240))]
)
def test_what_is_no_archive_of_a_bundle_is_refused(tmp_path: Path, write: Callable[[Path], object]) -> None:
    write(tmp_path / "archive")

    with pytest.raises(DamagedBundle):
        check_archive(tmp_path / "archive", DIGEST)


def test_wheels_may_be_gone_as_a_whole_and_not_one_by_one(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    (folder / "wheels").mkdir(parents=True)
    for name in "ab":
        (folder / f"wheels/{name}.whl").write_text(name)
    pack(folder, len)

    (folder / "wheels/a.whl").unlink()
    with pytest.raises(DamagedBundle, match=r"wheels/a\.whl"):
        read_manifest(folder)
    (folder / "wheels/b.whl").unlink()
    (folder / "wheels").rmdir()

    assert "wheels/a.whl" in read_manifest(folder).files


@pytest.mark.parametrize("runtime", ["clipper-nomad-runtime:1-py3.11", "r.example:5000/a/b:1-py3.12@sha256:" + "0" * 64])
def test_a_reference_is_read_as_it_was_written(runtime: str) -> None:
    reference = BundleReference(digest=DIGEST, runtime=runtime)

    assert parse_reference(str(reference)) == reference


@pytest.mark.parametrize(
    "image", ["image:1", f"bundle:{DIGEST}", "bundle:sha256-0/image:1", f"bundle:{DIGEST}/a b", "NO_CONTAINER", ""]
)
def test_an_image_is_no_bundle(image: str) -> None:
    assert parse_reference(image) is None


@pytest.mark.parametrize(
    ("runtime", "python"),
    [
        ("clipper-nomad-runtime:0.1.0-py3.11", "3.11"),
        ("clipper-nomad-runtime:0.1.0-py3.11-7269dcddec4d", "3.11"),
        ("r:5000/x:py3.13@sha256:ab", "3.13"),
        ("my-py3.11-image:1", None),
        ("python:3.11-slim", None),
    ],
)
def test_a_tag_may_tell_the_python(runtime: str, python: str | None) -> None:
    assert python_of(runtime) == python


def test_a_token_is_of_one_bundle_of_one_cluster() -> None:
    tokens = {fetch_token(secret, digest) for secret in ("a", "b") for digest in (DIGEST, DIGEST.replace("0a", "0b"))}

    assert len(tokens) == 4
    assert fetch_token("a", DIGEST) == fetch_token("a", DIGEST)
