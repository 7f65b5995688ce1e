"""A simulated cluster: frontends, replicas of models of all sizes, clients; what is started, killed and asked is said here.

Scenarios are in mesh_simulation_scenarios.py. A cluster lives inside `simulated(loop)` of mesh_simulation_frontend.py.
"""

from __future__ import annotations

import itertools
import random
from bisect import bisect
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from benchmarks.mesh_simulation_frontend import Answers, SimulatedFrontend, Store
from benchmarks.mesh_simulation_loop import SimulatedLoop
from benchmarks.mesh_simulation_network import Network, Tally
from benchmarks.mesh_simulation_replica import SimulatedReplica, Speed
from clipper_nomad.state.records import MICROS, App, Model, ModelVersion, Snapshot
from clipper_nomad.state.watch import COMPARE_S
from clipper_nomad_runtime.mesh import Mode

PROXY = "tcp://fabio:7000"
GRAIN_S = 0.01  # of times that are looked for
MODELS_OF_A_SIZE = 3
SIZES = 10  # 1, 2, 4, ... 256, and what is left


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What a cluster consists of, and how long its queries compute."""

    frontends: int
    replicas: int
    exec_s: float = 0.5
    slo_s: float = 2.0
    mode: Mode = Mode.DIRECT
    seed: int = 1
    sizes: int = SIZES
    models_of_a_size: int = MODELS_OF_A_SIZE

    def models(self) -> list[tuple[ModelVersion, int]]:
        """Return every model's version and how many replicas it has: as many models of 1 as of 2, 4, 8 and so on."""
        made: list[tuple[ModelVersion, int]] = []
        left = self.replicas
        for number in range(self.sizes * self.models_of_a_size):
            power, nth = divmod(number, self.models_of_a_size)
            count = left // (self.models_of_a_size - nth) if power == self.sizes - 1 else 2**power
            left -= count
            name = f"model-{power}-{nth}"
            version = ModelVersion(
                name=name, version="1", uid=f"{number:032x}", input_type="doubles", batch_size=1, replicas=count
            )
            made.append((version, count))
        assert left == 0, "so many models do not come to so many replicas"
        return made


class Cluster:
    """Everything that runs. `answers` has what the clients got."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.loop = SimulatedLoop()
        self.network = Network(self.loop, seed=shape.seed)
        self.answers = Answers(self.loop)
        self.store = Store(self.loop)
        self.chance = random.Random(shape.seed)
        self.models = shape.models()
        self.snapshot = _snapshot([version for version, _ in self.models], shape.slo_s)
        self.frontends = [
            SimulatedFrontend(self.network, number, answers=self.answers, store=self.store)
            for number in range(shape.frontends)
        ]
        self.network.proxies[PROXY] = list(self.frontends)
        self.replicas = [
            SimulatedReplica(self.network, version, f"{version.name}-{number:04d}", speed=Speed(start_s=shape.exec_s),
                             seed=self.chance.getrandbits(32), seeds=[PROXY], mode=shape.mode)
            for version, count in self.models
            for number in range(count)
        ]  # fmt: skip
        self.chance.shuffle(self.replicas)
        self.lost_with_frontend = 0

    @property
    def live(self) -> list[SimulatedFrontend]:
        """The frontends that run."""
        return [frontend for frontend in self.frontends if frontend.is_alive]

    # ---- life

    def start_frontends(self) -> None:
        """Start all at once, with the store there."""
        for frontend in self.frontends:
            frontend.start(self.snapshot)
            self.loop.call_later(COMPARE_S * self.chance.random(), frontend.keep_present, COMPARE_S)

    def introduce_frontends(self) -> None:
        """Let every frontend know the others without links or ticks: where only what replicas do is of interest."""
        for frontend in self.frontends:
            frontend.listen(self.snapshot)
            for other in self.frontends:
                frontend.mesh.roster.heard(other.mesh.roster.own, self.loop.time())

    def start_replicas(self, *, within_s: float) -> None:
        """Let every replica become ready at a random instant of the next seconds."""
        for replica in self.replicas:
            self.loop.call_later(within_s * self.chance.random(), replica.start)

    def kill(self, frontends: Sequence[SimulatedFrontend]) -> None:
        """End frontends without a word; what their clients wait for is lost with them."""
        for frontend in frontends:
            self.lost_with_frontend += sum(len(endpoint.owed) for endpoint in frontend.serving.endpoints.values())
            frontend.kill()

    def run_for(self, seconds: float) -> None:
        """Let time pass."""
        self.loop.run_until(self.loop.time() + seconds)

    def run_until(self, condition: Callable[[], bool], *, at_most_s: float, grain_s: float = GRAIN_S) -> float | None:
        """Let time pass until `condition` holds; return how long that took, None if it does not hold in time."""
        begun = self.loop.time()
        while not condition():
            if self.loop.time() - begun >= at_most_s:
                return None
            self.run_for(grain_s)
        return self.loop.time() - begun

    # ---- what holds

    def is_meshed(self) -> bool:
        """Whether every frontend is linked to every other."""
        others = len(self.live) - 1
        return all(sum(bool(row["linked"]) for row in frontend.mesh.report()) >= others for frontend in self.live)

    def is_covered(self) -> bool:
        """Whether every replica has all the links that it wants."""
        return all(replica.is_covered for replica in self.replicas if replica.is_alive)

    def reaches_all(self) -> bool:
        """Whether every frontend can answer every model, by a replica of its own or by a peer's."""
        return all(any(frontend.reachable(version.uid)) for frontend in self.live for version, _ in self.models)

    def unreached(self) -> int:
        """Return how many pairs of a frontend and a model there are without an answer."""
        return sum(not any(frontend.reachable(version.uid)) for frontend in self.live for version, _ in self.models)

    # ---- clients

    def load(self, utilisation: float, seconds: float) -> float:
        """Let clients ask, each at a random live frontend, every model for this share of what its replicas can do.

        They ask at random instants, independently of one another. Return how many queries a second that is, of all models.
        """
        names = [version.name for version, _ in self.models]
        sums = list(itertools.accumulate(count for _, count in self.models))
        per_s = utilisation * sums[-1] / self.shape.exec_s
        chance, loop, end = self.chance, self.loop, self.loop.time() + seconds
        alive = self.live

        def arrive() -> None:
            nonlocal alive
            if loop.time() >= end:
                return
            frontend = chance.choice(alive)
            if not frontend.is_alive:
                alive = self.live
                frontend = chance.choice(alive)
            frontend.ask(names[bisect(sums, chance.random() * sums[-1])], chance.random())
            loop.call_later(chance.expovariate(per_s), arrive)

        loop.call_later(chance.expovariate(per_s), arrive)
        return per_s

    def relayed(self) -> Counter[str]:
        """Return by model how many queries were given to peers so far."""
        total: Counter[str] = Counter()
        for frontend in self.frontends:
            for dispatch in frontend.serving.dispatches.values():
                total[dispatch.record.name] += dispatch.counters.relayed
        return total

    def traffic(self) -> Iterator[tuple[bool, Tally]]:
        """Every live process: whether it is a frontend, and its messages so far."""
        yield from ((True, frontend.traffic.total()) for frontend in self.live)
        yield from ((False, replica.traffic.total()) for replica in self.replicas if replica.is_alive)


def _snapshot(versions: Sequence[ModelVersion], slo_s: float) -> Snapshot:
    apps = {
        version.name: App(name=version.name, input_type="doubles", default_output="", slo_micros=round(slo_s * MICROS),
                          linked_models=(version.name,))
        for version in versions
    }  # fmt: skip
    return Snapshot(
        store_id="store",
        revision=1,
        apps=apps,
        models={version.name: Model(name=version.name, current_version="1") for version in versions},
        versions={version.key: version for version in versions},
    )
