"""Ends the process with code 7 while it is unpickled, as a crash in a C library does."""

from __future__ import annotations

import os
from typing import Any


class _Exits:
    def __reduce__(self) -> tuple[Any, ...]:
        return os._exit, (7,)


predict = _Exits()
