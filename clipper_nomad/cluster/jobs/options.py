"""What users ask for one job, a part's or a model version's: `JobOptions`, laid over what the cluster has for all. Pure.

A part's options stand in its job's meta as well, so that whoever registers the part next knows what was asked for.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from clipper_nomad.cluster.jobs.checks import Checker
from clipper_nomad.cluster.jobs.requirements import (
    Constraint,
    Gpus,
    HostVolume,
    Network,
    NetworkMode,
    Options,
    Placement,
    Resources,
)
from clipper_nomad.errors import InvalidSpec

META_OPTIONS = "clipper_options"  # of a part's job
CLIPPER_RPC_VERSION, OUR_RPC_VERSION = 3, 4


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOptions:
    """What one part or model version gets on Nomad; what is left out is as the cluster has it. All values are checked.

    `cpu_mhz` or `cores` (whole ones, for itself); `memory_mb`, and `memory_max_mb` where Nomad's clients may oversubscribe;
    `gpus`: devices; `datacenters`, `node_pool`: instead of the cluster's; `constraints`: besides the cluster's;
    `network_mode`: host, docker or bridge; `env`: besides what the job sets itself; `volumes`: host volumes of the clients;
    `driver_options`: docker's own, such as {"shm_size": 1073741824}; `rpc_version`: 3 for an image of Clipper's own, whose
    containers speak that version. Raises: InvalidSpec: with all that is wrong.
    """

    cpu_mhz: int | None = None
    cores: int | None = None
    memory_mb: int | None = None
    memory_max_mb: int | None = None
    gpus: tuple[Gpus, ...] = ()
    datacenters: tuple[str, ...] = ()
    node_pool: str | None = None
    constraints: tuple[Constraint, ...] = ()
    network_mode: NetworkMode | str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    volumes: tuple[HostVolume, ...] = ()
    driver_options: Options = field(default_factory=dict)
    rpc_version: int | None = None

    def __post_init__(self) -> None:
        checker = Checker("Job options")
        _take_over(checker, lambda: self.resources(Resources()))
        if checker.instances("constraints", self.constraints, Constraint) and checker.instances(
            "datacenters", self.datacenters, str
        ):
            _take_over(checker, lambda: self.placement(Placement()))
        if self.network_mode not in (None, *NetworkMode):
            checker.refuse("network_mode", f"{self.network_mode!r}; expected one of {', '.join(NetworkMode)}")
        checker.environment("env", self.env, ours=())
        checker.instances("volumes", self.volumes, HostVolume)
        checker.driver_options("driver_options", self.driver_options, ours=())
        if self.rpc_version not in (None, CLIPPER_RPC_VERSION, OUR_RPC_VERSION):
            checker.refuse("rpc_version", f"{self.rpc_version!r}; expected {CLIPPER_RPC_VERSION} or {OUR_RPC_VERSION}")
        checker.check()

    @property
    def is_legacy(self) -> bool:
        """Whether replicas are containers of Clipper's RPC version 3."""
        return self.rpc_version == CLIPPER_RPC_VERSION

    def resources(self, usual: Resources) -> Resources:
        """Return `usual` with what these options say of resources. Raises: InvalidSpec: the two do not fit."""
        asks_for_cpu = self.cpu_mhz is not None or self.cores is not None
        memory_mb = usual.memory_mb if self.memory_mb is None else self.memory_mb
        memory_max_mb = self.memory_max_mb
        if memory_max_mb is None and self.memory_mb is None:
            memory_max_mb = usual.memory_max_mb
        return Resources(
            cpu_mhz=self.cpu_mhz if asks_for_cpu else usual.cpu_mhz,
            cores=self.cores if asks_for_cpu else usual.cores,
            memory_mb=memory_mb,
            memory_max_mb=memory_max_mb,
            gpus=self.gpus or usual.gpus,
        )

    def placement(self, usual: Placement) -> Placement:
        """Return `usual` with what these options say of where it runs."""
        return replace(
            usual,
            datacenters=self.datacenters or usual.datacenters,
            node_pool=usual.node_pool if self.node_pool is None else self.node_pool,
            constraints=(*usual.constraints, *self.constraints),
        )

    def network(self, usual: Network) -> Network:
        """Return `usual` with what these options say of the network."""
        return usual if self.network_mode is None else replace(usual, mode=NetworkMode(self.network_mode))

    @property
    def given(self) -> dict[str, Any]:  # Any: the fields' own types
        """The fields that say something."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: value for name, value in values.items() if value not in (None, (), {})}

    def to_json(self) -> str:
        """Return what `from_json` reads, always the same text for the same options; "" for none."""
        given = {name: value for name, value in asdict(self).items() if name in self.given}
        return json.dumps(given, sort_keys=True, ensure_ascii=False) if given else ""

    @classmethod
    def from_json(cls, text: str) -> JobOptions:
        """Return the options of a text by `to_json`. Raises: InvalidSpec: it is none, or of values that cannot be."""
        try:
            said: dict[str, Any] = json.loads(text or "{}")
            lists: dict[str, Callable[[Any], Any]] = {
                "gpus": _gpus,
                "constraints": _constraint,
                "volumes": _volume,
                "datacenters": str,
            }
            return cls(**said | {name: tuple(map(make, said[name])) for name, make in lists.items() if name in said})
        except InvalidSpec:
            raise
        except (ValueError, TypeError, AttributeError, KeyError) as exc:
            raise InvalidSpec("Job options", (f"{text[:200]!r}; expected what clipper-nomad wrote: {exc}",)) from exc


def _gpus(said: dict[str, Any]) -> Gpus:
    return Gpus(**said | {"constraints": tuple(map(_constraint, said["constraints"]))})


def _constraint(said: dict[str, Any]) -> Constraint:
    return Constraint(**said)


def _volume(said: dict[str, Any]) -> HostVolume:
    return HostVolume(**said)


def _take_over(checker: Checker, make: Callable[[], object]) -> None:
    """Add what is wrong with a value that these options become part of."""
    try:
        make()
    except InvalidSpec as exc:
        for problem in exc.problems:
            where, _, what = problem.partition(": ")
            checker.refuse(where, what)


def problems_of(options: Mapping[str, object], known: tuple[str, ...]) -> Iterator[str]:
    """Yield what is wrong with options by part."""
    for part, value in options.items():
        if part not in known:
            yield f"{part!r} is no part; expected one of {', '.join(known)}"
        elif not isinstance(value, JobOptions):
            yield f"{part}: {value!r}; expected JobOptions(…)"
        elif value.rpc_version is not None:
            yield f"{part}: rpc_version is of models"
