"""What users ask of Nomad for one job: checked, laid over the cluster's own, kept in meta, read from the command line."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from clipper_nomad import Constraint, Gpus, HostVolume, JobOptions
from clipper_nomad.cli.job_options import Asking, changed_options
from clipper_nomad.cli.on_nomad.reaching import kept_as_it_runs
from clipper_nomad.cli.on_nomad.settings import FabioOfCluster, Settings, StoreElsewhere, read_settings
from clipper_nomad.cli.options import Building, Shape, Where, WrongUsage
from clipper_nomad.cluster.jobs.options import META_OPTIONS
from clipper_nomad.cluster.jobs.requirements import Network, NetworkMode, Placement, Resources
from clipper_nomad.cluster.legacy_rpc import LegacyRpc
from clipper_nomad.cluster.manager import NomadContainerManager
from clipper_nomad.cluster.names import ClusterNames
from clipper_nomad.cluster.part_options import cache_of, wanted_cache
from clipper_nomad.container_manager import USUAL_CACHE_BYTES
from clipper_nomad.errors import InvalidSpec

WHOLE = JobOptions(
    cores=2,
    memory_mb=1024,
    memory_max_mb=2048,
    gpus=(Gpus(count=2, constraints=(Constraint(attribute="${device.attr.memory}", operator=">=", value="8 GiB"),)),),
    datacenters=("eu-1",),
    node_pool="gpu",
    constraints=(Constraint(attribute="${meta.ssd}", operator="is_set"),),
    network_mode="docker",
    env={"A": 'quote " and ${x}', "B": ""},
    volumes=(HostVolume(source="weights", path="/weights", read_only=True),),
    driver_options={"shm_size": 1, "ulimit": [{"nofile": "1:2"}]},
)


def test_what_is_left_out_is_as_the_cluster_has_it() -> None:
    usual = Resources(cpu_mhz=700, memory_mb=300, memory_max_mb=400)
    place = Placement(datacenters=("a", "b"), node_pool="pool")

    options = JobOptions()

    assert (options.resources(usual), options.placement(place), options.network(Network())) == (usual, place, Network())
    assert options.to_json() == ""


def test_what_is_said_goes_before_and_constraints_are_added() -> None:
    of_cluster = Constraint(attribute="${attr.kernel.name}", value="linux")

    place = WHOLE.placement(Placement(constraints=(of_cluster,)))

    assert WHOLE.resources(Resources(cpu_mhz=700)) == Resources(cores=2, memory_mb=1024, memory_max_mb=2048, gpus=WHOLE.gpus)
    assert (place.datacenters, place.node_pool) == (("eu-1",), "gpu")
    assert place.constraints == (of_cluster, *WHOLE.constraints)
    assert WHOLE.network(Network(dns_servers=("10.0.0.1",))) == Network(mode=NetworkMode.DOCKER, dns_servers=("10.0.0.1",))


def test_more_memory_than_the_clusters_maximum_takes_that_away() -> None:
    assert JobOptions(memory_mb=500).resources(Resources(memory_max_mb=400)).memory_max_mb is None


def test_options_come_back_from_their_text_and_the_same_ones_have_the_same_text() -> None:
    again = JobOptions.from_json(WHOLE.to_json())

    assert again == WHOLE
    assert again.to_json() == WHOLE.to_json()
    assert JobOptions.from_json("") == JobOptions()


@pytest.mark.parametrize("text", ["[]", "{", '{"no": 1}', '{"gpus": 1}', '{"memory_mb": 1}', '{"volumes": [{}]}'])
def test_a_text_that_somebody_changed_is_refused(text: str) -> None:
    with pytest.raises(InvalidSpec):
        JobOptions.from_json(text)


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(InvalidSpec) as caught:
        JobOptions(
            cpu_mhz=1,
            cores=1,
            memory_mb=1,
            node_pool="no pool",
            network_mode="none",
            env={"A B": "", "NOMAD_X": ""},
            volumes=("w",),  # type: ignore[arg-type]  # what a caller may well write
            driver_options={"a": 1.5},
        )

    fields = [problem.partition(":")[0] for problem in caught.value.problems]
    assert fields == [
        *("cores", "memory_mb", "node_pool", "network_mode", "env", "env.NOMAD_X", "volumes[0]", "driver_options.a"),
    ]


def a_manager(**settings: Any) -> NomadContainerManager:
    return NomadContainerManager("127.0.0.1:1", consul_address="127.0.0.1:1", **settings)


def test_parts_of_a_manager_are_checked_when_it_is_made() -> None:
    with pytest.raises(InvalidSpec) as caught:
        a_manager(parts={"store": JobOptions(), "redis": 512, "query-frontend": JobOptions()})

    assert caught.value.problems == (
        "'store' is no part; expected one of redis, admin, frontend, fabio",
        "redis: 512; expected JobOptions(…)",
    )


def test_a_models_options_are_refused_before_nomad_is_asked() -> None:
    manager = a_manager()

    with pytest.raises(InvalidSpec, match=r"env\.CLIPPER_IP: the job sets this one itself"):
        manager.check_job_options("m", "1", JobOptions(env={"CLIPPER_IP": "x"}))
    manager.check_job_options("m", "1", WHOLE)


def test_options_of_deploy_are_read() -> None:
    asking = Asking(
        cores="2",
        memory="1024",
        memory_max="2048",
        gpu=["nvidia/gpu/Tesla T4=2", "1"],
        model_datacenter=["a", "b"],
        model_node_pool="gpu",
        constraint=["attr.cpu.arch = amd64", "${meta.ssd} is_set", "distinct_hosts", "meta.x regexp ^a b$"],
        env=["A=b=c", "EMPTY="],
        volume=["weights:/weights:ro", "scratch:/scratch"],
        network_mode="docker",
    )

    assert asking.read() == JobOptions(
        cores=2,
        memory_mb=1024,
        memory_max_mb=2048,
        gpus=(Gpus(count=2, device="nvidia/gpu/Tesla T4"), Gpus()),
        datacenters=("a", "b"),
        node_pool="gpu",
        constraints=(
            Constraint(attribute="${attr.cpu.arch}", value="amd64"),
            Constraint(attribute="${meta.ssd}", operator="is_set"),
            Constraint(operator="distinct_hosts", value="true"),
            Constraint(attribute="${meta.x}", operator="regexp", value="^a b$"),
        ),
        network_mode="docker",
        env={"A": "b=c", "EMPTY": ""},
        volumes=(
            HostVolume(source="weights", path="/weights", read_only=True),
            HostVolume(source="scratch", path="/scratch"),
        ),
    )
    assert Asking().read() is None


def test_what_is_wrong_with_options_of_deploy_is_said_at_once() -> None:
    asking = Asking(
        cpu="fast",
        memory="1",
        gpu=["many"],
        constraint=["arch amd64"],
        env=["NAME"],
        volume=["weights"],
        network_mode="none",
    )

    with pytest.raises(WrongUsage) as caught:
        asking.read()

    said = caught.value.msg
    for label in ("--cpu", "--memory", "--gpu", "--constraint", "--env", "--volume", "--network-mode"):
        assert f"\n  {label}: " in said


RUNNING = {"redis": JobOptions(memory_mb=512), "frontend": JobOptions(cpu_mhz=1000, env={"A": "1", "B": "2"})}


def test_without_settings_the_parts_keep_what_they_run_with() -> None:
    assert changed_options(RUNNING, []) == RUNNING


def test_a_setting_changes_what_it_names_and_nothing_else() -> None:
    wanted = changed_options(RUNNING, ["redis.memory-max=1024", "frontend.env.B=3", "frontend.env.C=a.b=c", "admin.cpu=200"])

    assert wanted == {
        "redis": JobOptions(memory_mb=512, memory_max_mb=1024),
        "frontend": JobOptions(cpu_mhz=1000, env={"A": "1", "B": "3", "C": "a.b=c"}),
        "admin": JobOptions(cpu_mhz=200),
    }
    assert changed_options(wanted, ["redis.memory-max=1024", "admin.cpu=200"]) == wanted


def test_an_empty_value_takes_an_option_back_and_cores_go_before_an_older_cpu() -> None:
    wanted = changed_options(RUNNING, ["redis.memory=", "frontend.env.A=", "frontend.cores=2"])

    assert wanted == {"redis": JobOptions(), "frontend": JobOptions(cores=2, env={"B": "2"})}
    assert changed_options(RUNNING, ["frontend.env="])["frontend"] == JobOptions(cpu_mhz=1000)


def test_a_list_is_replaced_as_a_whole_by_what_one_command_says() -> None:
    before = {"redis": JobOptions(datacenters=("a", "b"))}

    assert changed_options(before, ["redis.datacenter=c", "redis.datacenter=d"])["redis"].datacenters == ("c", "d")


def test_what_is_wrong_with_settings_is_said_at_once() -> None:
    with pytest.raises(WrongUsage) as caught:
        changed_options(
            RUNNING, ["store.memory=1", "redis.ram=1", "redis.memory=much", "admin.memory=3", "redis.cpu", "admin.env=A"]
        )

    said = caught.value.msg
    assert "'store.memory=1': expected PART.OPTION=VALUE, PART one of redis, admin, frontend, fabio" in said
    assert "redis.ram: '1'; expected one of cpu, cores, memory," in said
    assert "redis.memory: 'much'; expected a whole number" in said
    assert "admin.memory: 3; expected an integer of at least 10" in said
    assert "'redis.cpu': expected PART.OPTION=VALUE" in said
    assert "admin.env: 'A'; expected a variable as NAME=VALUE" in said


# --- what a running cluster was brought up with ---

NAMES = ClusterNames("b")


def frontend_job(*, template: str = "", meta: dict[str, str] | None = None) -> dict[str, Any]:
    task = {"Config": {"image": "r/f@sha256:0"}, "Env": {}, "Templates": [{"EmbeddedTmpl": template}]}
    return {"Datacenters": ["eu-1"], "NodePool": "gpu", "Meta": meta, "TaskGroups": [{"Tasks": [task]}]}


def redis_job() -> dict[str, Any]:
    task = {"Config": {"image": "redis:8"}, "VolumeMounts": [{"Volume": "volume-0", "Destination": "/data"}]}
    group = {"Volumes": {"volume-0": {"Source": "disk"}}, "Tasks": [task]}
    return {"Datacenters": ["eu-2"], "NodePool": "default", "TaskGroups": [group]}


def test_the_store_of_a_running_cluster_is_known() -> None:
    settings = read_settings(frontend_job(), NAMES, redis=redis_job())

    assert (settings.redis_image, settings.redis_volume, settings.store) == ("redis:8", "disk", None)
    assert (settings.datacenters, settings.node_pool) == (("eu-1",), "gpu")


def test_a_redis_of_somebody_elses_is_known() -> None:
    url = '{{ with nomadVar "x" }}redis://:{{ $password }}@10.0.0.7:6380/0{{ end }}'

    settings = read_settings(frontend_job(template=url), NAMES)

    assert settings.store == StoreElsewhere(host="10.0.0.7", port=6380, has_password=True)
    assert (
        replace(settings.store, has_password=False)
        == read_settings(frontend_job(template="redis://10.0.0.7:6380/0"), NAMES).store
    )


def test_a_part_that_has_a_place_of_its_own_says_nothing_of_the_cluster() -> None:
    meta = {META_OPTIONS: JobOptions(datacenters=("eu-1",), node_pool="gpu").to_json()}

    settings = read_settings(frontend_job(meta=meta), NAMES, redis=redis_job())

    assert (settings.datacenters, settings.node_pool) == (("eu-2",), None)


RUNS = Settings(
    tcp_port=7001,
    registry="r.example/team",
    datacenters=("eu-1",),
    node_pool="gpu",
    encrypted=False,
    legacy_rpc=LegacyRpc(port=7005),
    store=StoreElsewhere(host="10.0.0.7", port=6380, has_password=False),
    redis_image="redis:8",
    redis_volume="disk",
    cache_bytes=3 * 1024**2 // 2,
    fabio=FabioOfCluster(image="f:1", http_port=8080, admin_port=9990, consul="10.0.0.1:8500", open_files=4096),
)


@pytest.mark.parametrize(
    ("asked", "planned", "runs", "wanted"),
    [
        (None, None, None, 0),  # a new cluster, and nothing was said
        (USUAL_CACHE_BYTES, None, None, USUAL_CACHE_BYTES),  # Clipper's start_clipper()
        (0, None, None, 0),
        (4096, None, None, 4096),
        (None, None, 4096, 4096),  # one that runs stays as it is …
        (USUAL_CACHE_BYTES, None, 4096, 4096),
        (USUAL_CACHE_BYTES, None, 0, 0),
        (0, None, 4096, 0),  # … unless another size is named
        (8192, None, 4096, 8192),
        (None, 8192, 4096, 8192),  # by `up --cache`
        (None, 0, 4096, 0),
    ],
)
def test_a_cluster_that_runs_keeps_its_cache_unless_another_size_is_named(
    asked: int | None, planned: int | None, runs: int | None, wanted: int
) -> None:
    assert wanted_cache(asked, planned=planned, runs=runs) == wanted


def test_the_cache_of_a_cluster_that_runs_is_read_from_its_frontends() -> None:
    def job(**env: str) -> dict[str, Any]:
        return {"TaskGroups": [{"Tasks": [{"Env": env}]}]}

    assert cache_of(job(CLIPPER_CACHE_BYTES="4096")) == 4096
    assert cache_of(job()) == 0
    assert cache_of(job(CLIPPER_CACHE_BYTES="4096") | {"Stop": True}) is None
    assert cache_of(None) is None


@pytest.fixture(autouse=True)
def no_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CLIPPER_REGISTRY", raising=False)


def test_the_slo_policy_of_apps_is_a_setting_of_admin() -> None:
    wanted = changed_options({}, ["admin.slo-policy=default"])

    assert wanted == {"admin": JobOptions(env={"CLIPPER_DEFAULT_SLO_POLICY": "default"})}
    assert changed_options(wanted, ["admin.slo-policy="]) == {"admin": JobOptions()}
    for wrong in ("redis.slo-policy=default", "admin.slo-policy.x=late"):
        with pytest.raises(WrongUsage, match=r"admin\.slo-policy"):
            changed_options({}, [wrong])


def test_what_up_leaves_out_is_as_the_cluster_runs() -> None:
    shape, building = kept_as_it_runs(RUNS, Where(), Shape(), Building())

    assert shape == Shape(
        tcp_port=7001,
        http_port=8080,
        with_fabio="f:1",
        fabio_consul="10.0.0.1:8500",
        fabio_admin_port=9990,
        fabio_open_files=4096,
        datacenter=["eu-1"],
        node_pool="gpu",
        redis_image="redis:8",
        redis_volume="disk",
        redis_host="10.0.0.7",
        redis_port=6380,
        encryption=False,
        cache=1.5,
        legacy_rpc=True,
        legacy_rpc_port=7005,
    )
    assert building.registry == "r.example/team"


def test_what_up_says_goes_before_what_runs() -> None:
    said = Shape(no_fabio=True, datacenter=["eu-2"], redis_host="10.0.0.8", encryption=True, cache=0.0, legacy_rpc=False)

    shape, building = kept_as_it_runs(RUNS, Where(), said, Building(registry="other"))

    assert (shape.no_fabio, shape.with_fabio, shape.datacenter, shape.encryption) == (True, None, ["eu-2"], True)
    assert (shape.redis_host, shape.redis_port, shape.cache) == ("10.0.0.8", None, 0.0)
    assert shape.legacy_rpc is False
    assert building.registry == "other"


@pytest.mark.parametrize(
    ("where", "shape", "stays_without"),
    [
        (Where(), Shape(), True),
        (Where(fabio="10.0.0.9"), Shape(), False),
        (Where(), Shape(tcp_port=7002), False),
    ],
)
def test_a_cluster_without_fabio_stays_so_until_one_is_named(where: Where, shape: Shape, *, stays_without: bool) -> None:
    without = replace(RUNS, tcp_port=None, fabio=None)

    kept, _ = kept_as_it_runs(without, where, shape, Building())

    assert kept.no_fabio is stays_without
