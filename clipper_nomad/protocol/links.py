"""What both ends of a link must agree on: how many there are, when one counts as lost, what may wait there. Pure.

A replica serves so many query frontends directly; the others relay. Also asked by whoever judges whether the mesh is whole:
the deploying library and `status`. Source: docs/decisions/0009-mesh.md
"""

from __future__ import annotations

MOST_LINKS = 8
MOST_LEGACY_LINKS = 1  # of a container of RPC version 3: it knows one address
BOUND_BELOW_S = 0.005  # of a batch: where they take less, one more may wait at a busy replica, and is not handed back

# libzmq's own heartbeats, of its I/O thread: docs/behaviour.md, "Liveness"
HEARTBEAT_IVL_MS = 500
HEARTBEAT_TIMEOUT_MS = 2000  # a link is lost after two seconds of silence
HEARTBEAT_TTL_MS = 2500


def wanted_links(frontends: int, *, is_legacy: bool = False) -> int:
    """Return to how many of so many frontends each replica has a link. `is_legacy`: it speaks RPC version 3."""
    return min(frontends, MOST_LEGACY_LINKS if is_legacy else MOST_LINKS)
