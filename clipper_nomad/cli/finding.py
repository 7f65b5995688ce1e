"""The local cluster that a verb is about: where it lies, whether it runs, and a connection to it.

Looking (`find_cluster`, `read_status`) changes nothing. Connecting makes this process one of the stack's owners for as
long as the verb runs.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING
from urllib.parse import quote

from clipper_nomad.cli.options import DEFAULT_CLUSTER
from clipper_nomad.errors import StackError

if TYPE_CHECKING:
    from clipper_nomad.admin.client import AdminClient
    from clipper_nomad.cli.output import Output
    from clipper_nomad.connection import ClipperConnection
    from clipper_nomad.local_stack.control import StackStatus
    from clipper_nomad.local_stack.manager import LocalContainerManager
    from clipper_nomad.local_stack.place import Place

_STATUS_WITHIN_S = 10.0
_SHOWS_WITHIN_S = 2.0  # from the start of a supervisor until it answers; several times what it takes
_LOOK_EVERY_S = 0.05


def find_cluster(cluster: str) -> Place:
    """Return where the cluster of this user lies, running or not. Raises: InvalidName, StackError."""
    from clipper_nomad.local_stack.launch import running_place
    from clipper_nomad.local_stack.place import find_place

    return running_place(find_place(cluster, home=None, environ=os.environ, uid=os.getuid(), outlives_login=True))


def read_status(place: Place) -> StackStatus | None:
    """Return how the stack is, or None if it does not run. Raises: StackError: it runs and does not answer."""
    from clipper_nomad.local_stack.control import StackStatus, Status
    from clipper_nomad.local_stack.control_client import NotRunning, ask

    try:
        reply = ask(place.runtime, Status(), within_s=_STATUS_WITHIN_S)
    except NotRunning:
        return None
    if not isinstance(reply, StackStatus):
        raise StackError(f"The supervisor answered {type(reply).__name__} where its status was expected.")
    return reply


def make_manager(
    output: Output, cluster: str, *, port: int | None = None, frontends: int | None = None, keep: bool = False
) -> LocalContainerManager:
    """Return what starts and stops the cluster; `output` shows what it warns of."""
    from clipper_nomad.local_stack.manager import LocalContainerManager

    output.show_warnings_of("clipper_nomad")
    return LocalContainerManager(cluster, port, frontends, keep=keep)


def running_stack(cluster: str) -> StackStatus:
    """Return how the running stack of `cluster` is. Raises: StackError: it does not run."""
    stack = read_status(find_cluster(cluster))
    if stack is None:
        raise not_running(cluster)
    return stack


def predict_url(stack: StackStatus, app: str) -> str:
    """Return where an app's queries are posted to; the control plane need not be up."""
    return f"http://{stack.query_addr}/clipper/{quote(app, safe='')}/predict"


def admin_of(place: Place, stack: StackStatus, *, patience_s: float) -> AdminClient:
    """Return a client of the stack's admin service; connecting would make this process an owner of the stack."""
    from clipper_nomad.admin.client import AdminClient

    return AdminClient(lambda: stack.admin_addr, lambda: place.token.read_text().strip(), patience_s=patience_s)


def stop_interrupted(manager: LocalContainerManager, cluster: str) -> None:
    """Stop a stack whose start was interrupted: it may just be coming up, and not answer yet."""
    deadline = time.monotonic() + _SHOWS_WITHIN_S
    while read_status(find_cluster(cluster)) is None:
        if time.monotonic() > deadline:
            return
        time.sleep(_LOOK_EVERY_S)
    manager.stop_all(graceful=False)


def connect(output: Output, cluster: str) -> ClipperConnection:
    """Return a connection to the running cluster. Raises: StackError: it does not run."""
    from clipper_nomad.connection import ClipperConnection

    running_stack(cluster)
    connection = ClipperConnection(make_manager(output, cluster))
    connection.connect()
    return connection


def not_running(cluster: str) -> StackError:
    """Return the error of a verb that needs a cluster that runs."""
    return StackError(
        f"Cluster {cluster!r} does not run on this machine.", hint=f"Start it: {command('up --local', cluster)}"
    )


def command(words: str, cluster: str) -> str:
    """Return a command line about `cluster`, to be printed."""
    return f"clipper-nomad {words}" + ("" if cluster == DEFAULT_CLUSTER else f" --cluster {cluster}")
