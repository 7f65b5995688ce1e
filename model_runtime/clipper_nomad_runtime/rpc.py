"""For container classes that were written for Clipper: its module `rpc`, served by this runtime.

    from clipper_nomad_runtime import rpc          # instead of: import rpc

    class Doubler(rpc.ModelContainerBase):
        def predict_doubles(self, inputs):
            return [str(2 * row.sum()) for row in inputs]

    rpc.RPCService().start(Doubler())

The names are Clipper's. How it runs is set by the environment, as of every replica: docs/settings.md, "Model replica".
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NoReturn

import numpy as np

from clipper_nomad.protocol.datatypes import FIXED_WIDTH, InputType, input_type
from clipper_nomad.protocol.environment import SettingsError
from clipper_nomad_runtime.clipper_forms import ModelContainerBase, NoSuchMethod, method_for
from clipper_nomad_runtime.config import Settings, read_settings
from clipper_nomad_runtime.loader import Model
from clipper_nomad_runtime.process import begin, live
from clipper_nomad_runtime.stopping import Exit

__all__ = [
    "INPUT_TYPE_BYTES",
    "INPUT_TYPE_DOUBLES",
    "INPUT_TYPE_FLOATS",
    "INPUT_TYPE_INTS",
    "INPUT_TYPE_STRINGS",
    "ModelContainerBase",
    "PredictionError",
    "RPCService",
    "input_type_to_dtype",
    "input_type_to_string",
    "string_to_input_type",
]

INPUT_TYPE_BYTES = int(InputType.BYTES)
INPUT_TYPE_INTS = int(InputType.INTEGERS)
INPUT_TYPE_FLOATS = int(InputType.FLOATS)
INPUT_TYPE_DOUBLES = int(InputType.DOUBLES)
INPUT_TYPE_STRINGS = int(InputType.STRINGS)

_DTYPES: dict[int, Any] = {  # Any: numpy's dtypes, and Clipper's `str`
    **{int(kind): dtype for kind, dtype in FIXED_WIDTH.items()},
    INPUT_TYPE_BYTES: np.dtype(np.int8),
    INPUT_TYPE_STRINGS: str,
}
_WORDS = dict(enumerate(("bytes", "ints", "floats", "doubles", "string")))
_DEFAULT_INPUT_TYPE = "doubles"


class PredictionError(Exception):
    """Clipper's error of a model that breaks the contract. It is not raised here: the query gets the error."""


def string_to_input_type(input_str: str) -> int:
    """Return the number of an input type, -1 of a word that names none."""
    try:
        return int(input_type(input_str.strip().lower()))
    except ValueError:
        return -1


def input_type_to_dtype(input_type: int) -> np.dtype[Any] | type[str] | None:
    """Return NumPy's dtype of an input type's numbers, `str` for texts."""
    return _DTYPES.get(input_type)


def input_type_to_string(input_type: int) -> str | None:
    """Return Clipper's word for an input type."""
    return _WORDS.get(input_type)


class RPCService:
    """Serves a container object. Its attributes are the settings that Clipper has; `start` takes them as they are then.

    `collect_metrics=False`: no metrics are served, whatever CLIPPER_METRICS_ADDRESS says. `read_config=False`: the caller
    sets the attributes. A setting that is missing or wrong ends the process, with a message that names it.
    """

    def __init__(self, collect_metrics: bool = True, read_config: bool = True) -> None:  # noqa: FBT001, FBT002  # Clipper's
        self.collect_metrics = collect_metrics
        self.model_name = self.model_version = self.model_path = ""
        self.host, self.port = "127.0.0.1", 7000
        self.input_type = _DEFAULT_INPUT_TYPE
        if read_config:
            settings = _read(os.environ)
            self.model_name, self.model_version = settings.model, settings.version
            self.model_path = os.environ["CLIPPER_MODEL_PATH"]
            self.host = os.environ.get("CLIPPER_IP") or self.host
            self.port = int(os.environ.get("CLIPPER_PORT") or self.port)
            self.input_type = os.environ.get("CLIPPER_INPUT_TYPE") or self.input_type

    def get_model_path(self) -> str:
        """Return the folder of the model's data."""
        return self.model_path

    def get_input_type(self) -> str:
        """Return the word that was given for the input type."""
        return self.input_type

    def start(self, model: object) -> NoReturn:
        """Serve `model`, which is loaded, until the process is asked to end. It has the method of its input type."""
        begin()
        settings = _read(
            {
                **os.environ,
                "CLIPPER_MODEL_NAME": self.model_name,
                "CLIPPER_MODEL_VERSION": self.model_version,
                "CLIPPER_MODEL_PATH": self.model_path,
                "CLIPPER_IP": self.host,
                "CLIPPER_PORT": str(self.port),
                "CLIPPER_INPUT_TYPE": self.input_type,
            }
        )
        kind = settings.input_type
        assert kind is not None  # noqa: S101  # it is set above
        if not self.collect_metrics:
            settings = replace(settings, metrics=None)
        try:
            function = method_for(model, kind)
        except NoSuchMethod as exc:
            _leave(exc)
        live(settings, Model(function=function, input_type=kind, sample=None, toolkit=""))


def _read(environment: Mapping[str, str]) -> Settings:
    try:
        return read_settings(environment)
    except SettingsError as exc:
        _leave(exc)


def _leave(why: Exception) -> NoReturn:
    print(why, file=sys.stderr)  # noqa: T201  # as __main__.py does
    raise SystemExit(Exit.SETTINGS) from None
