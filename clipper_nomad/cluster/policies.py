"""The least-privilege ACL policies for Nomad and Consul, as files: terraform/modules/cluster-config/policies.

The same files are what the Terraform modules apply. `${cluster}` and `${namespace}` are all that is filled in.
"""

from __future__ import annotations

from string import Template

from clipper_nomad.cluster.jobs.requirements import Placement
from clipper_nomad.cluster.names import ClusterNames
from clipper_nomad.cluster.ownership import DEFAULT_NAMESPACE
from clipper_nomad.errors import InvalidSetting
from clipper_nomad.resources import terraform_folder

FOLDER = "modules/cluster-config/policies"  # below the Terraform modules
NOMAD_TOOLKIT, CONSUL_TOOLKIT = "nomad-toolkit", "consul-toolkit"
CONSUL_ANONYMOUS, CONSUL_FABIO = "consul-anonymous", "consul-fabio"
POLICIES = {
    NOMAD_TOOLKIT: "who runs a cluster with clipper-nomad",
    CONSUL_TOOLKIT: "who runs a cluster with clipper-nomad",
    CONSUL_ANONYMOUS: "who has no token: Nomad's templates, Consul's DNS",
    CONSUL_FABIO: "Fabio",
    "consul-nomad-server": "Nomad's servers",
    "consul-nomad-client": "Nomad's clients",
    "consul-agent": "Consul's own agents",
}


def policy(name: str, *, cluster: str = "default-cluster", namespace: str | None = None) -> str:
    """Return a policy's rules (HCL) for a cluster in a namespace of Nomad's ("default" without one).
    Raises: InvalidSetting, InvalidName, InvalidSpec: nothing can be called so."""
    if name not in POLICIES:
        raise InvalidSetting(f"There is no policy {name!r}.", hint=f"There are: {', '.join(POLICIES)}.")
    place = Placement(namespace=namespace or DEFAULT_NAMESPACE)
    rules = (terraform_folder() / FOLDER / f"{name}.hcl").read_text(encoding="utf-8")
    return Template(rules).substitute(cluster=ClusterNames(cluster).cluster, namespace=place.namespace)
