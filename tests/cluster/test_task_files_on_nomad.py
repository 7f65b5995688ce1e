"""The files that a real Nomad writes for the tasks, from a real Consul and from Nomad's Variables.

The jobs are ours but for their program: a listener in place of the image (driver raw_exec), so that no Docker is needed.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from clipper_nomad.cluster.jobs.render import render_job
from clipper_nomad.cluster.jobs.specs import AdminJob, FrontendJob, JobSpec, ModelJob, RedisJob
from clipper_nomad.cluster.names import variable_path
from clipper_nomad.cluster.nomad_api import NomadApi
from tests.cluster.rig import Rig, end_all_jobs
from tests.unit.jobspec_cases import CASES
from tests.waiting import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(150)]

REDIS, FRONTEND = CASES["redis/host-volume"], CASES["query-frontend/default"]
MODEL, ADMIN = CASES["model/default"], CASES["admin/default"]
PASSWORD, TOKEN, FRONTEND_KEY, MODEL_KEY = "pass-word_1", "token-2", "key-3", "key-4"
KEYS = {"curve_server_keys": "public-5 public-6"}
LISTENER = """
import os, socket
listener = socket.create_server((os.environ["NOMAD_IP_{port}"], int(os.environ["NOMAD_PORT_{port}"])))
while True:
    listener.accept()[0].close()
"""


@dataclass(frozen=True, slots=True)
class Cluster:
    """A Nomad that runs jobs, and the folder of what it runs."""

    nomad: NomadApi
    allocations: Path

    def run(self, spec: JobSpec, *, port: str, items: dict[str, str]) -> None:
        """Register a job with its Variable; its program only listens on `port`."""
        self.nomad.put_variable(variable_path(spec.job_id), items)
        job = self.nomad.parse(render_job(spec))
        (group,) = job["TaskGroups"]
        (task,) = group["Tasks"]
        group["Volumes"], task["VolumeMounts"] = None, None
        task["Driver"] = "raw_exec"
        task["Config"] = {"command": shutil.which("python3"), "args": ["-c", LISTENER.format(port=port)]}
        task["Resources"] |= {"CPU": 50, "MemoryMB": 32}
        for service in [*(group["Services"] or ()), *(task["Services"] or ())]:
            service["Checks"] = [{"Name": "up", "Type": "tcp", "PortLabel": port, "Interval": 10**9, "Timeout": 10**9}]
        self.nomad.register(job, modify_index=0)

    def files(self, spec: JobSpec, name: str) -> list[str]:
        """What stands in a file of each running instance."""
        return [file.read_text(encoding="utf-8") for file in self.allocations.glob(f"*/{spec.job_id}/{name}")]

    def events(self, spec: JobSpec) -> list[str]:
        """What happened to the tasks of a job, in Nomad's words."""
        states = [each["TaskStates"] or {} for each in self.nomad.allocations(spec.job_id)]
        return [event["DisplayMessage"] for state in states for task in state.values() for event in task["Events"]]


@pytest.fixture(scope="module")
def cluster(rig: Rig) -> Iterator[Cluster]:
    cluster = Cluster(rig.nomad(), rig.allocations)
    assert isinstance(REDIS, RedisJob)
    assert isinstance(FRONTEND, FrontendJob)
    assert isinstance(MODEL, ModelJob)
    assert isinstance(ADMIN, AdminJob)
    try:
        cluster.run(REDIS, port="db", items={"store_password": PASSWORD})
        frontend_items = {"store_password": PASSWORD, "admin_token": TOKEN, "curve_secret": FRONTEND_KEY, **KEYS}
        cluster.run(FRONTEND, port="rpc", items=frontend_items)
        cluster.run(MODEL, port="metrics", items={"curve_secret": MODEL_KEY, **KEYS})
        cluster.run(ADMIN, port="http", items={"admin_token": TOKEN})  # the password is missing
        yield cluster
    finally:
        end_all_jobs(rig)
        for spec in (REDIS, FRONTEND, MODEL, ADMIN):
            cluster.nomad.delete_variable(variable_path(spec.job_id))


def test_the_store_s_url_has_its_password_and_the_address_that_consul_knows(cluster: Cluster) -> None:
    (settings,) = wait_until(lambda: cluster.files(REDIS, "secrets/redis.conf"), "redis.conf", within_s=60)
    port = re.search(r"(?m)^port (\d+)$", settings)
    assert port

    expected = [f"redis://:{PASSWORD}@127.0.0.1:{port[1]}/0"] * 2

    wait_until(
        lambda: cluster.files(FRONTEND, "secrets/store.url") == expected, f"{expected} in both frontends", within_s=60
    )
    assert f"requirepass {PASSWORD}\n" in settings
    assert "appendfsync always\n" in settings


def test_a_replica_is_told_where_all_frontends_are_and_gets_its_own_key(cluster: Cluster) -> None:
    def told() -> list[str]:
        (addresses,) = cluster.files(MODEL, "local/rpc-addresses") or [""]
        return addresses.split(",")

    addresses = wait_until(lambda: told() if len(told()) == 2 else [], "the addresses of two frontends", within_s=60)

    assert all(re.fullmatch(r"tcp://127\.0\.0\.1:\d+", address) for address in addresses)
    assert len(set(addresses)) == 2
    assert cluster.files(MODEL, "secrets/curve-secret") == [MODEL_KEY]
    assert cluster.files(MODEL, "local/curve-server-keys") == [KEYS["curve_server_keys"]]
    assert cluster.files(FRONTEND, "secrets/curve-secret") == [FRONTEND_KEY] * 2


def test_an_item_that_is_missing_fails_the_start_and_is_named(cluster: Cluster) -> None:
    def named() -> bool:
        return any('map has no entry for key "store_password"' in event for event in cluster.events(ADMIN))

    wait_until(named, "an event that names store_password", within_s=60)


def test_no_secret_is_in_what_nomad_says_of_the_jobs(cluster: Cluster) -> None:
    said = str([cluster.nomad.job(spec.job_id) for spec in (REDIS, FRONTEND, MODEL, ADMIN)])

    assert "nomadVar" in said
    assert not [secret for secret in (PASSWORD, TOKEN, FRONTEND_KEY, MODEL_KEY) if secret in said]
