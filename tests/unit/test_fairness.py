"""Several frontends share the replicas of a model, and nobody waits much longer for it: the real code on simulated time.

Issue 4: 4 frontends × 4 replicas × 50 ms batches at 70 % load: p99 at most twice that of one frontend, and no replica rests
while a query waits longer than one batch. Figures: docs/scaling.md, "Fairness".
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import pytest

from benchmarks.mesh_simulation_cluster import Cluster, Shape
from benchmarks.mesh_simulation_frontend import Answers, SimulatedFrontend, simulated
from benchmarks.mesh_simulation_loop import SimulatedLoop
from benchmarks.mesh_simulation_network import Network
from benchmarks.mesh_simulation_replica import SimulatedReplica, Speed
from clipper_nomad.state.records import MICROS, App, Model, ModelVersion, Snapshot

BATCH_S = 0.05
REPLICAS = 4
LOAD = 0.7
SECONDS = 15.0
LOOK_S = 0.002  # how often it is looked at who rests and who waits: about ten times the way there and back
SEEDS = (1, 2, 3)

Where = Callable[[random.Random, list[SimulatedFrontend]], SimulatedFrontend]


@pytest.fixture(autouse=True)
def _no_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, "clipper_nomad_frontend")


@dataclass(frozen=True, slots=True)
class Seen:
    """What a run showed, in seconds: the clients' p99; the longest rest of a replica while a query waited over a batch."""

    p99_s: float
    rest_s: float


def anywhere(chance: random.Random, frontends: list[SimulatedFrontend]) -> SimulatedFrontend:
    return chance.choice(frontends)


def at_the_first(chance: random.Random, frontends: list[SimulatedFrontend]) -> SimulatedFrontend:
    return frontends[0]


def run(frontends: int, *, seed: int, batch_size: int = 1, where: Where = anywhere) -> Seen:
    """Let clients ask at random instants for LOAD times what the replicas can answer; every batch takes BATCH_S."""
    loop = SimulatedLoop()
    network, answers, chance = Network(loop, seed=seed), Answers(loop), random.Random(seed)
    version = ModelVersion(name="m", version="1", uid="uid", input_type="doubles", batch_size=batch_size)
    with simulated(loop):
        team = [
            SimulatedFrontend(network, number, answers=answers, seeds=["tcp://10.0.0.0:7000"]) for number in range(frontends)
        ]
        replicas = [
            SimulatedReplica(network, version, f"r{number}", speed=Speed(start_s=BATCH_S), seed=number,
                             seeds=[frontend.address for frontend in team])
            for number in range(REPLICAS)
        ]  # fmt: skip
        for frontend in team:
            frontend.start(catalog(version))
        for replica in replicas:
            replica.start()
        loop.run_until(loop.time() + 2.0)
        assert all(len(frontend.mesh.roster.entries) == frontends for frontend in team)
        end = loop.time() + SECONDS

        def arrive() -> None:
            if loop.time() < end:
                where(chance, team).ask("m", chance.random())
                loop.call_later(chance.expovariate(LOAD * REPLICAS * batch_size / BATCH_S), arrive)

        arrive()
        rests = dict.fromkeys(replicas, 0.0)
        longest = 0.0
        while loop.time() < end:
            loop.run_until(loop.time() + LOOK_S)
            somebody_waits = longest_wait(team, replicas, loop.time()) > BATCH_S
            for replica in replicas:
                rests[replica] = rests[replica] + LOOK_S if somebody_waits and not replica.is_busy else 0.0
            longest = max(longest, *rests.values())
        loop.run_until(end + 5.0)
    assert answers.verdicts["answered"] == answers.asked
    latencies = sorted(answers.latencies["m"])
    return Seen(latencies[len(latencies) * 99 // 100], longest)


def catalog(version: ModelVersion) -> Snapshot:
    app = App(name="m", input_type="doubles", default_output="", slo_micros=MICROS, linked_models=("m",))
    models = {"m": Model(name="m", current_version="1")}
    return Snapshot(store_id="s", revision=1, apps={"m": app}, models=models, versions={version.key: version})


def longest_wait(team: list[SimulatedFrontend], replicas: list[SimulatedReplica], now: float) -> float:
    """How long ago the query was asked that waits longest: in a queue, or in a batch that no replica has begun."""
    begun = {(h.epoch, h.session, h.batch) for replica in replicas if (h := replica.begun) is not None}
    longest = 0.0
    for frontend in team:
        serving = frontend.serving
        executed = {
            query
            for replica in serving.dispatches["uid"].replicas.all.values()
            for batch in replica.in_flight.values()
            if (serving.sessions.epoch, replica.session.id, batch.id) in begun
            for query in batch.queries
        }
        oldest = next((query for query in serving.endpoints["m"].owed if query not in executed), None)
        if oldest is not None:
            longest = max(longest, now - oldest.arrived)
    return longest


def ratio(batch_size: int, where: Where = anywhere) -> float:
    """How many times longer the p99 is with four frontends than with one: the median of some runs."""
    return median(
        run(4, seed=seed, batch_size=batch_size, where=where).p99_s
        / run(1, seed=seed, batch_size=batch_size, where=where).p99_s
        for seed in SEEDS
    )


def test_with_four_frontends_the_p99_is_at_most_twice_that_of_one() -> None:
    assert ratio(batch_size=1) <= 2.0


def test_clients_that_all_ask_the_same_of_four_frontends_wait_no_longer_than_with_one() -> None:
    assert ratio(batch_size=1, where=at_the_first) <= 1.1


def test_frontends_do_not_go_through_many_replicas_in_step() -> None:
    """All of them used to begin with the replica that had joined first: each was asked by all at once, and then rested."""
    cluster = Cluster(Shape(frontends=8, replicas=200, sizes=1, models_of_a_size=1))
    with simulated(cluster.loop):
        cluster.start_frontends()
        cluster.run_for(1.0)
        cluster.start_replicas(within_s=1.0)
        cluster.run_for(3.0)

        cluster.load(0.3, 10.0)
        cluster.run_for(20.0)

    (latencies,) = cluster.answers.latencies.values()
    assert median(latencies) == pytest.approx(cluster.shape.exec_s, rel=0.01)


def test_with_four_frontends_batches_that_grow_do_not_wait_behind_those_of_all_others() -> None:
    assert ratio(batch_size=8) <= 2.0


def test_no_replica_rests_while_a_query_waits_longer_than_a_batch() -> None:
    assert max(run(4, seed=seed).rest_s for seed in SEEDS) <= BATCH_S
