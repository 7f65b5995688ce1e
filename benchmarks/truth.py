"""The truth test: no answer belongs to another query or another version, whatever is broken meanwhile.

64 connections, half of them pipelining, ask numbered queries (truth_queries.py) of frontends whose replicas stand behind
a breaking proxy (rig.py), while a nemesis kills, stops, cuts and parts by a seed (acts.py, nemesis.py). Every answer is
judged (truth_judge.py): right, or a row of the table of answers, and none that there is no replica while one was healthy
(truth_health.py). A connection broken by its frontend's end must be explained by an act. After the storm everything must
be whole again, and a last load be answered in calm.

Run: python -m benchmarks.truth --queries 1000000 --seed 7
     python -m benchmarks.truth --queries 1000000 --seed 7 --frontends 3 --replicas 3
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Collection
from math import inf
from pathlib import Path
from typing import Protocol

import uvloop

from benchmarks import truth_queries
from benchmarks.acts import ON_FRONTENDS, Done, Kind, Targets, longest_s, schedule
from benchmarks.checked_answers import Record, Verdict
from benchmarks.checked_load import CheckingClient, Shape
from benchmarks.memory import resident_bytes
from benchmarks.nemesis import Nemesis
from benchmarks.recoveries import Recoveries
from benchmarks.rig import LOOK_EVERY_S, PROXY, Rig, RigError
from benchmarks.rig_plan import Plan
from benchmarks.truth_health import Health
from benchmarks.truth_history import History
from benchmarks.truth_judge import Incidents, Judge

FULL_QUERIES = 1_000_000
MEAN_GAP_S = 0.7  # between acts
SLACK_S = 2.0  # of a loaded machine, beyond the timeout and the longest stop of a frontend
CALM_QUERIES = 2_000
CALM_FIRST = 10**11  # far from every number of the storm, and its outputs are still exact as doubles
WHOLE_WITHIN_S = 15.0
WHOLE_MESH_WITHIN_S = 45.0  # a replica that spent its dials looks for its last frontends once in two seconds
EMPTY_WITHIN_S = 3.0
POISONED_EXIT = 1  # the model's own, when it kills its process
ROAMING_SHARE = 0.5  # of the connections: the others wait for their frontend to come back
_REPORT_EVERY_S = 0.1
_STOOD_STILL_S = 0.5  # a loop that is late by this much was not run, and others may not have been either


Told = Callable[[Done], None]


class Bane(Protocol):
    """What breaks things meanwhile: a Nemesis, or an attack of its own (session_attack.py)."""

    counts: Counter[Kind]

    async def run(self) -> None:
        """Break things until cancelled, or until there has been enough: then the load ends too."""

    def answered(self) -> None:
        """A right answer came."""


class Truth:
    """One run."""

    def __init__(self, rig: Rig, *, seed: int, bane: Callable[[Told, Callable[[], bytes]], Bane]) -> None:
        """`bane` makes what breaks things, told whom to tell of each act, and how to make a request that nobody needs."""
        self._rig = rig
        self._seed = seed
        self._incidents = Incidents()
        self._is_mesh = len(rig.frontends) > 1
        self._frontends = list(rig.frontends)
        self._uids = {name: each.record.uid for each in rig.plan.served for name in each.replica_names()}
        self._health = Health(replicas=self._uids, frontends=self._frontends)
        self._judge = Judge(self._incidents, self._health, frontends=self._frontends)
        self._recoveries = Recoveries(self._frontends)
        self._looks: Counter[bool] = Counter()  # at a frontend and a version: whether a replica was healthy
        vanishing = itertools.cycle(range(-1000, 0))  # numbers that no checked query has, and that kill nobody
        self._bane = bane(self._told, lambda: _request(next(vanishing)))
        self._deaths_seen: Counter[str] = Counter()
        self._ends_seen: Counter[str] = Counter()
        self._starts_seen: Counter[str] = Counter()

    async def run(self, *, queries: int, seconds: float, everywhere: bool = True) -> History:
        """Ask so many queries, for so long at most, in the storm; then see that it is over (`Rig.until_whole`)."""
        memory = self._frontend_mb()
        client = self._client(0, seed=self._seed)
        self._follow_lives()
        tasks = [asyncio.create_task(each) for each in (self._break(client), self._watch(), self._follow())]
        try:
            tally = await client.run_closed(count=queries, seconds=seconds)
        finally:
            for task in tasks:
                task.cancel()
            for task in tasks:
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        self._follow_lives()
        history = History(
            seed=self._seed,
            frontends=len(self._frontends),
            replicas=len(self._uids),
            tally=tally,
            rows=self._judge.rows.copy(),
            endings=self._judge.endings.copy(),
            explained=self._judge.explained.copy(),
            acts=self._bane.counts,
            recoveries=self._recoveries.table(),
        )
        await self._see_the_calm(history, first_number=CALM_FIRST, everywhere=everywhere)
        self._judge.judge_wants(inf)
        history.wants, history.unfound = self._judge.wants, self._judge.unfound
        history.stood_still_s = round(self._health.stood_still_s, 1)
        history.healthy_share = round(self._looks[True] / max(1, self._looks.total()), 4)
        self._judge_deaths(history)
        self._judge_logs(history)
        history.offence_count += self._judge.offence_kinds.total()
        history.offences += self._judge.offences
        history.offence_kinds = dict(self._judge.offence_kinds)
        history.wrong = self._judge.wrong
        history.frontend_mb = (memory, self._frontend_mb())
        return history

    async def _break(self, client: CheckingClient) -> None:
        await self._bane.run()
        client.stop()  # only a bane that has an end comes here

    def _client(self, first_number: int, *, seed: int) -> CheckingClient:
        shape = Shape(
            connections=64,
            pipelining_share=0.5,
            max_pipeline=8,
            timeout_s=truth_queries.TIMEOUT_S + longest_s(Kind.STOP_FRONTEND, is_mesh=self._is_mesh) + SLACK_S,
            roaming_share=ROAMING_SHARE,
            seed=seed,
        )
        return CheckingClient(
            self._rig.addresses,
            make_query=truth_queries.query,
            check=self._judge.check,
            shape=shape,
            on_record=self._note,
            first_number=first_number,
        )

    def _note(self, record: Record) -> None:
        self._look_for_deaths()
        self._judge.note(record)
        if record.verdict is Verdict.RIGHT:
            frontend = self._frontends[record.place]
            self._recoveries.answered_right(frontend, record.started_at, record.started_at + record.latency_s)
            self._bane.answered()

    def _told(self, done: Done) -> None:
        self._health.acted(done)
        self._recoveries.told(done)
        kind, target = done.act.kind, done.act.target
        if kind is Kind.KILL_FRONTEND:
            self._incidents.frontend_ended(target, done.began_at)
        elif kind is Kind.RESTART_FRONTEND:
            self._incidents.frontend_drained(target, done.began_at)
        if kind is Kind.VANISH or (kind in ON_FRONTENDS and not self._is_mesh):
            return  # a lonely frontend's links live through its stops: they are shorter than the heartbeat's timeout
        self._incidents.replica_troubled(done.began_at)
        self._incidents.replica_troubled(done.ends_at)

    def _look_for_deaths(self) -> None:
        """Note replicas that were killed by their input: whoever was alone at one then is taken for poison too."""
        for replica in self._rig.replicas.values():
            for death in replica.deaths[self._deaths_seen[replica.name] :]:
                self._deaths_seen[replica.name] += 1
                self._incidents.replica_troubled(death.at)

    async def _follow(self) -> None:
        """Follow the lives of processes, and judge who was told that there is no replica."""
        last = time.monotonic()
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            now = time.monotonic()
            if now - last > _STOOD_STILL_S:
                self._health.stood_still(last, now)
            last = now
            self._follow_lives()
            self._judge.judge_wants(now)

    def _follow_lives(self) -> None:
        for link, event in self._rig.new_connections():
            if event.is_end:
                self._health.disconnected(link, event.number, event.at)
            else:
                self._health.connected(link, event.number, event.at)
        for process in self._rig.processes:
            for death in process.deaths[self._ends_seen[process.name] :]:
                self._ends_seen[process.name] += 1
                self._health.ended(process.name, death.at)
            if process.starts > self._starts_seen[process.name]:
                self._starts_seen[process.name] = process.starts
                self._health.started(process.name, process.started_at)

    def _look_at_health(self, now: float) -> None:
        for frontend in self._frontends:
            for uid in set(self._uids.values()):
                self._looks[self._health.witness(uid, frontend, now) is not None] += 1

    async def _watch(self) -> None:
        while True:
            asked_at = time.monotonic()
            for name in self._rig.frontends:
                report = await self._rig.report(name)
                if report is not None:
                    self._recoveries.reported(name, report, asked_at)
            self._look_at_health(asked_at)
            await asyncio.sleep(_REPORT_EVERY_S)

    async def _see_the_calm(self, history: History, *, first_number: int, everywhere: bool) -> None:
        """Wait until all is whole, then load once more: nothing of the storm may be left."""
        within_s = WHOLE_MESH_WITHIN_S if self._is_mesh else WHOLE_WITHIN_S
        try:
            history.whole_again_s = round(await self._rig.until_whole(within_s=within_s, everywhere=everywhere), 3)
        except RigError as exc:
            history.offence_count += 1
            history.offences.append(str(exc))
            return
        calm = await self._client(first_number, seed=self._seed + 1).run_closed(count=CALM_QUERIES, seconds=60)
        history.calm_right = calm.verdicts[Verdict.RIGHT] / max(1, calm.queries)
        if calm.unanswered or calm.verdicts[Verdict.BROKEN]:
            history.offence_count += 1
            history.offences.append(f"in the calm after: {calm.describe()}")
        for name in self._rig.frontends:
            await self._must_be_empty(history, name)

    async def _must_be_empty(self, history: History, frontend: str) -> None:
        """Nothing may be in a queue or at a replica once nobody waits: given time for the slowest batch."""
        left, report = 1, None
        gives_up_at = time.monotonic() + EMPTY_WITHIN_S
        while left and time.monotonic() < gives_up_at:
            report = await self._rig.report(frontend)
            if report is not None:
                in_flight = sum(row["in_flight"] for row in report["replicas"])
                left = in_flight + sum(abs(row["queued"]) for row in report["versions"])
        if left:
            history.offence_count += 1
            history.offences.append(f"{frontend} still holds {left} queries: {json.dumps(report)}")

    def _judge_deaths(self, history: History) -> None:
        """No process may end but by the nemesis, or by an input that kills; and none of those more than twice."""
        by_input = 0
        counts: Counter[str] = Counter()
        for death in self._rig.deaths():
            kind = next((kind for kind in ("frontend", PROXY) if death.name.startswith(kind)), "replica")
            reason = signal.Signals(death.signal_sent).name if death.signal_sent else f"exit {death.code}"
            counts[f"{kind}: {reason}"] += 1
            if death.signal_sent:
                continue
            if kind != "replica" or death.code != POISONED_EXIT:
                history.offence_count += 1
                log = self._rig.process(death.name).log
                history.offences.append(f"{death.name} ended by itself with {death.code}: {log[-500:]}")
            by_input += 1
        history.deaths = dict(counts)
        if by_input > 2 * self._judge.poison_sent:
            history.offence_count += 1
            history.offences.append(f"{by_input} replicas ended by {self._judge.poison_sent} inputs; two for each at most")

    def _judge_logs(self, history: History) -> None:
        """Whatever is done to it, a frontend must not meet what nobody thought of."""
        for name, frontend in self._rig.frontends.items():
            log = frontend.log
            if "Traceback" in log:
                history.offence_count += 1
                place = log.index("Traceback")
                history.offences.append(f"{name} raised: {log[max(0, place - 300) : place + 1200]}")

    def _frontend_mb(self) -> float:
        pid = next(iter(self._rig.frontends.values())).pid
        return round(resident_bytes(pid) / 2**20, 1) if pid is not None else 0.0


def _request(number: int) -> bytes:
    query = truth_queries.query(number)
    return (
        f"POST {query.path} HTTP/1.1\r\nHost: vanishing\r\nContent-Length: {len(query.body)}\r\n\r\n".encode() + query.body
    )


async def run(
    folder: Path,
    plan: Plan,
    *,
    queries: int,
    seconds: float,
    mean_gap_s: float = MEAN_GAP_S,
    only: Collection[Kind] = (),
    everywhere: bool = True,
) -> History:
    """Start a rig in `folder`, run the test on it, and return what it showed. `everywhere`: see `Rig.until_whole`."""
    async with Rig(folder, plan) as rig:
        targets = Targets(frontends=list(rig.frontends), replicas=list(rig.replicas), links=rig.links)
        acts = schedule(plan.seed, targets, mean_gap_s=mean_gap_s, only=only)

        def nemesis(told: Told, vanishing: Callable[[], bytes]) -> Bane:
            return Nemesis(rig, acts, told=told, vanishing=vanishing)

        history = await Truth(rig, seed=plan.seed, bane=nemesis).run(queries=queries, seconds=seconds, everywhere=everywhere)
    history.relayed = rig.relayed
    return history


def main() -> int:
    """Run from the command line; the exit code is 1 if there was an offence."""
    parser = argparse.ArgumentParser(description="The truth test: every answer checked while everything breaks.")
    parser.add_argument("--queries", type=int, default=FULL_QUERIES)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=3600, help="at most")
    parser.add_argument("--frontends", type=int, default=1)
    parser.add_argument("--cache-bytes", type=int, default=0, help="of each frontend's prediction cache; 0: none")
    parser.add_argument("--replicas", type=int, default=truth_queries.REPLICAS, help="of each version")
    parser.add_argument("--mean-gap", type=float, default=MEAN_GAP_S, metavar="S", help="between acts of the nemesis")
    parser.add_argument("--only", nargs="+", choices=Kind.__members__, default=[], help="acts of these kinds")
    parser.add_argument("--forked", action="store_true", help="frontends start in milliseconds: for thousands of kills")
    parser.add_argument("--keep", type=Path, help="a folder for logs, which is kept")
    given = parser.parse_args()
    plan = truth_queries.plan(
        frontends=given.frontends,
        replicas=given.replicas,
        seed=given.seed,
        forked=given.forked,
        cache_bytes=given.cache_bytes,
    )
    with contextlib.ExitStack() as stack:
        folder = given.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            history = runner.run(
                run(
                    folder.resolve(),
                    plan,
                    queries=given.queries,
                    seconds=given.seconds,
                    mean_gap_s=given.mean_gap,
                    only=[Kind[name] for name in given.only],
                )
            )
    print(history.describe())
    if given.queries >= FULL_QUERIES and not given.only:  # less is a try-out, not a result
        history.write("truth" if given.frontends == 1 else "truth-mesh")
    return 0 if history.is_good else 1


if __name__ == "__main__":
    sys.exit(main())
