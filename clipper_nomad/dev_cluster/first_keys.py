"""Lets Nomad's server make its keys before there is a client.

In one agent the client asks to be registered before the server has keys to sign its identity with, and asks again only
after 15 to 30 s (seen on Nomad 1.11.3). So a new Nomad runs for a moment as a server alone.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time

from clipper_nomad.dev_cluster.agent_api import AgentApi
from clipper_nomad.dev_cluster.agents import environment_from
from clipper_nomad.dev_cluster.place import DevPlace
from clipper_nomad.dev_cluster.state import Settings
from clipper_nomad.errors import DevClusterError
from clipper_nomad.local_stack.logs import last_words, open_log, read_tail

KEYS_WITHIN_S = 60.0
_END_WITHIN_S = 15.0
_LOOK_EVERY_S = 0.05


def make_first_keys(place: DevPlace, settings: Settings) -> None:
    """Make the keys of a Nomad that has none. Raises: DevClusterError: it does not start."""
    keystore = place.nomad / "server" / "keystore"
    if keystore.is_dir() and any(keystore.iterdir()):
        return
    api, log = AgentApi(settings.ports), place.log("nomad")
    out = open_log(log)
    process = subprocess.Popen(
        [settings.program("nomad").path, "agent", f"-config={place.config / 'nomad-server'}"],
        env=environment_from(os.environ),
        cwd=place.data,
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=out,
        start_new_session=True,  # Ctrl-C is this process's affair
    )
    os.close(out)
    try:
        deadline = time.monotonic() + KEYS_WITHIN_S
        while not api.nomad_has_keys():
            if process.poll() is not None or time.monotonic() > deadline:
                how = "ended" if process.returncode is not None else f"made no keys within {KEYS_WITHIN_S:g} s"
                raise DevClusterError(
                    f"Nomad {how} at its first start:\n{last_words(read_tail(log))}", hint=f"Its log: {log}"
                )
            time.sleep(_LOOK_EVERY_S)
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_END_WITHIN_S)
        process.kill()
        process.wait()
