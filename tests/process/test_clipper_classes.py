"""Container classes that were written for Clipper, run as programs of their own, with nothing changed but an import line."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import pytest

from clipper_nomad.protocol.datatypes import InputType
from clipper_nomad.protocol.wire import ErrorKind
from tests.process.clipper_frontends import ClipperFrontend, Introduction
from tests.process.replicas import Bench, Replica, texts

pytestmark = pytest.mark.process

# As Clipper's own containers are written; the first line was `import rpc`.
PROGRAM = """\
from clipper_nomad_runtime import rpc
import os
import sys


class Container(rpc.ModelContainerBase):
    def __init__(self, path, input_type):
        self.input_type = rpc.string_to_input_type(input_type)
        with open(os.path.join(path, "weight")) as weight:
            self.weight = float(weight.read())

    def predict_doubles(self, inputs):
        return [str(self.weight * row.sum()) for row in inputs]

    def predict_ints(self, inputs):
        if inputs[0][0] < 0:
            raise ValueError("below 0")
        return [] if inputs[0][0] == 0 else [None for _ in inputs] if inputs[0][0] == 1 else None

    def predict_strings(self, inputs):
        return ["{} {}".format(type(each).__name__, inputs.dtype) for each in inputs]


if __name__ == "__main__":
    print("Starting a container")
    rpc_service = rpc.RPCService()
    model = Container(rpc_service.get_model_path(), rpc_service.get_input_type())
    sys.stdout.flush()
    sys.stderr.flush()
    rpc_service.start(model)
"""


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


class ContainerProgram(Replica):
    """A program of a user's own, in the place of the runtime's."""

    def program(self, folder: Path) -> Sequence[str]:
        return [str(folder / "container.py")]


def container(bench: Bench, text: str = PROGRAM, /, **settings: object) -> Replica:
    """Run a program with a model in its folder."""
    bench.bundle.mkdir()
    (bench.bundle / "weight").write_text("2.0")
    (bench.folder / "container.py").write_text(text)
    return ContainerProgram(bench.folder, bench.bundle, frontends=[bench.address()], **settings)


def test_a_container_class_of_clippers_serves_and_ends_as_a_replica_does(bench: Bench) -> None:
    ready = bench.folder / "ready"
    with bench.frontend() as frontend, container(bench, READY_FILE=ready) as replica:
        hello = frontend.welcome()

        assert (hello.model, hello.version, hello.input_type) == ("iris", "3", "doubles")  # Clipper's default type
        assert ready.read_text() == "READY"
        assert texts(frontend.ask([[1.0, 2.0], [3.0, 4.0]])) == ["6.0", "14.0"]
        assert "Starting a container" in replica.log
        replica.terminate()
        frontend.close()
        assert replica.exit_code() == 0


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (0, "Expected model to return 1 outputs, found 0 outputs"),
        (1, "Model must return a list of strs. Found None"),
        (2, "Model did not return a list"),
        (-1, "ValueError: below 0"),
    ],
)
def test_what_breaks_the_contract_is_told_in_clippers_words_and_ends_nothing(
    bench: Bench, number: int, message: str
) -> None:
    with bench.frontend() as frontend, container(bench, INPUT_TYPE="INTS"):
        frontend.welcome()

        for batch in (1, 2):
            (error,) = frontend.ask([[number]], batch=batch, kind=InputType.INTEGERS).errors
            assert error.message.startswith(message)
            assert bool(error.traceback_id) is (error.kind is ErrorKind.RAISED)


@pytest.mark.parametrize(("setting", "kind"), [({}, "str"), ({"STRINGS_AS": "bytes"}, "bytes")])
def test_texts_are_str_or_as_clipper_gives_them_bytes(bench: Bench, setting: dict[str, object], kind: str) -> None:
    with bench.frontend() as frontend, container(bench, INPUT_TYPE="strings", **setting):
        frontend.welcome()

        assert texts(frontend.ask(["naïve"], kind=InputType.STRINGS)) == [f"{kind} object"]


def test_it_serves_clippers_own_frontend_too(bench: Bench) -> None:
    with ClipperFrontend() as frontend, container(bench, RPC_ADDRESSES="", PORT=frontend.port, RPC_VERSION=3):
        assert frontend.meet() == Introduction("iris", "3", "3", 3)
        assert frontend.predict(3, [struct.pack("<2d", 1.0, 2.0)]) == ["6.0"]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"MODEL_NAME": ""}, ["CLIPPER_MODEL_NAME is not set"]),
        ({"MODEL_VERSION": "", "PORT": 0}, ["CLIPPER_MODEL_VERSION is not set", "CLIPPER_PORT is '0'"]),
        ({"INPUT_TYPE": "complex"}, ["CLIPPER_INPUT_TYPE is 'complex'"]),
        ({"INPUT_TYPE": "floats"}, ["Container has no method predict_floats", "CLIPPER_INPUT_TYPE"]),
    ],
)
def test_a_setting_that_cannot_be_ends_it_with_the_reason(
    bench: Bench, settings: dict[str, object], words: list[str]
) -> None:
    with container(bench, **settings) as replica:
        assert replica.exit_code() == 2
        assert all(word in replica.log for word in words)
        assert "Traceback" not in replica.log


def test_settings_may_come_from_the_program_instead_of_the_environment(bench: Bench) -> None:
    setting = "rpc_service = rpc.RPCService(collect_metrics=False, read_config=False)\n"
    more = "".join(
        f"    rpc_service.{name} = {value!r}\n"
        for name, value in {"model_name": "other", "model_version": 7, "model_path": str(bench.bundle)}.items()
    )
    program = PROGRAM.replace("rpc_service = rpc.RPCService()\n", setting + more)

    with bench.frontend() as frontend, container(bench, program, MODEL_NAME="", MODEL_PATH="") as replica:
        hello = frontend.welcome()

        assert (hello.model, hello.version) == ("other", "7"), replica.log
