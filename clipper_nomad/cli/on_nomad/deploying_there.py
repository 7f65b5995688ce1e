"""`deploy` on Nomad: a connection whose builds, pushes and rollouts are shown as they go."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clipper_nomad.cli.on_nomad.bringing_up import image_lines
from clipper_nomad.cli.on_nomad.reaching import connected
from clipper_nomad.cli.options import Building, Where
from clipper_nomad.cluster.rollout.lines import rollout_line

if TYPE_CHECKING:
    from clipper_nomad.cli.board import Board
    from clipper_nomad.cli.output import Output
    from clipper_nomad.cluster.rollout.events import RolloutEvent
    from clipper_nomad.connection import ClipperConnection


def connect_to_deploy(output: Output, where: Where, building: Building, *, rpc_mode: str, board: Board) -> ClipperConnection:
    """Return a connection to the running cluster that shows on `board` what a deploy does. Raises: ClipperException."""

    def told(event: RolloutEvent) -> None:
        board.show("model", rollout_line(event))

    output.show_warnings_of("clipper_nomad")
    return connected(where, building, rpc_mode=rpc_mode, events=told, image_lines=image_lines(board, "publish"))
