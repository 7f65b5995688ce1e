"""The process that keeps the agents running: `python -m clipper_nomad.dev_cluster.supervisor '<Settings as JSON>'`.

Its life: leave the user's session → take the lock → start the agents, and again when one ends (local_stack's restarts) →
end them on SIGTERM, Fabio first. Nomad's client starts when its server has keys: one that asks before to be registered asks
again only 15 to 30 s later. It writes state.json at each change. SIGHUP: try those anew that were given up. A second
SIGTERM: at once. If it is killed, the kernel kills the agents with it; containers go on, and the next start finds them.
While another one holds the lock it ends without a word.
"""

from __future__ import annotations

import http.client
import json
import logging
import os
import signal
import sys
import time
from functools import partial
from pathlib import Path

from clipper_nomad.dev_cluster.agents import AGENTS, part_of
from clipper_nomad.dev_cluster.place import DevPlace
from clipper_nomad.dev_cluster.state import AgentState, Settings, State, write_state
from clipper_nomad.local_stack.event_loop import EventLoop
from clipper_nomad.local_stack.exits import started_at
from clipper_nomad.local_stack.keeper import Keeper
from clipper_nomad.local_stack.lock import Lock
from clipper_nomad.local_stack.logs import LOOK_EVERY_S, bound_log, last_line, open_log
from clipper_nomad.protocol.log_lines import log_to_stderr

NAME = "supervisor"  # of its log
STOP_EACH_WITHIN_S = 15.0  # a server that saves what it has takes a second
_CLIENT = "nomad-client"
_LOOK_FOR_KEYS_S = 0.1
_ANSWER_WITHIN_S = 0.5  # nothing else is done meanwhile
_log = logging.getLogger("clipper_nomad.dev_cluster.supervisor")  # __name__ is __main__ here


def main() -> int:
    """Run the agents until the end."""
    settings = Settings.from_json(sys.argv[1])
    data = Path(settings.data)
    place = DevPlace(data=data, cache=data)  # of the cache nothing is needed here
    if os.fork() > 0:
        os._exit(0)
    os.setsid()
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    lock = Lock.take(place.lock)
    if lock is None:
        return 0
    lock.tell(place.data)
    log = open_log(place.log(NAME))
    for stream in (sys.stdout, sys.stderr):  # what started this reads them to their end
        os.dup2(log, stream.fileno())
    os.close(log)
    log_to_stderr("clipper_nomad")
    Supervisor(place, settings).run()
    return 0


class Supervisor:
    """The running agents. Made with the lock held."""

    def __init__(self, place: DevPlace, settings: Settings) -> None:
        self._place = place
        self._settings = settings
        self._loop = EventLoop()
        self._since = time.time()
        self._stops = False
        self._keepers = {
            name: Keeper(
                part_of(name, place, settings, os.environ),
                loop=self._loop,
                hopeless=frozenset(),
                groups=self._group_changed,
                given_up=lambda _: self._tell(),
            )
            for name in AGENTS
        }

    def run(self) -> None:
        """Start the agents and keep them until this process is told to end."""
        self._loop.on_signal(signal.SIGCHLD, self._look)
        self._loop.on_signal(signal.SIGHUP, self._revive)
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.on_signal(number, self._stop)
        for name, keeper in self._keepers.items():
            if name != _CLIENT:
                keeper.start()
        self._start_client()
        self._bound_logs()
        self._loop.run()
        self._place.state.unlink(missing_ok=True)
        _log.info("all agents have ended")

    def _start_client(self) -> None:
        if self._stops:
            return
        if _has_keys(self._settings.ports.nomad_http):
            self._keepers[_CLIENT].start()
        else:
            self._loop.after(_LOOK_FOR_KEYS_S, self._start_client)

    def _look(self) -> None:
        for keeper in self._keepers.values():
            keeper.look()
        self._tell()

    def _revive(self) -> None:
        for keeper in self._keepers.values():
            keeper.revive()
        self._tell()

    def _group_changed(self, _group: int, started: bool) -> None:  # noqa: FBT001  # a keeper's callback
        if started:
            self._loop.after(0, self._tell)  # after the keeper has taken it down

    def _bound_logs(self) -> None:
        for keeper in self._keepers.values():
            keeper.bound_log()
        bound_log(self._place.log(NAME))
        self._loop.after(LOOK_EVERY_S, self._bound_logs)

    def _stop(self) -> None:
        if self._stops:
            for keeper in self._keepers.values():
                keeper.stop(within_s=0, then=lambda: None)
            return
        self._stops = True
        _log.info("agents stop")
        self._stop_next([self._keepers[name] for name in reversed(AGENTS)])

    def _stop_next(self, left: list[Keeper]) -> None:
        if not left:
            self._loop.stop()
            return
        left[0].stop(within_s=STOP_EACH_WITHIN_S, then=partial(self._stop_next, left[1:]))
        self._tell()

    def _tell(self) -> None:
        now, at = self._loop.now(), time.time()
        agents = tuple(
            AgentState(
                name=name,
                state=keeper.state,
                pid=keeper.pid,
                since=at - (now - keeper.started),
                restarts=keeper.deaths,
                last_error=last_line(keeper.last_death.tail) if keeper.last_death is not None else None,
            )
            for name, keeper in self._keepers.items()
        )
        own = os.getpid()
        state = State(pid=own, pid_started=started_at(own), since=self._since, settings=self._settings, agents=agents)
        write_state(self._place.state, state)


def _has_keys(port: int) -> bool:
    """Return whether Nomad's server can sign identities: it lists its public keys when it has read its secret ones."""
    asking = http.client.HTTPConnection("127.0.0.1", port, timeout=_ANSWER_WITHIN_S)
    try:
        asking.request("GET", "/.well-known/jwks.json")
        answer = asking.getresponse()
        return answer.status == http.HTTPStatus.OK and bool(json.loads(answer.read()).get("keys"))
    except (OSError, http.client.HTTPException, ValueError):
        return False
    finally:
        asking.close()


if __name__ == "__main__":
    sys.exit(main())
