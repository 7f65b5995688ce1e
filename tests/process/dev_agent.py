"""Stands in for an agent of the development cluster: says that it started, does as the file beside it says, and waits.

python dev_agent.py NAME …     in the cluster's data folder; NAME.does holds: exit N, deaf, or nothing
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

name = sys.argv[1]
does = Path(f"{name}.does")
said = does.read_text().split() if does.exists() else []
print(f"{name} says {said}", flush=True)  # noqa: T201  # into its log
if said[:1] == ["exit"]:
    sys.exit(int(said[1]))
if said == ["deaf"]:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.pause()
