"""Machines that are containers: systemd as their first process, cloud-init of the distribution, a network of their own.

They are not `--privileged` but have every capability that this machine has itself: some machines have not all to give.
"""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import tarfile
import threading
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import docker
from docker.errors import ImageNotFound
from docker.models.containers import Container
from docker.types import IPAMConfig, IPAMPool

from clipper_nomad.images.contexts import packed
from tests.cluster.parts import BASE, BUILD_NETWORK
from tests.cluster.processes import binary
from tests.waiting import wait_until

IMAGE = "clipper-nomad-test-machine:1"
PACKAGES = (
    "ca-certificates cloud-init curl dbus docker.io iproute2 iptables kmod netbase procps systemd systemd-resolved"
    " systemd-sysv unzip"
)
RECIPE = f"""\
ARG BASE
FROM ${{BASE}}
RUN apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends {PACKAGES} \\
    && apt-get clean && rm -rf /var/lib/apt/lists/* /etc/machine-id /usr/sbin/policy-rc.d \\
    && systemctl mask getty.target systemd-firstboot.service systemd-udevd.service systemd-networkd-wait-online.service
RUN printf 'datasource_list: [NoCloud]\\nnetwork: {{config: disabled}}\\nlocale: false\\n' \\
        >/etc/cloud/cloud.cfg.d/99-test.cfg
COPY machine.sh /machine.sh
STOPSIGNAL SIGRTMIN+3
CMD ["sh", "/machine.sh"]
"""
# By bit, as in capabilities(7), up to the last that Docker 20.10 knows.
CAPABILITIES = """
CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST
NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE
SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM
BLOCK_SUSPEND AUDIT_READ
"""
STOPS_WITHIN_S = 60


@dataclass(frozen=True, slots=True)
class Machine:
    """One machine, which runs."""

    name: str
    address: str
    container: Container

    def does(self, command: str, *, stdin: str | None = None) -> tuple[int, str]:
        """Run a shell's command as root; return its exit code and all that it said."""
        words = [binary("docker"), "exec", "-i", self.container.id or "", "sh", "-c", command]
        done = subprocess.run(
            words, input=stdin or "", capture_output=True, text=True, check=False, timeout=120, errors="replace"
        )
        return done.returncode, done.stdout + done.stderr

    def says(self, command: str, *, stdin: str | None = None) -> str:
        """What a command says, which must end well."""
        exit_code, said = self.does(command, stdin=stdin)
        assert exit_code == 0, f"{self.name}: {command!r} ended with {exit_code}: {said}\n{self.journal()}"
        return said.strip()

    def holds(self, command: str) -> bool:
        return self.does(command)[0] == 0

    def journal(self, unit: str = "clipper-setup", lines: int = 40) -> str:
        return self.does(f"journalctl --no-pager -o cat -n {lines} -u {unit}")[1]

    def awaits(self, command: str, what: str, *, within_s: float) -> None:
        """Return when a command ends well; fail with the end of the journal."""
        try:
            wait_until(lambda: self.holds(command), f"{self.name}: {what}", within_s=within_s)
        except AssertionError as exc:
            raise AssertionError(f"{exc}\n{self.does(command)[1]}\n{self.does('journalctl --no-pager -n 120')[1]}") from exc

    def reboot(self) -> None:
        self.container.restart(timeout=STOPS_WITHIN_S)


def machine_image(client: docker.DockerClient) -> str:
    """Return the image that machines start from; made once, and kept by Docker for the next run."""
    try:
        client.images.get(IMAGE)
    except ImageNotFound:
        start = Path(__file__).with_name("machine.sh").read_bytes()
        context = io.BytesIO(packed({"Dockerfile": RECIPE.encode(), "machine.sh": start}))
        client.images.build(
            fileobj=context,
            custom_context=True,
            tag=IMAGE,
            buildargs={"BASE": BASE},
            network_mode=BUILD_NETWORK,
            rm=True,
        )
    return IMAGE


def own_capabilities() -> list[str]:
    """Those that this process has to give."""
    (line,) = (line for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines() if "CapBnd" in line)
    bits = int(line.split()[1], 16)
    return [name for place, name in enumerate(CAPABILITIES.split()) if bits >> place & 1]


@contextmanager
def network(client: docker.DockerClient, *, name: str) -> Iterator[str]:
    """A network of Docker's for machines; yields its first three numbers. Its gateway, this machine, is .1 in it."""
    taken = " ".join(
        str(pool.get("Subnet")) for each in client.networks.list() for pool in each.attrs["IPAM"]["Config"] or []
    )
    subnet = next(f"10.{200 + place}.61" for place in range(50) if f"10.{200 + place}." not in taken)
    pool = IPAMPool(subnet=f"{subnet}.0/24", gateway=f"{subnet}.1")
    made = client.networks.create(name, driver="bridge", ipam=IPAMConfig(pool_configs=[pool]))
    try:
        yield subnet
    finally:
        made.remove()


@contextmanager
def machine(
    client: docker.DockerClient, name: str, *, network_name: str, address: str, user_data: str, disk: bool = False
) -> Iterator[Machine]:
    """A machine that starts with this user data. `disk`: for a Docker of its own."""
    endpoint = client.api.create_endpoint_config(ipv4_address=address)
    host = client.api.create_host_config(
        cap_add=own_capabilities(),
        security_opt=["seccomp=unconfined", "apparmor=unconfined"],
        device_cgroup_rules=["a *:* rwm"],
        cgroupns="private",
        tmpfs={"/run": "exec", "/run/lock": ""},
        network_mode=network_name,
    )
    made = client.api.create_container(
        machine_image(client),
        name=f"{network_name}-{name}",
        hostname=name,
        volumes=["/var/lib/docker"] if disk else [],
        host_config=host | {"MaskedPaths": [], "ReadonlyPaths": []},  # of /proc and /sys: systemd writes there
        networking_config={"EndpointsConfig": {network_name: endpoint}},
    )
    container = client.containers.get(made["Id"])
    try:
        seed = {"user-data": user_data, "meta-data": f"instance-id: {name}\nlocal-hostname: {name}\n"}
        container.put_archive("/", tar_of({f"var/lib/cloud/seed/nocloud/{each}": text for each, text in seed.items()}))
        container.start()
        yield Machine(name, address, container)
    finally:
        container.remove(force=True, v=True)


def tar_of(files: Mapping[str, str]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            content = text.encode()
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def releases(folder: Path, versions: Mapping[str, str], binaries: Mapping[str, str]) -> dict[str, Any]:  # Any: JSON
    """Lay releases out as a mirror has them, from the binaries that are here; return the module's variable of that name."""
    found = {}
    for name, version in versions.items():
        if name == "fabio":
            file = folder / f"fabio/v{version}/fabio-{version}-linux_amd64"
        else:
            file = folder / f"{name}/{version}/{name}_{version}_linux_amd64.zip"
        file.parent.mkdir(parents=True)
        if name == "fabio":
            file.write_bytes(Path(binaries[name]).read_bytes())
        else:
            with zipfile.ZipFile(file, "w") as archive:
                archive.write(binaries[name], name)
        with file.open("rb") as content:
            digest = sha256()
            for piece in iter(partial(content.read, 1 << 20), b""):
                digest.update(piece)
        found[name] = {"version": version, "sha256": {"amd64": digest.hexdigest()}}
    return found


@contextmanager
def serving(folder: Path, address: str) -> Iterator[str]:
    """A file server at an address of this machine; yields its URL."""
    server = ThreadingHTTPServer((address, 0), partial(QuietHandler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://{address}:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def forwarded(address: str, port: int) -> Iterator[None]:
    """What listens on this port of loopback is reached at another address of this machine too."""
    listener = socket.create_server((address, port))
    threading.Thread(target=accept, args=(listener, port), daemon=True).start()
    try:
        yield
    finally:
        listener.close()


def accept(listener: socket.socket, port: int) -> None:
    while True:
        try:
            caller, _ = listener.accept()
        except OSError:  # closed
            return
        called = socket.create_connection(("127.0.0.1", port))
        for one, other in ((caller, called), (called, caller)):
            threading.Thread(target=pass_on, args=(one, other), daemon=True).start()


def pass_on(one: socket.socket, other: socket.socket) -> None:
    with suppress(OSError):
        while piece := one.recv(1 << 16):
            other.sendall(piece)
        other.shutdown(socket.SHUT_WR)


class QuietHandler(SimpleHTTPRequestHandler):
    """Serves files, and says nothing of it."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # as the base class has it
        pass


def rendered(folder: Path, module: Path, variables: Mapping[str, Any]) -> dict[str, Any]:  # Any: JSON
    """What the outputs of a Terraform module are with these variables."""
    main = {"module": {"it": {"source": str(module), **variables}}, "output": {"it": {"value": "${module.it}"}}}
    folder.mkdir()
    (folder / "main.tf.json").write_text(json.dumps(main), encoding="utf-8")
    said = ""
    for words in (("init",), ("apply", "-auto-approve"), ("output", "-json", "it")):
        done = subprocess.run(
            [binary("terraform"), *words], cwd=folder, capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        said = done.stdout
    outputs: dict[str, Any] = json.loads(said)
    return outputs


def is_root() -> bool:
    return os.geteuid() == 0
