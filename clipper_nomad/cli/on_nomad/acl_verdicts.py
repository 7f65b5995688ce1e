"""What `doctor` makes of tokens and what they may do: each a verdict with why and what to do. Pure; acl_checks.py asks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from clipper_nomad.cli.on_nomad.verdicts import Verdict, well
from clipper_nomad.cluster.policies import CONSUL_ANONYMOUS, CONSUL_FABIO, CONSUL_TOOLKIT
from clipper_nomad.cluster.rights import Lack

SOON = timedelta(days=1)  # time to make another one in working hours
CONSUL_MANAGEMENT = "00000000-0000-0000-0000-000000000001"  # Consul's policy that allows everything
_LEAST = timedelta(minutes=1)
_FRACTION = re.compile(r"\.(\d{1,6})\d*")  # Nomad says nanoseconds, which Python does not read
Token = Mapping[str, Any]  # Any: JSON of Nomad's or Consul's


def nomad_token_verdicts(
    token: Token, lacks: Sequence[Lack], *, policy_command: str, policy_name: str, now: datetime
) -> Iterator[Verdict]:
    """Judge a token of Nomad's. `policy_command`: prints what it should be allowed; `policy_name`: to call it by."""
    if token.get("Type") == "management":
        yield Verdict(
            area="Nomad",
            level="doubt",
            text="NOMAD_TOKEN is a management token",
            why="it may do anything, to everybody's jobs; clipper-nomad needs far less",
            fix=f"{policy_command} | nomad acl policy apply {policy_name} - && "
            f"nomad acl token create -name {policy_name} -policy {policy_name}",
        )
    for lack in lacks:
        yield Verdict(
            area="Nomad",
            level="doubt" if lack.is_tolerable else "problem",
            text=f"NOMAD_TOKEN lacks: {lack.right}",
            why=lack.fails,
            fix=_nomad_fix(token, policy_command, policy_name),
        )
    if token.get("Type") != "management" and not lacks:
        yield well("Nomad", "NOMAD_TOKEN has every right that this needs, and is no management token")
    yield from expiry_verdicts("Nomad", "NOMAD_TOKEN", token, now=now)


def _nomad_fix(token: Token, policy_command: str, policy_name: str) -> str:
    """Return the commands, of who has a management token. `token update` replaces the policies that a token has."""
    apply = f"{policy_command} | nomad acl policy apply {policy_name} -"
    has = [str(each) for each in token.get("Policies") or ()]
    if policy_name in has:
        return apply
    policies = " ".join(f"-policy {each}" for each in [*has, policy_name])
    return f"{apply} && nomad acl token update {policies} {token.get('AccessorID')}"


def consul_token_verdicts(token: Token, hidden: Sequence[str], *, now: datetime) -> Iterator[Verdict]:
    """Judge a token of a Consul with ACLs. `hidden`: "services", "nodes", or both, where it does not see all of them."""
    if CONSUL_MANAGEMENT in {each.get("ID") for each in token.get("Policies") or ()}:
        yield Verdict(
            area="Consul",
            level="doubt",
            text="CONSUL_HTTP_TOKEN is a management token",
            why="it may do anything; clipper-nomad only reads",
            fix=f"{_consul_policy(CONSUL_TOOLKIT)} && consul acl token create -description clipper "
            f"-policy-name {_called(CONSUL_TOOLKIT)}",
        )
    elif hidden:
        yield Verdict(
            area="Consul",
            level="problem",
            text=f"CONSUL_HTTP_TOKEN does not show all {' and '.join(hidden)}",
            why="that somebody else holds a route, or where a service is, is not seen: `up` and `deploy` fail",
            fix=_consul_fix(CONSUL_TOOLKIT, str(token.get("AccessorID"))),
        )
    else:
        yield well("Consul", "CONSUL_HTTP_TOKEN shows all services and nodes, and is no management token")
    yield from expiry_verdicts("Consul", "CONSUL_HTTP_TOKEN", token, now=now)


def anonymous_verdict(unread: Sequence[str]) -> Verdict:
    """Judge what who has no token may read. `unread`: of what Nomad's templates read, what it may not."""
    if not unread:
        return well("Consul", "who has no token may read what Nomad's templates do")
    return Verdict(
        area="Consul",
        level="doubt",
        text=f"who has no token may not read {' and '.join(unread)}",
        why="Nomad's templates ask so, unless tasks have an identity of their own for Consul: jobs would start and find "
        "neither the store nor the query frontends",
        fix=_consul_fix(CONSUL_ANONYMOUS, "anonymous"),
    )


def unrouted_verdict(missing: Sequence[str], *, routes: int) -> Verdict | None:
    """Judge the services that pass their checks in Consul with a route's tag, and that Fabio has no route to."""
    if not missing:
        return None
    return Verdict(
        area="Fabio",
        level="problem",
        text=f"has no route to {', '.join(missing)}, which Consul has as passing"
        + ("" if routes else "; its table is empty"),
        why="its token does not let it see services and nodes, or it asks another Consul",
        fix=f"{_consul_policy(CONSUL_FABIO)} && consul acl token create -description fabio "
        f"-policy-name {_called(CONSUL_FABIO)}; give it to Fabio as -registry.consul.token, and start it anew.",
    )


def expiry_verdicts(area: str, variable: str, token: Token, *, now: datetime) -> Iterator[Verdict]:
    """Judge that a token ends soon; those that never end, or not soon, give nothing."""
    text = token.get("ExpirationTime")
    if not text:
        return
    ends = datetime.fromisoformat(_FRACTION.sub(r".\1", str(text)))
    left = ends - now
    if left > SOON:
        return
    minutes = max(left, timedelta()) // _LEAST
    yield Verdict(
        area=area,
        level="doubt" if left > timedelta() else "problem",
        text=f"{variable} expires at {ends.astimezone(UTC):%Y-%m-%d %H:%M} UTC, in {minutes // 60} h {minutes % 60} min",
        why="from then on nothing is allowed to it; what runs goes on running",
        fix=f"Have a new one made, and set {variable}.",
    )


def _called(policy: str) -> str:
    """Return what a policy file's policy is called in the commands: clipper, clipper-anonymous, clipper-fabio."""
    return {CONSUL_TOOLKIT: "clipper"}.get(policy, policy.replace("consul-", "clipper-"))


def _consul_policy(policy: str) -> str:
    return f"clipper-nomad policy {policy} | consul acl policy create -name {_called(policy)} -rules -"


def _consul_fix(policy: str, accessor: str) -> str:
    update = f"consul acl token update -id {accessor} -merge-policies -policy-name {_called(policy)}"
    return f"{_consul_policy(policy)} && {update}"
