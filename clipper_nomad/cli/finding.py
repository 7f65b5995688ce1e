"""The cluster that a verb is about: of this machine or of a Nomad, and a connection to it.

The rule (`is_on_nomad`): --local means this machine, --nomad or NOMAD_ADDR a Nomad; without any of them it is this machine,
unless a development cluster runs and no stack of that name.
Of a local cluster: where it lies, whether it runs. Looking (`find_cluster`, `read_status`) changes nothing; connecting makes
this process one of the stack's owners for as long as the verb runs. Of one on Nomad: on_nomad/reaching.py.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import quote

from clipper_nomad.cli.command_line import command
from clipper_nomad.cli.options import Where, WrongUsage
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


def is_on_nomad(where: Where) -> bool:
    """Return whether the cluster is one on Nomad, and not of this machine. Raises: WrongUsage: both were said.

    Where nothing is said, and no local stack of that name runs, a development cluster that runs is the Nomad.
    """
    named = where.nomad or where.consul or where.fabio or where.namespace
    if where.local and named:
        raise WrongUsage(
            "--local is a cluster of this machine, and --nomad, --consul, --fabio and --namespace are of one on Nomad.",
            hint="Leave out the one or the others.",
        )
    if not where.local and not where.nomad and not os.environ.get("NOMAD_ADDR"):
        _find_dev_cluster(where)
    return not where.local and bool(where.nomad or os.environ.get("NOMAD_ADDR"))


def _find_dev_cluster(where: Where) -> None:
    """Let this process's environment lead to the development cluster, as `eval "$(clipper-nomad dev env)"` does."""
    from clipper_nomad.dev_cluster.running import environment_of, running

    state = running(os.environ)
    if state is None or read_status(find_cluster(where.cluster)) is not None:
        return
    found = environment_of(state)
    for name, value in found.items():
        os.environ.setdefault(name, value)
    sys.stderr.write(f"on the development cluster of this machine, Nomad at {found['NOMAD_ADDR']}\n")


def refuse_nomad_options(given: Mapping[str, object]) -> None:
    """Refuse options, by their parameters' names, that are of Nomad only. Raises: WrongUsage: one has a value."""
    named = [name for name, value in given.items() if value]
    if named:
        raise WrongUsage(
            f"--{named[0].replace('_', '-')} is of a cluster on Nomad.",
            hint="Leave it out, or say which Nomad: --nomad ADDR, or NOMAD_ADDR.",
        )


def require_nomad(where: Where) -> None:
    """Refuse to go on without a Nomad. Raises: WrongUsage."""
    if where.local or not is_on_nomad(where):
        raise WrongUsage(
            "This verb is about a cluster on Nomad, and it is not said which Nomad.",
            hint="Set NOMAD_ADDR, or say --nomad ADDR (and leave out --local).",
        )


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
    """Return what starts and stops the cluster; `output` shows what it warns of, and how packages are installed."""
    from clipper_nomad.local_stack.manager import LocalContainerManager

    output.show_warnings_of("clipper_nomad")
    return LocalContainerManager(
        cluster, port, frontends, keep=keep, progress=lambda title, line: output.note(f"… {title}: {line}")
    )


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


def connect(output: Output, where: Where) -> ClipperConnection:
    """Return a connection to the running cluster. Raises: ClipperException: it does not run."""
    from clipper_nomad.connection import ClipperConnection

    if is_on_nomad(where):
        from clipper_nomad.cli.on_nomad.reaching import connected

        return connected(where)
    running_stack(where.cluster)
    connection = ClipperConnection(make_manager(output, where.cluster))
    connection.connect()
    return connection


def find_url(where: Where, app: str) -> str:
    """Return where an app's queries are posted to. Raises: ClipperException: the cluster cannot be found."""
    if is_on_nomad(where):
        from clipper_nomad.cli.on_nomad.reaching import found_manager

        return found_manager(where).predict_url(app)
    return predict_url(running_stack(where.cluster), app)


def find_admin(where: Where, *, patience_s: float) -> AdminClient:
    """Return a client of the running cluster's admin service."""
    if is_on_nomad(where):
        from clipper_nomad.admin.client import AdminClient
        from clipper_nomad.cli.on_nomad.reaching import found_manager

        manager = found_manager(where)
        return AdminClient(manager.get_admin_addr, manager.get_admin_token, patience_s=patience_s)
    return admin_of(find_cluster(where.cluster), running_stack(where.cluster), patience_s=patience_s)


def not_running(cluster: str) -> StackError:
    """Return the error of a verb that needs a cluster that runs on this machine."""
    up = command("up --local", Where(cluster=cluster, local=True))
    return StackError(f"Cluster {cluster!r} does not run on this machine.", hint=f"Start it: {up}")
