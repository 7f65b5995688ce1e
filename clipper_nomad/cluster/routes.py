"""Fabio: which addresses clients and model containers reach a cluster at, whether they answer, and what Fabio routes.

`LoadBalancer` and `FabioLoadBalancer` are Clipper's names. That two clusters do not claim one route is decided elsewhere,
from what `routes` returns.
"""

from __future__ import annotations

import socket
from abc import ABC, abstractmethod
from dataclasses import dataclass

import requests

from clipper_nomad.cluster.http_calls import shortly
from clipper_nomad.errors import FabioUnreachable, InvalidSetting

HTTP_PORT = 9999
TCP_PORT = 7000
LEGACY_PORT = 7001
ADMIN_PORT = 9998
CONSUL_NAME = ".service.consul"
ANSWER_WITHIN_S = 3.0


class LoadBalancer(ABC):
    """What stands before the query frontends. Addresses are "host:port"."""

    @abstractmethod
    def http(self) -> str:
        """Return where clients reach the HTTP routes."""

    @abstractmethod
    def tcp(self) -> str:
        """Return where model containers reach a query frontend."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One route of Fabio's table, and how much of the traffic goes there (0 to 1). `src`: "/clipper/", ":7000"."""

    service: str
    src: str
    dst: str
    weight: float
    tags: tuple[str, ...]


class FabioLoadBalancer(LoadBalancer):
    """Fabio, by its address and ports.

    `FabioLoadBalancer()`, `FabioLoadBalancer(address, http_proxy_port=9999, tcp_proxy_port=7000)`, both ports also by
    position, or the older `FabioLoadBalancer(address, port)`, where `port` is the TCP proxy's. `legacy_rpc_port`: the TCP
    listener for containers of Clipper's RPC version 3, where the cluster serves them. `tcp_address`: where replicas reach
    the TCP listeners, if they are inside a network whose outside is `address`; it need not be reachable from here."""

    def __init__(
        self,
        address: str = "fabio.service.consul",
        *ports: int,
        port: int | None = None,
        http_proxy_port: int | None = None,
        tcp_proxy_port: int | None = None,
        admin_port: int = ADMIN_PORT,
        legacy_rpc_port: int = LEGACY_PORT,
        tcp_address: str | None = None,
    ) -> None:
        _check_host("address", address)
        if tcp_address is not None:
            _check_host("tcp_address", tcp_address)
        match ports:
            case ():
                http: list[int | None] = [http_proxy_port]
                tcp = [port, tcp_proxy_port]
            case (only,):
                http, tcp = [http_proxy_port], [only, port, tcp_proxy_port]
            case (first, second):
                http, tcp = [first, http_proxy_port], [second, port, tcp_proxy_port]
            case _:
                raise InvalidSetting(f"FabioLoadBalancer takes an HTTP and a TCP port; {len(ports)} ports were given.")
        self.address = address
        self.tcp_address = tcp_address
        self.http_proxy_port = _one_port("http_proxy_port", http, default=HTTP_PORT)
        self.tcp_proxy_port = _one_port("tcp_proxy_port", tcp, default=TCP_PORT)
        self.admin_port = _one_port("admin_port", [admin_port], default=ADMIN_PORT)
        self.legacy_rpc_port = _one_port("legacy_rpc_port", [legacy_rpc_port], default=LEGACY_PORT)

    @property
    def port(self) -> int:
        """The TCP proxy's port, under its older name."""
        return self.tcp_proxy_port

    def at(self, host: str) -> FabioLoadBalancer:
        """Return the same at another address."""
        return FabioLoadBalancer(
            host,
            http_proxy_port=self.http_proxy_port,
            tcp_proxy_port=self.tcp_proxy_port,
            admin_port=self.admin_port,
            legacy_rpc_port=self.legacy_rpc_port,
            tcp_address=self.tcp_address,
        )

    def http(self) -> str:
        """Return "host:port" of the HTTP proxy."""
        return f"{_bracketed(self.address)}:{self.http_proxy_port}"

    def tcp(self) -> str:
        """Return "host:port" of the TCP proxy, as replicas reach it."""
        return self.listener(self.tcp_proxy_port)

    def listener(self, port: int) -> str:
        """Return "host:port" of a TCP listener of Fabio's, as replicas reach it."""
        return f"{_bracketed(self.tcp_address or self.address)}:{port}"

    @property
    def is_named_by_consul(self) -> bool:
        """Whether the address is a name that only Consul's DNS knows."""
        return self.address.endswith(CONSUL_NAME)

    def check_tcp(self, *, within_s: float = ANSWER_WITHIN_S) -> None:
        """See that the TCP port listens, unless replicas have an address of their own for it, which need not be
        reachable from here. Without a route Fabio accepts and closes, which is well here. Raises: FabioUnreachable."""
        self._check_listens(self.tcp_proxy_port, within_s, needed_by="Model containers", else_="give tcp_proxy_port=")

    def check_legacy(self, port: int, *, within_s: float = ANSWER_WITHIN_S) -> None:
        """See that `port`, the TCP listener for RPC version 3, listens, as `check_tcp` does. Raises: FabioUnreachable."""
        self._check_listens(
            port,
            within_s,
            needed_by="Containers of Clipper's RPC version 3",
            else_="name another: legacy_rpc_port= (--legacy-rpc-port)",
        )

    def _check_listens(self, port: int, within_s: float, *, needed_by: str, else_: str) -> None:
        if self.tcp_address is not None:
            return
        try:
            with socket.create_connection((self.address, port), timeout=within_s):
                return
        except OSError as exc:
            raise FabioUnreachable(
                f"Fabio's TCP proxy at {self.listener(port)} does not listen: {shortly(exc)}. {needed_by} reach the query"
                " frontends through it.",
                hint=self._forwarding(exc) or f"Add `,:{port};proto=tcp` to Fabio's -proxy.addr, or {else_}.",
            ) from exc

    def check_http(self, *, within_s: float = ANSWER_WITHIN_S) -> None:
        """See that the HTTP proxy speaks HTTP; any status is an answer. Raises: FabioUnreachable."""
        self._get(self.http(), "/", within_s=within_s, what="HTTP proxy", setting="-proxy.addr and http_proxy_port=")

    def routes(self, *, within_s: float = ANSWER_WITHIN_S) -> tuple[Route, ...]:
        """Return Fabio's table. Raises: FabioUnreachable: its admin port is often closed to the network, rightly."""
        where = f"{_bracketed(self.address)}:{self.admin_port}"
        answer = self._get(where, "/api/routes", within_s=within_s, what="admin port", setting="-ui.addr and admin_port=")
        try:
            table = answer.json() or []  # null: an empty table
            return tuple(
                Route(
                    service=each["service"],
                    src=f"{each.get('host') or ''}{each.get('path') or ''}" or each["src"],
                    dst=each["dst"],
                    weight=float(each.get("weight") or 0),
                    tags=tuple(each.get("tags") or ()),
                )
                for each in table
            )
        except (ValueError, KeyError, TypeError) as exc:
            raise FabioUnreachable(
                f"{where}/api/routes answered {answer.status_code} with something else than Fabio's table.",
                hint="See what listens there; admin_port= names Fabio's -ui.addr port.",
            ) from exc

    def _get(self, where: str, path: str, *, within_s: float, what: str, setting: str) -> requests.Response:
        try:
            with requests.Session() as session:
                session.trust_env = False  # no proxy in between
                return session.get(f"http://{where}{path}", timeout=within_s, allow_redirects=False)
        except requests.RequestException as exc:
            raise FabioUnreachable(
                f"Fabio's {what} at {where} does not answer: {shortly(exc)}.",
                hint=self._forwarding(exc) or f"See that Fabio runs there, and that its {setting} agree.",
            ) from exc

    def _forwarding(self, cause: BaseException) -> str | None:
        """Return what to do about a name that neither Consul nor this machine's resolver knows."""
        if not self.is_named_by_consul or not _is_unknown_name(cause):
            return None
        service = self.address.removesuffix(CONSUL_NAME)
        return (
            f"Consul knows no healthy service {service!r}, and this machine's DNS does not know the name either. Give"
            f" Fabio's address, or let it register as {service!r} and see that Consul can be asked from here."
        )


def _is_unknown_name(exc: BaseException | None) -> bool:
    """Whether it was the look-up of a name that failed, somewhere below."""
    while exc is not None and not isinstance(exc, socket.gaierror):
        exc = exc.__cause__ or exc.__context__
    return exc is not None


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _check_host(name: str, host: str) -> None:
    if not host or "/" in host:
        raise InvalidSetting(f"{name} is {host!r}; expected a host name or IP address without scheme and port.")


def _one_port(name: str, given: list[int | None], *, default: int) -> int:
    named = {each for each in given if each is not None} or {default}
    if len(named) > 1:
        raise InvalidSetting(f"{name} was given twice, as {' and '.join(map(str, sorted(named)))}; give it once.")
    (chosen,) = named
    if not 0 < chosen < 65536:
        raise InvalidSetting(f"{name} is {chosen}; expected a port from 1 to 65535.")
    return chosen
