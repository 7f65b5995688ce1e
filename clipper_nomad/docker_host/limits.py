"""What the options of a model version are on one Docker host: arguments of the Docker library. Pure.

CPU and memory are what Nomad's own docker driver makes of them, so that a version gets the same in both places.
"""

from __future__ import annotations

from typing import Any

from docker.types import DeviceRequest

from clipper_nomad.cluster.jobs.options import JobOptions
from clipper_nomad.docker_host.containers import DataVolume
from clipper_nomad.errors import InvalidSpec

MIB = 1024 * 1024
PLACING = ("datacenters", "node_pool", "constraints")  # where on a Nomad: here is one host
_GPUS = ("gpu", "nvidia/gpu")
_SAME_IN_THE_LIBRARY = frozenset(  # options of Nomad's driver that the library calls so too
    {
        "shm_size",
        "privileged",
        "cap_add",
        "cap_drop",
        "ipc_mode",
        "pid_mode",
        "pids_limit",
        "runtime",
        "init",
        "security_opt",
    }
    | {"group_add", "extra_hosts"}
)


def problems_of(options: JobOptions, *, ours: frozenset[str]) -> list[str]:
    """Return what a replica cannot be given here, a line each. `ours`: variables that each replica has of its own."""
    found = [f"env: {name} is set by the cluster itself; leave it out" for name in sorted(ours.intersection(options.env))]
    if options.network_mode is not None and str(options.network_mode) != "docker":
        found.append(
            f"network_mode: {str(options.network_mode)!r}; expected none: replicas are on the cluster's own network"
        )
    found += [
        f"gpus: {gpus.device!r} of a certain model or with constraints; expected nvidia/gpu: Docker chooses which"
        for gpus in options.gpus
        if gpus.device not in _GPUS or gpus.constraints
    ]
    unknown = sorted(set(options.driver_options) - _SAME_IN_THE_LIBRARY)
    if unknown:
        found.append(
            f"driver_options: {', '.join(unknown)}; expected some of {', '.join(sorted(_SAME_IN_THE_LIBRARY))}; "
            "for all containers extra_container_kwargs takes what the Docker library takes"
        )
    return found


def check(name: str, version: str, options: JobOptions, *, ours: frozenset[str]) -> None:
    """Raises: InvalidSpec: with all that a replica cannot be given here."""
    problems = problems_of(options, ours=ours)
    if problems:
        raise InvalidSpec(f"Containers of model {name}:{version}", tuple(problems))


def limits_of(options: JobOptions) -> dict[str, Any]:  # Any: the library's own types
    """Return the arguments for one container. What was left out is not limited."""
    found: dict[str, Any] = dict(options.driver_options)
    if options.cores is not None:
        found["nano_cpus"] = options.cores * 1_000_000_000
    elif options.cpu_mhz is not None:
        found["cpu_shares"] = options.cpu_mhz  # as Nomad's driver: a share when others want the processor too, not a limit
    most = options.memory_max_mb or options.memory_mb
    if most is not None:
        found["mem_limit"] = most * MIB
    if options.memory_mb is not None and options.memory_max_mb is not None:
        found["mem_reservation"] = options.memory_mb * MIB
    if options.gpus:
        count = sum(gpus.count for gpus in options.gpus)
        found["device_requests"] = [DeviceRequest(driver="nvidia", count=count, capabilities=[["gpu"]])]
    return found


def volumes_of(options: JobOptions) -> tuple[DataVolume, ...]:
    """Return the named volumes of the host that a replica gets."""
    return tuple(DataVolume(path=each.path, source=each.source, read_only=each.read_only) for each in options.volumes)
