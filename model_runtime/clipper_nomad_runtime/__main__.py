"""Entry point: `python -m clipper_nomad_runtime`. Settings come from the environment, the exit code tells the end."""

from __future__ import annotations

import logging
import os
import signal
import sys
from pathlib import Path

from clipper_nomad.protocol.environment import SettingsError
from clipper_nomad_runtime.config import BundleSource, read_settings
from clipper_nomad_runtime.process import begin, live
from clipper_nomad_runtime.stopping import Exit

log = logging.getLogger("clipper_nomad_runtime")


def main() -> None:
    """Run one replica and leave with its exit code."""
    try:
        settings = read_settings(os.environ)
    except SettingsError as exc:
        print(exc, file=sys.stderr)  # noqa: T201  # there is no log yet
        raise SystemExit(Exit.SETTINGS) from None
    begin()
    if settings.source is not None:
        _prepare(settings.source, settings.ready_file)
    live(settings)


def _prepare(source: BundleSource, ready_file: Path | None) -> None:
    """Get the bundle and its packages; with packages go on as a new process, in which nothing is imported yet."""
    # Imported only if asked for: an HTTP client is nothing that a model needs.
    from clipper_nomad_runtime.bundle_source import NotFetched, bring  # noqa: PLC0415
    from clipper_nomad_runtime.packages import NotInstalled, install, with_packages  # noqa: PLC0415

    for number in (signal.SIGTERM, signal.SIGINT):  # the first process of a container ignores what it does not handle
        signal.signal(number, lambda number, _: os._exit(128 + number))
    if ready_file is not None:
        ready_file.unlink(missing_ok=True)
    try:
        bring(source)
        packages = install(source.folder)
    except (NotFetched, NotInstalled) as exc:
        log.error("there is no bundle to run", extra={"reason": str(exc)})  # noqa: TRY400  # no bug of ours
        raise SystemExit(Exit.FETCH) from None
    if packages is not None:
        environment = with_packages(packages, os.environ)
        del environment["CLIPPER_BUNDLE_ADDRESS_FILE"]  # it is here
        os.execve(sys.executable, [sys.executable, "-m", "clipper_nomad_runtime"], environment)  # noqa: S606  # no shell


if __name__ == "__main__":
    main()
