"""Options and arguments that several verbs share, so that they read and behave the same everywhere.

A dataclass here is a group of options that a verb takes as one parameter (option_groups.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from clipper_nomad.errors import ClipperException

DEFAULT_CLUSTER = "default-cluster"


class WrongUsage(ClipperException):
    """The command line asks for what cannot be; exit code 2."""


def _remember_json(context: typer.Context, value: bool) -> bool:
    """Let app.py know: in this mode an error is a JSON document too."""
    if value:
        context.find_root().obj = "json"
    return value


Json = Annotated[
    bool,
    typer.Option(
        "--json", help="Print one JSON document on stdout, also on failure.", is_eager=True, callback=_remember_json
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """Which cluster a verb is about, and where that runs. finding.py says which of the two places is meant."""

    cluster: Annotated[str, typer.Option("--cluster", metavar="NAME", help="Which cluster.")] = DEFAULT_CLUSTER
    local: Annotated[bool, typer.Option("--local", help="The one of this machine, whatever NOMAD_ADDR says.")] = False
    nomad: Annotated[
        str | None, typer.Option("--nomad", metavar="ADDR", help="The one on this Nomad.  [default: NOMAD_ADDR]")
    ] = None
    consul: Annotated[
        str | None, typer.Option("--consul", metavar="ADDR", help="Nomad's Consul.  [default: CONSUL_HTTP_ADDR]")
    ] = None
    fabio: Annotated[
        str | None,
        typer.Option(
            "--fabio", metavar="HOST[:PORT]", help="Fabio and its HTTP port.  [default: CLIPPER_FABIO, else Nomad's host]"
        ),
    ] = None
    namespace: Annotated[
        str | None, typer.Option("--namespace", metavar="NAME", help="Of Nomad.  [default: NOMAD_NAMESPACE]")
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Building:
    """Where images come from, on a Nomad cluster."""

    registry: Annotated[
        str | None,
        typer.Option(
            "--registry",
            metavar="HOST[/PATH]",
            help="Of images, on Nomad; '' for this machine's. Without one models need none.  [default: CLIPPER_REGISTRY]",
        ),
    ] = None
    runtime_image: Annotated[
        str | None,
        typer.Option("--runtime-image", metavar="IMAGE", help="What runs models that have no image of their own."),
    ] = None
    base_image: Annotated[
        str | None,
        typer.Option("--base-image", metavar="IMAGE", help="What images are built on.  [default: python:3.X-slim]"),
    ] = None
    build_network: Annotated[
        str | None, typer.Option("--build-network", metavar="NET", help="Of builds, as docker build --network.")
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What a cluster on Nomad is to be like; what is left out is as it runs (on_nomad/reaching.py), else the default."""

    http_port: Annotated[
        int | None,
        typer.Option("--http-port", min=1, max=65535, metavar="N", help="Fabio's HTTP port, on Nomad.  [default: 9999]"),
    ] = None
    tcp_port: Annotated[
        int | None,
        typer.Option("--tcp-port", min=1, max=65535, metavar="N", help="Fabio's TCP port, on Nomad.  [default: 7000]"),
    ] = None
    no_fabio: Annotated[bool, typer.Option("--no-fabio", help="Without Fabio: no routes; all is found through Consul.")] = (
        False
    )
    with_fabio: Annotated[
        str | None,
        typer.Option("--with-fabio", metavar="IMAGE", help="Start Fabio too, from this image, where there is none."),
    ] = None
    fabio_consul: Annotated[
        str | None,
        typer.Option(
            "--fabio-consul", metavar="HOST:PORT", help="Of --with-fabio: each client's Consul.  [default: 127.0.0.1:8500]"
        ),
    ] = None
    fabio_admin_port: Annotated[
        int | None,
        typer.Option(
            "--fabio-admin-port", min=1, max=65535, metavar="N", help="Of --with-fabio, on loopback.  [default: 9998]"
        ),
    ] = None
    fabio_open_files: Annotated[
        int | None,
        typer.Option("--fabio-open-files", min=64, metavar="N", help="Of --with-fabio: its limit.  [default: 1048576]"),
    ] = None
    datacenter: Annotated[
        list[str] | None, typer.Option("--datacenter", metavar="DC", help="Of Nomad; several times.  [default: dc1]")
    ] = None
    region: Annotated[str | None, typer.Option("--region", metavar="NAME", help="Of Nomad.  [default: NOMAD_REGION]")] = None
    node_pool: Annotated[str | None, typer.Option("--node-pool", metavar="NAME", help="Of Nomad.")] = None
    redis_image: Annotated[
        str | None, typer.Option("--redis-image", metavar="IMAGE", help="The store's.  [default: redis:7-alpine]")
    ] = None
    redis_volume: Annotated[
        str | None,
        typer.Option("--redis-volume", metavar="NAME", help="A host volume for the store; without it, lost with its node."),
    ] = None
    bundle_volume: Annotated[
        str | None,
        typer.Option(
            "--bundle-volume", metavar="NAME", help="A host volume for bundles; without it, lost with admin's node."
        ),
    ] = None
    bundle_cache: Annotated[
        str | None,
        typer.Option("--bundle-cache", metavar="NAME", help="A host volume of every client for bundles it fetched."),
    ] = None
    bundle_limit: Annotated[
        int | None,
        typer.Option("--bundle-limit", min=1, metavar="MIB", help="The most that a bundle may have.  [default: 2048]"),
    ] = None
    cache: Annotated[
        float | None,
        typer.Option(
            "--cache",
            min=0,
            metavar="MIB",
            help="Prediction cache of each query frontend; 0: none.  [default: as it runs, none]",
        ),
    ] = None
    redis_host: Annotated[
        str | None,
        typer.Option("--redis-host", metavar="HOST", help="A Redis of yours; its password in CLIPPER_REDIS_PASSWORD."),
    ] = None
    redis_port: Annotated[
        int | None,
        typer.Option("--redis-port", min=1, max=65535, metavar="N", help="Of --redis-host.  [default: 6379]"),
    ] = None
    encryption: Annotated[
        bool | None, typer.Option("--encryption/--no-encryption", help="Of the model channel.  [default: encrypted]")
    ] = None
    legacy_rpc: Annotated[
        bool | None,
        typer.Option("--legacy-rpc/--no-legacy-rpc", help="Serve containers of Clipper's RPC version 3.  [default: no]"),
    ] = None
    legacy_rpc_port: Annotated[
        int | None,
        typer.Option("--legacy-rpc-port", min=1, max=65535, metavar="N", help="Of Fabio, for them.  [default: 7001]"),
    ] = None
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="PART.OPTION=VALUE", help="What a part gets of Nomad: redis.memory=512; several times."
        ),
    ] = None


MOST_FRONTENDS = 64  # as container_manager has it, which --help need not load
Frontends = Annotated[
    int | None,
    typer.Option(
        "--frontends",
        min=1,
        max=MOST_FRONTENDS,
        metavar="N",
        help="Query frontends.  [default: as many as run, else 1]",
    ),
]
