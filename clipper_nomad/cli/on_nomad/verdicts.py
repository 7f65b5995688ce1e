"""What `doctor` makes of what it was told: each a verdict with why and what to do. Pure; examining.py asks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from clipper_nomad.cluster.rollout.capacity import Room
from clipper_nomad.cluster.route_claims import RouteClash
from clipper_nomad.errors import ClipperException

SIGNS = {"well": "✔", "doubt": "⚠", "problem": "✖"}
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One line of `doctor`. `level`: well, doubt (works, and something is to be known) or problem."""

    area: str
    level: str
    text: str
    why: str = ""
    fix: str = ""

    @property
    def sign(self) -> str:
        """The mark before the line."""
        return SIGNS[self.level]


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What the parts of a cluster ask for, CPU in MHz and memory in MiB: in all, and the largest allocation."""

    cpu_mhz: int
    memory_mib: int
    largest_cpu_mhz: int
    largest_memory_mib: int


def well(area: str, text: str) -> Verdict:
    """Return a verdict without a but."""
    return Verdict(area=area, level="well", text=text)


def failed(area: str, error: ClipperException, *, fix: str = "", level: str = "problem") -> Verdict:
    """Return the verdict of a question that had no answer."""
    text, *more = error.msg.strip().splitlines()
    return Verdict(
        area=area, level=level, text=text, why=" ".join(line.strip() for line in more), fix=fix or error.hint or ""
    )


def nomad_verdict(url: str, *, version: str, leader: str, has_token: bool, needs_token: bool) -> Verdict:
    """Judge Nomad's servers."""
    if not leader:
        return Verdict(
            area="Nomad",
            level="problem",
            text=f"{url} has no leader",
            why="without one nothing can be registered",
            fix="See `nomad server members` and the servers' logs.",
        )
    token = (
        "token is taken" if has_token and needs_token else "no token, and none is needed" if not needs_token else "no token"
    )
    if needs_token and not has_token:
        return Verdict(
            area="Nomad",
            level="problem",
            text=f"{version}  {url}  wants a token, and NOMAD_TOKEN is not set",
            fix="Set NOMAD_TOKEN.",
        )
    return well("Nomad", f"{version}  {url}  leader {leader}  {token}")


def open_nomad_verdict(url: str, *, host: str) -> Verdict | None:
    """Judge a Nomad without ACLs that a network reaches: whoever reaches it reads the secrets of the cluster."""
    if host in LOOPBACK:
        return None
    return Verdict(
        area="Nomad",
        level="doubt",
        text=f"{url} has no ACLs",
        why="whoever reaches it can read every Nomad Variable, the cluster's token and keys among them",
        fix="Switch on ACLs (acl { enabled = true }), or let only those near whom you trust.",
    )


def clients_verdict(nodes: Sequence[Mapping[str, object]], datacenters: Sequence[str], pool: str | None) -> Verdict:
    """Judge the clients: how many are ready, with Docker, in the datacenters and the pool that jobs ask for."""
    ready = [each for each in nodes if each.get("Status") == "ready" and each.get("SchedulingEligibility") == "eligible"]
    fitting = [
        each
        for each in ready
        if ("*" in datacenters or each.get("Datacenter") in datacenters)
        and (pool in {None, "all"} or (each.get("NodePool") or "default") == pool)
    ]
    with_docker = [each for each in fitting if _has_docker(each)]
    if with_docker:
        return well("Clients", f"{len(with_docker)} of {len(nodes)} ready, with Docker, in {', '.join(datacenters)}")
    if fitting:
        text, fix = (
            "no client has a healthy Docker driver",
            "Start Docker on a client; `nomad node status -verbose` shows it.",
        )
    elif ready:
        places = sorted({str(each.get("Datacenter")) for each in ready})
        text = f"no client is in datacenter {', '.join(datacenters)}" + (f", node pool {pool}" if pool else "")
        fix = f"The clients are in: {', '.join(places)}. Name one: --datacenter {places[0]}."
    else:
        text, fix = f"none of {len(nodes)} clients takes jobs", "`nomad node status` shows what they are."
    return Verdict(area="Clients", level="problem", text=text, fix=fix)


def _has_docker(node: Mapping[str, object]) -> bool:
    drivers = node.get("Drivers")
    docker = drivers.get("docker") if isinstance(drivers, Mapping) else None
    return isinstance(docker, Mapping) and bool(docker.get("Healthy"))


def room_verdict(rooms: Sequence[Room] | None, needs: Needs, *, runs: bool) -> Verdict:
    """Judge the room on the clients; of a cluster that runs already its own parts take what they need."""
    asks = f"the parts need {needs.cpu_mhz:,} MHz and {needs.memory_mib:,} MiB"
    if rooms is None:
        return Verdict(
            area="Room",
            level="doubt",
            text=f"{asks}; what the clients have cannot be seen",
            why="this token may not read clients or allocations",
            fix='Give its policy `node { policy = "read" }`.',
        )
    free_cpu, free_memory = sum(each.cpu_mhz for each in rooms), sum(each.memory_mib for each in rooms)
    best_cpu = max((each.cpu_mhz for each in rooms), default=0)
    best_memory = max((each.memory_mib for each in rooms), default=0)
    has_room = free_cpu >= needs.cpu_mhz and free_memory >= needs.memory_mib
    has_place = best_cpu >= needs.largest_cpu_mhz and best_memory >= needs.largest_memory_mib
    largest = f"the roomiest client has {best_cpu:,} MHz and {best_memory:,} MiB free"
    if runs:
        return well("Room", f"the cluster has its place; {largest}")
    if has_room and has_place:
        return well("Room", f"{asks}; {largest}")
    return Verdict(
        area="Room",
        level="problem",
        text=f"{asks}; free are {free_cpu:,} MHz and {free_memory:,} MiB, {largest}",
        fix="Stop a job, or add a client.",
    )


def consul_verdict(url: str, *, version: str, leader: str) -> Verdict:
    """Judge Consul."""
    if not leader:
        return Verdict(
            area="Consul",
            level="problem",
            text=f"{url} has no leader",
            why="without one no service is found",
            fix="See `consul members` and its log.",
        )
    return well("Consul", f"{version}  {url}  leader {leader}")


def dns_verdict(*, is_forwarded: bool, error: str = "", fabio: str = "") -> Verdict:
    """Judge whether this machine's resolver knows Consul's names. Nothing of the command line needs it.

    `fabio`: Fabio's address, if it is such a name: other programs of this machine that ask there need it."""
    if is_forwarded:
        return well("DNS", "*.service.consul is looked up here")
    return Verdict(
        area="DNS",
        level="doubt",
        text="not forwarded: *.service.consul is not looked up here",
        why=(error or "the resolver says that there is no such name; Consul's HTTP API is asked instead, which does as well")
        + (f"; clients here cannot use {fabio}, as other programs do not ask Consul" if fabio else ""),
        fix="For ConsulDNS() in Python"
        + (", and for clients" if fabio else "")
        + ": forward the domain `consul` to a Consul agent's port 8600.",
    )


def routes_verdict(clashes: Sequence[RouteClash]) -> Verdict:
    """Judge the routes that the cluster needs."""
    if not clashes:
        return well("Routes", "none that this cluster needs is held by others")
    return Verdict(
        area="Routes",
        level="problem",
        text=str(clashes[0]) + (f", and {len(clashes) - 1} more" if len(clashes) > 1 else ""),
        why="; ".join(str(each) for each in clashes[1:]),
        fix="Give this cluster a TCP port of its own (--tcp-port, --legacy-rpc-port) or another name (--cluster), or "
        "remove that tag.",
    )


def tcp_listener_verdict(address: str, port: int, error: ClipperException | None, *, is_legacy: bool = False) -> Verdict:
    """Judge a TCP listener of Fabio's: the model channel's, or that of Clipper's RPC version 3."""
    if error is None:
        return well("Fabio", f"TCP proxy {address} listens" + (", for RPC version 3" if is_legacy else ""))
    who = "containers of Clipper's RPC version 3" if is_legacy else "model containers"
    option, other = (
        ("--legacy-rpc-port", "without them: --no-legacy-rpc") if is_legacy else ("--tcp-port", "without Fabio: --no-fabio")
    )
    return Verdict(
        area="Fabio",
        level="problem",
        text=f"no listener for TCP {port} at {address}",
        why=f"{who} reach the query frontends through it",
        fix=f"Add `,:{port};proto=tcp` to Fabio's -proxy.addr, say {option}, or go {other}.",
    )


def inside_fabio_verdict(address: str, *, instances: int | None) -> Verdict:
    """Judge the address that only replicas dial. `instances`: healthy ones that Consul knows, None: it is not asked."""
    if instances == 0:
        return Verdict(
            area="Fabio",
            level="problem",
            text=f"Consul knows no healthy instance behind {address}",
            why="model containers reach the query frontends through it",
            fix="See that Fabio runs and is registered in Consul; CLIPPER_FABIO_TCP names another address.",
        )
    known = "" if instances is None else f", {instances} in Consul"
    return well("Fabio", f"TCP proxy {address}{known}; replicas dial it, and nobody from here")


def exposed_fabio_verdict(host: str, admin_port: int) -> Verdict | None:
    """Judge that Fabio's own pages answered from here."""
    if host in LOOPBACK:
        return None
    return Verdict(
        area="Fabio",
        level="doubt",
        text=f"its own pages on {host}:{admin_port} are open to the network",
        why="/api/config shows Consul's token",
        fix=f"Set -ui.addr 127.0.0.1:{admin_port} and -ui.access ro.",
    )


def docker_verdict(error: ClipperException | None, *, is_needed: bool = True) -> Verdict:
    """Judge Docker on this machine, which builds images. `is_needed`: those of models too."""
    if error is None:
        return well("Docker", "answers here: images can be built")
    if not is_needed:
        fix = "Needed to build images, and for `up`; models are deployed without, as no registry is named."
        return failed("Docker", error, level="doubt", fix=fix)
    return failed("Docker", error, fix="Needed to build and push images, and to deploy: start Docker, or set DOCKER_HOST.")


def unknown_name_verdict(name: str) -> Verdict:
    """Judge a name of Fabio's that Consul and this machine's DNS do not know."""
    return Verdict(
        area="Fabio",
        level="problem",
        text=f"nobody knows the name {name}",
        why="DNS is not forwarded to Consul here, and Consul's API has no healthy service of that name, or cannot be asked",
        fix=f"Say --fabio HOST, its address; or let Fabio register itself in Consul as {name.partition('.')[0]!r}.",
    )


def registry_out_of_reach(registry: str, error: ClipperException) -> Verdict:
    """Judge a registry that did not say whether it has an image."""
    return Verdict(
        area="Images",
        level="problem",
        text=f"the registry {registry} cannot be asked",
        why=error.msg,
        fix="See that it runs, and that Docker's host reaches it by this name; `docker login` if it wants a password.",
    )


def registry_verdict(registry: str, missing: Mapping[str, str], *, clients: int) -> Verdict:
    """Judge where images come from. `missing`: part → why its image is not found."""
    where = registry or "this machine's Docker"
    if missing:
        return Verdict(
            area="Images",
            level="problem",
            text=f"{where} has no image of: {', '.join(missing)}",
            why=next(iter(missing.values())),
            fix=(
                f"clipper-nomad images push --registry {registry}  (if it wants a password, docker login first)"
                if registry
                else "clipper-nomad images build, or name a registry: --registry HOST[/PATH]"
            ),
        )
    if not registry and clients > 1:
        return Verdict(
            area="Images",
            level="problem",
            text=f"there is no registry, and {clients} clients, which have no images of this machine's",
            fix="Name one: --registry HOST[/PATH], or CLIPPER_REGISTRY.",
        )
    return well("Images", f"{where} has those of this version of clipper-nomad")
