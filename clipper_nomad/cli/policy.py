"""`clipper-nomad policy`: the least-privilege ACL policies for Nomad and Consul, to be given to their own tools."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from clipper_nomad.cli.options import DEFAULT_CLUSTER


def policy(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Which one.  [default: list them]")] = None,
    *,
    cluster: Annotated[str, typer.Option("--cluster", metavar="NAME", help="Of which cluster.")] = DEFAULT_CLUSTER,
    namespace: Annotated[
        str | None, typer.Option("--namespace", metavar="NAME", help="Of Nomad.  [default: NOMAD_NAMESPACE]")
    ] = None,
) -> None:
    """Print a least-privilege ACL policy for Nomad or Consul.

    It is filled in for a cluster and a namespace of Nomad's. Without NAME they are listed.
    Nobody is asked and nothing is changed: `nomad` and `consul` make policies and tokens, with a management token.

    Examples:
      clipper-nomad policy
      clipper-nomad policy nomad-toolkit | nomad acl policy apply clipper -
      clipper-nomad policy consul-fabio > fabio.hcl
    """
    from clipper_nomad.cluster.policies import POLICIES
    from clipper_nomad.cluster.policies import policy as filled_in

    if name is None:
        width = max(map(len, POLICIES))
        for each, whose in POLICIES.items():
            typer.echo(f"{each:<{width}}  of {whose}")
        return
    typer.echo(filled_in(name, cluster=cluster, namespace=namespace or os.environ.get("NOMAD_NAMESPACE") or None), nl=False)
