"""What a call is doing, shown below the notebook cell that called it: one block, with a line for each part.

A call says its newest line with `show`. Outside a notebook nothing is printed: there the caller's log has it. IPython is
not imported, only used if the process is its kernel.
"""

from __future__ import annotations

import sys
import threading
from typing import Any

_lock = threading.Lock()
_block: _Block | None = None


class _Block:
    """The block of one cell. Any: IPython's own objects, which a model's environment need not have."""

    def __init__(self, cell: int, display: Any) -> None:  # noqa: ANN401  # see the class
        self.cell = cell
        self._display = display
        self._handle: Any = None
        self._lines: dict[str, str] = {}

    def show(self, part: str, text: str) -> None:
        if self._lines.get(part) == text:
            return
        self._lines[part] = text
        width = max(map(len, self._lines))
        bundle = {"text/plain": "\n".join(f"{name:<{width}}  {line}" for name, line in self._lines.items())}
        if self._handle is None:
            self._handle = self._display(bundle, raw=True, display_id=True)
        else:
            self._handle.update(bundle, raw=True)


def show(part: str, text: str) -> None:
    """Make `text` the line of `part`, in the block of the cell that runs. May be called by several threads."""
    global _block  # noqa: PLW0603  # as there is one cell that runs
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is None or not hasattr(shell, "kernel"):  # a terminal's IPython has none
        return
    with _lock:
        if _block is None or _block.cell != shell.execution_count:
            _block = _Block(shell.execution_count, sys.modules["IPython.display"].display)
        _block.show(part, text)
