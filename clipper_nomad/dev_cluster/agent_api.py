"""What the three agents of this machine say, and the little that they are told: drain, serve again.

On loopback, without TLS and tokens. An agent that does not answer yet is an answer too: None.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import requests

from clipper_nomad.dev_cluster.ports import Ports
from clipper_nomad.errors import DevClusterError

_ANSWER_WITHIN_S = 3.0
_LOOK_EVERY_S = 0.1
_LIVE = frozenset({"pending", "running"})
DOCKER = "docker"
_SINCE_EVER = "0002"  # Go writes a time that is not set as year 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """Nomad's one client. `docker`: why its driver is not healthy, "" if it is, None while it is not known."""

    id: str
    status: str
    eligible: bool
    docker: str | None


class AgentApi:
    """The agents that listen on these ports."""

    def __init__(self, ports: Ports) -> None:
        self._consul = f"http://127.0.0.1:{ports.consul_http}"
        self._nomad = f"http://127.0.0.1:{ports.nomad_http}"
        self._client = f"http://127.0.0.1:{ports.nomad_client}"
        self._fabio = f"http://127.0.0.1:{ports.fabio_admin}"
        self._session = requests.Session()
        self._session.trust_env = False

    def consul_leads(self) -> bool:
        """Return whether Consul has a leader."""
        return bool(self._get(f"{self._consul}/v1/status/leader"))

    def nomad_leads(self) -> bool:
        """Return whether Nomad has a leader."""
        return bool(self._get(f"{self._nomad}/v1/status/leader"))

    def client_has_registered(self) -> bool:
        """Return whether Nomad's client, as it runs now, is known to the server: the node alone may be of before."""
        stats = (self._get(f"{self._client}/v1/agent/self") or {}).get("stats") or {}
        return bool(stats.get("client", {}).get("heartbeat_ttl", "0s") != "0s")

    def fabio_is_well(self) -> bool:
        """Return whether Fabio answers on its own port."""
        return self._answer("get", f"{self._fabio}/health") is not None

    def node(self) -> Node | None:
        """Return Nomad's client, None while there is none."""
        nodes: list[dict[str, Any]] = self._get(f"{self._nomad}/v1/nodes") or []
        for each in nodes:
            is_eligible = each["SchedulingEligibility"] == "eligible"
            return Node(id=each["ID"], status=each["Status"], eligible=is_eligible, docker=_docker_of(each))
        return None

    def serve(self, node: Node) -> None:
        """Let the client have jobs (again): the drain of a `dev down` ends, and its jobs come back."""
        if not node.eligible:
            self._tell(f"{self._nomad}/v1/node/{node.id}/drain", {"DrainSpec": None, "MarkEligible": True})

    def drain(self, node: Node, *, within_s: float, said: Callable[[int], None]) -> None:
        """End all allocations, jobs stay registered; `said` gets how many are left.

        Raises: DevClusterError: some have not ended within `within_s`.
        """
        body = {"DrainSpec": {"Deadline": -1, "IgnoreSystemJobs": False}, "Meta": {"message": "clipper-nomad dev down"}}
        self._tell(f"{self._nomad}/v1/node/{node.id}/drain", body)
        deadline = time.monotonic() + within_s
        while live := self.live_allocations(node):
            said(len(live))
            if time.monotonic() > deadline:
                raise DevClusterError(f"Gave up after {within_s:g} s: {len(live)} allocations have not ended.")
            time.sleep(_LOOK_EVERY_S)

    def live_allocations(self, node: Node) -> list[str]:
        """Return the ids of what runs on the client, or is about to."""
        found = self._get(f"{self._nomad}/v1/node/{node.id}/allocations")
        if found is None:
            raise DevClusterError("Nomad does not answer any more.")
        return [each["ID"] for each in found if each["ClientStatus"] in _LIVE]

    def _get(self, url: str) -> Any:  # noqa: ANN401  # JSON
        answer = self._answer("get", url)
        try:
            return None if answer is None else answer.json()
        except requests.JSONDecodeError:
            return None

    def _tell(self, url: str, body: dict[str, object]) -> None:
        if self._answer("post", url, body) is None:
            raise DevClusterError(
                f"{url} did not take what it was told.", hint="clipper-nomad dev status says how Nomad is."
            )

    def _answer(self, method: str, url: str, body: dict[str, object] | None = None) -> requests.Response | None:
        try:
            answer = self._session.request(method, url, json=body, timeout=_ANSWER_WITHIN_S)
        except requests.RequestException:
            return None
        return answer if answer.ok else None


def _docker_of(node: dict[str, Any]) -> str | None:
    driver: dict[str, Any] | None = (node.get("Drivers") or {}).get(DOCKER)
    if driver is None or driver.get("UpdateTime", "") < _SINCE_EVER:  # not looked at yet
        return None
    return "" if driver["Healthy"] else str(driver.get("HealthDescription") or "it is not detected")
