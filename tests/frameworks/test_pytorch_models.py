"""PyTorch modules: a state dict, and the module around it."""

from __future__ import annotations

import threading
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clipper_nomad import BundleError, ClipperConnection, DeployFailed
from clipper_nomad.deployers.packing import packed
from clipper_nomad.deployers.pytorch import create_endpoint, deploy_pytorch_model, packed_model
from clipper_nomad.protocol.datatypes import InputType
from tests.frameworks.libraries import FEATURES, Rows, answers, library, manifest_of, rows, targets

torch = library("torch")


def trained() -> Any:
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(FEATURES, 8), torch.nn.ReLU(), torch.nn.Dropout(0.5), torch.nn.Linear(8, 1))
    inputs, wanted = (torch.from_numpy(array.astype(np.float32)) for array in (rows(), targets(rows())))
    optimizer = torch.optim.Adam(module.parameters(), lr=0.05)
    for _ in range(20):
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(module(inputs)[:, 0], wanted).backward()
        optimizer.step()
    return module


def tied() -> Any:
    """A module of the user's own class, with one weight in two places, and a buffer that is in no state dict."""

    class Tied(torch.nn.Module):  # type: ignore[misc, name-defined]  # torch has no types
        def __init__(self) -> None:
            super().__init__()
            self.first = torch.nn.Linear(FEATURES, FEATURES, bias=False)
            self.second = torch.nn.Linear(FEATURES, FEATURES, bias=False)
            self.second.weight = self.first.weight
            self.register_buffer("scale", torch.full((FEATURES,), 0.5))
            self.register_buffer("passing", torch.tensor(3.0), persistent=False)

        def forward(self, inputs: Any) -> Any:
            return (self.second(self.first(inputs)) * self.scale).sum(1) + self.passing

    torch.manual_seed(0)
    return Tied()


def predicts(model: Any, inputs: Rows) -> object:
    return model(torch.from_numpy(inputs))[:, 0]


def outputs_here(module: Any, inputs: Rows) -> list[float]:
    module.eval()
    with torch.no_grad():
        found: list[float] = module(torch.from_numpy(inputs.astype(np.float32))).flatten().tolist()
    return found


def test_a_module_answers_as_here(clipper: ClipperConnection) -> None:
    module = trained()  # in training mode, with gradients: where it serves it is not

    create_endpoint(clipper, "module", "floats", predicts, module, sample=np.ones(FEATURES, np.float32))

    assert answers(clipper, "module", rows(5)) == pytest.approx(outputs_here(module, rows(5)), rel=1e-5)
    manifest = manifest_of(clipper, "module")
    assert sorted(manifest["files"]) == ["func.pkl", "pytorch_model.pkl", "pytorch_weights.pkl"]
    assert manifest["requirements"] == [f"torch=={torch.__version__.partition('+')[0]}"]


def test_a_module_of_the_users_own_class_keeps_what_it_ties_and_its_buffers(clipper: ClipperConnection) -> None:
    module = tied()

    def predict(model: Any, inputs: Rows) -> list[Any]:
        assert model.first.weight is model.second.weight
        return list(model(torch.from_numpy(inputs)))  # tensors of no dimension

    create_endpoint(clipper, "tied", "floats", predict, module, sample=np.ones(FEATURES, np.float32))

    assert answers(clipper, "tied", rows(5)) == pytest.approx(outputs_here(module, rows(5)), rel=1e-5)


def test_tensors_are_outputs_as_arrays_are(clipper: ClipperConnection) -> None:
    def predict(model: Any, inputs: Rows) -> list[Any]:
        row = torch.tensor([0.1, float("nan")])
        return [{"row": row, "flag": torch.tensor(True), "count": torch.tensor(2)} for _ in inputs]

    create_endpoint(clipper, "nested", "floats", predict, tied(), sample=[1.0])

    assert answers(clipper, "nested", rows(1)) == [{"row": [0.1, "NaN"], "flag": True, "count": 2}]


def test_no_weight_is_saved_twice_or_as_code() -> None:
    module = torch.nn.Linear(300, 300)

    with packed(predicts, kind=InputType.FLOATS, sample=None, model=packed_model(module)) as folder:
        weights = torch.load(folder / "pytorch_weights.pkl", weights_only=True)
        around = (folder / "pytorch_model.pkl").stat().st_size
        assert zipfile.is_zipfile(folder / "pytorch_weights.pkl")

    assert torch.equal(weights["weight"], module.weight)
    assert around < 10_000


def test_the_users_line_is_shown_when_a_shape_does_not_fit(clipper: ClipperConnection) -> None:
    with pytest.raises(DeployFailed, match=r"RuntimeError: .*mat1 and mat2") as caught:
        deploy_pytorch_model(clipper, "m", 1, "floats", predicts, trained(), sample=[1.0, 2.0])

    assert "return model(torch.from_numpy(inputs))[:, 0]" in caught.value.msg
    assert str(Path(torch.__file__).parent) not in caught.value.msg


def test_what_cannot_be_saved_is_said_in_clipper_s_words(clipper: ClipperConnection) -> None:
    module = torch.nn.Linear(1, 1)
    module.lock = threading.Lock()

    with pytest.raises(BundleError, match=r"Error saving torch model: .*cannot pickle '_thread\.lock' object"):
        deploy_pytorch_model(clipper, "m", 1, "floats", predicts, module)


def test_what_is_no_module_is_refused(clipper: ClipperConnection) -> None:
    for model in (trained().state_dict(), torch.nn.Linear, torch.jit.script(torch.nn.Linear(1, 1))):
        with pytest.raises(BundleError, match=r"is not what this deployer takes: expected a torch\.nn\.Module"):
            deploy_pytorch_model(clipper, "m", 1, "floats", predicts, model)
