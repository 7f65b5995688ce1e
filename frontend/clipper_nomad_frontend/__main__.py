"""`python -m clipper_nomad_frontend`: a query frontend, told what to do by its environment (config.py)."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Coroutine
from typing import Any

from clipper_nomad.protocol.environment import SettingsError
from clipper_nomad.protocol.log_lines import log_to_stderr
from clipper_nomad.toolkit import toolkit_version
from clipper_nomad_frontend.config import Settings, read_settings
from clipper_nomad_frontend.server import Server

EXIT_CANNOT_LISTEN = 1
EXIT_SETTINGS = 2


def main() -> int:
    """Run a query frontend until a signal ends it, and return the exit code."""
    try:
        settings = read_settings(os.environ)
    except SettingsError as exc:
        sys.stderr.write(f"{exc}\n")
        return EXIT_SETTINGS
    log_to_stderr("clipper_nomad_frontend", "clipper_nomad")
    try:
        _run(_serve(settings))
    except OSError as exc:
        sys.stderr.write(f"The query frontend cannot start: {exc}\nGive it another address, or end what holds this one.\n")
        return EXIT_CANNOT_LISTEN
    return 0


def _run(serving: Coroutine[Any, Any, None]) -> None:
    try:
        import uvloop  # noqa: PLC0415  # not on every platform
    except ImportError:
        asyncio.run(serving)
    else:
        uvloop.run(serving)


async def _serve(settings: Settings) -> None:
    await Server(settings, toolkit_version()).serve()


if __name__ == "__main__":
    sys.exit(main())
