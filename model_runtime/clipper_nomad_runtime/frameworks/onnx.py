"""An ONNX model, run by onnxruntime: its InferenceSession, or what Clipper's functions expect."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clipper_nomad.protocol.framework_files import ONNX_MODEL


def load(folder: Path, extra: Mapping[str, str]) -> tuple[object]:
    """Return the session; with `extra["interface"]` "backend" a Prepared one."""
    import onnxruntime  # noqa: PLC0415  # a model's own

    available = onnxruntime.get_available_providers()
    session = onnxruntime.InferenceSession(folder / ONNX_MODEL, providers=available)
    return (Prepared(session) if extra.get("interface") == "backend" else session,)


class Prepared:
    """An ONNX model as ONNX's own backends return it, which Clipper gave to functions: `run(inputs)`."""

    def __init__(self, session: Any) -> None:  # noqa: ANN401  # onnxruntime's
        self.session = session

    def run(self, inputs: Any) -> list[Any]:  # noqa: ANN401  # an array, or one for each input of the model
        """Return the model's outputs, an array each. Inputs may be of another type of number than the model's."""
        import numpy as np  # noqa: PLC0415  # beside onnxruntime's

        wanted = self.session.get_inputs()
        given = inputs if isinstance(inputs, list | tuple) and len(inputs) == len(wanted) else [inputs]
        types = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(int64)": np.int64}
        feed = {each.name: np.asarray(value, dtype=types.get(each.type)) for each, value in zip(wanted, given, strict=True)}
        outputs: list[Any] = self.session.run(None, feed)
        return outputs
