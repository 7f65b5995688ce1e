"""A spec, through its template in jobspecs/, to HCL text. Pure but for reading the templates.

All values are computed here or in what this calls; a template only places them. What a template prints must come through
its `hcl` filter: a value without it is refused, so that a forgotten filter is found by the first rendering and not by the
first quote in a name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from functools import cache, singledispatch
from typing import Any

from jinja2 import FileSystemLoader, StrictUndefined
from jinja2.sandbox import SandboxedEnvironment

from clipper_nomad.cluster.jobs import task_files
from clipper_nomad.cluster.jobs.hcl import AtRunTime, Hcl, HclValue, Name, aligned, hcl
from clipper_nomad.cluster.jobs.options import META_OPTIONS
from clipper_nomad.cluster.jobs.programs import Image, StoredBundle
from clipper_nomad.cluster.jobs.requirements import HostVolume, NetworkMode
from clipper_nomad.cluster.jobs.specs import (
    AdminJob,
    EntryByAddress,
    EntryByService,
    FabioJob,
    FrontendJob,
    HostStorage,
    JobSpec,
    ModelJob,
    RedisJob,
)
from clipper_nomad.cluster.jobs.task_files import LOCAL, SECRETS, TaskFile
from clipper_nomad.cluster.names import META_KEY_ROUND, Kind, rpc_tag
from clipper_nomad.resources import jobspecs_folder

MIRROR = "/alloc/data/catalog.json"  # the part of the allocation that ephemeral_disk keeps and moves
READY_FILE = f"{LOCAL}/ready"
BUNDLE = f"{LOCAL}/bundle"
BUNDLE_CACHE = "/bundle-cache"
KILL_MARGIN_S = 15  # between the end of a drain and SIGKILL
LEGACY_KILL_S = 5  # containers of Clipper's do not drain; what they have in hand is sent to others
CANARY_SHARE = "weight=0.0001"  # the least that Fabio gives: one in ten thousand, and all where nobody else is left
Values = dict[str, Any]  # what a template is given: HclValues, and lists of small dataclasses of them


def render_job(spec: JobSpec) -> str:
    """Return the jobspec of `spec`, in the form of `nomad fmt`. A parser gives each text back as it was."""
    template, values = _values(spec)
    return aligned(_environment().get_template(template).render(_common(spec) | values))


@singledispatch
def _values(spec: JobSpec) -> tuple[str, Values]:
    raise TypeError(f"{type(spec).__name__} has no jobspec")


@_values.register
def _(spec: RedisJob) -> tuple[str, Values]:
    on_host = isinstance(spec.storage, HostStorage)
    volumes = (HostVolume(source=spec.storage.volume, path="/data"),) if isinstance(spec.storage, HostStorage) else ()
    listens_on = '{{ env "NOMAD_IP_db" }}' if spec.network.mode is NetworkMode.HOST else "0.0.0.0"  # noqa: S104  # a container's own
    settings = task_files.redis_settings(spec, data_folder="/data" if on_host else "/alloc/data", listens_on=listens_on)
    return "redis.nomad.hcl.j2", {
        "meta": _part_meta(spec, Kind.REDIS),
        "description": f"Store of the cluster {spec.cluster.cluster}: the catalog of its apps and models.",
        **_program(spec, spec.image, ports=["db"], files=[settings], args=[f"{SECRETS}/redis.conf"]),
        **_volumes((*volumes, *spec.volumes)),
        "service": spec.cluster.redis_service,
        "disk_mb": None if isinstance(spec.storage, HostStorage) else spec.storage.size_mb,
    }


@_values.register
def _(spec: AdminJob) -> tuple[str, Values]:
    token = task_files.secret(task_files.ADMIN_TOKEN, job=spec.job_id, comment="What every call must bring.")
    store = task_files.store_url(spec.store, cluster=spec.cluster, job=spec.job_id)
    env: Values = {
        "CLIPPER_CLUSTER": spec.cluster.cluster,
        "CLIPPER_ADMIN_ADDRESS": _listens(spec, "http"),
        "CLIPPER_STORE_URL_FILE": store.path,
        "CLIPPER_TOKEN_FILE": token.path,
    }
    bundles, volumes, folder = spec.bundles, spec.volumes, "/bundles"
    disk_mb: int | None = None
    if isinstance(bundles.storage, HostStorage):
        volumes = (HostVolume(source=bundles.storage.volume, path=folder), *volumes)
    else:
        folder, disk_mb = "/alloc/data/bundles", bundles.storage.size_mb
    env |= {"CLIPPER_BUNDLES": folder, "CLIPPER_BUNDLE_MAX_BYTES": str(bundles.max_mb * 1024**2)}
    if bundles.runtime is not None:
        env["CLIPPER_RUNTIME_IMAGE"] = bundles.runtime.reference
    if bundles.cache_volume is not None:
        env["CLIPPER_BUNDLE_CACHE_VOLUME"] = bundles.cache_volume
    return "admin.nomad.hcl.j2", {
        "meta": _part_meta(spec, Kind.ADMIN),
        "description": f"Admin service of the cluster {spec.cluster.cluster}: the only writer of its store.",
        **_program(spec, spec.image, ports=["http"], files=[store, token], env=env),
        **_volumes(volumes),
        "disk_mb": disk_mb,
        "service": spec.cluster.admin_service,
        "tags": ["clipper", "mgmt", *([spec.cluster.admin_tag] if spec.has_route else [])],
    }


@_values.register
def _(spec: FrontendJob) -> tuple[str, Values]:
    token = task_files.secret(task_files.ADMIN_TOKEN, job=spec.job_id, comment="What admin brings to ask for reports.")
    files = [task_files.store_url(spec.store, cluster=spec.cluster, job=spec.job_id), token]
    env: Values = {
        "CLIPPER_CLUSTER": spec.cluster.cluster,
        "CLIPPER_FRONTEND_ID": AtRunTime("frontend-${NOMAD_SHORT_ALLOC_ID}"),
        "CLIPPER_HTTP_ADDRESS": _listens(spec, "http"),
        "CLIPPER_RPC_ADDRESS": AtRunTime(f"tcp://{_listens(spec, 'rpc')}"),
        "CLIPPER_ADVERTISED_RPC_ADDRESS": AtRunTime("tcp://${NOMAD_ADDR_rpc}"),
        "CLIPPER_INTERNAL_ADDRESS": _listens(spec, "internal"),
        "CLIPPER_ADVERTISED_INTERNAL_ADDRESS": AtRunTime("${NOMAD_ADDR_internal}"),
        "CLIPPER_PATH_PREFIX": spec.cluster.query_path,
        "CLIPPER_STORE_URL_FILE": files[0].path,
        "CLIPPER_TOKEN_FILE": token.path,
        "CLIPPER_MIRROR_PATH": MIRROR,
        "CLIPPER_DRAIN_S": str(spec.drain_s),
    }
    if spec.cache_bytes:
        env["CLIPPER_CACHE_BYTES"] = str(spec.cache_bytes)
    if spec.has_curve:
        comment = "The key that all frontends of the cluster share: a replica cannot know which one it will meet."
        files.append(task_files.secret(task_files.CURVE_SECRET, job=spec.job_id, comment=comment))
        env["CLIPPER_CURVE_SECRET_FILE"] = files[-1].path
        files.append(task_files.server_keys(spec.job_id))
        env["CLIPPER_CURVE_SERVER_KEYS_FILE"] = files[-1].path
    ports = ["http", "rpc", "internal"]
    if spec.has_legacy_rpc:
        ports.append("legacy")
        env["CLIPPER_LEGACY_RPC_ADDRESS"] = AtRunTime(f"tcp://{_listens(spec, 'legacy')}")
    return "query-frontend.nomad.hcl.j2", {
        "meta": _part_meta(spec, Kind.FRONTEND) | _named({META_KEY_ROUND: str(spec.key_round)} if spec.key_round else {}),
        "description": f"Query frontends of the cluster {spec.cluster.cluster}: they take queries and batch them to models.",
        **_program(spec, spec.image, ports=ports, files=files, env=env),
        **_volumes(spec.volumes),
        "count": spec.count,
        "has_legacy_rpc": spec.has_legacy_rpc,
        **_service("query", spec.cluster.query_service, spec.cluster.query_tag if spec.tcp_port else None),
        **_service("rpc", spec.cluster.rpc_service, rpc_tag(spec.tcp_port) if spec.tcp_port else None),
        **_service("legacy", spec.cluster.legacy_service, rpc_tag(spec.legacy_port) if spec.tcp_port else None),
        "disk_mb": spec.mirror_mb,
        "kill_timeout": f"{spec.drain_s + KILL_MARGIN_S}s",
    }


@_values.register
def _(spec: ModelJob) -> tuple[str, Values]:
    image, env, files, volumes = _legacy_program(spec) if spec.is_legacy else _model_program(spec)
    meta = spec.cluster.model_meta(spec.model, spec.version, uid=spec.uid, toolkit=spec.toolkit)
    return "model.nomad.hcl.j2", {
        "meta": _named(meta),
        "description": f"Replicas of the model {spec.model}, version {spec.version}, of the cluster {spec.cluster.cluster}.",
        **_program(spec, image, ports=[] if spec.is_legacy else ["metrics"], files=files, env=env),
        **_volumes(volumes),
        "count": spec.replicas,
        "max_replicas": spec.max_replicas,
        "service": spec.job_id,
        "tags": ["clipper", "model", *([] if spec.is_legacy else ["metrics"]), spec.model],
        "is_legacy": spec.is_legacy,
        "ready_file": READY_FILE,
        "kill_timeout": f"{LEGACY_KILL_S if spec.is_legacy else spec.drain_s + KILL_MARGIN_S}s",
    }


ModelProgram = tuple[Image, Values, list[TaskFile], tuple[HostVolume, ...]]


def _legacy_program(spec: ModelJob) -> ModelProgram:
    """An image of Clipper's own: it knows the variables of Clipper and no others."""
    assert isinstance(spec.program, Image)  # noqa: S101  # the spec was checked
    files: list[TaskFile] = []
    env: Values = {
        "CLIPPER_MODEL_NAME": spec.model,
        "CLIPPER_MODEL_VERSION": spec.version,
        "CLIPPER_INPUT_TYPE": spec.input_type,
    }
    match spec.entry:
        case EntryByAddress(host=host, port=port):
            env |= {"CLIPPER_IP": host, "CLIPPER_PORT": str(port)}
        case EntryByService():
            files.append(task_files.legacy_address(spec.entry, cluster=spec.cluster))
    return spec.program, env, files, spec.volumes


def _model_program(spec: ModelJob) -> ModelProgram:
    files: list[TaskFile] = []
    env: Values = {
        "CLIPPER_MODEL_NAME": spec.model,
        "CLIPPER_MODEL_VERSION": spec.version,
        "CLIPPER_MODEL_UID": spec.uid,
        "CLIPPER_INPUT_TYPE": spec.input_type,
        "CLIPPER_REPLICA_ID": AtRunTime("${NOMAD_SHORT_ALLOC_ID}"),
        "CLIPPER_RPC_MODE": spec.rpc_mode,
        "CLIPPER_METRICS_ADDRESS": _listens(spec, "metrics"),
        "CLIPPER_READY_FILE": READY_FILE,
        "CLIPPER_DRAIN_S": str(spec.drain_s),
    }
    match spec.entry:
        case EntryByAddress(host=host, port=port):
            env |= {"CLIPPER_IP": host, "CLIPPER_PORT": str(port)}
        case EntryByService():
            files.append(task_files.rpc_addresses(spec.entry, cluster=spec.cluster))
            env["CLIPPER_RPC_ADDRESSES_FILE"] = files[-1].path
    if spec.has_curve:
        comment = "This version's own key: the frontends know its public half, and give it this version's queries only."
        files.append(task_files.secret(task_files.CURVE_SECRET, job=spec.job_id, comment=comment))
        env["CLIPPER_CURVE_SECRET_FILE"] = files[-1].path
        files.append(task_files.server_keys(spec.job_id))
        env["CLIPPER_CURVE_SERVER_KEYS_FILE"] = files[-1].path
    image, volumes = spec.program, spec.volumes
    if isinstance(image, StoredBundle):
        comment = "What opens this version's bundle and nothing else of admin's."
        token = task_files.secret(task_files.BUNDLE_TOKEN, job=spec.job_id, comment=comment)
        addresses = task_files.bundle_addresses(spec.cluster)
        files += [addresses, token]
        env |= {"CLIPPER_MODEL_PATH": BUNDLE, "CLIPPER_MODEL_DIGEST": image.digest}
        env |= {"CLIPPER_BUNDLE_ADDRESS_FILE": addresses.path, "CLIPPER_BUNDLE_TOKEN_FILE": token.path}
        if image.cache_volume is not None:
            volumes = (HostVolume(source=image.cache_volume, path=BUNDLE_CACHE), *volumes)
            env["CLIPPER_BUNDLE_CACHE"] = BUNDLE_CACHE
        image = image.runtime
    return image, env, files, volumes


@_values.register
def _(spec: FabioJob) -> tuple[str, Values]:
    rpc_ports = [{"label": f"rpc-{port}", "port": port} for port in spec.tcp_ports]
    labels = ["http", *(str(each["label"]) for each in rpc_ports)]
    settings = task_files.fabio_settings(spec)
    return "fabio.nomad.hcl.j2", {
        "meta": _part_meta(spec, Kind.FABIO),
        "description": "Fabio: leads queries and model channels to the query frontends that are ready.",
        **_program(
            spec,
            spec.image,
            ports=labels,
            files=[settings],
            args=["-cfg", f"{SECRETS}/fabio.properties"],
            more_options={"ulimit": [{"nofile": f"{spec.open_files}:{spec.open_files}"}]},
        ),
        **_volumes(spec.volumes),
        "http_port": spec.http_port,
        "rpc_ports": rpc_ports,
    }


def _common(spec: JobSpec) -> Values:
    """What the partials that all templates include are given."""
    placement, resources = spec.placement, spec.resources
    return {
        "job": spec.job_id,
        "group": spec.cluster.group,
        "link": spec.link,
        "placement": {each.name: getattr(placement, each.name) for each in fields(placement)},
        "dns_servers": spec.network.dns_servers,
        "network_mode": "bridge" if spec.network.mode is NetworkMode.BRIDGE else None,
        "cpu": resources.cpu,
        "cores": resources.cores,
        "memory": resources.memory_mb,
        "memory_max": resources.memory_max_mb,
        "gpus": resources.gpus,
    }


def _program(
    spec: JobSpec,
    image: Image,
    *,
    ports: list[str],
    files: list[TaskFile],
    args: list[str] | None = None,
    more_options: Mapping[str, HclValue] | None = None,
    env: Mapping[str, HclValue] | None = None,
) -> Values:
    """What the task runs: the docker driver's config, the environment, the files."""
    options: Values = {"image": image.reference, **(more_options or {})}
    if args is not None:
        options["args"] = args
    if spec.network.mode is NetworkMode.HOST:
        options["network_mode"] = "host"
    elif spec.network.mode is NetworkMode.DOCKER:
        options["ports"] = ports
    auth: Values | None = None
    if image.login is not None:
        files = [task_files.registry_environment(spec.job_id), *files]
        auth = {"username": image.login.username, "password": AtRunTime("${CLIPPER_REGISTRY_PASSWORD}")}
        if image.login.server is not None:
            auth["server_address"] = image.login.server
    return {
        "options": _named(options | dict(spec.driver_options)),
        "auth": None if auth is None else _named(auth),
        "dynamic_ports": ports,
        "env": _named(dict(env or {}) | dict(spec.env)),
        "files": files,
    }


def _volumes(volumes: tuple[HostVolume, ...]) -> Values:
    """A volume of the group for each source, a mount in the task for each path."""
    mounts = [{"volume": f"volume-{index}", "volume_of": each} for index, each in enumerate(volumes)]
    return {"volumes": mounts}


def _service(label: str, name: str, route: str | None) -> Values:
    """Return name and tags of one service of the frontends, those too that it has while it is a canary."""
    tags = ["clipper", "query-frontend"]
    routes, canary_routes = ([], []) if route is None else ([route], [f"{route} {CANARY_SHARE}"])
    return {
        f"{label}_service": name,
        f"{label}_tags": [*tags, *routes],
        f"{label}_canary_tags": [*tags, "canary", *canary_routes],
    }


def _part_meta(spec: JobSpec, kind: Kind) -> dict[Name, HclValue]:
    """Whose it is, and what was asked for it, which whoever registers it next keeps."""
    asked = spec.asked.to_json()
    return _named(spec.cluster.meta(kind, toolkit=spec.toolkit) | ({META_OPTIONS: asked} if asked else {}))


def _named(values: Mapping[str, HclValue]) -> dict[Name, HclValue]:
    """Return a block's attributes, with names that are printed bare."""
    return {Name(key): value for key, value in values.items()}


def _listens(spec: JobSpec, label: str) -> AtRunTime:
    """Where a task listens on a port: on the machine's own network at the one address that Nomad gave it."""
    if spec.network.mode is NetworkMode.HOST:
        return AtRunTime(f"${{NOMAD_ADDR_{label}}}")
    return AtRunTime(f"0.0.0.0:${{NOMAD_PORT_{label}}}")


@cache
def _environment() -> SandboxedEnvironment:
    environment = SandboxedEnvironment(
        loader=FileSystemLoader(jobspecs_folder()),
        undefined=StrictUndefined,
        autoescape=False,  # for HTML; `finalize` sees to HCL
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_only_hcl,
    )
    environment.filters["hcl"] = hcl
    return environment


def _only_hcl(value: object) -> Hcl:
    if not isinstance(value, Hcl):
        raise TypeError(f"a template prints {value!r} without the filter `hcl`")
    return value
