"""How programs of releases get here: right, wrong, cut, refused, without room; and that nothing is there by halves."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from clipper_nomad.dev_cluster import transfer
from clipper_nomad.dev_cluster.checksums import official_checksums
from clipper_nomad.dev_cluster.install import install, installed
from clipper_nomad.dev_cluster.releases import MIRROR, PRODUCTS, Platform, release_of
from clipper_nomad.dev_cluster.signature import SIGNERS, Signer
from clipper_nomad.errors import DownloadFailed, InvalidSetting
from tests.process.release_servers import HERE, Key, Releases, path_of, require_gpg, served_releases

pytestmark = pytest.mark.process

NOMAD, FABIO = release_of("nomad", "9.9.9"), release_of("fabio", "9.9.9")
PROGRAM = b"#!/bin/sh\necho Nomad v9.9.9\n" + os.urandom(300_000)
ARCHIVE = NOMAD.file(HERE)
PIECE = 1 << 16  # what is read at once: of a piece that was cut, nothing is kept


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Key]:
    require_gpg()
    made = Key(tmp_path_factory.mktemp("keys") / "ours")
    yield made
    made.end()


@pytest.fixture
def server(key: Key, monkeypatch: pytest.MonkeyPatch) -> Iterator[Releases]:
    monkeypatch.setattr(transfer, "PAUSE_S", 0.01)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with served_releases() as releases:
        releases.add(NOMAD, PROGRAM, key)
        releases.add(FABIO, PROGRAM, key)
        yield releases


class Cache:
    """A cache of a user who trusts the test's key, and what was told while something came."""

    def __init__(self, folder: Path, server: Releases, signer: Signer) -> None:
        self.folder = folder
        self.server = server
        self.signers = dict.fromkeys(SIGNERS, signer)
        self.shown: list[tuple[str, int, int | None]] = []
        self.remarks: list[str] = []

    def get(self, product: str = "nomad", *, platform: Platform = HERE) -> Path:
        return install(
            release_of(product, "9.9.9"),
            platform,
            self.folder,
            mirror=self.server.url,
            progress=lambda *words: self.shown.append(words),
            remark=self.remarks.append,
            signers=self.signers,
        )

    @property
    def files(self) -> set[str]:
        """All that lies there, but the locks."""
        return {each.name for each in self.folder.rglob("*") if each.is_file() and each.name != ".lock"}


@pytest.fixture
def cache(tmp_path: Path, server: Releases, key: Key) -> Cache:
    return Cache(tmp_path / "cache", server, key.signer)


@pytest.mark.parametrize("product", ["nomad", "fabio"])
def test_a_release_becomes_a_program_that_runs(cache: Cache, product: str) -> None:
    program = cache.get(product)

    assert program.read_bytes() == PROGRAM
    assert stat.S_IMODE(program.stat().st_mode) == 0o755
    assert subprocess.run([program], capture_output=True, check=False, timeout=10).stdout == b"Nomad v9.9.9\n"
    assert cache.files == {product}
    assert installed(release_of(product, "9.9.9"), cache.folder) == program
    assert not cache.remarks


def test_progress_goes_from_nothing_to_all(cache: Cache) -> None:
    cache.get()

    size = len(cache.server.files[path_of(NOMAD, ARCHIVE)])
    assert cache.shown[0] == (ARCHIVE, 0, size)
    assert cache.shown[-1] == (ARCHIVE, size, size)


def test_what_is_there_is_not_fetched_again(cache: Cache) -> None:
    cache.get()
    cache.server.asked.clear()

    cache.get()

    assert not cache.server.asked


def test_a_file_with_another_checksum_is_removed(cache: Cache) -> None:
    content = cache.server.files[path_of(NOMAD, ARCHIVE)]
    cache.server.files[path_of(NOMAD, ARCHIVE)] = content[:-1] + b"x"

    with pytest.raises(DownloadFailed, match=r"its SHA-256 is [0-9a-f]{64}, and it should be [0-9a-f]{64}"):
        cache.get()

    assert not cache.files


def test_a_list_that_was_changed_after_it_was_signed_is_refused(cache: Cache) -> None:
    sums = path_of(NOMAD, NOMAD.checksums)
    cache.server.files[sums] = cache.server.files[sums].replace(b"9.9.9", b"9.9.8")

    with pytest.raises(DownloadFailed, match="the signature does not belong to this content"):
        cache.get()

    assert not cache.files
    assert not cache.server.asked_for(ARCHIVE)


def test_a_list_that_somebody_else_signed_is_refused(cache: Cache, tmp_path: Path) -> None:
    stranger = Key(tmp_path / "stranger")
    cache.server.add(NOMAD, PROGRAM, stranger)
    stranger.end()

    with pytest.raises(DownloadFailed, match="not one of the test: it is signed by another key"):
        cache.get()

    assert not cache.files


def test_what_is_no_signature_is_refused(cache: Cache) -> None:
    cache.server.files[path_of(NOMAD, f"{NOMAD.checksums}.sig")] = b"<html>sign in to the proxy</html>"

    with pytest.raises(DownloadFailed, match=r"signed by another key .* or not at all"):
        cache.get()

    assert not cache.files


def test_without_gpgv_nothing_is_fetched(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")

    with pytest.raises(DownloadFailed, match="no gpgv on PATH") as caught:
        cache.get()

    assert "apt install gpgv" in (caught.value.hint or "")
    assert not cache.files


def test_a_checksum_that_contradicts_the_one_we_know_is_refused(cache: Cache, key: Key) -> None:
    known = release_of("nomad", PRODUCTS["nomad"].pinned)
    cache.server.add(known, PROGRAM, key)

    with pytest.raises(DownloadFailed, match="clipper-nomad knows its SHA-256 as 19dac5642a2b"):
        official_checksums({"nomad": known.version}, environ={MIRROR: cache.server.url}, signers=cache.signers)


def test_a_connection_that_is_cut_goes_on_where_it_was(cache: Cache) -> None:
    cache.server.cut_after, cache.server.cuts = PIECE, 2

    assert cache.get().read_bytes() == PROGRAM

    assert cache.server.asked_for(ARCHIVE) == [None, f"bytes={PIECE}-", f"bytes={2 * PIECE}-"]


def test_the_next_call_goes_on_where_the_last_one_gave_up(cache: Cache) -> None:
    archive = cache.server.files[path_of(NOMAD, ARCHIVE)]
    part = cache.folder / "releases/nomad/9.9.9" / f"{ARCHIVE}.part"
    cache.server.cut_after, cache.server.cuts = PIECE, 1
    cache.server.failures = [200, 200, 200, 404]  # list, signature, the first part; then the file is away

    with pytest.raises(DownloadFailed, match=f"{PIECE} bytes are kept; the next try goes on from there"):
        cache.get()

    assert part.read_bytes() == archive[:PIECE]
    cache.server.asked.clear()
    assert cache.get().read_bytes() == PROGRAM
    assert cache.server.asked_for(ARCHIVE) == [f"bytes={PIECE}-"]
    assert cache.files == {"nomad"}


@pytest.mark.parametrize("lacks", ["knows_range", "tagged"])
def test_a_server_that_cannot_go_on_sends_all_of_it_again(cache: Cache, lacks: str) -> None:
    setattr(cache.server, lacks, False)
    cache.server.cut_after, cache.server.cuts = 100_000, 1

    assert cache.get().read_bytes() == PROGRAM


def test_a_part_of_another_file_is_not_gone_on_with(cache: Cache) -> None:
    folder = cache.folder / "releases/nomad/9.9.9"
    folder.mkdir(parents=True)
    (folder / f"{ARCHIVE}.part").write_bytes(b"of another build" * 1000)
    (folder / f"{ARCHIVE}.part.tag").write_text('"another"')

    assert cache.get().read_bytes() == PROGRAM


def test_a_part_that_is_too_long_is_fetched_anew(cache: Cache) -> None:
    cache.server.cut_after, cache.server.cuts = 100_000, 1
    cache.server.failures = [200, 200, 200, 404]
    with pytest.raises(DownloadFailed):
        cache.get()
    part = cache.folder / "releases/nomad/9.9.9" / f"{ARCHIVE}.part"
    part.write_bytes(part.read_bytes() + b"x" * 1_000_000)

    assert cache.get().read_bytes() == PROGRAM


def test_a_server_that_is_busy_is_asked_again(cache: Cache) -> None:
    cache.server.failures = [503, 429]

    assert cache.get().read_bytes() == PROGRAM


def test_a_release_that_does_not_exist_says_so_at_once(cache: Cache) -> None:
    with pytest.raises(DownloadFailed, match=r"consul_9\.9\.9_SHA256SUMS cannot be downloaded: the server answers 404"):
        cache.get("consul")

    assert len(cache.server.asked) == 1
    assert not cache.files


def test_without_a_network_the_address_and_the_ways_out_are_named(cache: Cache) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        cache.server.url = f"http://127.0.0.1:{taken.getsockname()[1]}"

        with pytest.raises(DownloadFailed, match=r"9\.9\.9_SHA256SUMS cannot be downloaded: .*refused") as caught:
            cache.get()

    for way in ("HTTPS_PROXY", MIRROR, "PATH"):
        assert way in (caught.value.hint or "")
    assert not cache.files


def test_a_proxy_of_the_environment_is_asked(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy, cache.server.url = cache.server.url, "http://releases.invalid"
    cache.server.files |= {f"http://releases.invalid{path}": content for path, content in cache.server.files.items()}
    monkeypatch.setenv("HTTP_PROXY", proxy)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)

    assert cache.get().read_bytes() == PROGRAM


def test_a_platform_that_the_release_has_not_is_named(cache: Cache) -> None:
    with pytest.raises(DownloadFailed, match=r"Nomad 9\.9\.9 has no file nomad_9\.9\.9_darwin_arm64\.zip"):
        cache.get(platform=Platform(system="darwin", architecture="arm64"))

    assert not cache.files


@pytest.mark.parametrize("knows_length", [True, False])
def test_a_full_disk_leaves_nothing_behind(cache: Cache, tmp_path: Path, *, knows_length: bool) -> None:
    mount, umount = shutil.which("mount"), shutil.which("umount")
    if os.geteuid() != 0 or mount is None or umount is None:
        pytest.skip("a small disk can only be mounted by root")
    cache.server.knows_length = knows_length
    cache.folder.mkdir()
    if subprocess.run([mount, "-t", "tmpfs", "-o", "size=128k", "small", cache.folder], check=False, timeout=20).returncode:
        pytest.skip("no tmpfs may be mounted here")
    try:
        with pytest.raises(DownloadFailed, match=r"There is no room in .*What had come was removed") as caught:
            cache.get()

        assert not cache.files
        assert "CLIPPER_HOME" in (caught.value.hint or "")
    finally:
        subprocess.run([umount, cache.folder], check=True, timeout=20)


def test_a_folder_that_cannot_be_written_is_named(cache: Cache, tmp_path: Path) -> None:
    cache.folder = tmp_path / "file"
    cache.folder.write_text("no folder")

    with pytest.raises(DownloadFailed, match=r"nomad cannot be installed: .*(Not|not) a directory"):
        cache.get()


def test_terraform_gets_version_and_checksums_of_both_architectures(cache: Cache) -> None:
    found = official_checksums(
        {"nomad": "9.9.9", "fabio": "9.9.9"}, environ={MIRROR: cache.server.url}, signers=cache.signers
    )

    assert set(found) == {"nomad", "fabio"}
    assert found["nomad"].version == "9.9.9"
    assert set(found["nomad"].sha256) == {"amd64", "arm64"}
    assert all(len(each) == 64 for each in found["fabio"].sha256.values())


def test_an_expired_key_counts_for_what_it_signed_before(server: Releases, tmp_path: Path) -> None:
    old = Key(tmp_path / "old", made="20240101T000000", valid="2024-03-01")
    server.add(NOMAD, PROGRAM, old)
    old.end()
    cache = Cache(tmp_path / "cache", server, old.signer)

    assert cache.get().read_bytes() == PROGRAM
    assert not cache.remarks


def test_a_mirror_that_is_no_url_is_refused() -> None:
    with pytest.raises(InvalidSetting, match=r"CLIPPER_RELEASES_URL is 'releases\.example'"):
        official_checksums({"nomad": "1.11.3"}, environ={MIRROR: "releases.example"})
