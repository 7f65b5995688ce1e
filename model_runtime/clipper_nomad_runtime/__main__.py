"""Entry point: `python -m clipper_nomad_runtime`. Settings come from the environment, the exit code tells the end."""

from __future__ import annotations

import io
import os
import sys
import threading

from clipper_nomad.protocol.environment import SettingsError
from clipper_nomad.protocol.log_lines import log_to_stderr
from clipper_nomad_runtime.config import read_settings
from clipper_nomad_runtime.server import Server
from clipper_nomad_runtime.stopping import Exit

LEAVE_S = 3.0  # for exit handlers and threads of the model


def main() -> None:
    """Run one replica and leave with its exit code."""
    try:
        settings = read_settings(os.environ)
    except SettingsError as exc:
        print(exc, file=sys.stderr)  # noqa: T201  # there is no log yet
        raise SystemExit(Exit.SETTINGS) from None
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # what the model prints is not lost if it dies
    log_to_stderr("clipper_nomad_runtime")
    ending = Server(settings).run()
    # A thread of the model that never ends would keep this process from ending.
    last_resort = threading.Timer(LEAVE_S, os._exit, [int(ending)])
    last_resort.daemon = True
    last_resort.start()
    raise SystemExit(ending)


if __name__ == "__main__":
    main()
