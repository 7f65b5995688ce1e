"""What is asked of the simulated mesh: each scenario is a function that returns a Table of figures.

Order matters where a cluster is passed on: it is covered, then rests, then is loaded, then loses frontends and its store.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean

from benchmarks.mesh_simulation_cluster import Cluster, Shape
from benchmarks.mesh_simulation_frontend import SimulatedFrontend, simulated
from benchmarks.mesh_simulation_network import Tally
from clipper_nomad.protocol.links import MOST_LINKS
from clipper_nomad.state.records import Snapshot
from clipper_nomad_frontend.roster import FORGOTTEN_AFTER_S
from clipper_nomad_runtime.mesh import Mode

RESTS_S = 5.0
WARM_S = 3.0
HEARTBEATS_A_SECOND = 8  # on a connection: each end asks every 0.5 s, and the other answers
ENOUGH_S = 60.0

Cell = str | int | float | None


@dataclass(slots=True)
class Table:
    """Figures of one scenario. `notes` stand below it."""

    title: str
    head: list[str]
    rows: list[list[Cell]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def at(ordered: Sequence[float], share: float) -> float | None:
    """Return the value below which `share` of the ordered values lie."""
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else None


def cover(cluster: Cluster, *, within_s: float = 1.0) -> Table:
    """Start everything: how long until all is linked, and what it takes."""
    table = Table("Time to cover, from nothing", ["", "figure"])
    shape, loop = cluster.shape, cluster.loop
    cluster.start_frontends()
    meshed = cluster.run_until(cluster.is_meshed, at_most_s=ENOUGH_S)
    rows = table.rows
    rows.append(["every frontend linked to every other, s after all start at once", meshed])
    rows.append(
        [
            "presence messages through the store until then, sent / received",
            f"{cluster.store.published} / {cluster.store.delivered}",
        ]
    )
    cluster.run_for(2.0)
    begun = loop.time()
    cluster.start_replicas(within_s=within_s)
    reached = cluster.run_until(cluster.reaches_all, at_most_s=ENOUGH_S, grain_s=0.05)
    cluster.run_until(lambda: all(replica.covered_at for replica in cluster.replicas), at_most_s=ENOUGH_S, grain_s=0.05)
    covered = [replica.covered_at for replica in cluster.replicas if replica.covered_at is not None]
    dials = sorted(replica.dials_when_covered for replica in cluster.replicas)
    links = sorted(cluster.network.count(frontend.address) for frontend in cluster.frontends)
    rows.append([f"replicas become ready within, s ({shape.replicas} of them)", within_s])
    rows.append(["every frontend can answer every model, own or by relay, s after the first is ready", reached])
    rows.append(
        [
            f"every replica has its min(F, {MOST_LINKS}) links, s",
            max(covered) - begun if len(covered) == len(cluster.replicas) else None,
        ]
    )
    rows.append(["dials of a replica until then, mean / most", f"{fmean(dials):.2f} / {dials[-1]}"])
    rows.append(["connections at a frontend, fewest / mean / most", f"{links[0]} / {fmean(links):.0f} / {links[-1]}"])
    rows.append(
        [
            "policy code of a frontend for all hellos, CPU s (this machine), mean / most",
            _spread(f.cpu_s["HELLO"] for f in cluster.frontends),
        ]
    )
    rows.append(["messages that broke the protocol", sum(frontend.bad_messages for frontend in cluster.frontends)])
    return table


def rest(cluster: Cluster) -> Table:
    """Let nothing happen: what does the mesh itself cost?"""
    cluster.run_for(2.0)
    before = [(frontend.traffic.total(), frontend.cpu_s["ANNOUNCE"]) for frontend in cluster.live]
    replicas_before = [replica.traffic.total() for replica in cluster.replicas]
    cluster.run_for(RESTS_S)
    frontends = [_less(frontend.traffic.total(), was) for frontend, (was, _) in zip(cluster.live, before, strict=True)]
    replicas = [_less(replica.traffic.total(), was) for replica, was in zip(cluster.replicas, replicas_before, strict=True)]
    cpu = [frontend.cpu_s["ANNOUNCE"] - was for frontend, (_, was) in zip(cluster.live, before, strict=True)]
    connections = fmean(cluster.network.count(frontend.address) for frontend in cluster.live) + len(cluster.live) - 1
    table = Table("At rest, a process and second", ["", "frontend", "replica"])
    links = min(cluster.shape.frontends, MOST_LINKS)
    table.rows += [
        ["connections", round(connections), links],
        ["messages of ours, sent and received", _per_s(frontends), _per_s(replicas)],
        ["kB of ours, sent and received", _kb_per_s(frontends), _kb_per_s(replicas)],
        [
            "heartbeats of libzmq's own thread, sent and received",
            round(connections * HEARTBEATS_A_SECOND),
            links * HEARTBEATS_A_SECOND,
        ],
        ["CPU ms to obey announcements, without parsing them (this machine)", round(fmean(cpu) / RESTS_S * 1e3, 1), None],
    ]
    return table


def load(cluster: Cluster, *, utilisation: float, seconds: float) -> Table:
    """Ask every model for a share of what its replicas can do: who waits how long, what is relayed, who works?"""
    shape = cluster.shape
    counts = [count for _, count in cluster.models]
    per_s = cluster.load(utilisation, WARM_S + seconds)
    cluster.run_for(WARM_S)
    busy_before = {replica: replica.busy_s for replica in cluster.replicas}
    relayed_before = cluster.relayed()
    cluster.answers.latencies.clear()
    cluster.answers.verdicts.clear()
    cluster.run_for(seconds)
    relayed = cluster.relayed()
    relayed.subtract(relayed_before)
    answers = cluster.answers
    failed = sum(answers.verdicts.values()) - answers.verdicts["answered"]
    table = Table(
        f"Under load: each model asked for {utilisation:.0%} of what its replicas can do, {shape.exec_s} s a query",
        [
            "replicas of the model",
            "relayed",
            "expected: (1 - K/F)^replicas",
            "p50 s",
            "p99 s",
            "replicas busy: p5",
            "median",
            "p95",
        ],
    )
    for size in sorted(set(counts)):
        names = {version.name for version, count in cluster.models if count == size}
        latencies = sorted(value for name in names for value in answers.latencies.get(name, ()))
        busy = sorted(
            (replica.busy_s - busy_before[replica]) / seconds
            for replica in cluster.replicas
            if replica.version.name in names
        )
        share = sum(relayed[name] for name in names) / max(1, len(latencies))
        away = 1 - min(MOST_LINKS, shape.frontends) / shape.frontends
        table.rows.append(
            [size, _percent(share), _percent(away**size), at(latencies, 0.5), at(latencies, 0.99),
             *(_percent(at(busy, part) or 0.0) for part in (0.05, 0.5, 0.95))]
        )  # fmt: skip
    answered = max(1, answers.verdicts["answered"])
    table.notes.append(
        f"{answered} answers, {failed} failed; {_percent(sum(relayed.values()) / answered)} of all queries were relayed. "
        f"Asked: {per_s:.0f} queries a second."
    )
    cluster.run_until(
        lambda: not any(frontend.serving.owes_answers for frontend in cluster.live), at_most_s=ENOUGH_S, grain_s=0.5
    )
    return table


def lose(cluster: Cluster, victims: Sequence[SimulatedFrontend], *, utilisation: float, watch_s: float) -> Table:
    """Kill frontends at once while clients ask, for `watch_s`: who notices, and for how long?"""
    count = len(cluster.live)
    table = Table(f"{len(victims)} of {count} frontends killed at once, watched for {watch_s:.0f} s", ["", "figure"])
    cluster.load(utilisation, watch_s)
    cluster.run_for(1.0)
    answers = cluster.answers
    answers.verdicts.clear()
    answers.failed_at.clear()
    lost_before, relayed_before = cluster.lost_with_frontend, sum(cluster.relayed().values())
    dials_before = Counter({replica.name: replica.traffic.dials for replica in cluster.replicas})
    killed_at = cluster.loop.time()
    cluster.kill(victims)
    cluster.run_for(0.01)
    cut_off = sum(replica.mesh.open_count == 0 for replica in cluster.replicas)
    unreached = cluster.unreached()
    reached = cluster.run_until(cluster.reaches_all, at_most_s=ENOUGH_S)
    linked = cluster.run_until(lambda: all(r.mesh.open_count for r in cluster.replicas), at_most_s=ENOUGH_S)
    gone = {frontend.name for frontend in victims}
    forgotten = cluster.run_until(
        lambda: not any(entry.frontend in gone for frontend in cluster.live for entry in frontend.mesh.roster.others),
        at_most_s=watch_s, grain_s=0.05,
    )  # fmt: skip
    forgotten_at = cluster.loop.time() - killed_at if forgotten is not None else None
    dials = [replica.traffic.dials - dials_before[replica.name] for replica in cluster.replicas]
    covered = None
    if forgotten is not None:
        covered = cluster.run_until(cluster.is_covered, at_most_s=ENOUGH_S, grain_s=0.05)
    cluster.run_for(max(0.0, killed_at + watch_s - cluster.loop.time()))
    answered = answers.verdicts["answered"]
    failed = sum(answers.verdicts.values()) - answered
    last = max(answers.failed_at, default=None)
    table.rows += [
        ["queries that died with their frontend", cluster.lost_with_frontend - lost_before],
        ["queries answered after the kill / failed", f"{answered} / {failed}"],
        ["the last failure, s after the kill", None if last is None else last - killed_at],
        ["relayed of them", _percent((sum(cluster.relayed().values()) - relayed_before) / max(1, answered))],
        ["replicas left without any link, just after", cut_off],
        ["pairs of a frontend and a model that it cannot answer, just after", unreached],
        ["every frontend answers every model again, s", None if reached is None else reached + 0.01],
        ["every replica has a link again, s", None if linked is None or reached is None else reached + linked + 0.01],
        ["the dead are forgotten everywhere, s", forgotten_at],
        ["every replica has all its links again, s", None if covered is None else (forgotten_at or 0.0) + covered],
        [f"dials of a replica in {forgotten_at or watch_s:.0f} s, mean / most", f"{fmean(dials):.1f} / {max(dials)}"],
    ]
    return table


def empty_store(cluster: Cluster, *, utilisation: float) -> Table:
    """Take the store away for longer than a frontend is remembered, and bring it back empty."""
    table = Table("The store is away for 35 s and comes back empty", ["", "figure"])
    entries = _entries(cluster)
    connections = [cluster.network.count(frontend.address) for frontend in cluster.live]
    cluster.answers.verdicts.clear()
    cluster.load(utilisation, FORGOTTEN_AFTER_S + 10.0)
    cluster.store.is_away = True
    cluster.run_for(FORGOTTEN_AFTER_S + 5.0)
    cluster.store.is_away = False
    empty = Snapshot(store_id="", revision=0)
    for frontend in cluster.live:
        with cluster.loop.running():
            frontend.catalog.accept(empty)
    cluster.run_for(6.0)
    verdicts = cluster.answers.verdicts
    catalogs = [frontend.catalog for frontend in cluster.live]
    table.rows += [
        ["entries of rosters lost", entries - _entries(cluster)],
        ["connections lost", sum(connections) - sum(cluster.network.count(frontend.address) for frontend in cluster.live)],
        ["frontends that serve their catalog on / report the conflict",
         f"{sum(c.served is not None for c in catalogs)} / {sum(c.conflict is not None for c in catalogs)}"],
        ["queries answered / failed", f"{verdicts['answered']} / {sum(verdicts.values()) - verdicts['answered']}"],
    ]  # fmt: skip
    return table


def proxy(shape: Shape, frontends: Iterable[int], *, at_most_s: float) -> Table:
    """Let replicas reach frontends by nothing but a proxy that balances dials."""
    table = Table(
        f"`proxy`: {shape.replicas} replicas that reach nothing but a proxy which picks a frontend at random",
        ["frontends", "links wanted", "dials until covered: mean", "most", "covered after s: median", "p99", "not covered",
         "links of those, mean", "dials a second, of all, in the first 2 s", "at the end"],
    )  # fmt: skip
    for count in frontends:
        cluster = Cluster(replace(shape, frontends=count, mode=Mode.PROXY))
        with simulated(cluster.loop):
            cluster.introduce_frontends()
            cluster.network.direct_works = False
            cluster.start_replicas(within_s=1.0)
            begun = cluster.loop.time()
            cluster.run_for(2.0)
            first = sum(replica.traffic.dials for replica in cluster.replicas)
            cluster.run_for(at_most_s - 12.0)
            before = sum(replica.traffic.dials for replica in cluster.replicas)
            cluster.run_for(10.0)
        done = [replica for replica in cluster.replicas if replica.covered_at is not None]
        times = sorted((replica.covered_at or 0.0) - begun for replica in done)
        dials = [replica.dials_when_covered for replica in done]
        most = max(dials, default=None)
        rest_links = [replica.mesh.open_count for replica in cluster.replicas if replica.covered_at is None]
        table.rows.append(
            [count, min(count, MOST_LINKS), fmean(dials) if dials else None, most, at(times, 0.5), at(times, 0.99),
             len(cluster.replicas) - len(done), fmean(rest_links) if rest_links else None, first / 2.0,
             (sum(replica.traffic.dials for replica in cluster.replicas) - before) / 10.0]
        )  # fmt: skip
    table.notes.append(f"Watched for {at_most_s:.0f} s. Relay covers what is not linked meanwhile.")
    return table


def few_frontends(shape: Shape) -> Table:
    """Give all replicas to few frontends: what does one frontend pay for each connection?"""
    table = Table("Few frontends: what a frontend pays when all replicas of a few versions come within a second",
                  ["frontends", "replicas at each", "CPU s for all hellos (this machine)", "ms a hello"])  # fmt: skip
    for part in (10, 4, 2, 1):
        replicas = shape.replicas // part
        cluster = Cluster(replace(shape, replicas=replicas, sizes=1, models_of_a_size=1))
        with simulated(cluster.loop):
            begun = time.perf_counter()
            cluster.introduce_frontends()
            cluster.start_replicas(within_s=1.0)
            cluster.run_for(4.0)
        cpu_s = fmean(frontend.cpu_s["HELLO"] for frontend in cluster.frontends)
        at_each = max(cluster.network.count(frontend.address) for frontend in cluster.frontends)
        table.rows.append([shape.frontends, at_each, cpu_s, cpu_s / max(1, at_each) * 1e3])
        if time.perf_counter() - begun > ENOUGH_S:
            table.notes.append("More was not tried: it took too long.")
            break
    return table


def _entries(cluster: Cluster) -> int:
    return sum(len(frontend.mesh.roster.entries) for frontend in cluster.live)


def _less(now: Tally, before: Tally) -> Tally:
    return Tally(now.messages - before.messages, now.octets - before.octets)


def _per_s(tallies: Sequence[Tally]) -> float:
    return round(fmean(tally.messages for tally in tallies) / RESTS_S, 1)


def _kb_per_s(tallies: Sequence[Tally]) -> float:
    return round(fmean(tally.octets for tally in tallies) / RESTS_S / 1000, 1)


def _percent(share: float) -> str:
    return f"{share:.1%}" if share < 0.1 else f"{share:.0%}"


def _spread(values: Iterable[float]) -> str:
    found = list(values)
    return f"{fmean(found):.2f} / {max(found):.2f}"
