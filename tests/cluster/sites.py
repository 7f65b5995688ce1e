"""A place where machines start: a network of their own with a mirror of the releases on PATH, and what Terraform renders."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker

from tests.cluster.machines import MODULE, WHOLE, Machine, machine, network, rendered
from tests.cluster.processes import binary
from tests.cluster.release_mirror import releases, serving, versions_of

TOOLS = ("terraform", "consul", "nomad", "fabio", "docker")


def missing_for_machines() -> str:
    """Why no machine can start here; "" if one can."""
    missing = [each for each in TOOLS if shutil.which(each) is None]
    if missing:
        return f"machines need {', '.join(missing)} on PATH"
    return "" if os.geteuid() == 0 else "machines need root, to give containers what machines may do"


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where machines start: a network with a mirror of the releases, and what the module renders for it."""

    client: docker.DockerClient
    network: str
    subnet: str
    mirror: Path
    variables: dict[str, Any]  # Any: Terraform's
    folder: Path
    stack: ExitStack

    def starts(self, name: str, *, place: int, packages: str = WHOLE, **variables: Any) -> Machine:  # Any: Terraform's
        """A machine of the module's `name`, with other variables."""
        folder = self.folder / f"terraform-{place}"
        user_data = rendered(folder, MODULE, self.variables | variables)["machines"][name]["user_data"]
        address = f"{self.subnet}.{place}"
        made = machine(
            self.client,
            f"{name}-{place}",
            packages=packages,
            network_name=self.network,
            address=address,
            user_data=user_data,
            disk=True,
        )
        return self.stack.enter_context(made)


@contextmanager
def running_site(docker_host: docker.DockerClient, **more: Any) -> Iterator[Site]:  # Any: Terraform's
    """One server and one client are rendered, unless `more` says otherwise. What starts here ends with it."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="clipper-site-")))
        (folder / "mirror").mkdir()
        name = f"clipper-site-{os.getpid()}"
        subnet = stack.enter_context(network(docker_host, name=name))
        binaries = {each: binary(each) for each in ("consul", "nomad", "fabio")}
        variables = {
            "name": "ml",
            "servers": 1,
            "clients": 1,
            "retry_join": [f"{subnet}.10"],
            "allowed_cidrs": [f"{subnet}.1/32"],
            "query_cidrs": [],
            "private_cidr": f"{subnet}.0/24",
            "releases": releases(folder / "mirror", versions_of(binaries), binaries),
            "release_mirror": stack.enter_context(serving(folder / "mirror", f"{subnet}.1")),
        } | more
        yield Site(
            client=docker_host,
            network=name,
            subnet=subnet,
            mirror=folder / "mirror",
            variables=variables,
            folder=folder,
            stack=stack,
        )
