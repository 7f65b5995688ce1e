"""What a rig is to run: a catalog, the functions behind its versions, and how they are wired. Values; rig.py runs it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from clipper_nomad.state.records import App, Model, ModelVersion, Snapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A model version and the function that is its model. `record.replicas` are started; `settings`: CLIPPER_… of each."""

    record: ModelVersion
    function: Callable[..., object]
    settings: Mapping[str, str] = field(default_factory=dict)

    def replica_names(self) -> list[str]:
        """Return the name of each replica."""
        return [f"{self.record.name}-{self.record.version}-{number}" for number in range(self.record.replicas)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is served, by how many frontends. Several know each other."""

    apps: Sequence[App]
    served: Sequence[Served]
    current: Mapping[str, str]  # model → version
    frontends: int = 1
    proxy: str | None = "tcp_proxy"  # what stands before the model channels: the module of benchmarks/, or nothing
    inherited: bool = False  # frontends get their listening socket from the rig, which holds it while there is none
    forked: bool = False  # frontends start in milliseconds, by zygote.py, and without a pause
    seed: int = 0
    frontend_settings: Mapping[str, str] = field(default_factory=dict)  # CLIPPER_… of each frontend

    def snapshot(self) -> Snapshot:
        """Return the catalog."""
        records = [served.record for served in self.served]
        return Snapshot(
            store_id="rig",
            revision=1,
            apps=MappingProxyType({app.name: app for app in self.apps}),
            models=MappingProxyType(
                {name: Model(name=name, current_version=version) for name, version in self.current.items()}
            ),
            versions=MappingProxyType({record.key: record for record in records}),
        )


def link_name(dials: str, frontend: str) -> str:
    """Return the name of the link from a replica, or another frontend, to a frontend."""
    return f"{dials}>{frontend}"
