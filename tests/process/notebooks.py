"""A real Jupyter kernel, as a notebook has it: cells to run, and to interrupt, restart and kill it."""

from __future__ import annotations

import contextlib
import os
import queue
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import KernelManager

READY_WITHIN_S = 30.0
CELL_WITHIN_S = 30.0


@dataclass(slots=True)
class Ran:
    """What became of a cell. `error`: the name of the exception that ended it, "" if none did."""

    printed: str = ""
    error: str = ""
    traceback: list[str] = field(default_factory=list)


class Notebook:
    """One kernel of this Python, whose files lie in `folder`. `temporary`: its directory for temporary files."""

    def __init__(self, folder: Path) -> None:
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        specs = KernelSpecManager(kernel_dirs=[])  # ipykernel's own: not what else is installed on this machine
        self._manager = KernelManager(kernel_spec_manager=specs, connection_file=str(folder / "kernel.json"))
        environment = {**os.environ, "IPYTHONDIR": str(folder / "ipython"), "TMPDIR": str(self.temporary)}
        self._manager.start_kernel(cwd=str(folder), env=environment)
        self._client: BlockingKernelClient = self._manager.blocking_client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=READY_WITHIN_S)

    @property
    def pid(self) -> int:
        """The kernel that lives now."""
        pid = getattr(self._manager.provisioner, "pid", None)
        assert isinstance(pid, int)
        return pid

    def run(self, cell: str) -> str:
        """Run a cell to its end, which must be a good one, and return what it printed."""
        ran = self.end_of(self.begin(cell))
        assert not ran.error, "\n".join(ran.traceback)
        return ran.printed.strip()

    def begin(self, cell: str) -> str:
        """Begin a cell, and return what `end_of` and `wait_for_print` know it by."""
        message_id: str = self._client.execute(cell, allow_stdin=False)
        return message_id

    def wait_for_print(self, cell_id: str) -> None:
        """Return when the cell has printed something, and is past the printing: ipykernel loses an interrupt within it."""
        self._next_about(cell_id, self._client.get_iopub_msg, {"stream"})
        time.sleep(0.2)

    def end_of(self, cell_id: str) -> Ran:
        """Return what became of the cell, when it has ended, without what was waited for before."""
        ran = Ran()
        while (message := self._next_about(cell_id, self._client.get_iopub_msg, {"stream", "status"}))[
            "msg_type"
        ] == "stream":
            ran.printed += message["content"]["text"] if message["content"]["name"] == "stdout" else ""
        assert message["content"]["execution_state"] == "idle"
        reply = self._next_about(cell_id, self._client.get_shell_msg, {"execute_reply"})["content"]
        if reply["status"] != "ok":  # not from what is shown: IPython cannot show every traceback
            ran.error, ran.traceback = reply["ename"], reply["traceback"]
        return ran

    def interrupt(self) -> None:
        """As the notebook's stop button does."""
        self._manager.interrupt_kernel()

    def restart(self, *, at_once: bool) -> None:
        """As the notebook's restart button does; `at_once`: without asking the kernel to end first."""
        self._manager.restart_kernel(now=at_once)
        self._client.wait_for_ready(timeout=READY_WITHIN_S)

    def kill(self) -> None:
        """End it by kill -9."""
        self._manager.signal_kernel(9)

    def close(self) -> None:
        """End it, if it still lives, and what belongs to it here."""
        self._client.stop_channels()
        self._manager.shutdown_kernel(now=True)

    @staticmethod
    def _next_about(cell_id: str, get_message: Callable[..., dict[str, Any]], kinds: set[str]) -> dict[str, Any]:
        """Return the next message of these kinds that the kernel sends of this cell. Any: JSON of Jupyter's messages."""
        deadline = time.monotonic() + CELL_WITHIN_S
        while True:
            try:
                message = get_message(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no {' or '.join(kinds)} of the cell within {CELL_WITHIN_S} s") from None
            is_begin = message["content"].get("execution_state") == "busy"
            if message["parent_header"].get("msg_id") == cell_id and message["msg_type"] in kinds and not is_begin:
                return message


@contextlib.contextmanager
def open_notebook(folder: Path) -> Iterator[Notebook]:
    """A notebook whose kernel runs."""
    notebook = Notebook(folder)
    try:
        yield notebook
    finally:
        notebook.close()
