"""Whether an exit code is a part's own word for why it ended. Pure.

A model may end its process with any code, `os._exit(3)`, and 3 is also how the runtime says that an import is missing.
But the runtime, a frontend and admin write why before they end so: the end of the log tells the two apart.
failure.py words the end by this, keeper.py decides by it whether another start can help.
"""

from __future__ import annotations

import re

_SETTING = re.compile(r"\bCLIPPER_[A-Z]")  # every complaint about settings names one
_IMPORT_EVENT = re.compile(r" ERROR an import of the model is missing ")  # clipper_nomad_runtime/server.py
_IMPORT_ERROR = re.compile(r"^(?:\w+\.)*(?:ImportError|ModuleNotFoundError)\b", re.MULTILINE)  # after a long traceback
_BUNDLE_EVENT = re.compile(r" ERROR the bundle cannot be run ")  # the same file
_NOT_STARTED = re.compile(r"cannot be started: |shared librar")  # keeper.py's words; the loader's


def is_own_word(exit_code: int, tail: str) -> bool:
    """Whether `exit_code`, of a part whose log ends with `tail`, means what _CAUSES of failure.py says it means."""
    match exit_code:
        case 2:
            return _SETTING.search(tail) is not None
        case 3:
            return _IMPORT_EVENT.search(tail) is not None or _IMPORT_ERROR.search(tail) is not None
        case 4:
            return _BUNDLE_EVENT.search(tail) is not None
        case 126 | 127:
            return _NOT_STARTED.search(tail) is not None
        case _:
            return True
