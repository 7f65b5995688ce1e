"""Needs a module that is not installed where it is loaded."""

from __future__ import annotations

import importlib
from typing import Any


class _Imports:
    def __reduce__(self) -> tuple[Any, ...]:
        return importlib.import_module, ("a_module_that_is_nowhere",)


predict = _Imports()
