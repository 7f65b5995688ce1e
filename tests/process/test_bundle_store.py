"""Bundles at a real admin service: sent in pieces, broken off and gone on with, checked, fetched, refused, removed."""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from clipper_nomad.admin.bundle_client import BundleClient
from clipper_nomad.admin.client import NewVersion
from clipper_nomad.errors import AdminRefused, BundleError
from clipper_nomad.protocol.bundle_store import BundleReference
from tests.process.admins import TOKEN, AdminServer
from tests.process.archives import Archive, archive
from tests.process.stores import StoreServer
from tests.waiting import wait_until

pytestmark = pytest.mark.process

PIECE = 1024 * 1024
MAX_BYTES = 5 * PIECE


@pytest.fixture
def admin(one_store_server: StoreServer, tmp_path: Path) -> Iterator[AdminServer]:
    server = AdminServer(
        one_store_server, tmp_path, BUNDLES=tmp_path / "bundles", BUNDLE_MAX_BYTES=MAX_BYTES, RUNTIME_IMAGE="runtime:py3.11"
    )
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture
def bundle(tmp_path: Path) -> Archive:
    """One of about four pieces, with bytes of its own: nobody has it yet."""
    return archive(tmp_path, len, weights=secrets.token_bytes(4 * PIECE - PIECE // 2))


def client(admin: AdminServer) -> BundleClient:
    return BundleClient(lambda: admin.address, lambda: TOKEN)


def send(admin: AdminServer, bundle: Archive, *, digest: str | None = None) -> int:
    return client(admin).send(digest or bundle.digest, bundle.path, piece_bytes=PIECE, said=lambda _: None)


def put(admin: AdminServer, digest: str, data: bytes, *, offset: int, size: int) -> requests.Response:
    return requests.put(
        f"http://{admin.address}/admin/v1/bundles/{digest}?offset={offset}&size={size}",
        data=data,
        headers={"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/octet-stream"},
        timeout=10,
    )


def fetch(admin: AdminServer, bundle: Archive, token: str | None = None, **headers: str) -> requests.Response:
    given = {"Authorization": f"Bearer {bundle.token if token is None else token}", **headers}
    return requests.get(f"http://{admin.address}/bundles/{bundle.digest}", headers=given, timeout=10)


def state(admin: AdminServer, bundle: Archive) -> str:
    return str(admin.get(f"/admin/v1/bundles/{bundle.digest}").json()["state"])


def test_what_is_sent_in_pieces_is_fetched_whole_and_in_ranges_and_sent_once(admin: AdminServer, bundle: Archive) -> None:
    assert send(admin, bundle) == bundle.size
    assert send(admin, bundle) == 0

    assert fetch(admin, bundle).content == bundle.path.read_bytes()
    rest = fetch(admin, bundle, Range="bytes=1000000-")
    assert (rest.status_code, rest.content) == (206, bundle.path.read_bytes()[1_000_000:])


def test_an_upload_goes_on_where_it_ended_when_sender_and_admin_were_killed(admin: AdminServer, bundle: Archive) -> None:
    data = bundle.path.read_bytes()
    for number in range(2):
        piece = data[number * PIECE : (number + 1) * PIECE]
        assert put(admin, bundle.digest, piece, offset=number * PIECE, size=bundle.size).ok
    admin.kill()
    admin.start()

    assert send(admin, bundle) == bundle.size - 2 * PIECE
    assert fetch(admin, bundle).content == data


def test_a_restart_before_the_check_loses_nothing(admin: AdminServer, bundle: Archive, tmp_path: Path) -> None:
    admin.kill()
    (tmp_path / "bundles").mkdir(exist_ok=True)
    (tmp_path / f"bundles/{bundle.digest}.{bundle.size}.part").write_bytes(bundle.path.read_bytes())
    admin.start()

    assert send(admin, bundle) == 0
    assert fetch(admin, bundle).ok


def test_two_who_send_the_same_at_once_both_have_it(admin: AdminServer, bundle: Archive) -> None:
    sent: list[int] = []
    senders = [threading.Thread(target=lambda: sent.append(send(admin, bundle))) for _ in range(3)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join(30)

    assert len(sent) == 3
    assert bundle.size <= sum(sent) < 2 * bundle.size
    assert fetch(admin, bundle).content == bundle.path.read_bytes()


def test_what_somebody_else_spoilt_is_thrown_away_and_sent_anew(admin: AdminServer, bundle: Archive) -> None:
    assert put(admin, bundle.digest, bytes(PIECE), offset=0, size=bundle.size).ok

    assert send(admin, bundle) == bundle.size - PIECE + bundle.size
    assert fetch(admin, bundle).content == bundle.path.read_bytes()


def test_an_archive_of_another_digest_is_never_kept(admin: AdminServer, bundle: Archive, tmp_path: Path) -> None:
    other = f"sha256-{'0' * 64}"

    with pytest.raises(BundleError, match=f"the archive is of the bundle {bundle.digest}; {other} was expected"):
        send(admin, bundle, digest=other)

    assert list((tmp_path / "bundles").iterdir()) == []


def test_what_does_not_fit_is_refused_before_a_byte_is_kept(admin: AdminServer, bundle: Archive, tmp_path: Path) -> None:
    too_large = put(admin, bundle.digest, b"x", offset=0, size=MAX_BYTES + 1)
    beyond = put(admin, bundle.digest, b"xyz", offset=0, size=2)
    too_soon = put(admin, bundle.digest, b"x", offset=7, size=100)
    no_numbers = [
        requests.put(
            f"http://{admin.address}/admin/v1/bundles/{bundle.digest}?offset={offset}&size=2",
            headers={"Authorization": f"Bearer {TOKEN}"},
            timeout=10,
        ).status_code
        for offset in ("-1", "", "1.0", "9" * 5000)
    ]
    no_digest = put(admin, "sha256-..", b"x", offset=0, size=1)

    assert (too_large.status_code, too_large.json()["cause"]) == (
        413,
        "the bundle has 5.0 MiB, and this cluster takes 5.0 MiB (CLIPPER_BUNDLE_MAX_BYTES)",
    )
    assert beyond.status_code == 400
    assert (too_soon.status_code, too_soon.json()["cause"][:17]) == (409, "0 bytes are here,")
    assert (no_numbers, no_digest.status_code) == ([400] * 4, 400)
    assert not (tmp_path / "bundles").exists() or not list((tmp_path / "bundles").iterdir())


def test_a_full_disk_is_said_before_a_byte_is_sent(one_store_server: StoreServer, tmp_path: Path, bundle: Archive) -> None:
    admin = AdminServer(one_store_server, tmp_path, BUNDLES=tmp_path / "bundles", BUNDLE_MAX_BYTES=10**18)
    try:
        admin.start()
        answer = put(admin, bundle.digest, b"x", offset=0, size=10**17)
    finally:
        admin.close()

    assert answer.status_code == 507
    assert "are free where admin keeps bundles" in answer.json()["cause"]


def test_a_folder_that_cannot_be_written_is_told_to_who_asks(one_store_server: StoreServer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    admin = AdminServer(one_store_server, tmp_path, BUNDLES=tmp_path / "file/bundles")
    try:
        admin.start()
        problem = client(admin).taken().problem
    finally:
        admin.close()

    assert problem.startswith(f"Not a directory: {tmp_path}/file/bundles must be writable by user {os.getuid()}")


def test_without_a_folder_there_is_no_store(one_store_server: StoreServer, tmp_path: Path, bundle: Archive) -> None:
    admin = AdminServer(one_store_server, tmp_path)
    try:
        admin.start()
        taken = client(admin).taken()
        with pytest.raises(AdminRefused, match="CLIPPER_BUNDLES is not set"):
            send(admin, bundle)
    finally:
        admin.close()

    assert "no place for bundles" in taken.problem


def test_each_token_opens_its_own_and_nothing_else(admin: AdminServer, bundle: Archive, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = archive(tmp_path / "other", sum)
    send(admin, bundle)
    send(admin, other)

    refused = [fetch(admin, bundle, token) for token in (TOKEN, other.token, "", f"{bundle.token}x")]
    as_admin = requests.get(
        f"http://{admin.address}/admin/v1/bundles", headers={"Authorization": f"Bearer {bundle.token}"}, timeout=10
    )

    assert [answer.status_code for answer in refused] == [401] * 4
    assert as_admin.status_code == 401
    assert fetch(admin, bundle).ok


def test_a_piece_is_declared_as_bytes(admin: AdminServer, bundle: Archive) -> None:
    answer = requests.put(
        f"http://{admin.address}/admin/v1/bundles/{bundle.digest}?offset=0&size=1",
        json=[],
        headers={"Authorization": f"Bearer {TOKEN}"},
        timeout=10,
    )

    assert (answer.status_code, answer.json()["cause"]) == (
        415,
        "a body must have the header 'Content-Type: application/octet-stream'",
    )


def test_a_bundle_stays_while_a_version_runs_from_it_and_goes_with_the_last(admin: AdminServer, bundle: Archive) -> None:
    send(admin, bundle)
    image = str(BundleReference(digest=bundle.digest, runtime="runtime:py3.11"))
    for number in "12":
        client(admin).add_version(NewVersion(name="m", version=number, input_type="doubles", image=image))

    with pytest.raises(AdminRefused, match="the bundle is kept: m:1, m:2 runs from it"):
        client(admin).drop(bundle.digest)
    client(admin).call("delete_versioned_model", model_name="m", model_version="1")
    after_one = state(admin, bundle)
    client(admin).call("delete_versioned_model", model_name="m", model_version="2")

    assert (after_one, state(admin, bundle)) == ("whole", "absent")
    assert fetch(admin, bundle).status_code == 404


def test_a_bundle_that_runs_in_two_images_stays_for_the_other(admin: AdminServer, bundle: Archive) -> None:
    send(admin, bundle)
    for number, runtime in (("1", "runtime:py3.11"), ("2", "mine:py3.11")):
        image = str(BundleReference(digest=bundle.digest, runtime=runtime))
        client(admin).add_version(NewVersion(name="m", version=number, input_type="doubles", image=image))

    client(admin).call("delete_versioned_model", model_name="m", model_version="2")

    assert state(admin, bundle) == "whole"


def test_a_version_of_a_bundle_that_is_not_there_is_refused(admin: AdminServer, bundle: Archive) -> None:
    image = str(BundleReference(digest=bundle.digest, runtime="runtime:py3.11"))

    with pytest.raises(AdminRefused, match=f"the bundle {bundle.digest} is not kept here"):
        client(admin).add_version(NewVersion(name="m", version="1", input_type="doubles", image=image))

    assert client(admin).catalog()["versions"] == []


def test_a_bundle_that_nobody_runs_is_removed_on_demand(admin: AdminServer, bundle: Archive) -> None:
    send(admin, bundle)

    client(admin).drop(bundle.digest)
    client(admin).drop(bundle.digest)

    assert state(admin, bundle) == "absent"


def test_what_nobody_asked_for_since_a_day_is_forgotten(admin: AdminServer, bundle: Archive, tmp_path: Path) -> None:
    put(admin, f"sha256-{'0' * 64}", b"x", offset=0, size=100)
    put(admin, f"sha256-{'1' * 64}", b"x", offset=0, size=100)
    old, young = sorted((tmp_path / "bundles").glob("*.part"))
    used, unused, asked_for = (sent_from(admin, tmp_path / name, name) for name in ("used", "unused", "asked"))
    image = str(BundleReference(digest=used.digest, runtime="runtime:py3.11"))
    client(admin).add_version(NewVersion(name="m", version="1", input_type="doubles", image=image))
    for path in (old, *(tmp_path / f"bundles/{each.digest}.tar" for each in (used, unused, asked_for))):
        os.utime(path, (time.time() - 90_000,) * 2)
    assert send(admin, asked_for) == 0

    send(admin, bundle)

    assert (old.exists(), young.exists()) == (False, True)
    assert [state(admin, each) for each in (used, unused, asked_for)] == ["whole", "absent", "whole"]


def sent_from(admin: AdminServer, folder: Path, content: str) -> Archive:
    folder.mkdir()
    made = archive(folder, len, weights=content.encode())
    send(admin, made)
    return made


def test_a_deployer_is_told_what_the_cluster_takes(admin: AdminServer) -> None:
    taken = client(admin).taken()

    assert (taken.problem, taken.runtime_image, taken.max_bytes) == ("", "runtime:py3.11", MAX_BYTES)


def test_an_admin_that_is_away_for_a_while_costs_time_only(admin: AdminServer, bundle: Archive) -> None:
    data = bundle.path.read_bytes()
    put(admin, bundle.digest, data[:PIECE], offset=0, size=bundle.size)
    admin.kill()
    sent: list[int] = []
    sender = threading.Thread(target=lambda: sent.append(send(admin, bundle)))
    sender.start()
    wait_until(sender.is_alive, "the sender asks")
    admin.start()
    sender.join(60)

    assert sent == [bundle.size - PIECE]
    assert fetch(admin, bundle).content == data
