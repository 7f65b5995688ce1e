"""What a machine installs by itself, from user data that cloud-init runs: releases with their SHA-256, packages.

No cluster comes of it: the machines wait for secrets that nobody gives.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from typing import ClassVar

import docker
import pytest

from tests.cluster.machines import BARE
from tests.cluster.parts import BASE
from tests.cluster.processes import binary
from tests.cluster.release_mirror import serving
from tests.cluster.sites import Site, missing_for_machines, running_site

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(bool(missing_for_machines()), reason=missing_for_machines()),
]

WITHIN_S = 300.0
CUT_AFTER_BYTES = 5_000_000


class CuttingHandler(SimpleHTTPRequestHandler):
    """Serves Fabio in two parts: the first request is cut off, a later one may go on from the middle."""

    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        if "fabio" not in self.path:
            super().do_GET()
            return
        content = Path(self.translate_path(self.path)).read_bytes()
        wanted = self.headers.get("Range", "")
        self.asked.append(wanted)
        start = int(found[1]) if (found := re.fullmatch(r"bytes=(\d+)-", wanted)) else 0
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start : CUT_AFTER_BYTES if len(self.asked) == 1 else None])
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # as the base class has it
        pass


@pytest.fixture(scope="module")
def site(docker_host: docker.DockerClient) -> Iterator[Site]:
    with running_site(docker_host) as running:
        yield running


def test_a_release_with_another_checksum_is_refused(site: Site) -> None:
    """Nothing of it is installed, nothing starts, and the journal says what to do."""
    known = site.variables["releases"]
    digest, wrong = known["fabio"]["sha256"]["amd64"], "0" * 64

    refusing = site.starts(
        "ml-lb-0",
        place=20,
        releases=known | {"fabio": known["fabio"] | {"sha256": {"amd64": wrong}}},
    )

    refusing.awaits("journalctl -u clipper-setup -o cat | grep -q SHA-256", "to refuse", within_s=WITHIN_S)
    journal = refusing.journal()
    assert f"has the SHA-256 {digest}; expected {wrong} (releases.fabio.sha256.amd64)" in journal
    assert "Nothing of it was installed." in journal
    assert not refusing.holds("ls /usr/local/bin/fabio")
    assert not refusing.holds("ls -d /opt/clipper/fabio*")
    assert refusing.says("ls /var/cache/clipper") == ""
    assert not refusing.holds("systemctl is-active fabio consul")
    assert not refusing.holds("ls /etc/clipper/secrets")


def test_a_download_that_was_cut_off_goes_on_where_it_ended(site: Site) -> None:
    mirror = site.stack.enter_context(serving(site.mirror, f"{site.subnet}.1", handler=CuttingHandler))

    waiting = site.starts("ml-lb-0", place=21, release_mirror=mirror)

    waiting.awaits("journalctl -u clipper-setup -o cat | grep -q 'waiting for the secrets'", "to wait", within_s=WITHIN_S)
    assert (
        waiting.says("sha256sum < /usr/local/bin/fabio").split()[0] == site.variables["releases"]["fabio"]["sha256"]["amd64"]
    )
    assert CuttingHandler.asked == ["", f"bytes={CUT_AFTER_BYTES}-"]


def test_packages_that_a_client_lacks_come_from_its_distribution(site: Site) -> None:
    """Docker above all, which starts with the settings of the module."""
    if not archive_is_reached():
        pytest.skip("containers here do not reach the distribution's packages")

    bare = site.starts("ml-client-0", packages=BARE, place=22, docker_bridge="172.29.3.1/24")

    assert not bare.holds("command -v docker || command -v unzip || command -v curl")
    bare.awaits("journalctl -u clipper-setup -o cat | grep -q 'waiting for the secrets'", "to wait", within_s=WITHIN_S)
    assert "installing the packages curl ca-certificates unzip docker.io" in bare.journal(lines=400)
    assert bare.says("docker network inspect bridge --format '{{(index .IPAM.Config 0).Gateway}}'") == "172.29.3.1"


def archive_is_reached() -> bool:
    words = [binary("docker"), "run", "--rm", BASE, "apt-get", "-qq", "-o", "Acquire::Retries=0", "update"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
    return done.returncode == 0 and "Failed to fetch" not in done.stderr


def test_a_server_that_lacks_systemd_resolved_gets_it_and_still_knows_other_names(
    site: Site,
) -> None:
    """Debian has it in a package of its own. The name servers of the file that it replaces are asked by Consul."""
    if not archive_is_reached():
        pytest.skip("containers here do not reach the distribution's packages")

    bare = site.starts("ml-server-0", packages=BARE, place=10)  # where Consul is looked for

    assert not bare.holds("ls /lib/systemd/systemd-resolved")
    bare.awaits("journalctl -u clipper-setup -o cat | grep -q 'is set up as server'", "to be set up", within_s=WITHIN_S)
    assert bare.says("readlink /etc/resolv.conf").endswith("run/systemd/resolve/stub-resolv.conf")
    assert "recursors = [" in bare.says("cat /etc/consul.d/recursors.hcl")
    bare.says("apt-get -qq -o Acquire::Retries=0 --error-on=any update")
    bare.awaits("getent hosts ml-server-0.node.consul", "to know names of Consul", within_s=60)
    bare.awaits("systemctl is-system-running", "to run", within_s=60)
