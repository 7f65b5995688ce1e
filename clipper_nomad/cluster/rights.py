"""What a Nomad token may do, read from its policies' rules as Nomad gives them (RulesJSON), and what clipper-nomad needs.
Pure; nomad_api.py asks. The needs are those of policies.NOMAD_TOOLKIT.

Nomad's rules for rules: what policies allow adds up, `deny` in one of them takes all of it, an exact name goes before a
pattern, and among patterns the one that leaves least to `*`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from clipper_nomad.cluster.jobs.requirements import HostVolume
from clipper_nomad.cluster.names import ClusterNames, variable_path
from clipper_nomad.cluster.rollout.parsed_job import Json

DENY = "deny"
_SEPARATOR = "\0"  # between a namespace and a variable's path, which are matched as one text

# right → what is not possible without it, each seen (tests/cluster/test_policies.py)
IN_NAMESPACE = {
    "list-jobs": "every verb fails",
    "read-job": "every verb fails",
    "submit-job": "`up`, `plan`, `deploy`, `scale` and `down` fail",
    "read-logs": "`logs` fails, and a deploy that fails does not show its log",
    "read-fs": "`keys rotate` fails",
}
OF_VARIABLES = {
    "read": "`up`, `plan`, `deploy`, `scale`, `predict` and `keys rotate` fail, and `status` shows neither apps nor models",
    "write": "the first `up`, every `deploy` and `keys rotate` fail",
    "destroy": "`down --volumes` fails, and a deploy that fails leaves its Variable",
}
IMPLIED_BY = {"read-logs": "read-fs"}  # who may read files may read logs
OF_NODES = "how much room the clients have is not seen"
TOLERABLE = frozenset({"read-logs", "read-fs", "node"})  # `up` and `deploy` work without


@dataclass(frozen=True, slots=True)
class Lack:
    """A right that a token does not have. `right`: "submit-job in namespace default"; `fails`: what does without it."""

    right: str
    fails: str
    is_tolerable: bool = False


class Rights:
    """What the rules of a token's policies allow."""

    def __init__(self, rules: Iterable[Json]) -> None:
        self._namespaces: dict[str, set[str]] = {}
        self._variables: dict[str, set[str]] = {}
        self._volumes: dict[str, set[str]] = {}
        self._node: set[str] = set()
        for each in rules:
            self._add(each)

    def in_namespace(self, name: str) -> frozenset[str]:
        """Return the capabilities in a namespace."""
        return _closest(self._namespaces, name)

    def of_variable(self, namespace: str, path: str) -> frozenset[str]:
        """Return the capabilities on a variable."""
        return _closest(self._variables, f"{namespace}{_SEPARATOR}{path}")

    def of_volume(self, name: str) -> frozenset[str]:
        """Return the capabilities on a host volume."""
        return _closest(self._volumes, name)

    @property
    def reads_nodes(self) -> bool:
        """Whether clients may be read."""
        return DENY not in self._node and bool(self._node & {"read", "write"})

    def _add(self, rules: Json) -> None:
        for each in rules.get("Namespaces") or ():
            name = each["Name"]
            self._namespaces.setdefault(name, set()).update(each.get("Capabilities") or ())
            for path in (each.get("Variables") or {}).get("Paths") or ():
                key = f"{name}{_SEPARATOR}{path['PathSpec']}"
                self._variables.setdefault(key, set()).update(path.get("Capabilities") or ())
        for each in rules.get("HostVolumes") or ():
            self._volumes.setdefault(each["Name"], set()).update(each.get("Capabilities") or ())
        node = (rules.get("Node") or {}).get("Policy")
        if node:
            self._node.add(node)


def lacks(rights: Rights, names: ClusterNames, *, namespace: str, volumes: Iterable[HostVolume] = ()) -> Iterator[Lack]:
    """Yield each right that clipper-nomad needs for a cluster and that is not there. `volumes`: of its parts."""
    allowed = rights.in_namespace(namespace)
    for right, fails in IN_NAMESPACE.items():
        if not allowed & {right, IMPLIED_BY.get(right)}:
            yield Lack(f"{right} in namespace {namespace}", fails, is_tolerable=right in TOLERABLE)
    jobs = (names.redis_job, names.admin_job, names.frontend_job, names.model_job("any", "1"))
    of_paths = {path: rights.of_variable(namespace, path) for path in map(variable_path, jobs)}
    for right, fails in OF_VARIABLES.items():
        without = [path for path, allowed in of_paths.items() if right not in allowed]
        if without:
            those = f"nomad/jobs/{names.prefix}-*" if len(without) == len(of_paths) else ", ".join(without)
            yield Lack(f"{right} on the Variables {those} in namespace {namespace}", fails)
    for volume in volumes:
        right = "mount-readonly" if volume.read_only else "mount-readwrite"
        if not rights.of_volume(volume.source) & {right, "mount-readwrite"}:
            yield Lack(f"{right} on the host volume {volume.source}", "`up` or `deploy` fails: it is asked for")
    if not rights.reads_nodes:
        yield Lack("node read", OF_NODES, is_tolerable=True)


def _closest(rules: Mapping[str, set[str]], name: str) -> frozenset[str]:
    """Return the capabilities of the rule that counts for a name."""
    if name in rules and "*" not in name:
        found: set[str] = rules[name]
    else:
        fitting = [pattern for pattern in rules if "*" in pattern and _fits(pattern, name)]
        if not fitting:
            return frozenset()
        found = rules[max(fitting, key=lambda pattern: len(pattern) - pattern.count("*"))]
    return frozenset() if DENY in found else frozenset(found)


def _fits(pattern: str, name: str) -> bool:
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), name, re.DOTALL) is not None
