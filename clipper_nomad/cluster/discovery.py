"""Finding services by DNS: `ConsulDNS` asks Consul for SRV records. The only file with dnspython.

`DNS` and `resolveSRV` are Clipper's names. Questions go over EDNS with a large answer, and over TCP where that may be cut: a
plain UDP answer of Consul holds three records however many instances there are, and does not say so.
"""

from __future__ import annotations

import random
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from dataclasses import dataclass

import dns.exception
import dns.flags
import dns.inet
import dns.message
import dns.name
import dns.nameserver
import dns.query
import dns.rcode
import dns.rdatatype
import dns.resolver

from clipper_nomad.errors import DiscoveryError, InvalidSetting, ServiceNotFound

DNS_PORT = 53
CONSUL_DNS_PORT = 8600
ANSWER_BYTES = 4096  # EDNS; 59 of 59 instances fitted with it where plain UDP held 3
MAYBE_CUT = 3  # records: where the silent cut begins when a resolver on the way drops EDNS
PAUSE_S = 0.05  # between two rounds of questions
TRY_S = 2.0  # one server, one question: a lost datagram must not use up the deadline
_Address = tuple[str, int]


class DNS(ABC):
    """Where a service listens, by its name."""

    @abstractmethod
    def resolveSRV(self, check_name: str) -> tuple[str, int]:  # noqa: N802  # Clipper's name
        """Return (ip, port) of one healthy instance. Raises: ServiceNotFound, DiscoveryError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Target:
    host: dns.name.Name
    port: int


class ConsulDNS(DNS):
    """Services of Consul by SRV records of `<name>.service.<domain>`.

    Without `nameserver` the system's resolvers are asked (/etc/resolv.conf), which must forward the domain to Consul; with
    one, an IP address, that server is, on `port` (8600, Consul's, unless given). `deadline_s` bounds each call."""

    def __init__(
        self, nameserver: str | None = None, port: int | None = None, *, domain: str = "consul", deadline_s: float = 5.0
    ) -> None:
        if nameserver is not None and not dns.inet.is_address(nameserver):
            raise InvalidSetting(f"nameserver is {nameserver!r}; expected an IP address.")
        self.nameserver = nameserver
        self.port = port or (CONSUL_DNS_PORT if nameserver else DNS_PORT)
        self.domain = domain.strip(".")
        self.deadline_s = deadline_s

    def resolveSRV(self, check_name: str) -> tuple[str, int]:  # noqa: N802  # Clipper's name
        """Return (ip, port) of one healthy instance, any of them.

        Raises: ServiceNotFound: no healthy instance. DiscoveryError: no server answered within the deadline."""
        found = self.resolve_all(check_name)
        if not found:
            raise ServiceNotFound(
                f"DNS knows no healthy instance of {self._name_of(check_name)}.",
                hint="It is not registered, or its checks do not pass: `consul catalog services` lists what there is.",
            )
        return random.choice(found)  # noqa: S311  # spreads the load; no secret

    def resolve_all(self, check_name: str) -> list[tuple[str, int]]:
        """Return (ip, port) of every healthy instance, sorted; empty when there is none.
        Raises: DiscoveryError: no server answered within the deadline."""
        deadline = time.monotonic() + self.deadline_s
        name = self._name_of(check_name)
        answer = self._ask(name, dns.rdatatype.SRV, deadline)
        if answer is None:
            return []
        if sum(map(len, answer.answer)) >= MAYBE_CUT:
            answer = self._ask_by_tcp(name, dns.rdatatype.SRV, deadline) or answer
        addresses: dict[dns.name.Name, list[str]] = {}
        for rrset in answer.additional:  # one A record for each address, not for each instance
            if rrset.rdtype in {dns.rdatatype.A, dns.rdatatype.AAAA}:
                addresses.setdefault(rrset.name, []).extend(record.address for record in rrset)
        targets = [
            _Target(host=record.target, port=record.port)
            for rrset in answer.answer
            if rrset.rdtype == dns.rdatatype.SRV
            for record in rrset
        ]
        for host in {target.host for target in targets} - addresses.keys():  # left out for want of room, or another's name
            addresses[host] = self._addresses_of(host, deadline)
        return sorted({(address, target.port) for target in targets for address in addresses[target.host]})

    def _name_of(self, check_name: str) -> str:
        return f"{check_name}.service.{self.domain}."

    def _addresses_of(self, host: dns.name.Name, deadline: float) -> list[str]:
        answer = self._ask(host.to_text(), dns.rdatatype.A, deadline)
        return [
            record.address
            for rrset in (answer.answer if answer else ())
            if rrset.rdtype == dns.rdatatype.A
            for record in rrset
        ]

    def _ask(self, name: str, kind: dns.rdatatype.RdataType, deadline: float) -> dns.message.Message | None:
        """Return the answer of the first server that has one; None: there is no such name. Asks until the deadline."""
        problems: list[str] = []
        while (left := deadline - time.monotonic()) > 0:
            for server in self._servers():
                try:
                    return _answer(name, kind, server, timeout_s=min(TRY_S, left))
                except _NoAnswer as exc:
                    problems.append(f"{server[0]}:{server[1]} {exc}")
            time.sleep(min(PAUSE_S, left))  # a closed port answers at once
        said = "; ".join(dict.fromkeys(problems)) or "there was no time to ask"
        raise DiscoveryError(f"No DNS server answered for {name} within {self.deadline_s:g} s: {said}.", hint=_FORWARD)

    def _ask_by_tcp(self, name: str, kind: dns.rdatatype.RdataType, deadline: float) -> dns.message.Message | None:
        """Return the answer over TCP, None if there is none: what came by UDP is healthy then, if perhaps not all."""
        for server in self._servers():
            with suppress(_NoAnswer):
                return _answer(name, kind, server, timeout_s=min(TRY_S, max(PAUSE_S, deadline - time.monotonic())), tcp=True)
        return None

    def _servers(self) -> list[_Address]:
        if self.nameserver is not None:
            return [(self.nameserver, self.port)]
        try:
            return [(str(server), self.port) for server in dns.resolver.Resolver().nameservers]
        except dns.exception.DNSException as exc:
            raise DiscoveryError(f"The system has no DNS resolver to ask: {exc}", hint=_FORWARD) from exc


class _NoAnswer(Exception):
    """One server did not answer, or not the question."""


def _answer(
    name: str, kind: dns.rdatatype.RdataType, server: _Address, *, timeout_s: float, tcp: bool = False
) -> dns.message.Message | None:
    """Ask one server once. Returns None for a name that does not exist. Raises: _NoAnswer."""
    host, port = server
    try:
        question = dns.message.make_query(name, kind, use_edns=0, payload=ANSWER_BYTES)
        if tcp:
            answer = dns.query.tcp(question, host, port=port, timeout=timeout_s)
        else:
            answer, _ = dns.query.udp_with_fallback(question, host, port=port, timeout=timeout_s)
    except dns.exception.Timeout as exc:
        raise _NoAnswer("timed out") from exc
    except (dns.exception.DNSException, OSError, EOFError) as exc:
        raise _NoAnswer(f"failed: {str(exc) or type(exc).__name__}") from exc
    if answer.rcode() == dns.rcode.NXDOMAIN:
        return None
    if answer.rcode() != dns.rcode.NOERROR:
        raise _NoAnswer(f"answered {dns.rcode.to_text(answer.rcode())}")
    return answer


_FORWARD = 'Forward the domain `consul` to a Consul agent\'s DNS port (8600), or name one: ConsulDNS(nameserver="10.0.0.1").'
