"""How long `doctor --wait` goes on looking, and what it says it waits for. Pure: the caller passes verdicts and the time."""

from __future__ import annotations

import re
from collections.abc import Sequence

from clipper_nomad.cli.on_nomad.verdicts import Verdict
from clipper_nomad.cli.options import WrongUsage

LOOK_EVERY_S = 3.0
# What a cluster that is just starting has sooner or later. Images, and routes of others, wait for somebody to act.
_COMES_BY_ITSELF = frozenset({"Nomad", "Clients", "Room", "Consul", "Fabio"})
_UNITS_S = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


def seconds_of(text: str) -> float:
    """Return what "90", "90s", "5m" or "1h" is in seconds. Raises: WrongUsage: it is none of these, or nothing."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text.strip())
    if not found or not float(found[1]):
        raise WrongUsage(f"--wait is {text!r}.", hint="Write seconds, or a number with s, m or h: --wait 5m.")
    return float(found[1]) * _UNITS_S[found[2]]


def next_look(found: Sequence[Verdict], *, now: float, deadline: float) -> float | None:
    """Return in how many seconds to look again; None: there is nothing to wait for, or no time left."""
    problems = [each for each in found if each.level == "problem"]
    if not any(each.area in _COMES_BY_ITSELF for each in problems) or now >= deadline:
        return None
    return min(LOOK_EVERY_S, deadline - now)


def waited_for(found: Sequence[Verdict]) -> tuple[str, ...]:
    """Return a line for each problem that may pass."""
    return tuple(f"{each.area}: {each.text}" for each in found if each.level == "problem" and each.area in _COMES_BY_ITSELF)


def time_left(*, now: float, deadline: float) -> str:
    """Return how much of the wait is left, as "4:05"."""
    minutes, seconds = divmod(max(0, round(deadline - now)), 60)
    return f"{minutes}:{seconds:02}"
