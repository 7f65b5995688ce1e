"""A replica whose bundle is not here: it fetches it from a real admin service, installs its packages, and serves."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from clipper_nomad.admin.bundle_client import BundleClient
from clipper_nomad_runtime.stopping import Exit
from tests.process.admins import TOKEN, AdminServer
from tests.process.archives import Archive, archive, make_wheel
from tests.process.replicas import Bench, Replica, numbers
from tests.process.stores import StoreServer
from tests.waiting import wait_until

pytestmark = pytest.mark.process

PIECE = 1024 * 1024
FACTOR = {"clipper_test_factor": "FACTOR = 3.0\n"}


def tripled(inputs: Any) -> list[float]:  # noqa: ANN401  # an array
    import clipper_test_factor  # type: ignore[import-not-found]  # noqa: PLC0415  # a package that the bundle brings

    return [clipper_test_factor.FACTOR * float(row.sum()) for row in inputs]


@pytest.fixture
def admin(one_store_server: StoreServer, tmp_path: Path) -> Iterator[AdminServer]:
    server = AdminServer(one_store_server, tmp_path, BUNDLES=tmp_path / "bundles")
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture
def bundle(tmp_path: Path) -> Archive:
    return archive(tmp_path, tripled, wheels=FACTOR)


class Node:
    """A place where replicas run, as Nomad would have made it. Each allocation has a folder of its own."""

    def __init__(self, folder: Path, admin: AdminServer, bundle: Archive) -> None:
        self.cache = folder / "cache"
        self.cache.mkdir()
        self.addresses = folder / "bundle-addresses"
        self.addresses.write_text(f"http://{admin.address}")
        self.token = folder / "bundle-token"
        self.token.write_text(bundle.token)
        self.ready = folder / "ready"
        self._folder = folder
        self._digest = bundle.digest

    def allocation(self, name: str = "a") -> Bench:
        folder = self._folder / name
        folder.mkdir(exist_ok=True)
        return Bench(folder)

    def replica(self, bench: Bench, *, cached: bool = False) -> Replica:
        return bench.replica(
            None,
            MODEL_DIGEST=self._digest,
            BUNDLE_ADDRESS_FILE=self.addresses,
            BUNDLE_TOKEN_FILE=self.token,
            BUNDLE_CACHE=self.cache if cached else "",
            READY_FILE=self.ready,
        )


@pytest.fixture
def node(tmp_path: Path, admin: AdminServer, bundle: Archive) -> Node:
    send(admin, bundle)
    return Node(tmp_path, admin, bundle)


def send(admin: AdminServer, bundle: Archive) -> None:
    client = BundleClient(lambda: admin.address, lambda: TOKEN)
    client.send(bundle.digest, bundle.path, piece_bytes=PIECE, said=lambda _: None)


def answer(bench: Bench, replica: Replica) -> list[Any]:
    """What the replica answers to 1 + 2, and the end of its log if it does not."""
    with bench.frontend() as frontend:
        frontend.welcome()
        return numbers(frontend.ask([[1.0, 2.0]]))


def test_a_replica_fetches_its_bundle_installs_its_packages_and_serves(node: Node) -> None:
    bench = node.allocation()

    with node.replica(bench) as replica:
        assert answer(bench, replica) == [9.0]
        assert "bundle fetched" in replica.log
        assert "packages installed" in replica.log
        left = sorted(path.name for path in bench.folder.iterdir() if not path.name.startswith(("replica-", "f0")))
    assert left == ["bundle", "bundle-packages"]
    assert not (bench.bundle / "wheels").exists()


def test_a_restart_asks_nobody(node: Node, admin: AdminServer) -> None:
    bench = node.allocation()
    with node.replica(bench) as replica:
        answer(bench, replica)
    admin.kill()
    node.ready.write_text("of the run before")

    with node.replica(bench) as replica:
        assert answer(bench, replica) == [9.0]
        assert "bundle fetched" not in replica.log
        assert "packages installed" not in replica.log
        assert node.ready.read_text() == "READY"


def test_a_cached_bundle_starts_while_admin_is_away(node: Node, admin: AdminServer) -> None:
    first, second = node.allocation("a"), node.allocation("b")
    with node.replica(first, cached=True) as replica:
        answer(first, replica)
    admin.kill()

    with node.replica(second, cached=True) as replica:
        assert answer(second, replica) == [9.0]
        assert "bundle was in the cache" in replica.log


def test_a_damaged_copy_in_the_cache_is_fetched_anew(node: Node, bundle: Archive) -> None:
    cached = node.cache / f"{bundle.digest}.tar"
    damaged = bytearray(bundle.path.read_bytes())
    damaged[700] ^= 1  # of the manifest
    cached.write_bytes(damaged)
    bench = node.allocation()

    with node.replica(bench, cached=True) as replica:
        assert answer(bench, replica) == [9.0]
        assert "the cached bundle is damaged" in replica.log
    assert cached.read_bytes() == bundle.path.read_bytes()


def test_a_cache_that_cannot_be_written_is_told_and_not_used(node: Node) -> None:
    node.cache.rmdir()  # as for a user who may not write there
    bench = node.allocation()

    with node.replica(bench, cached=True) as replica:
        assert answer(bench, replica) == [9.0]
        assert "the cache of bundles cannot be written and is not used" in replica.log


def test_a_replica_waits_for_admin_and_follows_it_where_it_moves(
    node: Node, admin: AdminServer, one_store_server: StoreServer, tmp_path: Path
) -> None:
    admin.kill()
    bench = node.allocation()
    with node.replica(bench) as replica:
        wait_until(lambda: not bench.bundle.exists() and replica.process.poll() is None, "it waits")
        node.addresses.write_text("")  # Consul knows of nobody
        (tmp_path / "moved").mkdir()
        moved = AdminServer(one_store_server, tmp_path / "moved", BUNDLES=tmp_path / "bundles")
        try:
            moved.start()
            node.addresses.write_text(f"http://{moved.address}")

            assert answer(bench, replica) == [9.0]
        finally:
            moved.close()


def test_a_connection_that_breaks_off_is_gone_on_with(node: Node, admin: AdminServer, tmp_path: Path) -> None:
    (tmp_path / "large").mkdir()
    large = archive(tmp_path / "large", tripled, wheels=FACTOR, weights=bytes(4 * PIECE))
    send(admin, large)
    node = Node(tmp_path / "large", admin, large)
    bench = node.allocation()

    with Cutting(admin.address, after=PIECE) as proxy, node.replica(bench) as replica:
        node.addresses.write_text(f"http://{proxy.address}")

        assert answer(bench, replica) == [9.0]
        assert "mib=4.0" in replica.log
    assert proxy.accepted >= 4  # a mebibyte each


class Cutting:
    """A proxy that cuts each connection after so many bytes of the answer."""

    def __init__(self, upstream: str, *, after: int) -> None:
        host, _, port = upstream.partition(":")
        self._upstream = (host, int(port))
        self._after = after
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.accepted = 0

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            with client, socket.create_connection(self._upstream) as server:
                server.sendall(client.recv(65_536))
                left = self._after
                while left > 0 and (data := server.recv(min(left, 65_536))):
                    client.sendall(data)
                    left -= len(data)

    def __enter__(self) -> Self:
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


def test_a_bundle_that_is_gone_ends_the_replica_with_what_to_do(node: Node, bundle: Archive, tmp_path: Path) -> None:
    (tmp_path / f"bundles/{bundle.digest}.tar").unlink()

    with node.replica(node.allocation()) as replica:
        assert replica.exit_code() == Exit.FETCH
        assert "admin does not have it: its version was removed, or the disk was lost. Deploy the model again" in replica.log


def test_a_token_of_another_bundle_ends_the_replica(node: Node) -> None:
    node.token.write_text("of another")

    with node.replica(node.allocation()) as replica:
        assert replica.exit_code() == Exit.FETCH
        assert "the token does not open it" in replica.log


def test_a_signal_while_it_waits_ends_it_at_once(node: Node, admin: AdminServer) -> None:
    admin.kill()
    node.addresses.write_text("")

    with node.replica(node.allocation()) as replica:
        wait_until(lambda: is_handling_sigterm(replica), "it handles SIGTERM", within_s=20)
        replica.terminate()

        assert replica.exit_code(within_s=5) == 128 + 15


def is_handling_sigterm(replica: Replica) -> bool:
    status = Path(f"/proc/{replica.process.pid}/status").read_text()
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught.split()[1], 16) & 1 << 14)


def test_a_wheel_for_another_machine_is_named_by_pip(admin: AdminServer, tmp_path: Path) -> None:
    (tmp_path / "odd").mkdir()
    make_wheel(tmp_path / "odd/to-send/wheels", "clipper_test_odd", "", tag="cp27-cp27m-win32")
    odd = archive(tmp_path / "odd", tripled)
    send(admin, odd)
    node = Node(tmp_path / "odd", admin, odd)

    with node.replica(node.allocation()) as replica:
        assert replica.exit_code() == Exit.FETCH
        assert "clipper_test_odd-1.0-cp27-cp27m-win32.whl is not a supported wheel on this platform" in replica.log
