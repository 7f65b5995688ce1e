"""The development cluster of this user, if it runs: what it is, and what leads to it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping

from clipper_nomad.dev_cluster.place import DevPlace, find_dev_place
from clipper_nomad.dev_cluster.state import State, read_state

LOOK_EVERY_S = 0.05


def running(environ: Mapping[str, str]) -> State | None:
    """Return the cluster that runs, None if none does."""
    return running_at(find_dev_place(environ))


def running_at(place: DevPlace) -> State | None:
    """Return the cluster that runs at a place, None if none does."""
    state = read_state(place.state)
    return state if state is not None and state.is_alive else None


def environment_of(state: State) -> dict[str, str]:
    """Return the variables that lead clients to the cluster."""
    ports = state.settings.ports
    return {
        "NOMAD_ADDR": f"http://127.0.0.1:{ports.nomad_http}",
        "CONSUL_HTTP_ADDR": f"127.0.0.1:{ports.consul_http}",
        "CLIPPER_FABIO": f"127.0.0.1:{ports.fabio_http}",
    }


def is_at(state: State, url: str) -> bool:
    """Return whether `url` is the Nomad of this cluster."""
    port = state.settings.ports.nomad_http
    return url in {f"http://127.0.0.1:{port}", f"http://localhost:{port}"}


def end_supervisor(state: State, *, within_s: float) -> bool:
    """Let the supervisor end the agents and itself; return whether it did within `within_s`, else it is killed with them."""
    _signal(state, signal.SIGTERM)
    if ends(state, within_s=within_s):
        return True
    _signal(state, signal.SIGKILL)
    ends(state, within_s=within_s)
    return False


def revive(state: State) -> None:
    """Let the supervisor try those agents anew that it has given up."""
    _signal(state, signal.SIGHUP)


def ends(state: State, *, within_s: float) -> bool:
    """Return whether the supervisor ends within `within_s`."""
    deadline = time.monotonic() + within_s
    while state.is_alive:
        if time.monotonic() > deadline:
            return False
        time.sleep(LOOK_EVERY_S)
    return True


def _signal(state: State, number: signal.Signals) -> None:
    if state.is_alive:
        os.kill(state.pid, number)
