"""README.md's Python example runs as it stands, and ends with nothing left."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from clipper_nomad.local_stack.parts import Programs
from tests.process.commands import User
from tests.process.local_stack_rig import home_of_its_own

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]

README = Path(__file__).resolve().parents[2] / "README.md"


def test_the_readmes_python_example_prints_a_prediction(tmp_path: Path) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)

    with home_of_its_own(programs=Programs()) as home:
        user = User(home, tmp_path)
        user.writes("example.py", example)
        done = subprocess.run(
            [sys.executable, "example.py"], cwd=tmp_path, env=user.environment, capture_output=True, text=True,
            check=False, timeout=60,
        )  # fmt: skip

        assert done.returncode == 0, done.stderr
        assert float(done.stdout.splitlines()[-1]) == pytest.approx(206.116677)
        home.assert_nothing_left()
