"""One spec for each golden file, tests/golden/<job>/<case>.nomad.hcl, and texts that must survive a jobspec."""

from __future__ import annotations

import unicodedata
from dataclasses import replace
from pathlib import Path

from hypothesis import strategies as st

from clipper_nomad.cluster.jobs.blueprint import Blueprint
from clipper_nomad.cluster.jobs.options import JobOptions
from clipper_nomad.cluster.jobs.programs import Image, RegistryLogin, StoredBundle
from clipper_nomad.cluster.jobs.requirements import Constraint, Gpus, HostVolume, Network, NetworkMode, Placement, Resources
from clipper_nomad.cluster.jobs.specs import (
    AdminJob,
    BundleKeeping,
    EntryByAddress,
    EntryByService,
    EphemeralStorage,
    ExternalStore,
    FabioJob,
    FrontendJob,
    HostStorage,
    JobSpec,
    ModelJob,
    RedisJob,
)
from clipper_nomad.cluster.names import ClusterNames

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
TOOLKIT = "0.1.0"
DEFAULT, OTHER = ClusterNames(), ClusterNames("b")
HOSTILE_TEXT = 'a "quote", ${NOMAD_ADDR_http} and \\n'


def image(name: str) -> Image:
    return Image(reference=f"registry.example.org/clipper/{name}@sha256:{'0123456789abcdef' * 4}")


PRIVATE = Image(
    reference=image("model").reference, login=RegistryLogin(username="puller", server="https://registry.example.org")
)
ELSEWHERE = Placement(
    datacenters=("eu-1", "eu-2"),
    node_pool="gpu",
    namespace="ml",
    region="eu",
    priority=70,
    constraints=(
        Constraint(attribute="${attr.kernel.name}", value="linux"),
        Constraint(operator="distinct_hosts", value="true"),
        Constraint(attribute="${meta.ssd}", operator="is_set"),
    ),
)
PLAIN_MODEL = ModelJob(
    cluster=DEFAULT,
    toolkit=TOOLKIT,
    model="diabetes",
    version="1",
    uid="5f2b9c0e7d1a4c33a8f0e6d2b1c47790",
    input_type="doubles",
    program=image("diabetes"),
)
# A cluster whose users asked for something: for two parts, and below for a model.
BLUEPRINT = Blueprint(
    names=OTHER,
    toolkit=TOOLKIT,
    placement=Placement(datacenters=("eu-1",), constraints=(Constraint(attribute="${attr.kernel.name}", value="linux"),)),
    tcp_port=7001,
    options={
        "redis": JobOptions(memory_mb=1024, constraints=(Constraint(attribute="${meta.ssd}", operator="is_set"),)),
        "frontend": JobOptions(cpu_mhz=2000, env={"CLIPPER_ACCESS_LOG": HOSTILE_TEXT}, datacenters=("eu-1", "eu-2")),
    },
)
HOSTILE = (
    'quote " and \\ backslash',
    "${NOMAD_ADDR_http} ${env.HOME} $${x} $$${x} $ $$ %{ if true } %%{x} %$${x} $%{",
    "line\nfeed\r\n\ttab",
    '"\n}\njob "evil" {\n',
    "{{ env `HOME` }} {# #} {% raw %}",
    "zero width \u200b, line separator \u2028, next line \x85, delete \x7f, escape \x1b",
    "emoji \U0001f600, combining \u0915\u093c, right to left \u202e",
    "# // /* <<EOT \\u0041 \\n",
)

CASES: dict[str, JobSpec] = {
    "redis/host-volume": RedisJob(
        cluster=DEFAULT, toolkit=TOOLKIT, image=image("redis"), storage=HostStorage(volume="clipper-redis")
    ),
    "redis/ephemeral": RedisJob(
        cluster=OTHER,
        toolkit=TOOLKIT,
        image=image("redis"),
        storage=EphemeralStorage(size_mb=2048),
        network=Network(mode=NetworkMode.BRIDGE),
        resources=Resources(memory_mb=512, memory_max_mb=1024),
    ),
    "admin/default": AdminJob(cluster=DEFAULT, toolkit=TOOLKIT, image=image("admin"), link="http://fabio.example.org:9999/"),
    "admin/external-store": AdminJob(
        cluster=OTHER,
        toolkit=TOOLKIT,
        image=PRIVATE,
        store=ExternalStore(host="redis.example.org", port=6380),
        has_route=False,
        network=Network(mode=NetworkMode.DOCKER, dns_servers=("172.17.0.1",)),
    ),
    "admin/bundles-on-a-volume": AdminJob(
        cluster=DEFAULT,
        toolkit=TOOLKIT,
        image=image("admin"),
        bundles=BundleKeeping(
            runtime=image("runtime-py311"), storage=HostStorage(volume="bundles"), cache_volume="bundle-cache", max_mb=512
        ),
    ),
    "query-frontend/default": FrontendJob(cluster=DEFAULT, toolkit=TOOLKIT, image=image("query-frontend"), count=2),
    "query-frontend/second-cluster": FrontendJob(
        cluster=OTHER,
        toolkit=TOOLKIT,
        image=image("query-frontend"),
        tcp_port=7001,
        cache_bytes=32 * 1024**2,
        network=Network(mode=NetworkMode.DOCKER),
        placement=ELSEWHERE,
        env={"CLIPPER_ACCESS_LOG": "sample:100"},
    ),
    "query-frontend/legacy-rpc": FrontendJob(
        cluster=DEFAULT, toolkit=TOOLKIT, image=image("query-frontend"), has_legacy_rpc=True, legacy_port=7005
    ),
    "query-frontend/without-fabio": FrontendJob(
        cluster=DEFAULT,
        toolkit=TOOLKIT,
        image=image("query-frontend"),
        tcp_port=None,
        has_curve=False,
        store=ExternalStore(host="10.0.0.5", has_password=False),
    ),
    "model/default": replace(PLAIN_MODEL, has_curve=True),
    "model/through-fabio": replace(
        PLAIN_MODEL, entry=EntryByAddress(host="fabio.service.consul"), rpc_mode="proxy", replicas=3, max_replicas=8
    ),
    "model/bundle": replace(
        PLAIN_MODEL,
        program=StoredBundle(
            runtime=image("runtime-py311"), digest=f"sha256-{'0123456789abcdef' * 4}", cache_volume="bundle-cache"
        ),
        entry=EntryByService(service="fabio", port=7000),
    ),
    "model/legacy": replace(
        PLAIN_MODEL, is_legacy=True, uid="", entry=EntryByService(service="fabio", port=7001), replicas=2
    ),
    "model/legacy-by-address": replace(PLAIN_MODEL, is_legacy=True, entry=EntryByAddress(host="10.0.0.9", port=7001)),
    "model/gpu": replace(
        PLAIN_MODEL,
        program=PRIVATE,
        placement=ELSEWHERE,
        network=Network(mode=NetworkMode.BRIDGE),
        resources=Resources(
            cores=4,
            memory_mb=8192,
            memory_max_mb=16384,
            gpus=(
                Gpus(
                    count=2,
                    device="nvidia/gpu/Tesla T4",
                    constraints=(Constraint(attribute="${device.attr.memory}", operator=">=", value="8 GiB"),),
                ),
            ),
        ),
        env={"OMP_NUM_THREADS": "4"},
        volumes=(HostVolume(source="weights", path="/weights", read_only=True),),
        driver_options={"shm_size": 1073741824, "runtime": "nvidia", "ulimit": [{"memlock": "-1"}]},
    ),
    "redis/options": BLUEPRINT.parts(admin=image("admin"), frontend=image("query-frontend"))[0],
    "query-frontend/options": BLUEPRINT.parts(admin=image("admin"), frontend=image("query-frontend"))[2],
    "model/options": BLUEPRINT.model(
        "diabetes",
        "1",
        uid=PLAIN_MODEL.uid,
        input_type="doubles",
        program=image("diabetes"),
        replicas=2,
        options=JobOptions(
            cores=2,
            memory_mb=1024,
            memory_max_mb=2048,
            gpus=(Gpus(),),
            datacenters=("eu-2",),
            node_pool="gpu",
            constraints=(Constraint(attribute="${meta.ssd}", operator="is_set"),),
            network_mode="bridge",
            env={"OMP_NUM_THREADS": "2"},
            volumes=(HostVolume(source="weights", path="/weights", read_only=True),),
            driver_options={"shm_size": 1073741824},
        ),
    ),
    "model/hostile-texts": replace(
        PLAIN_MODEL,
        env={f"TEXT_{index}": text for index, text in enumerate(HOSTILE)},
        driver_options={"labels": [{"org.example/a b": HOSTILE[0], "${x}": HOSTILE[1]}]},
        placement=Placement(
            datacenters=('dc "1"', "${dc}"), constraints=(Constraint(attribute=HOSTILE[0], value=HOSTILE[3]),)
        ),
    ),
    "fabio/default": FabioJob(cluster=DEFAULT, toolkit=TOOLKIT, image=image("fabio")),
    "fabio/two-clusters": FabioJob(
        cluster=DEFAULT,
        toolkit=TOOLKIT,
        image=image("fabio"),
        http_port=8080,
        tcp_ports=(7000, 7001),
        has_consul_token=True,
        resources=Resources(memory_mb=512),
    ),
}


def golden_file(case: str) -> Path:
    return GOLDEN / f"{case}.nomad.hcl"


def _fits(text: str) -> bool:
    return unicodedata.is_normalized("NFC", text) and "\0" not in text


# Every text that a spec takes: random ones, and the above in any order.
TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
    st.lists(st.sampled_from([*HOSTILE, "${", "$", "%", "%{", "{", "}", "\\", '"', "\n"]), min_size=1).map("".join),
).filter(_fits)
