"""What a running cluster was brought up with, as its jobs say it. Pure.

So that a later verb, `up` itself too, needs no option that `up` was given. What no job has (Fabio's host and HTTP port) is
not here; what single parts got of Nomad is in their meta (cluster/jobs/options.py).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from clipper_nomad.cluster.jobs.options import META_OPTIONS, JobOptions
from clipper_nomad.cluster.legacy_rpc import LegacyRpc, legacy_rpc_of
from clipper_nomad.cluster.names import ClusterNames, tcp_port_of
from clipper_nomad.cluster.part_options import cache_of
from clipper_nomad.cluster.rollout.parsed_job import Json

ENCRYPTED = "CLIPPER_CURVE_SECRET_FILE"
BUNDLES_FOLDER = "/bundles"
BUNDLE_CACHE = "CLIPPER_BUNDLE_CACHE_VOLUME"
BUNDLE_LIMIT = "CLIPPER_BUNDLE_MAX_BYTES"
_STORE = re.compile(r"redis://(?P<login>:[^@]*@)?(?P<host>[A-Za-z0-9._-]+):(?P<port>\d+)/")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreElsewhere:
    """A Redis that somebody else runs."""

    host: str
    port: int
    has_password: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class FabioOfCluster:
    """A Fabio of the cluster's own. `consul`: the address of each client's agent."""

    image: str
    http_port: int
    admin_port: int
    consul: str
    open_files: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """`tcp_port` None: no Fabio. `registry`: of the parts; "" where images are the Docker host's own. `redis_*` None: no job
    of Redis. `bundle_*` None: no volume.
    """

    tcp_port: int | None
    registry: str
    datacenters: tuple[str, ...]
    node_pool: str | None
    encrypted: bool
    legacy_rpc: LegacyRpc | None = None
    store: StoreElsewhere | None = None
    redis_image: str | None = None
    redis_volume: str | None = None
    bundle_volume: str | None = None
    bundle_cache: str | None = None
    bundle_limit_mb: int | None = None
    cache_bytes: int = 0
    fabio: FabioOfCluster | None = None


def read_settings(
    job: Json, names: ClusterNames, *, redis: Json | None = None, admin: Json | None = None, fabio: Json | None = None
) -> Settings:
    """Return the settings that the job of the frontends shows, and those of Redis, admin and Fabio, if there are any."""
    task = job["TaskGroups"][0]["Tasks"][0]
    tags = [tag for service in task.get("Services") or () if service["Name"] == names.rpc_service for tag in service["Tags"]]
    asked = JobOptions.from_json((job.get("Meta") or {}).get(META_OPTIONS, ""))
    kept = {} if admin is None else admin["TaskGroups"][0]["Tasks"][0].get("Env") or {}
    whole = redis if redis is not None and (asked.datacenters or asked.node_pool) else job  # not what one part alone got
    return Settings(
        tcp_port=tcp_port_of(tags),
        registry=str(task["Config"]["image"]).rpartition("/")[0],
        datacenters=tuple(whole.get("Datacenters") or ()),
        node_pool=None if whole.get("NodePool") == "default" else whole.get("NodePool"),  # what Nomad fills in
        encrypted=ENCRYPTED in (task.get("Env") or {}),
        legacy_rpc=legacy_rpc_of(job, names),
        store=_store_of(task),
        redis_image=None if redis is None else str(redis["TaskGroups"][0]["Tasks"][0]["Config"]["image"]),
        redis_volume=None if redis is None else _volume_at(redis["TaskGroups"][0], "/data"),
        bundle_volume=None if admin is None else _volume_at(admin["TaskGroups"][0], BUNDLES_FOLDER),
        bundle_cache=kept.get(BUNDLE_CACHE),
        bundle_limit_mb=int(kept[BUNDLE_LIMIT]) // 1024**2 if BUNDLE_LIMIT in kept else None,
        cache_bytes=cache_of(job) or 0,
        fabio=None if fabio is None else _fabio_of(fabio["TaskGroups"][0]["Tasks"][0]),
    )


def _fabio_of(task: Json) -> FabioOfCluster | None:
    text = "\n".join(str(each.get("EmbeddedTmpl") or "") for each in task.get("Templates") or ())
    said = dict(re.findall(r"^.*?([a-z.]+) = (\S+)", text, re.MULTILINE))
    try:
        return FabioOfCluster(
            image=str(task["Config"]["image"]),
            http_port=int(said["proxy.addr"].removeprefix(":").partition(";")[0]),
            admin_port=int(said["ui.addr"].rpartition(":")[2]),
            consul=said["registry.consul.addr"],
            open_files=int(str(task["Config"]["ulimit"][0]["nofile"]).partition(":")[0]),
        )
    except (KeyError, ValueError, IndexError):  # changed by hand
        return None


def _store_of(task: Json) -> StoreElsewhere | None:
    for template in task.get("Templates") or ():
        found = _STORE.search(str(template.get("EmbeddedTmpl") or ""))
        if found is not None:
            return StoreElsewhere(host=found["host"], port=int(found["port"]), has_password=found["login"] is not None)
    return None


def _volume_at(group: Json, path: str) -> str | None:
    """Return the host volume that the group's first task has at `path`."""
    mounts = group["Tasks"][0].get("VolumeMounts") or ()
    volume = next((each["Volume"] for each in mounts if each.get("Destination") == path), None)
    return None if volume is None else str((group.get("Volumes") or {})[volume]["Source"])
