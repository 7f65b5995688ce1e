"""`clipper-nomad images`: build the images of a cluster's parts from what is installed here, and push them."""

from __future__ import annotations

import time
from enum import StrEnum
from typing import Annotated

import typer

from clipper_nomad.cli.options import Building, Json


class Act(StrEnum):
    """What is to be done."""

    BUILD = "build"
    PUSH = "push"


def images(
    act: Annotated[Act, typer.Argument(metavar="ACT", help="build, or push, which builds them first.")],
    *,
    building: Building,
    as_json: Json = False,
) -> None:
    """Build the images for a cluster on Nomad, and push them.

    Those of admin, query frontend and model runtime, from the clipper-nomad that is installed here, for its version of
    Python. Docker builds; its own login is used for the registry.

    Examples:
      clipper-nomad images build
      clipper-nomad images push --registry registry.example/team
      clipper-nomad images build --base-image python:3.11 --build-network host
    """
    from clipper_nomad.cli.on_nomad.bringing_up import image_lines
    from clipper_nomad.cli.on_nomad.reaching import image_set, registry_of
    from clipper_nomad.cli.output import Output

    output = Output(as_json=as_json)
    began = time.monotonic()
    with output.board() as board:
        kept = image_set(building, progress=image_lines(board))
        found = kept.build_parts()
        if act is Act.PUSH:
            found = kept.push_parts()
    took_s = time.monotonic() - began
    output.done(f"{'built and pushed' if act is Act.PUSH else 'built'} {len(found)} images", took_s=took_s)
    for part, reference in found.items():
        output.detail(str(part), str(reference))
    registry = building.registry
    output.next_step(
        "clipper-nomad up" + (f" --registry {registry}" if registry else "")
        if act is Act.PUSH
        else f"clipper-nomad images push --registry {registry_of(building) or 'HOST[/PATH]'}"
        + ("" if registry_of(building) else ", unless Nomad's one client is this machine")
    )
    output.document({"images": {str(part): str(reference) for part, reference in found.items()}, "took_s": round(took_s, 3)})
