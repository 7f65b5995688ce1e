"""Clients of V2 that we did not write, unmodified, against a real query frontend: Triton's and KServe's.

Each is installed from the package index into an environment of its own: they pin packages that ours has newer.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from numpy.typing import NDArray

from tests.process.frontends import Frontend, a_version, an_app
from tests.process.peer_replicas import PeerReplica

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.timeout(600)]

HERE = Path(__file__).resolve().parent
TYPES = ("doubles", "floats", "integers", "strings", "bytes")
INSTALL_WITHIN_S, ASK_WITHIN_S = 540, 60


def rows(inputs: NDArray[Any]) -> list[list[float]]:
    return [[float(number) for number in row] for row in inputs]


@pytest.fixture(scope="module")
def frontend() -> Iterator[Frontend]:
    with ExitStack() as stack:
        running = stack.enter_context(
            Frontend(
                *(an_app(kind, model=kind, input_type=kind) for kind in TYPES),
                *(a_version(kind, input_type=kind) for kind in TYPES),
                *(an_app("lists", model="lists"), a_version("lists"), an_app("loose", model=None)),
            )
        )
        for kind in TYPES:
            stack.enter_context(PeerReplica(running.rpc, model=kind, kind=kind))
        stack.enter_context(PeerReplica(running.rpc, model="lists", predict=rows))
        yield running


def run(command: list[str], *, within_s: float) -> str:
    """Run a command and return what it printed; what it said comes with the failure."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COV_", "COVERAGE"))}
    done = subprocess.run(command, env=kept, capture_output=True, text=True, check=False, timeout=within_s)
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def seen_by(client: str, package: str, folder: Path, address: str) -> dict[str, Any]:
    """Install a client and return what it sees of the server at `address`."""
    run([sys.executable, "-m", "venv", "--without-pip", str(folder)], within_s=ASK_WITHIN_S)
    python = str(folder / "bin" / "python")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "--python", python]
    run([*pip, "install", package], within_s=INSTALL_WITHIN_S)
    last = run([python, str(HERE / client), address], within_s=ASK_WITHIN_S).splitlines()[-1]
    return dict(json.loads(last))


@pytest.mark.parametrize("prefix", ["/clipper"])
def test_triton_s_client_needs_no_change(frontend: Frontend, prefix: str, tmp_path: Path) -> None:
    host, port = frontend.http
    seen = seen_by("v2_triton_client.py", "tritonclient[http]>=2.50", tmp_path / "triton", f"{host}:{port}{prefix}")

    server, model = seen.pop("server"), seen.pop("model")
    assert (server["name"], server["extensions"]) == ("clipper-nomad", ["binary_tensor_data"])
    assert (model["name"], model["versions"], model["inputs"][0]["datatype"]) == ("doubles", ["1"], "FP64")
    refused = {name: seen.pop(name) for name in ("wrong type", "two tensors", "no such version", "nobody")}
    assert {name: status for name, (status, _) in refused.items()} == {
        "wrong type": "400",
        "two tensors": "400",
        "no such version": "400",
        "nobody": "404",
    }
    assert "takes doubles: FP64" in refused["wrong type"][1]
    assert "does not exist for model: doubles" in refused["no such version"][1]
    sums = [3.5, 2.75]
    assert seen == {
        "live": True,
        "ready": True,
        "model ready": True,
        "version ready": True,
        "nobody ready": False,
        "id": "mine",
        "in binary": sums,
        "in json": sums,
        "in 32 bits": sums,
        "asked and waited": [3.0, 7.0],
        "floats": [0.75],
        "texts": ["a", "\u00e4 b"],
        "texts in json": ["a", "\u00e4 b"],
        "lengths of bytes": [2, 0],
        "lengths of rows": [3, 3],
        "lists": [[1.0, 2.5], [3.0, -0.25]],
        "not finite": ["nan", "inf", "-inf"],
        "default": {"default": True, "default_explanation": "No connected models found for query"},
        "many": [[float(number)] for number in range(50)],
        "asyncio ready": True,
        "asyncio": [[number + 1.0] for number in range(20)],
    }


def test_kserve_s_client_needs_no_change(frontend: Frontend, tmp_path: Path) -> None:
    host, port = frontend.http
    seen = seen_by("v2_kserve_client.py", "kserve>=0.15", tmp_path / "kserve", f"http://{host}:{port}")

    status, said = seen.pop("nobody")
    assert status == 404
    assert "application 'nobody' is not registered here" in said
    outputs = {"doubles": [3.5, 2.75], "floats": [0.75], "integers": [3.0, 7.0], "strings": ["a", "\u00e4 b"]}
    assert seen == {
        "live": True,
        "ready": True,
        "model ready": True,
        "nobody ready": False,
        "a dict": [3.0],
        **{f"{app} in {form}": ["mine", app, output] for app, output in outputs.items() for form in ("json", "binary")},
    }
