"""A PyTorch module: its weights as torch saves them, loaded as weights only, and the pickled module around them.

The pickle names each tensor of the state dict instead of holding it, so nothing is there twice.
"""

from __future__ import annotations

import pickle  # the model's own code
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clipper_nomad.protocol.framework_files import PYTORCH_MODULE, PYTORCH_WEIGHTS


def load(folder: Path, _extra: Mapping[str, str]) -> tuple[object]:
    """Return the module, on the device that it was on if there is a GPU here, ready to predict and not to train."""
    import torch  # noqa: PLC0415  # a model's own

    place = None if torch.cuda.is_available() else "cpu"
    weights = torch.load(folder / PYTORCH_WEIGHTS, map_location=place, weights_only=True)
    with (folder / PYTORCH_MODULE).open("rb") as file:
        module = _Module(file, weights, torch.nn.Parameter).load()
    module.eval()
    module.requires_grad_(False)  # outputs become arrays, and no graph is kept for each
    return (module,)


class _Module(pickle.Unpickler):  # as func.pkl is
    """Puts the tensors of the state dict back where the pickle names them; a parameter in two places stays one."""

    def __init__(self, file: Any, weights: Mapping[str, Any], parameter: Any) -> None:  # noqa: ANN401  # torch's
        super().__init__(file)
        self._weights = weights
        self._parameter = parameter
        self._made: dict[str, Any] = {}

    def persistent_load(self, pid: Any) -> Any:  # noqa: ANN401  # (name, whether it is a parameter)
        name, is_parameter = pid
        if name not in self._made:
            tensor = self._weights[name]
            self._made[name] = self._parameter(tensor, requires_grad=False) if is_parameter else tensor
        return self._made[name]
