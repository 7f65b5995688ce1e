"""Deploy a PyTorch module: create_endpoint and deploy_pytorch_model, with Clipper's arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Unpack

import cloudpickle

from clipper_nomad.connection import ClipperConnection
from clipper_nomad.connection.deployment import Deployment
from clipper_nomad.deployers.closure_modules import local_modules_by_value
from clipper_nomad.deployers.deploying import DEFAULT_SLO_MICROS, Options, Wanted, deploy_function, endpoint
from clipper_nomad.deployers.frameworks import imported, saving, wrong_model
from clipper_nomad.deployers.packing import FrameworkModel
from clipper_nomad.protocol.framework_files import PYTORCH_MODULE, PYTORCH_WEIGHTS


def create_endpoint(  # noqa: PLR0913  # Clipper's signature
    clipper_conn: ClipperConnection,
    name: str,
    input_type: str,
    func: Callable[..., object],
    pytorch_model: Any,  # noqa: ANN401  # torch's
    default_output: str = "None",
    version: object = 1,
    slo_micros: int = DEFAULT_SLO_MICROS,
    labels: Sequence[str] | None = None,
    registry: str | None = None,
    base_image: str = "default",
    num_replicas: int = 1,
    batch_size: int = -1,
    pkgs_to_install: Sequence[str] | None = None,
    **options: Unpack[Options],
) -> Deployment:
    """Register an app, deploy a model of the same name, and link the two: see `deploy_pytorch_model`."""
    with endpoint(clipper_conn, name, input_type, default_output, slo_micros):
        return deploy_pytorch_model(
            clipper_conn,
            name,
            version,
            input_type,
            func,
            pytorch_model,
            base_image,
            labels,
            registry,
            num_replicas,
            batch_size,
            pkgs_to_install,
            **options,
        )


def deploy_pytorch_model(  # noqa: PLR0913  # Clipper's signature
    clipper_conn: ClipperConnection,
    name: str,
    version: object,
    input_type: str,
    func: Callable[..., object],
    pytorch_model: Any,  # noqa: ANN401  # torch's
    base_image: str = "default",
    labels: Sequence[str] | None = None,
    registry: str | None = None,
    num_replicas: int = 1,
    batch_size: int = -1,
    pkgs_to_install: Sequence[str] | None = None,
    **options: Unpack[Options],
) -> Deployment:
    """Deploy a torch.nn.Module; `func` is called as f(model, inputs), the inputs an array: torch.from_numpy(inputs).

    The weights are saved as a state dict and loaded as weights only; the module around them is pickled. Where it serves, it
    is in evaluation mode and keeps no gradients. Other arguments and errors: see `deploy_python_closure`.
    """
    wanted = Wanted(name, version, input_type, base_image, labels, registry, num_replicas, batch_size, pkgs_to_install)
    return deploy_function(clipper_conn, func, wanted, options, packed_model(pytorch_model))


def packed_model(model: Any) -> FrameworkModel:  # noqa: ANN401  # torch's
    """Return how a module is saved. Raises: BundleError: it is no module, or cannot be saved."""
    torch = imported("torch", install="torch")
    if not isinstance(model, torch.nn.Module) or isinstance(model, torch.jit.ScriptModule):
        raise wrong_model(model, "a torch.nn.Module, and of a scripted one the module that it was made of")

    def save(folder: Path) -> Mapping[str, str]:
        with saving("torch"):  # Clipper's words
            torch.save(model.state_dict(), folder / PYTORCH_WEIGHTS)
            with (folder / PYTORCH_MODULE).open("wb") as file, local_modules_by_value():
                _WithoutWeights(file, model, torch.nn.Parameter).dump(model)
        return {}

    return FrameworkModel(framework="pytorch", save=save, modules=["torch"])


class _WithoutWeights(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    """Pickles a module with the names of its tensors in place of those that the state dict has."""

    def __init__(self, file: IO[bytes], module: Any, parameter: type) -> None:  # noqa: ANN401  # torch's
        super().__init__(file)
        self._parameter = parameter
        self._names: dict[int, str] = {}
        for name, tensor in module.state_dict(keep_vars=True).items():  # the tensors themselves, not copies
            self._names.setdefault(id(tensor), name)

    def persistent_id(self, obj: object) -> tuple[str, bool] | None:
        name = self._names.get(id(obj))
        return None if name is None else (name, isinstance(obj, self._parameter))
