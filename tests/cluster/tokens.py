"""Policies and tokens of a guarded rig's Nomad and Consul, made and changed with all rights."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.cluster.guard import put_policy
from tests.cluster.rig import Rig

Json = dict[str, Any]  # Any: JSON


def call(rig: Rig, service: str, path: str, body: Json) -> Json:
    """PUT something to "nomad" or "consul"."""
    url = rig.nomad_url if service == "nomad" else rig.consul_url
    answer = rig.session().put(f"{url}/v1/{path}", json=body, timeout=10)
    assert answer.ok, answer.text
    return dict(answer.json()) if answer.content and answer.json() else {}


def nomad_policy(rig: Rig, name: str, rules: str) -> None:
    """Make a policy of Nomad's, or give it other rules."""
    call(rig, "nomad", f"acl/policy/{name}", {"Name": name, "Rules": rules})


def nomad_token(rig: Rig, name: str, rules: str, **more: object) -> Json:
    """Make a policy of Nomad's and return a token of it."""
    nomad_policy(rig, name, rules)
    return call(rig, "nomad", "acl/token", {"Name": name, "Type": "client", "Policies": [name], **more})


def consul_policy(rig: Rig, name: str, rules: str) -> None:
    """Make a policy of Consul's, or give it other rules."""
    put_policy(rig.session(), rig.consul_url, name, rules)


def consul_token(rig: Rig, name: str, rules: str, **more: object) -> Json:
    """Make a policy of Consul's and return a token of it."""
    consul_policy(rig, name, rules)
    return call(rig, "consul", "acl/token", {"Policies": [{"Name": name}], **more})


@contextmanager
def other_nomad_rules(rig: Rig, name: str, rules: str, back: str) -> Iterator[None]:
    """Give a policy of Nomad's other rules for the time of the block."""
    nomad_policy(rig, name, rules)
    try:
        yield
    finally:
        nomad_policy(rig, name, back)


@contextmanager
def other_consul_rules(rig: Rig, name: str, rules: str, back: str) -> Iterator[None]:
    """Give a policy of Consul's other rules for the time of the block."""
    consul_policy(rig, name, rules)
    try:
        yield
    finally:
        consul_policy(rig, name, back)


def without_block(rules: str, header: str) -> str:
    """Return rules without one of their blocks, as `node_prefix ""`."""
    less = re.sub(rf"(?ms)^{re.escape(header)} \{{.*?^\}}\n", "", rules)
    assert less != rules, header
    return less


def without_capability(rules: str, capability: str) -> str:
    """Return rules without a capability of a list."""
    less = re.sub(rf'"{capability}", |, "{capability}"', "", rules)
    assert less != rules, capability
    return less
