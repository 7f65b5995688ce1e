"""Loads the models of frameworks: one file for each, imported only when a bundle names it. loader.py calls `arguments`.

Each has one function, `load(folder, extra)`: what the closure is called with before its inputs. `folder` is the bundle,
`extra` what the deployer of that framework, in clipper_nomad/deployers/, wrote down for it.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path

from clipper_nomad.protocol.bundle import DamagedBundle

KNOWN = ("keras", "onnx", "pyspark", "pytorch", "sklearn", "tensorflow", "xgboost")


def arguments(framework: str, folder: Path, extra: Mapping[str, str]) -> tuple[object, ...]:
    """Return what a bundle's closure is called with before its inputs; nothing for a bundle without a framework.

    Raises: DamagedBundle: it is of a framework that this runtime does not know. Whatever the framework raises.
    """
    if not framework:
        return ()
    if framework not in KNOWN:
        raise DamagedBundle(f"its framework {framework!r} is not known to this runtime, which knows {', '.join(KNOWN)}")
    loaded: tuple[object, ...] = importlib.import_module(f"{__name__}.{framework}").load(folder, extra)
    return loaded
