"""Consul's HTTP API as the rest of clipper_nomad.cluster uses it: one thin layer over py-consul, the only file with it.

Every call has a deadline, and errors are the project's own. A blocking query whose index went back (Consul lost its data) is
told by index 0, so that its caller starts again instead of waiting for an index that never comes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar
from urllib.parse import urlsplit

import consul
from consul.callback import CB

from clipper_nomad.cluster.endpoints import Endpoint, consul_endpoint
from clipper_nomad.cluster.http_calls import OnePerThread, session_for, shortly, where_to_look
from clipper_nomad.errors import ConsulRefused, ConsulUnreachable

CALL_TIMEOUT_S = 10.0
WAIT_S = 30.0  # of a blocking query; Consul's own default is five minutes

ITSELF = "consul"  # the one service that every Consul has
_NO_RIGHT = "CONSUL_HTTP_TOKEN is unknown, expired, or its policy does not let it read all services and nodes."

_MAY = "/v1/internal/acl/authorize"
_LONGEST = 300  # characters of an answer that an error repeats

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """One instance of a service. `passing`: every check of it and of its node passes."""

    service_id: str
    address: str
    port: int
    tags: tuple[str, ...]
    passing: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckState:
    """One check of a service's instance. `status`: passing, warning or critical; `output`: what the check last said."""

    service: str
    service_id: str
    name: str
    status: str
    output: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Instances:
    """The instances of a service and the index to wait for next; 0 when Consul's index went back."""

    found: tuple[Instance, ...]
    index: int


class ConsulApi:
    """A Consul agent. Every method raises ConsulUnreachable and ConsulRefused. One object may be used by many threads."""

    def __init__(self, endpoint: Endpoint | None = None) -> None:
        self.endpoint = endpoint or consul_endpoint(os.environ)
        self._clients = OnePerThread(self._make_client)

    def _make_client(self) -> consul.Consul:
        endpoint, parts = self.endpoint, urlsplit(self.endpoint.url)
        client = consul.Consul(
            host=f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname,
            port=parts.port or (443 if parts.scheme == "https" else 80),
            scheme=parts.scheme,
            verify=endpoint.verify,
            cert=endpoint.client_cert,
            connections_timeout=CALL_TIMEOUT_S,
        )
        client.token = endpoint.token  # the library lets CONSUL_HTTP_TOKEN go before the argument
        client.http.session = session_for(endpoint)
        return client

    def instances(self, service: str, *, passing: bool = True, index: int = 0, wait_s: float = WAIT_S) -> Instances:
        """Return a service's instances, only those that pass unless `passing` is False; none is no error.

        With an `index`, waits until they change after it, or for `wait_s`."""
        how = {"index": index, "wait": _duration(wait_s)} if index else {}
        now_at, found = self._ask(lambda client: client.health.service(service, passing=passing or None, **how))
        number = int(now_at)
        return Instances(found=tuple(map(_instance, found or ())), index=number if number >= index else 0)

    def checks(self, service: str) -> tuple[CheckState, ...]:
        """Return every check of every instance of a service.

        The catalog learns what a check says only when its status changes, or minutes later; where it has nothing, this agent
        is asked, which knows at once if the service is its own."""
        _, found = self._ask(lambda client: client.health.checks(service))
        own = self._ask(lambda client: client.agent.checks()) if any(not each.get("Output") for each in found or ()) else {}
        return tuple(
            CheckState(
                service=check["ServiceName"],
                service_id=check["ServiceID"],
                name=check["Name"],
                status=check["Status"],
                output=check.get("Output") or (own.get(check["CheckID"]) or {}).get("Output") or "",
            )
            for check in found or ()
        )

    def services(self) -> Mapping[str, tuple[str, ...]]:
        """Return the tags of all services of the catalog, by service name. Raises: also ConsulRefused: some are hidden."""
        _, found = self._ask(lambda client: client.catalog.services())
        if ITSELF not in (found or {}):  # Consul leaves out what a token may not see, and says nothing
            raise ConsulRefused(
                f"Consul at {self.endpoint.url} does not show its services: not even '{ITSELF}' itself.",
                hint=_NO_RIGHT if self.endpoint.token else "CONSUL_HTTP_TOKEN is not set; this Consul has ACLs.",
            )
        return {name: tuple(tags or ()) for name, tags in (found or {}).items()}

    def agent(self) -> Mapping[str, Any]:  # Any: Consul's JSON
        """Return the agent's description of itself; Config.Version is Consul's."""
        return self._ask(lambda client: client.agent.self())

    def leader(self) -> str:
        """Return the leader's address, "" while there is none."""
        return str(self._ask(lambda client: client.status.leader()) or "")

    def token(self) -> Mapping[str, Any] | None:  # Any: Consul's JSON
        """Return this token: AccessorID, Policies, ExpirationTime, where it has one; None: this Consul has no ACLs."""
        return self._ask(_own_token)

    def without_token(self) -> ConsulApi:
        """Return the same Consul as whoever has no token sees it."""
        return ConsulApi(replace(self.endpoint, token=None))

    def may_read(self, kind: str, name: str) -> bool:
        """Return whether this token may read a "service" or a "node" of this name, which need not be there.

        This is the question of Consul's own UI, the only one that tells what is hidden from what is not there.
        Raises: ConsulRefused: also when this Consul does not know the question."""
        body = json.dumps([{"Resource": kind, "Access": "read", "Segment": name}])
        answer = self._ask(
            lambda client: client.http.post(CB.json(allow_404=False), _MAY, data=body, headers=client.prepare_headers(None))
        )
        return bool(answer and answer[0]["Allow"])

    def _ask(self, question: Callable[[Any], Answer]) -> Answer:  # Any: py-consul has no types
        try:
            return question(self._clients.current())
        except OSError as exc:  # requests' errors, and a CA or certificate that cannot be read
            raise ConsulUnreachable(
                f"Consul at {self.endpoint.url} did not answer: {shortly(exc)}.",
                hint=where_to_look(exc, "CONSUL"),
            ) from exc
        except consul.ACLPermissionDenied as exc:
            raise ConsulRefused(
                f"Consul at {self.endpoint.url} does not allow this: {exc}.",
                hint=_NO_RIGHT,
            ) from exc
        except consul.ConsulException as exc:
            raise ConsulRefused(
                f"Consul at {self.endpoint.url} answered: {str(exc).strip()[:_LONGEST]}",
                hint="See what listens at that address; CONSUL_HTTP_ADDR names Consul's HTTP port, 8500 by default.",
            ) from exc


def _own_token(client: Any) -> Mapping[str, Any] | None:  # noqa: ANN401  # py-consul has no types
    try:
        found: Mapping[str, Any] = client.acl.token.read("self")
    except consul.ACLDisabled:
        return None
    return found


def _instance(entry: Mapping[str, Any]) -> Instance:  # Any: Consul's JSON
    service = entry["Service"]
    return Instance(
        service_id=service["ID"],
        address=service["Address"] or entry["Node"]["Address"],  # empty: the node's
        port=service["Port"],
        tags=tuple(service.get("Tags") or ()),
        passing=all(check["Status"] == "passing" for check in entry.get("Checks") or ()),
    )


def _duration(seconds: float) -> str:
    return f"{max(1, int(seconds * 1000))}ms"
