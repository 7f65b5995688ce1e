"""Says why a part ended, from its exit code and the end of its log. Pure.

The exit codes are the runtime's (clipper_nomad_runtime/stopping.py), unless the log says nothing of the kind: endings.py.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping

from clipper_nomad.local_stack.control import FailureReply
from clipper_nomad.local_stack.endings import is_own_word
from clipper_nomad.local_stack.keeper import Death
from clipper_nomad.local_stack.logs import last_line, last_words, names_error

_BY_ITSELF: str | None = "Something in that process ended it, such as os._exit()."
_CAUSES: Mapping[int, tuple[str, str | None]] = {
    0: ("ended by itself", None),
    1: ("failed", "Correct the model and deploy it again."),
    2: ("was started with settings that are not right", "This is an error of clipper-nomad: please report it."),
    3: ("lacks a package", "Name it in pkgs_to_install, or install it into this Python environment; then deploy again."),
    4: ("has a bundle that is damaged or made by another Python", "Deploy it again, from this Python environment."),
    126: ("could not be started", None),
    127: ("could not be started", None),
}


def explain(who: str, death: Death, *, log: str) -> FailureReply:
    """Return the failure that a death is. `who`: "Replica iris-1-0", "The store"."""
    line = last_line(death.tail)
    said = "; it logged nothing"
    if line:
        said = f": {line}" if names_error(death.tail) else f"; the last line it logged: {line}"
    words, hint = f"ended with exit code {death.exit_code}", _BY_ITSELF
    if death.exit_code in _CAUSES and is_own_word(death.exit_code, death.tail):
        words, hint = _CAUSES[death.exit_code]
    if death.exit_code < 0:
        words, hint = _killed(-death.exit_code)
    return FailureReply(
        cause=f"{who} {words}{said}",
        log_tail=last_words(death.tail),
        hint=f"{hint} Its whole log: {log}" if hint else f"Its whole log: {log}",
    )


def _killed(number: int) -> tuple[str, str | None]:
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    hint = "Perhaps this machine ran out of memory; `dmesg` would say so." if name == "SIGKILL" else None
    return f"was killed by {name}", hint
