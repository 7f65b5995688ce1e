"""Local mode: the whole system as supervised processes of one user on one machine, nothing installed but the package.

    the user's process              the supervisor (own process, own session)
    manager.py                      supervisor.py   its life: lock, start, serve, stop
       |                              |- stack.py      the parts it keeps: store, admin, frontends, replicas
    launch.py   (start or attach)     |  |- replicas.py   how many replicas of which version, and why they fail
       |                              |  |- keeper.py     keeps one part running; restarts.py is its policy
    control_client.py --unix socket-- |- control_server.py
                control.py            |- owners.py     whose end ends the stack; exits.py tells when a process ended
                                      '- janitor.py    own process: removes what a killed supervisor leaves

Where things lie: place.py. How each process is started: parts.py (pure) and store_binary.py. What a kept stack
remembers: kept.py. The function `clipper_nomad.local` is in clipper_nomad/connect.py.
Loaded lazily: the supervisor and the janitor import this package too, and have no use for the library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from clipper_nomad.local_stack.manager import LocalContainerManager as LocalContainerManager

_HOMES = {"LocalContainerManager": "manager"}


def __getattr__(name: str) -> object:
    """Load a public name from its module when it is first asked for (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415  # only where a public name is used

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
