"""`clipper-nomad keys`: change the key of the model channel."""

from __future__ import annotations

import time
from enum import StrEnum
from typing import Annotated

import typer

from clipper_nomad.cli.options import Json, Where


class Act(StrEnum):
    """What is to be done."""

    ROTATE = "rotate"


def keys(
    act: Annotated[Act, typer.Argument(metavar="ACT", help="rotate: give the query frontends a new key.")],
    *,
    where: Where,
    as_json: Json = False,
) -> None:
    """Change the key of the query frontends while they serve.

    Replicas are told of the new key and run on; the frontends are replaced, each old one when the new ones are ready.
    No query is lost. A command that was interrupted goes on when it is typed again.

    Examples:
      clipper-nomad keys rotate
      clipper-nomad keys rotate --nomad 10.0.0.5 --json
    """
    from clipper_nomad.cli.finding import require_nomad
    from clipper_nomad.cli.on_nomad.reaching import found_manager
    from clipper_nomad.cli.output import Output
    from clipper_nomad.cluster.rollout.lines import rollout_line

    require_nomad(where)
    output = Output(as_json=as_json)
    began = time.monotonic()
    with output.board() as board:
        manager = found_manager(where, events=lambda event: board.show("frontend", rollout_line(event)))
        rotated = manager.rotate_key(lambda line: board.show(str(act), line))
    took_s = time.monotonic() - began
    count = f"{rotated.frontends} query frontend" + ("" if rotated.frontends == 1 else "s")
    output.done(f"the key of cluster {where.cluster!r} was changed: {count}, {rotated.replicas} replicas", took_s=took_s)
    output.document(
        {
            "cluster": where.cluster,
            "key": rotated.key,
            "frontends": rotated.frontends,
            "replicas": rotated.replicas,
            "took_s": round(took_s, 3),
        }
    )
