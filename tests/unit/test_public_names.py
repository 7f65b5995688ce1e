"""The package root: public names, each loaded when it is first asked for."""

from __future__ import annotations

import subprocess
import sys

import pytest

import clipper_nomad
from clipper_nomad import errors


def test_the_public_names_are_in_alphabetical_order_constants_first() -> None:
    assert clipper_nomad.__all__ == sorted(clipper_nomad.__all__, key=lambda name: (not name.isupper(), name))


@pytest.mark.parametrize("name", clipper_nomad.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(clipper_nomad, name) is not None
    assert name in dir(clipper_nomad)


def test_every_exception_is_public() -> None:
    ours = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)}

    assert ours <= set(clipper_nomad.__all__)


@pytest.mark.parametrize("name", ["remote", "__wrapped__"])
def test_a_name_that_is_not_there_is_said_to_be_missing(name: str) -> None:
    with pytest.raises(AttributeError, match=f"module 'clipper_nomad' has no attribute '{name}'"):
        getattr(clipper_nomad, name)


@pytest.mark.process
def test_importing_the_package_loads_nothing_but_itself() -> None:
    """The model runtime imports clipper_nomad.protocol where neither aiohttp nor requests is installed."""
    program = (
        "import sys, clipper_nomad\n"
        "print(*sorted({m.partition('.')[0] for m in sys.modules} & {'numpy','aiohttp','requests','redis','cloudpickle'}))\n"
        "print(*sorted(m for m in sys.modules if m.startswith('clipper_nomad.')))"
    )

    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)

    assert said.stdout.split() == []


@pytest.mark.process
def test_local_is_the_function_whatever_was_imported_before() -> None:
    program = (
        "import clipper_nomad.local_stack.manager, clipper_nomad.connection, clipper_nomad\n"
        "print(callable(clipper_nomad.local), clipper_nomad.local is clipper_nomad.connect.local)"
    )

    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)

    assert said.stdout.split() == ["True", "True"]
