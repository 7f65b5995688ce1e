"""What is kept in examples/: a notebook with the outputs of one whole run, and a README that names every example."""

from __future__ import annotations

import json
import re

from tests.example_notebook import PATH, code_cells, read_article


def test_the_kept_outputs_are_those_of_one_run_from_top_to_bottom() -> None:
    cells = code_cells(read_article())

    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert {output.output_type for cell in cells for output in cell.outputs} <= {"stream", "execute_result", "display_data"}


def test_the_kept_outputs_hold_no_noise_and_nothing_of_the_machine_they_were_made_on() -> None:
    notebook = read_article()
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]

    assert [output for output in outputs if output.get("name") == "stderr"] == []
    assert max(json.dumps(output).count("\\n") for output in outputs) < 40
    assert not re.search(r"/(root|home|Users|tmp|work)/", json.dumps(notebook))
    assert set(re.findall(r"https?://[^/:\"\\]+", json.dumps(outputs))) == {"http://127.0.0.1"}


def test_the_kept_notebook_says_nothing_of_the_time_and_the_kernel_it_was_run_with() -> None:
    notebook = read_article()

    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert [cell.metadata for cell in notebook.cells if cell.metadata] == []


def test_each_example_is_in_the_readme() -> None:
    folder = PATH.parent
    readme = (folder / "README.md").read_text(encoding="utf-8")

    assert {file.name for file in folder.iterdir() if file.is_file()} == {"README.md", *re.findall(r"\]\((\S+?)\)", readme)}
