"""An attack on sessions: a frontend is killed and restarted on its port with results under way, thousands of times.

Every start counts its batches from 1 and gives its first sessions the same numbers and routing ids, so whatever of the
last life reached the next one would fit a batch of it. The replayer (replayer.py) sees to it that much does. Lives are as
short as a few batches; the judge is the truth test's.

Run: python -m benchmarks.session_attack --kills 10000
"""

import argparse
import asyncio
import contextlib
import dataclasses
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import uvloop

from benchmarks import truth_queries
from benchmarks.acts import Act, Done, Kind
from benchmarks.rig import Rig
from benchmarks.rig_plan import Plan
from benchmarks.truth import Told, Truth
from benchmarks.truth_history import History
from benchmarks.truth_model import BATCH_S_VARIABLE

FULL_KILLS = 10_000
BATCH_S = 0.02  # of the model: longer than a frontend's start, so that results outlive who asked for them
BATCH_SIZE = 3  # small and fixed: batches of two lives are alike
MOST_ANSWERS = 12  # of a life
LONGEST_DELAY_S = 0.03  # from there to the kill
LIFE_S = 5.0  # a life without an answer ends then
_LOOK_S = 0.001


class Attack:
    """Kills a frontend again and again, each time soon after its first answers. In the place of a Nemesis."""

    def __init__(self, rig: Rig, *, kills: int, seed: int, told: Told) -> None:
        self.counts: Counter[Kind] = Counter()
        self._rig = rig
        self._wanted = kills
        self._chance = random.Random(seed)
        self._told = told
        self._answers = 0

    def answered(self) -> None:
        """A right answer came."""
        self._answers += 1

    async def run(self) -> None:
        """Kill as often as wanted."""
        name, frontend = next(iter(self._rig.frontends.items()))
        while self.counts[Kind.KILL_FRONTEND] < self._wanted:
            self._answers, wanted = 0, self._chance.randint(1, MOST_ANSWERS)
            gives_up_at = time.monotonic() + LIFE_S
            while self._answers < wanted and time.monotonic() < gives_up_at:  # noqa: ASYNC110  # a count, no event
                await asyncio.sleep(_LOOK_S)
            await asyncio.sleep(self._chance.random() * LONGEST_DELAY_S)
            now = time.monotonic()
            self._told(Done(Act(at_s=0.0, kind=Kind.KILL_FRONTEND, target=name), now, now))
            self.counts[Kind.KILL_FRONTEND] += frontend.send(signal.SIGKILL) is not None
            await asyncio.sleep(_LOOK_S)


def plan(*, seed: int) -> Plan:
    """Return the truth test's plan with a slower model, in small batches, behind the replayer."""
    usual = truth_queries.plan(seed=seed, forked=True)
    served = [
        dataclasses.replace(
            each,
            record=dataclasses.replace(each.record, batch_size=BATCH_SIZE),
            settings={BATCH_S_VARIABLE: str(BATCH_S)},
        )
        for each in usual.served
    ]
    return dataclasses.replace(usual, served=served, proxy="replayer")


async def run(folder: Path, *, kills: int, seed: int, seconds: float) -> History:
    """Kill a frontend so often, for so long at most, and return what that showed."""
    async with Rig(folder, plan(seed=seed)) as rig:
        truth = Truth(rig, seed=seed, bane=lambda told, _: Attack(rig, kills=kills, seed=seed, told=told))
        history = await truth.run(queries=sys.maxsize, seconds=seconds)
    history.relayed = rig.relayed
    return history


def main() -> int:
    """Run from the command line; the exit code is 1 if there was an offence."""
    parser = argparse.ArgumentParser(description="Kill a frontend again and again with results under way.")
    parser.add_argument("--kills", type=int, default=FULL_KILLS)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=6 * 3600, help="at most")
    parser.add_argument("--keep", type=Path, help="a folder for logs, which is kept")
    given = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = given.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            history = runner.run(run(folder.resolve(), kills=given.kills, seed=given.seed, seconds=given.seconds))
    print(history.describe())
    if given.kills >= FULL_KILLS:  # less is a try-out, not a result
        history.write("session-attack")
    return 0 if history.is_good else 1


if __name__ == "__main__":
    sys.exit(main())
