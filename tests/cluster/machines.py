"""Machines that are containers: systemd as their first process, cloud-init of the distribution, a network of their own.

They are not `--privileged` but have every capability that this machine has itself: some machines have not all to give.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import docker
from docker.errors import ImageNotFound
from docker.models.containers import Container
from docker.types import IPAMConfig, IPAMPool

from clipper_nomad.images.contexts import packed
from clipper_nomad.resources import terraform_folder
from tests.cluster.parts import BASE, BUILD_NETWORK
from tests.cluster.processes import binary, shell_environment
from tests.waiting import wait_until

IMAGE = "clipper-nomad-test-machine"
BARE = "cloud-init dbus iproute2 iptables kmod netbase procps systemd systemd-sysv"
WHOLE = f"{BARE} ca-certificates curl docker.io systemd-resolved unzip"  # so that the network is not needed
RECIPE = """\
ARG BASE
FROM ${BASE}
ARG PACKAGES
RUN apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $PACKAGES \\
    && apt-get clean && rm -rf /var/lib/apt/lists/* /etc/machine-id /usr/sbin/policy-rc.d \\
    && systemctl mask getty.target systemd-firstboot.service systemd-udevd.service systemd-networkd-wait-online.service
RUN printf 'datasource_list: [NoCloud]\\nnetwork: {config: disabled}\\nlocale: false\\n' \\
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
IS_SET_UP = "journalctl -u clipper-setup -o cat | grep -q 'is set up as'"
MODULE = terraform_folder() / "modules/cluster-config"


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


def machine_image(client: docker.DockerClient, *, packages: str = WHOLE) -> str:
    """Return the image that machines start from; made once, and kept by Docker for the next run."""
    start = Path(__file__).with_name("machine.sh").read_bytes()
    made_of = f"{RECIPE}\n{BASE}\n{packages}\n".encode() + start
    name = f"{IMAGE}:{sha256(made_of).hexdigest()[:12]}"
    try:
        client.images.get(name)
    except ImageNotFound:
        client.images.build(
            fileobj=io.BytesIO(packed({"Dockerfile": RECIPE.encode(), "machine.sh": start})),
            custom_context=True,
            tag=name,
            buildargs={"BASE": BASE, "PACKAGES": packages},
            network_mode=BUILD_NETWORK,
            rm=True,
        )
    return name


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
    client: docker.DockerClient,
    name: str,
    *,
    network_name: str,
    address: str,
    user_data: str,
    packages: str = WHOLE,
    disk: bool = False,
) -> Iterator[Machine]:
    """A machine that starts with this user data. `packages`: of the distribution. `disk`: for a Docker of its own."""
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
        machine_image(client, packages=packages),
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


@contextmanager
def bare_machine(client: docker.DockerClient, name: str, *, files: Mapping[str, str], store: Path) -> Iterator[Machine]:
    """A machine on which nothing runs, with these files, its users, Nomad, and a folder `store` that others have too."""
    container = client.containers.create(
        machine_image(client),
        ["sleep", "infinity"],
        network_mode="none",
        volumes={str(store): {"bind": "/store"}, binary("nomad"): {"bind": "/usr/local/bin/nomad", "mode": "ro"}},
    )
    try:
        container.put_archive("/", tar_of(files))
        container.start()
        made = Machine(name, "", container)
        made.says(
            "chmod 0755 /usr/local/sbin/*; groupadd clipper; for each in consul nomad fabio; do useradd -r $each; done"
        )
        yield made
    finally:
        container.remove(force=True)


def tar_of(files: Mapping[str, str]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            content = text.encode()
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return out.getvalue()


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


def distribute(first: Machine, others: Sequence[tuple[str, Machine]], folder: Path, *more: str) -> None:
    """Hand the first server's secrets on with scripts/distribute, through `docker exec` in place of ssh.

    `others`: role and machine. `more`: of its arguments."""
    ssh = folder / "ssh"
    ssh.write_text('#!/bin/sh\nhost=$1\nshift\nexec docker exec -i "$host" sh -c "$*"\n')
    ssh.chmod(0o755)
    words = [str(first.container.name), *(f"{role}={each.container.name}" for role, each in others), *more]
    environ = shell_environment() | {"CLIPPER_SSH": str(ssh), "CLIPPER_WAIT_S": "300"}
    done = subprocess.run(
        [str(MODULE / "scripts/distribute"), *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
        env=environ,
    )
    assert done.returncode == 0, f"{done.stdout}{done.stderr}\n{first.journal()}"


def is_root() -> bool:
    return os.geteuid() == 0
