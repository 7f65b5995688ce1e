"""What jobs are made from: bad input gets an error that names the field, before anything is rendered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, get_args

import pytest

from clipper_nomad.cluster.jobs.checks import MAX_TEXT
from clipper_nomad.cluster.jobs.programs import Image, StoredBundle
from clipper_nomad.cluster.jobs.requirements import Constraint, Gpus, HostVolume, Network, Placement, Resources
from clipper_nomad.cluster.jobs.specs import (
    SLO_POLICIES,
    SLO_POLICY,
    BundleKeeping,
    EntryByAddress,
    EntryByService,
    EphemeralStorage,
    ExternalStore,
    FabioJob,
    FrontendJob,
    HostStorage,
    RedisJob,
)
from clipper_nomad.cluster.names import ClusterNames
from clipper_nomad.errors import InvalidName, InvalidSpec
from clipper_nomad.state.records import SloPolicy
from tests.unit.jobspec_cases import CASES, PLAIN_MODEL, image

FRONTEND = CASES["query-frontend/default"]
FABIO = CASES["fabio/default"]


def test_an_slo_policy_of_admin_is_one_that_it_knows() -> None:
    assert get_args(SloPolicy) == SLO_POLICIES
    with pytest.raises(InvalidSpec, match="'never'; expected one of late, default, error"):
        replace(CASES["admin/default"], env={SLO_POLICY: "never"})


def test_all_that_is_wrong_is_said_at_once_and_for_which_job() -> None:
    with pytest.raises(InvalidSpec) as error:
        replace(PLAIN_MODEL, replicas=-1, input_type="numbers", env={"A B": "1", "CLIPPER_IP": "x"}, drain_s=0)

    assert error.value.msg.startswith("Job 'clipper-default-cluster-model-diabetes-1' cannot be made:")
    assert error.value.problems == (
        "env: 'A B' is no name of a variable; expected letters, digits and '_'",
        "env.CLIPPER_IP: the job sets this one itself; leave it out",
        "input_type: 'numbers'; expected bytes, integers, floats, doubles or strings",
        "replicas: -1; expected an integer of at least 0 and at most 1000",
        "drain_s: 0; expected an integer of at least 1 and at most 600",
    )


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"replicas": "3"}, "replicas: '3'; expected an integer"),
        ({"replicas": True}, "replicas: True; expected an integer"),
        ({"replicas": 9, "max_replicas": 8}, "replicas: 9; expected an integer of at least 0 and at most 8"),
        ({"uid": "a b"}, "uid: 'a b'"),
        ({"rpc_mode": "fast"}, "rpc_mode: 'fast'; expected one of auto, direct, proxy"),
        (
            {"is_legacy": True, "has_curve": True},
            "has_curve: True; RPC version 3 knows no encryption",
        ),
        ({"program": "image:1"}, "program: 'image:1'; expected Image or StoredBundle"),
        ({"entry": "fabio:7000"}, "entry: 'fabio:7000'; expected EntryByAddress or EntryByService"),
        ({"env": [("A", "1")]}, "env: [('A', '1')]; expected a mapping"),
        ({"env": {"A": 1}}, "env.A: 1; expected a text"),
        ({"env": {"A": "\0"}}, "no environment and no argument can hold a zero byte"),
        ({"env": {"A": "e\u0301"}}, "expected Unicode's composed form"),
        ({"env": {"A": "\ud800"}}, "half of a surrogate pair"),
        ({"env": {"A": "x" * (MAX_TEXT + 1)}}, f"env.A: {MAX_TEXT + 1} characters; expected at most {MAX_TEXT}"),
        ({"env": {"NOMAD_IP": "1"}}, "env.NOMAD_IP: the job sets this one itself"),
        ({"driver_options": {"image": "other"}}, "driver_options.image: the job sets this option itself"),
        ({"driver_options": {"a-b": 1}}, "driver_options: 'a-b' is no name of an option"),
        ({"driver_options": {"a": [{"b": None}]}}, "driver_options.a[0].b: None; expected a text"),
        ({"driver_options": "privileged"}, "driver_options: 'privileged'; expected a mapping"),
        ({"volumes": ["/data"]}, "volumes: ['/data']; expected a tuple of HostVolume"),
        ({"resources": {"cpu": 1}}, "resources: {'cpu': 1}; expected Resources"),
        ({"link": "javascript:1"}, "link: 'javascript:1'; expected an address that begins with http"),
        ({"toolkit": ""}, "toolkit: it is empty"),
    ],
)
def test_a_field_that_is_wrong_is_named_with_what_was_expected(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(InvalidSpec) as error:
        replace(PLAIN_MODEL, **changes)

    assert problem in error.value.msg


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: Resources(cpu_mhz=500, cores=1), "cores: 1, and cpu_mhz is 500; expected one of the two"),
        (lambda: Resources(memory_mb=512, memory_max_mb=256), "memory_max_mb: 256; expected an integer of at least 512"),
        (lambda: Resources(memory_mb=1), "memory_mb: 1; expected an integer of at least 10"),
        (lambda: Resources(gpus=Gpus()), "gpus: Gpus("),  # type: ignore[arg-type]  # that is the mistake
        (lambda: Gpus(count=0), "count: 0; expected an integer of at least 1"),
        (lambda: Gpus(device="GPU!"), "device: 'GPU!'; expected type, vendor/type"),
        (lambda: Constraint(attribute="${attr.a}", operator="is", value="b"), "operator: 'is'; expected one of"),
        (lambda: Constraint(value="linux"), "attribute: it is empty"),
        (lambda: Constraint(attribute="${attr.a}"), "value: it is empty"),
        (lambda: Placement(datacenters=()), "datacenters: it is empty; expected at least one"),
        (lambda: Placement(datacenters="dc1"), "datacenters: 'dc1'; expected a tuple of str"),  # type: ignore[arg-type]  # the same
        (lambda: Placement(node_pool="a b"), "node_pool: 'a b'"),
        (lambda: Placement(namespace="a/b"), "namespace: 'a/b'"),
        (lambda: Placement(region=""), "region: ''"),
        (lambda: Placement(priority=101), "priority: 101"),
        (lambda: Network(mode="host"), "mode: 'host'; expected NetworkMode"),  # type: ignore[arg-type]  # the same
        (lambda: Network(dns_servers=("consul",)), "dns_servers[0]: 'consul'; expected an IP address"),
        (lambda: HostVolume(source="a b", path="data"), "path: 'data'; expected a path from the root"),
        (lambda: HostStorage(volume='"'), "source: '\"'; expected the name of a host volume"),
        (lambda: EphemeralStorage(size_mb=0), "size_mb: 0"),
        (lambda: ExternalStore(host="{{ x }}"), "host: '{{ x }}'; expected a host name"),
        (lambda: EntryByAddress(host="", port=0), "port: 0; expected an integer of at least 1 and at most 65535"),
        (lambda: EntryByService(service='" }}'), "expected the name of a service in Consul"),
        (lambda: Image(reference="a b"), "reference: 'a b'; expected registry/name@sha256"),
        (lambda: StoredBundle(runtime=image("r"), digest="md5-0"), "digest: 'md5-0'; expected sha256- and 64"),
        (lambda: StoredBundle(runtime="r", digest=f"sha256-{'0' * 64}"), "runtime: 'r'; expected Image"),  # type: ignore[arg-type]  # what a caller may give
        (lambda: BundleKeeping(max_mb=0), "max_mb: 0; expected an integer of at least 1"),
        (lambda: BundleKeeping(cache_volume="/srv"), "source: '/srv'; expected the name of a host volume"),
        (lambda: RedisJob(cluster=ClusterNames(), toolkit="1", image=image("r"), storage=None), "storage: None"),  # type: ignore[arg-type]  # the same
    ],
)
def test_a_part_that_is_wrong_is_refused_when_it_is_made(make: Callable[[], object], problem: str) -> None:
    with pytest.raises(InvalidSpec) as error:
        make()

    assert problem in error.value.msg


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"count": 0}, "count: 0; expected an integer of at least 1"),
        ({"tcp_port": 70_000}, "tcp_port: 70000"),
        ({"cache_bytes": -1}, "cache_bytes: -1; expected an integer of at least 0"),
        ({"cache_bytes": 1024**3}, "cache_bytes: 1073741824; expected at most half of memory_mb, which is 256"),
        ({"legacy_port": 0}, "legacy_port: 0"),
        (
            {"has_legacy_rpc": True, "tcp_port": 7001, "legacy_port": 7001},
            "legacy_port: 7001; the model channel has it, and both cannot share a port",
        ),
        ({"store": "redis://x"}, "store: 'redis://x'; expected StoreOfCluster or ExternalStore"),
    ],
)
def test_a_frontend_job_that_is_wrong_is_refused(changes: dict[str, Any], problem: str) -> None:
    assert isinstance(FRONTEND, FrontendJob)
    with pytest.raises(InvalidSpec) as error:
        replace(FRONTEND, **changes)

    assert problem in error.value.msg


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"tcp_ports": (7000, 9999)}, "holds a port twice"),
        ({"tcp_ports": (9998,)}, "9998 is Fabio's own"),
        ({"tcp_ports": 7000}, "tcp_ports: 7000; expected a tuple of int"),
        ({"consul_address": "localhost"}, "consul_address: 'localhost'; expected host:port"),
        ({"consul_address": "h:1\nui.access = rw"}, "expected host:port"),
        ({"network": Network(mode=CASES["model/gpu"].network.mode)}, "network.mode"),
        ({"driver_options": {"ulimit": []}}, "driver_options.ulimit: the job sets this option itself"),
    ],
)
def test_a_fabio_job_that_is_wrong_is_refused(changes: dict[str, Any], problem: str) -> None:
    assert isinstance(FABIO, FabioJob)
    with pytest.raises(InvalidSpec) as error:
        replace(FABIO, **changes)

    assert problem in error.value.msg


def test_a_model_whose_names_make_no_job_is_refused_by_its_names() -> None:
    with pytest.raises(InvalidName, match="DNS-1123"):
        replace(PLAIN_MODEL, model="my_model")


def test_without_a_wish_a_task_gets_clipper_s_default_resources() -> None:
    assert (Resources().cpu, Resources().memory_mb) == (500, 256)
    assert Resources(cores=2).cpu is None
