"""The truth test: no answer belongs to another query or another version, whatever is broken meanwhile.

64 connections, half of them pipelining, ask numbered queries (truth_queries.py) of a frontend whose replicas stand behind
a breaking proxy (rig.py), while a nemesis kills, stops, cuts and freezes by a seed (nemesis.py). Every answer is judged
(truth_judge.py): right, or a row of the table of answers. A connection broken by the frontend's end must be explained by
an act. After the storm everything must be whole again, and a last load be answered in calm.

Run: python -m benchmarks.truth --queries 1000000 --seed 7
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
from pathlib import Path
from typing import Protocol

import uvloop

from benchmarks import truth_queries
from benchmarks.checked_answers import Record, Verdict
from benchmarks.checked_load import CheckingClient, Shape
from benchmarks.memory import resident_bytes
from benchmarks.nemesis import LONGEST_STOP_S, Done, Kind, Nemesis, Targets, schedule
from benchmarks.recoveries import Recoveries
from benchmarks.rig import Rig, RigError
from benchmarks.truth_history import History
from benchmarks.truth_judge import Incidents, Judge

FULL_QUERIES = 1_000_000
MEAN_GAP_S = 0.7  # between acts
SLACK_S = 2.0  # of a loaded machine, beyond the timeout and the longest stop of a frontend
CALM_QUERIES = 2_000
CALM_FIRST = 10**11  # far from every number of the storm, and its outputs are still exact as doubles
WHOLE_WITHIN_S = 15.0
EMPTY_WITHIN_S = 3.0
POISONED_EXIT = 1  # the model's own, when it kills its process
_REPORT_EVERY_S = 0.1


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
        self._judge = Judge(self._incidents)
        self._recoveries = Recoveries()
        vanishing = itertools.cycle(range(-1000, 0))  # numbers that no checked query has, and that kill nobody
        self._bane = bane(self._told, lambda: _request(next(vanishing)))
        self._deaths_seen: Counter[str] = Counter()

    async def run(self, *, queries: int, seconds: float) -> History:
        """Ask so many queries, for so long at most, in the storm; then see that it is over."""
        memory = self._frontend_mb()
        client = self._client(0, seed=self._seed)
        tasks = [asyncio.create_task(self._break(client)), asyncio.create_task(self._watch())]
        try:
            tally = await client.run_closed(count=queries, seconds=seconds)
        finally:
            for task in tasks:
                task.cancel()
            for task in tasks:
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        history = History(
            seed=self._seed,
            tally=tally,
            rows=self._judge.rows.copy(),
            endings=self._judge.endings.copy(),
            explained=self._judge.explained.copy(),
            acts=self._bane.counts,
            recoveries=self._recoveries.table(),
        )
        await self._see_the_calm(history, first_number=CALM_FIRST)
        self._judge_deaths(history)
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
            timeout_s=truth_queries.TIMEOUT_S + LONGEST_STOP_S[Kind.STOP_FRONTEND] + SLACK_S,
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
            self._recoveries.answered_right(record.started_at, record.started_at + record.latency_s)
            self._bane.answered()

    def _told(self, done: Done) -> None:
        self._recoveries.told(done)
        match done.act.kind:
            case Kind.KILL_FRONTEND:
                self._incidents.frontend_ended(done.began_at)
            case Kind.RESTART_FRONTEND:
                self._incidents.frontend_drained(done.began_at)
            case Kind.STOP_FRONTEND | Kind.VANISH:
                pass  # links live through it: the longest stop is shorter than their heartbeat's timeout
            case _:
                self._incidents.replica_troubled(done.began_at)
                self._incidents.replica_troubled(done.ends_at)

    def _look_for_deaths(self) -> None:
        """Note replicas that were killed by their input: whoever was alone at one then is taken for poison too."""
        for replica in self._rig.replicas.values():
            for death in replica.deaths[self._deaths_seen[replica.name] :]:
                self._deaths_seen[replica.name] += 1
                self._incidents.replica_troubled(death.at)

    async def _watch(self) -> None:
        while True:
            asked_at = time.monotonic()
            for name in self._rig.frontends:
                report = await self._rig.report(name)
                if report is not None:
                    self._recoveries.reported(report, asked_at)
            await asyncio.sleep(_REPORT_EVERY_S)

    async def _see_the_calm(self, history: History, *, first_number: int) -> None:
        """Wait until all is whole, then load once more: nothing of the storm may be left."""
        try:
            history.whole_again_s = round(await self._rig.until_whole(within_s=WHOLE_WITHIN_S), 3)
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
            is_frontend = death.name in self._rig.frontends
            reason = signal.Signals(death.signal_sent).name if death.signal_sent else f"exit {death.code}"
            counts[f"{'frontend' if is_frontend else 'replica'}: {reason}"] += 1
            if death.signal_sent:
                continue
            if is_frontend or death.code != POISONED_EXIT:
                history.offence_count += 1
                log = (self._rig.frontends | self._rig.replicas)[death.name].log
                history.offences.append(f"{death.name} ended by itself with {death.code}: {log[-500:]}")
            by_input += 1
        history.deaths = dict(counts)
        if by_input > 2 * self._judge.poison_sent:
            history.offence_count += 1
            history.offences.append(f"{by_input} replicas ended by {self._judge.poison_sent} inputs; two for each at most")

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
    *,
    queries: int,
    seed: int,
    seconds: float,
    frontends: int = 1,
    mean_gap_s: float = MEAN_GAP_S,
    only: Collection[Kind] = (),
    forked: bool = False,
) -> History:
    """Start a rig in `folder`, run the test on it, and return what it showed."""
    async with Rig(folder, truth_queries.plan(frontends=frontends, seed=seed, forked=forked)) as rig:
        targets = Targets(frontends=list(rig.frontends), replicas=list(rig.replicas), links=rig.links)
        acts = schedule(seed, targets, mean_gap_s=mean_gap_s, only=only)

        def nemesis(told: Told, vanishing: Callable[[], bytes]) -> Bane:
            return Nemesis(rig, acts, told=told, vanishing=vanishing)

        history = await Truth(rig, seed=seed, bane=nemesis).run(queries=queries, seconds=seconds)
    history.relayed = rig.relayed
    return history


def main() -> int:
    """Run from the command line; the exit code is 1 if there was an offence."""
    parser = argparse.ArgumentParser(description="The truth test: every answer checked while everything breaks.")
    parser.add_argument("--queries", type=int, default=FULL_QUERIES)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=3600, help="at most")
    parser.add_argument("--frontends", type=int, default=1)
    parser.add_argument("--mean-gap", type=float, default=MEAN_GAP_S, metavar="S", help="between acts of the nemesis")
    parser.add_argument("--only", nargs="+", choices=Kind.__members__, default=[], help="acts of these kinds")
    parser.add_argument("--forked", action="store_true", help="frontends start in milliseconds: for thousands of kills")
    parser.add_argument("--keep", type=Path, help="a folder for logs, which is kept")
    given = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = given.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            history = runner.run(
                run(
                    folder.resolve(),
                    queries=given.queries,
                    seed=given.seed,
                    seconds=given.seconds,
                    frontends=given.frontends,
                    mean_gap_s=given.mean_gap,
                    forked=given.forked,
                    only=[Kind[name] for name in given.only],
                )
            )
    print(history.describe())
    if given.queries >= FULL_QUERIES and not given.only:  # less is a try-out, not a result
        history.write("truth")
    return 0 if history.is_good else 1


if __name__ == "__main__":
    sys.exit(main())
