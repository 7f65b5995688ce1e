"""Raises while it is unpickled."""

from __future__ import annotations

import os
from typing import Any


class _Raises:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.stat, ("/no/such/file/of/the/model",)


predict = _Raises()
