"""Programs of the tests' own on loopback: free ports, processes that end with their block, and waiting for their answers."""

from __future__ import annotations

import os
import random
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import requests

from tests.waiting import wait_until

READY_WITHIN_S = 60.0
STOP_WITHIN_S = 15.0
# Nomad refuses to start with the first; the others would steer the agents' own clients or send loopback to a proxy.
UNWANTED = (
    "AWS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    *("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"),
)
OF_CLUSTERS = ("NOMAD_", "CONSUL_", "CLIPPER_")


def names_a_cluster(variable: str) -> bool:
    """Whether a variable of the environment says something of a cluster, which is not the tests'."""
    return variable.startswith(OF_CLUSTERS) and not variable.startswith("CLIPPER_TEST_")


def shell_environment() -> dict[str, str]:
    """The environment, with nothing in it that names a cluster."""
    return {name: value for name, value in os.environ.items() if not names_a_cluster(name)}


def binary(name: str) -> str:
    """Where `name` is on PATH; that it is there was seen before the rig was started."""
    found = shutil.which(name)
    assert found is not None, f"{name} is not on PATH"
    return found


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, of TCP and UDP, below those that outgoing connections take."""
    found: list[int] = []
    while len(found) < count:
        port = random.randrange(10_000, 19_900)
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            try:
                tcp.bind(("127.0.0.1", port))
                udp.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in found:
            found.append(port)
    return found


@contextmanager
def process(name: str, *args: str, folder: Path, log: str = "") -> Iterator[Path]:
    """One program with its log, which is given, in `folder`; ended by its id, and what it leaves behind as well."""
    path = folder / f"{log or name}.log"
    environment = {variable: value for variable, value in shell_environment().items() if variable not in UNWANTED}
    with path.open("wb") as out:
        child = subprocess.Popen(
            [binary(name), *args], stdout=out, stderr=out, stdin=subprocess.DEVNULL, env=environment, cwd=folder
        )
    try:
        yield path
    finally:
        below = psutil.Process(child.pid).children(recursive=True) if child.poll() is None else []
        child.terminate()
        try:
            child.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait(STOP_WITHIN_S)
        for left in below:
            if left.is_running():
                left.kill()


def answers(session: requests.Session, url: str, holds: Callable[[requests.Response], object], what: str, log: Path) -> None:
    """Wait until an address gives an answer that `holds`; fail with the end of its log."""

    def asked() -> object:
        try:
            answer = session.get(url, timeout=2)
        except requests.RequestException:
            return False
        return holds(answer)

    try:
        wait_until(asked, what, within_s=READY_WITHIN_S)
    except AssertionError as exc:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise AssertionError(f"{exc}; {log.name} ends:\n{tail}") from exc


def unmount_below(folder: Path) -> None:
    """Undo the mounts of task directories: the agent leaves them for its next start, and the folder could not be removed."""
    umount = shutil.which("umount")
    if umount is None:
        return
    mounted = [line.split()[1] for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines()]
    for place in sorted(
        filter(Path.is_mount, (Path(each) for each in mounted if each.startswith(f"{folder}/"))), reverse=True
    ):
        subprocess.run([umount, str(place)], check=False, timeout=STOP_WITHIN_S)
