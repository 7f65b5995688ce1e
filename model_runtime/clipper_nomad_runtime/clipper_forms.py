"""What code that was written for Clipper's containers expects: texts as `bytes`, and an object with a method for each type.

server.py, trial.py and rpc.py put these around what they call. Source: docs/clipper-contract.md, "Model runtime".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipper_nomad.protocol.datatypes import InputType

Predict = Callable[[NDArray[Any]], object]  # Any: inputs of any type

METHODS = {
    InputType.BYTES: "predict_bytes",
    InputType.INTEGERS: "predict_ints",
    InputType.FLOATS: "predict_floats",
    InputType.DOUBLES: "predict_doubles",
    InputType.STRINGS: "predict_strings",
}


class NoSuchMethod(TypeError):
    """A container object has no method for its input type."""


class ModelContainerBase:
    """Clipper's base class of container objects: a subclass has the method of each type that it takes.

    A method gets an array of n inputs and returns a list of n outputs.
    """

    def predict_ints(self, inputs: NDArray[np.int32]) -> object:
        """Take integers, shape (batch, features)."""

    def predict_floats(self, inputs: NDArray[np.float32]) -> object:
        """Take floats, shape (batch, features)."""

    def predict_doubles(self, inputs: NDArray[np.float64]) -> object:
        """Take doubles, shape (batch, features)."""

    def predict_bytes(self, inputs: NDArray[Any]) -> object:
        """Take bytes: `int8`, shape (batch, length), or (batch,) of arrays where lengths differ."""

    def predict_strings(self, inputs: NDArray[Any]) -> object:
        """Take texts: objects, shape (batch,)."""


def method_for(container: object, kind: InputType) -> Predict:
    """Return the method of a container object that takes inputs of `kind`. Raises: NoSuchMethod."""
    name = METHODS[kind]
    method: Predict | None = getattr(container, name, None)
    is_inherited = getattr(type(container), name, None) is getattr(ModelContainerBase, name)
    if not callable(method) or is_inherited:
        raise NoSuchMethod(
            f"{type(container).__name__} has no method {name}, and its input type is {kind.word}. Write that method, or set "
            "CLIPPER_INPUT_TYPE to a type that it takes."
        )
    return method


def adapted(function: Predict, kind: InputType, *, texts_as_bytes: bool) -> Predict:
    """Return `function` as it is to be called with inputs of `kind`: it may want its texts as `bytes`."""
    return given_bytes(function) if texts_as_bytes and kind is InputType.STRINGS else function


def given_bytes(function: Predict) -> Predict:
    """Return `function` with texts handed to it as `bytes`, UTF-8."""

    def with_bytes(inputs: NDArray[Any]) -> object:
        encoded = np.empty(len(inputs), dtype=object)
        encoded[:] = [text.encode() for text in inputs]
        return function(encoded)

    return with_bytes
