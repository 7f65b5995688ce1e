"""clipper-nomad: serve machine-learning models on this machine, or on a HashiCorp Nomad cluster.

    clipper = clipper_nomad.local()
    app = clipper.deploy(clf.predict, "diabetes", sample=X_test[:1])
    app.predict(X_test[0]).output

Public names are loaded when they are first asked for (PEP 562), so that a process which needs one part imports one part.
"""

from __future__ import annotations

from importlib import import_module
from os import environ
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from clipper_nomad import deployers as deployers
    from clipper_nomad.cluster.discovery import ConsulDNS as ConsulDNS
    from clipper_nomad.cluster.jobs.options import JobOptions as JobOptions
    from clipper_nomad.cluster.jobs.requirements import Constraint as Constraint
    from clipper_nomad.cluster.jobs.requirements import Gpus as Gpus
    from clipper_nomad.cluster.jobs.requirements import HostVolume as HostVolume
    from clipper_nomad.cluster.manager import NomadContainerManager as NomadContainerManager
    from clipper_nomad.cluster.own_fabio import OwnFabio as OwnFabio
    from clipper_nomad.cluster.routes import FabioLoadBalancer as FabioLoadBalancer
    from clipper_nomad.connect import local as local
    from clipper_nomad.connection import ClipperConnection as ClipperConnection
    from clipper_nomad.connection.clipper_names import CLIPPER_TEMP_DIR as CLIPPER_TEMP_DIR
    from clipper_nomad.connection.clipper_names import DEFAULT_LABEL as DEFAULT_LABEL
    from clipper_nomad.connection.clipper_names import (
        DEFAULT_PREDICTION_CACHE_SIZE_BYTES as DEFAULT_PREDICTION_CACHE_SIZE_BYTES,
    )
    from clipper_nomad.connection.clipper_names import deploy_regex_str as deploy_regex_str
    from clipper_nomad.connection.clipper_names import deployment_regex as deployment_regex
    from clipper_nomad.connection.deployed_app import DeployedApp as DeployedApp
    from clipper_nomad.connection.prediction import Prediction as Prediction
    from clipper_nomad.docker_host.manager import DockerContainerManager as DockerContainerManager
    from clipper_nomad.errors import AdminRefused as AdminRefused
    from clipper_nomad.errors import AdminUnreachable as AdminUnreachable
    from clipper_nomad.errors import BundleError as BundleError
    from clipper_nomad.errors import ClipperException as ClipperException
    from clipper_nomad.errors import ConsulRefused as ConsulRefused
    from clipper_nomad.errors import ConsulUnreachable as ConsulUnreachable
    from clipper_nomad.errors import DeployFailed as DeployFailed
    from clipper_nomad.errors import DevClusterError as DevClusterError
    from clipper_nomad.errors import DiscoveryError as DiscoveryError
    from clipper_nomad.errors import DockerHostError as DockerHostError
    from clipper_nomad.errors import DownloadFailed as DownloadFailed
    from clipper_nomad.errors import FabioUnreachable as FabioUnreachable
    from clipper_nomad.errors import ImageError as ImageError
    from clipper_nomad.errors import InvalidName as InvalidName
    from clipper_nomad.errors import InvalidSetting as InvalidSetting
    from clipper_nomad.errors import InvalidSpec as InvalidSpec
    from clipper_nomad.errors import JobspecError as JobspecError
    from clipper_nomad.errors import NomadConflict as NomadConflict
    from clipper_nomad.errors import NomadRefused as NomadRefused
    from clipper_nomad.errors import NomadUnreachable as NomadUnreachable
    from clipper_nomad.errors import NotOurs as NotOurs
    from clipper_nomad.errors import PredictionFailed as PredictionFailed
    from clipper_nomad.errors import RolloutFailed as RolloutFailed
    from clipper_nomad.errors import ServiceNotFound as ServiceNotFound
    from clipper_nomad.errors import StackError as StackError
    from clipper_nomad.errors import StoreError as StoreError
    from clipper_nomad.errors import UnconnectedException as UnconnectedException
    from clipper_nomad.local_stack import LocalContainerManager as LocalContainerManager

    __registry__: str
    __version__: str

_HOMES = {
    "AdminRefused": "errors",
    "AdminUnreachable": "errors",
    "BundleError": "errors",
    "CLIPPER_TEMP_DIR": "connection.clipper_names",
    "ClipperConnection": "connection",
    "ClipperException": "errors",
    "Constraint": "cluster.jobs.requirements",
    "ConsulDNS": "cluster.discovery",
    "ConsulRefused": "errors",
    "ConsulUnreachable": "errors",
    "DEFAULT_LABEL": "connection.clipper_names",
    "DEFAULT_PREDICTION_CACHE_SIZE_BYTES": "connection.clipper_names",
    "DeployFailed": "errors",
    "DeployedApp": "connection.deployed_app",
    "DevClusterError": "errors",
    "DiscoveryError": "errors",
    "DockerContainerManager": "docker_host.manager",
    "DockerHostError": "errors",
    "DownloadFailed": "errors",
    "FabioLoadBalancer": "cluster.routes",
    "FabioUnreachable": "errors",
    "Gpus": "cluster.jobs.requirements",
    "HostVolume": "cluster.jobs.requirements",
    "ImageError": "errors",
    "InvalidName": "errors",
    "InvalidSetting": "errors",
    "InvalidSpec": "errors",
    "JobOptions": "cluster.jobs.options",
    "JobspecError": "errors",
    "LocalContainerManager": "local_stack",
    "NomadConflict": "errors",
    "NomadContainerManager": "cluster.manager",
    "NomadRefused": "errors",
    "NomadUnreachable": "errors",
    "NotOurs": "errors",
    "OwnFabio": "cluster.own_fabio",
    "Prediction": "connection.prediction",
    "PredictionFailed": "errors",
    "RolloutFailed": "errors",
    "ServiceNotFound": "errors",
    "StackError": "errors",
    "StoreError": "errors",
    "UnconnectedException": "errors",
    "deploy_regex_str": "connection.clipper_names",
    "deployment_regex": "connection.clipper_names",
    "local": "connect",
}

__all__ = [
    "CLIPPER_TEMP_DIR",
    "DEFAULT_LABEL",
    "DEFAULT_PREDICTION_CACHE_SIZE_BYTES",
    "AdminRefused",
    "AdminUnreachable",
    "BundleError",
    "ClipperConnection",
    "ClipperException",
    "Constraint",
    "ConsulDNS",
    "ConsulRefused",
    "ConsulUnreachable",
    "DeployFailed",
    "DeployedApp",
    "DevClusterError",
    "DiscoveryError",
    "DockerContainerManager",
    "DockerHostError",
    "DownloadFailed",
    "FabioLoadBalancer",
    "FabioUnreachable",
    "Gpus",
    "HostVolume",
    "ImageError",
    "InvalidName",
    "InvalidSetting",
    "InvalidSpec",
    "JobOptions",
    "JobspecError",
    "LocalContainerManager",
    "NomadConflict",
    "NomadContainerManager",
    "NomadRefused",
    "NomadUnreachable",
    "NotOurs",
    "OwnFabio",
    "Prediction",
    "PredictionFailed",
    "RolloutFailed",
    "ServiceNotFound",
    "StackError",
    "StoreError",
    "UnconnectedException",
    "__registry__",
    "__version__",
    "deploy_regex_str",
    "deployers",
    "deployment_regex",
    "local",
]


def __getattr__(name: str) -> object:
    """Load a public name from its module, or read the installed version."""
    if name == "__version__":
        from clipper_nomad.toolkit import toolkit_version

        return toolkit_version()
    if name == "__registry__":
        return environ.get("CLIPPER_REGISTRY", "clipper")  # Clipper's
    if name == "deployers":
        return import_module(f"{__name__}.{name}")  # a package, which its name is bound to then
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value  # found at once the next time
    return value


def __dir__() -> list[str]:
    """Name what can be asked for, also what was not loaded yet."""
    return sorted({*globals(), *__all__})
