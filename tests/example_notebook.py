"""The article's notebook: read, run top to bottom by a real kernel, and what its cells show.

`python -m tests.example_notebook` runs it on the cluster of NOMAD_ADDR, and keeps its outputs.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

PATH = Path(__file__).resolve().parents[1] / "examples" / "article.ipynb"
_VARIES = re.compile(r"\d[\d.,]*|\b[0-9a-f]{8}\b")


def read_article() -> Any:  # noqa: ANN401  # nbformat's dict with attributes; the same below
    """Return the notebook as it is kept."""
    return nbformat.read(PATH, as_version=4)


def run_article(
    folder: Path, environment: Mapping[str, str], *, within_s: int, instead: Mapping[str, str] | None = None
) -> Any:  # noqa: ANN401
    """Run the notebook in `folder` by a kernel of this Python, and return it with what it showed.

    `instead`: texts of its code, each there once, and what stands in their place. Raises: CellExecutionError, with the
    cell and its traceback.
    """
    notebook = read_article()
    for old, new in (instead or {}).items():
        (cell,) = [each for each in notebook.cells if old in each.source]
        assert cell.source.count(old) == 1
        cell.source = cell.source.replace(old, new)
    specs = KernelSpecManager(kernel_dirs=[])  # ipykernel's own: not what else is installed on this machine
    client = NotebookClient(
        notebook,
        km=AsyncKernelManager(kernel_spec_manager=specs),
        timeout=within_s,
        resources={"metadata": {"path": str(folder)}},
        record_timing=False,
        coalesce_streams=True,
    )
    client.execute(cleanup_kc=True, env={**os.environ, "IPYTHONDIR": str(folder / "ipython"), **environment})
    return notebook


def code_cells(notebook: Any) -> list[Any]:  # noqa: ANN401
    """Return the cells that are code."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def shown(cell: Any, *, results_only: bool = False) -> list[str]:  # noqa: ANN401
    """Return the lines that a cell shows, sorted, with # for each number: parts become healthy in any order."""
    texts = [
        output.get("text") or output.get("data", {}).get("text/plain", "")
        for output in cell.outputs
        if output.get("name") != "stderr" and not (results_only and output.output_type == "display_data")
    ]
    lines = [" ".join(_VARIES.sub("#", line).split()) for text in texts for line in text.splitlines()]
    return sorted(line for line in lines if line)


def is_command(cell: Any) -> bool:  # noqa: ANN401
    """Whether a cell is a line for the shell."""
    return str(cell.source).startswith("!")


def keep_outputs() -> None:
    """Run the notebook and keep what it showed, without what says when and by which Python."""
    with tempfile.TemporaryDirectory() as folder:
        ran = run_article(Path(folder), {}, within_s=600)
    ran.metadata["language_info"] = {"name": "python"}
    nbformat.write(ran, PATH)


if __name__ == "__main__":
    keep_outputs()
