"""`clipper_nomad.local()`: a connection to the local stack, started if it does not run."""

from __future__ import annotations

import os

from clipper_nomad.connection import ClipperConnection
from clipper_nomad.local_stack.manager import LocalContainerManager


def local(
    *,
    cluster_name: str = "default-cluster",
    port: int | None = None,
    keep: bool = False,
    frontends: int | None = None,
    home: str | os.PathLike[str] | None = None,
    legacy_rpc: bool = True,
    cache_size: int | None = None,
) -> ClipperConnection:
    """Return a connection to the local stack of `cluster_name`; it is started if it does not run.

    It stops when the last process that called this has ended, and takes its data with it, unless `keep`. `port`: the
    predict port; without it 9999, or the next that is free. `frontends`: processes that share it; without
    it as many as run, and 1 when it is started. `home`: a directory for everything, instead of the usual places.
    `legacy_rpc`: when it is started it gets a loopback port for Clipper's own containers, `cm.get_rpc_addr()`.
    `cache_size`: bytes of each frontend's prediction cache, 0 for none; without it as it runs, and none when it is started.
    Raises: StackError: it cannot be started, or runs in another version, on another port, with other `frontends` or with
    another cache.
    """
    manager = LocalContainerManager(cluster_name, port, frontends, keep=keep, home=home, legacy_rpc=legacy_rpc)
    manager.start_clipper(cache_size=cache_size)
    connection = ClipperConnection(manager)
    connection.connect()
    return connection
