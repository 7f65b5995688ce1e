"""What can befall a system under test, and a schedule of it, made from a seed. Pure; nemesis.py carries it out.

`schedule` yields Acts without end; the same seed yields the same ones. Processes are named as the rig names them; a link
is named after its two ends, `replica>frontend` or `frontend>frontend`, the one that dials first (rig_plan.link_name).
"""

import random
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from benchmarks.tcp_proxy import Deed, Side


class Kind(StrEnum):
    """What can be done."""

    KILL_REPLICA = "kill -9 of a replica"
    STOP_REPLICA = "SIGSTOP of a replica"
    RESTART_REPLICA = "SIGTERM of a replica"
    KILL_FRONTEND = "kill -9 of a frontend"
    STOP_FRONTEND = "SIGSTOP of a frontend"
    RESTART_FRONTEND = "SIGTERM of a frontend"
    KILL_PROXY = "kill -9 of the proxy"
    STOP_PROXY = "SIGSTOP of the proxy"
    RESTART_PROXY = "SIGTERM of the proxy"
    BREAK_LINK = "link broken"
    CUT_LINK = "link cut in the middle of a message"
    FREEZE_LINK = "link frozen"
    SPLICE_LINK = "link spliced"
    BLACK_HOLE = "partition: links take everything and pass nothing"
    CUT_OFF = "partition: links refused"
    REMOVE_UPSTREAM = "upstream removed from the proxy"
    MOVE_UPSTREAM = "upstream removed from the proxy and its links broken"
    VANISH = "clients vanish"


ON_REPLICAS = frozenset({Kind.KILL_REPLICA, Kind.STOP_REPLICA, Kind.RESTART_REPLICA})
ON_FRONTENDS = frozenset({Kind.KILL_FRONTEND, Kind.STOP_FRONTEND, Kind.RESTART_FRONTEND})
ON_THE_PROXY = frozenset({Kind.KILL_PROXY, Kind.STOP_PROXY, Kind.RESTART_PROXY})
KILLS = frozenset({Kind.KILL_REPLICA, Kind.KILL_FRONTEND, Kind.KILL_PROXY})
RESTARTS = frozenset({Kind.RESTART_REPLICA, Kind.RESTART_FRONTEND, Kind.RESTART_PROXY})
STOPS = frozenset({Kind.STOP_REPLICA, Kind.STOP_FRONTEND, Kind.STOP_PROXY})
PARTITIONS = frozenset({Kind.BLACK_HOLE, Kind.CUT_OFF})
UPSTREAMS = frozenset({Kind.REMOVE_UPSTREAM, Kind.MOVE_UPSTREAM})
# One frontend that nobody reaches tells nothing: these are done where there are others.
_OF_A_MESH = ON_THE_PROXY | PARTITIONS | UPSTREAMS

# How often each is done, of their sum. What ends a frontend is seldom: nothing else can happen where there is none.
WEIGHTS = {
    Kind.KILL_REPLICA: 5,
    Kind.STOP_REPLICA: 4,
    Kind.RESTART_REPLICA: 2,
    Kind.KILL_FRONTEND: 2,
    Kind.STOP_FRONTEND: 2,
    Kind.RESTART_FRONTEND: 1,
    Kind.KILL_PROXY: 1,
    Kind.STOP_PROXY: 1,
    Kind.RESTART_PROXY: 1,
    Kind.BREAK_LINK: 4,
    Kind.CUT_LINK: 6,
    Kind.FREEZE_LINK: 4,
    Kind.SPLICE_LINK: 4,
    Kind.BLACK_HOLE: 5,
    Kind.CUT_OFF: 5,
    Kind.REMOVE_UPSTREAM: 2,
    Kind.MOVE_UPSTREAM: 2,
    Kind.VANISH: 4,
}
_LONGEST_S = {  # links are lost after 2.5 s
    Kind.STOP_REPLICA: 4.0,
    Kind.STOP_FRONTEND: 4.0,
    Kind.STOP_PROXY: 4.0,
    Kind.FREEZE_LINK: 4.0,
    Kind.BLACK_HOLE: 10.0,
    Kind.CUT_OFF: 10.0,
    Kind.REMOVE_UPSTREAM: 6.0,
    Kind.MOVE_UPSTREAM: 6.0,
}
_LONELY_STOP_S = 1.0  # of the only frontend: all that is asked waits for it


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """What there is to do it to, by name."""

    frontends: Sequence[str]
    replicas: Sequence[str]
    links: Sequence[str]  # of all kinds
    proxy: str = "proxy"

    @property
    def is_mesh(self) -> bool:
        """Whether there is more than one frontend."""
        return len(self.frontends) > 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """One fault. `at_s` counts from the start; `for_s` is how long it lasts, 0 if it is over at once.

    `links`: those that are broken, partitioned, or not led to the target any more.
    """

    at_s: float
    kind: Kind
    target: str
    for_s: float = 0.0
    links: tuple[str, ...] = ()
    sides: tuple[Side, ...] = tuple(Side)


@dataclass(frozen=True, slots=True)
class Done:
    """An act that was carried out. Times are of the monotonic clock."""

    act: Act
    began_at: float
    ends_at: float


def longest_s(kind: Kind, *, is_mesh: bool) -> float:
    """Return how long an act of this kind lasts at most."""
    return _LONELY_STOP_S if kind is Kind.STOP_FRONTEND and not is_mesh else _LONGEST_S.get(kind, 0.0)


def deeds_of(kind: Kind) -> tuple[Deed, ...]:
    """Return what an act of this kind has the proxy do to its links; the end of each is `tcp_proxy.UNDONE_BY`."""
    return {
        Kind.BREAK_LINK: (Deed.BREAK,),
        Kind.CUT_LINK: (Deed.CUT,),
        Kind.FREEZE_LINK: (Deed.FREEZE,),
        Kind.SPLICE_LINK: (Deed.SPLICE,),
        Kind.BLACK_HOLE: (Deed.FREEZE,),
        Kind.CUT_OFF: (Deed.REFUSE,),
        Kind.REMOVE_UPSTREAM: (Deed.REMOVE,),
        Kind.MOVE_UPSTREAM: (Deed.REMOVE, Deed.BREAK),
    }.get(kind, ())


def schedule(seed: int, targets: Targets, *, mean_gap_s: float, only: Collection[Kind] = ()) -> Iterator[Act]:
    """Yield acts in the order of their times, without end; `only` of these kinds, if any are named."""
    chance = random.Random(seed)
    possible = {kind for kind in Kind if targets.is_mesh or kind not in _OF_A_MESH}
    kinds, weights = zip(
        *((kind, weight) for kind, weight in WEIGHTS.items() if kind in possible and (not only or kind in only)), strict=True
    )
    at_s = 0.0
    while True:
        at_s += chance.expovariate(1 / mean_gap_s)
        kind = chance.choices(kinds, weights)[0]
        target, links = _target(kind, targets, chance)
        # Short ones more often, but a partition is to outlast what notices it.
        for_s = longest_s(kind, is_mesh=targets.is_mesh) * chance.random() ** (1 if kind in PARTITIONS else 2)
        sides = chance.choice([(Side.UP,), (Side.DOWN,), tuple(Side)])
        if kind in PARTITIONS:
            sides = tuple(Side)
        yield Act(at_s=at_s, kind=kind, target=target, for_s=for_s, links=links, sides=sides)


def _target(kind: Kind, targets: Targets, chance: random.Random) -> tuple[str, tuple[str, ...]]:
    if kind in ON_REPLICAS:
        return chance.choice(targets.replicas), ()
    if kind in ON_THE_PROXY:
        return targets.proxy, ()
    if kind in ON_FRONTENDS or kind is Kind.VANISH:
        return chance.choice(targets.frontends), ()
    if kind in PARTITIONS | UPSTREAMS:
        target = chance.choice(targets.frontends)
        return target, _parted(kind, target, targets, chance)
    link = chance.choice(targets.links)
    return link, (link,)


def _parted(kind: Kind, frontend: str, targets: Targets, chance: random.Random) -> tuple[str, ...]:
    """Return what a frontend is parted from: some replicas, all of them, its peers, or all there is."""
    replicas = tuple(f"{replica}>{frontend}" for replica in targets.replicas)
    some = tuple(chance.sample(replicas, chance.randint(1, len(replicas))))
    others = [other for other in targets.frontends if other != frontend]
    peers = tuple(link for other in others for link in (f"{frontend}>{other}", f"{other}>{frontend}"))
    if kind in UPSTREAMS:
        return chance.choice([some, replicas])
    return chance.choice([some, replicas, peers, replicas + peers])
