"""`deploy` on Nomad: a connection whose builds, pushes and rollouts are shown as they go."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clipper_nomad.cli.command_line import command
from clipper_nomad.cli.on_nomad.bringing_up import image_lines
from clipper_nomad.cli.on_nomad.reaching import connected, running_settings
from clipper_nomad.cli.on_nomad.rollout_lines import rollout_line
from clipper_nomad.cli.options import Building, Where
from clipper_nomad.errors import ClipperException

if TYPE_CHECKING:
    from clipper_nomad.cli.board import Board
    from clipper_nomad.cli.output import Output
    from clipper_nomad.cluster.rollout.events import RolloutEvent
    from clipper_nomad.connection import ClipperConnection


def connect_to_deploy(output: Output, where: Where, building: Building, *, rpc_mode: str, board: Board) -> ClipperConnection:
    """Return a connection to the running cluster that shows on `board` what a deploy does. Raises: ClipperException."""

    def told(event: RolloutEvent) -> None:
        board.show("model", rollout_line(event))

    if running_settings(where).tcp_port is None:  # found out here, and not when the replicas have been waited for
        raise ClipperException(
            f"The cluster {where.cluster!r} was brought up without Fabio, and in this version the replicas of a model find"
            " the query frontends through Fabio only.",
            hint=f"Bring it up with Fabio: {command('up', where)}",
        )
    output.show_warnings_of("clipper_nomad")
    return connected(where, building, rpc_mode=rpc_mode, events=told, image_lines=image_lines(board))
