"""Command lines about the cluster that a verb is about, as they are proposed to the user."""

from __future__ import annotations

import os

from clipper_nomad.cli.options import DEFAULT_CLUSTER, Where


def command(words: str, where: Where) -> str:
    """Return a command line about the same cluster, to be printed."""
    given = {"--nomad": where.nomad, "--consul": where.consul, "--fabio": where.fabio, "--namespace": where.namespace}
    options = [f" {name} {value}" for name, value in given.items() if value]
    if where.local and "--local" not in words and os.environ.get("NOMAD_ADDR"):
        options.append(" --local")
    cluster = "" if where.cluster == DEFAULT_CLUSTER else f" --cluster {where.cluster}"
    return f"clipper-nomad {words}{cluster}{''.join(options)}"
