"""The replicas of a model version as containers. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from clipper_nomad.cluster.jobs.options import JobOptions
from clipper_nomad.container_manager import CLIPPER_INTERNAL_METRIC_PORT
from clipper_nomad.docker_host.containers import SECRETS, ContainerSpec
from clipper_nomad.docker_host.limits import limits_of, volumes_of
from clipper_nomad.docker_host.names import DockerNames, numbered, version_label
from clipper_nomad.docker_host.parts import CHANNEL_PORT
from clipper_nomad.images.recipes import READY_FILE

DRAIN_S = 30
_CURVE_FILE = f"{SECRETS}/curve-secret"

# Each replica's own: an `env` of the user's that names one of them is refused.
REPLICA_ENV = frozenset(
    {
        "CLIPPER_MODEL_NAME", "CLIPPER_MODEL_VERSION", "CLIPPER_MODEL_UID", "CLIPPER_INPUT_TYPE", "CLIPPER_IP",
        "CLIPPER_PORT", "CLIPPER_RPC_ADDRESSES", "CLIPPER_RPC_ADDRESSES_FILE", "CLIPPER_RPC_VERSION", "CLIPPER_REPLICA_ID",
        "CLIPPER_METRICS_ADDRESS", "CLIPPER_READY_FILE", "CLIPPER_DRAIN_S", "CLIPPER_CURVE_SECRET_FILE",
        "CLIPPER_CURVE_SERVER_KEY", "CLIPPER_MODEL_PATH",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A model version that was deployed: all that another replica of it is made from. `curve_secret`: "" without one."""

    name: str
    version: str
    uid: str
    input_type: str
    image: str
    options: JobOptions = field(default_factory=JobOptions)
    curve_secret: str = field(default="", repr=False)

    def replica(self, number: int, *, names: DockerNames, server_key: str) -> ContainerSpec:
        """Return one replica. It dials whatever frontend the network leads it to, and learns of the others there."""
        name = numbered(version_label(self.name, self.version), number)
        env = {
            "CLIPPER_MODEL_NAME": self.name,
            "CLIPPER_MODEL_VERSION": self.version,
            "CLIPPER_MODEL_UID": self.uid,
            "CLIPPER_INPUT_TYPE": self.input_type,
            "CLIPPER_IP": names.frontends,
            "CLIPPER_PORT": str(CHANNEL_PORT),
            "CLIPPER_REPLICA_ID": name,
            "CLIPPER_METRICS_ADDRESS": f"0.0.0.0:{CLIPPER_INTERNAL_METRIC_PORT}",
            "CLIPPER_DRAIN_S": str(DRAIN_S),
        }
        files = {}
        if self.curve_secret:
            files[_CURVE_FILE] = self.curve_secret
            env |= {"CLIPPER_CURVE_SECRET_FILE": _CURVE_FILE, "CLIPPER_CURVE_SERVER_KEY": server_key}
        return ContainerSpec(
            name=name,
            image=self.image,
            labels=names.model_labels(self.name, self.version),
            env=env | dict(self.options.env),
            files=files,
            volumes=volumes_of(self.options),
            limits=limits_of(self.options),
            health=("test", "-f", READY_FILE),
        )
