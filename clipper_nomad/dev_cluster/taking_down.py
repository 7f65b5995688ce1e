"""Ends the development cluster: its allocations first, so that no container stays, then the agents, then what is left."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from clipper_nomad.dev_cluster.agent_api import AgentApi
from clipper_nomad.dev_cluster.leftovers import containers_of, end_leftovers, mounts_below, processes_of
from clipper_nomad.dev_cluster.place import DevPlace, find_dev_place
from clipper_nomad.dev_cluster.running import end_supervisor, running_at
from clipper_nomad.dev_cluster.state import State
from clipper_nomad.errors import DevClusterError

DRAIN_WITHIN_S = 90.0  # a model may finish its work for 30 s, and Redis closes its files
STOP_WITHIN_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenDown:
    """What was ended. `allocations`: how many ran. `leftovers`: what Nomad had not ended itself, in words. `deleted`: the
    data that were removed, `kept`: those that were not."""

    was_up: bool
    agents: tuple[str, ...]
    allocations: int
    leftovers: tuple[str, ...]
    deleted: Path | None
    kept: Path | None


def take_down(environ: Mapping[str, str], *, volumes: bool, show: Callable[[str, str], None]) -> TakenDown:
    """End everything of the cluster, also of one whose supervisor was killed; jobs and data stay unless `volumes`.

    Raises: DevClusterError: something cannot be ended or removed.
    """
    place = find_dev_place(environ)
    state = running_at(place)
    allocations = 0
    if state is not None:
        allocations = _drain(state, show)
        show("agents", "end")
        end_supervisor(state, within_s=STOP_WITHIN_S)
    leftovers = end_leftovers(place)
    left = [*containers_of(place), *map(str, processes_of(place)), *map(str, mounts_below(place.data))]
    if left:
        raise DevClusterError(f"These could not be ended: {', '.join(left)}.", hint="End them as root.")
    if volumes:
        _delete(place)
    return TakenDown(
        was_up=state is not None,
        agents=tuple(f"{each.name} (pid {each.pid})" for each in state.agents if each.pid) if state is not None else (),
        allocations=allocations,
        leftovers=tuple(leftovers),
        deleted=place.data if volumes else None,
        kept=place.data if place.data.is_dir() else None,
    )


def _drain(state: State, show: Callable[[str, str], None]) -> int:
    """End all allocations and return how many there were. One that does not end is a leftover, as where Nomad is away."""
    api = AgentApi(state.settings.ports)
    node = api.node()
    if node is None:
        return 0
    try:
        count = len(api.live_allocations(node))
        show("jobs", f"{count} allocations end")
        api.drain(node, within_s=DRAIN_WITHIN_S, said=lambda left: show("jobs", f"{left} of {count} allocations end"))
    except DevClusterError as exc:
        show("jobs", exc.msg)
        return 0
    show("jobs", f"{count} allocations ended; the jobs stay registered")
    return count


def _delete(place: DevPlace) -> None:
    """Remove the data: out of the way first, so that the next start begins anew even if a part of it cannot be removed."""
    if not place.data.is_dir():
        return
    doomed = place.data.with_name(f"{place.data.name}.removed-{time.time_ns()}")
    place.data.rename(doomed)
    try:
        shutil.rmtree(doomed)
    except OSError as exc:
        raise DevClusterError(
            f"The data were moved to {doomed} and cannot be removed whole: {exc}. Containers have written there as users of"
            " their own.",
            hint=f"sudo rm -r {doomed}",
        ) from exc
