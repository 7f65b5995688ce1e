"""A replica as a whole process: its log, its standard output, and how it leaves. Called by __main__.py and rpc.py."""

from __future__ import annotations

import io
import os
import sys
import threading
from typing import NoReturn

from clipper_nomad.protocol.log_lines import log_to_stderr
from clipper_nomad_runtime.clipper_admin_names import offer
from clipper_nomad_runtime.config import Settings
from clipper_nomad_runtime.loader import Model
from clipper_nomad_runtime.server import Server
from clipper_nomad_runtime.stopping import LEAVE_S


def begin() -> None:
    """Make what this process and its model say readable while it runs, and Clipper's names known to the model."""
    offer()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # what the model prints is not lost if it dies
    log_to_stderr("clipper_nomad_runtime")


def live(settings: Settings, model: Model | None = None) -> NoReturn:
    """Run one replica and leave with its exit code. `model`: what it serves; None: the bundle of the settings."""
    ending = Server(settings, model).run()
    # A thread of the model that never ends would keep this process from ending.
    last_resort = threading.Timer(LEAVE_S, os._exit, [int(ending)])
    last_resort.daemon = True
    last_resort.start()
    raise SystemExit(ending)
