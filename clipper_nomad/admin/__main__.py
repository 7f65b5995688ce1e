"""`python -m clipper_nomad.admin`: the admin service, told what to do by its environment (config.py)."""

from __future__ import annotations

import asyncio
import logging
import os
import sys

from clipper_nomad.admin.config import read_settings
from clipper_nomad.admin.server import Server
from clipper_nomad.protocol.environment import SettingsError
from clipper_nomad.protocol.log_lines import log_to_stderr

EXIT_SETTINGS = 2


def main() -> int:
    """Run the admin service until a signal ends it, and return the exit code."""
    try:
        settings = read_settings(os.environ)
    except SettingsError as exc:
        sys.stderr.write(f"{exc}\n")
        return EXIT_SETTINGS
    log_to_stderr("clipper_nomad")
    asyncio.run(Server(settings).serve())
    logging.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
