"""Where the files are that are not Python: jobspecs' templates, Terraform modules; in a checkout and in a wheel."""

from __future__ import annotations

from pathlib import Path

from clipper_nomad.errors import ClipperException

_PACKAGE = Path(__file__).resolve().parent


def jobspecs_folder() -> Path:
    """Return the folder of the jobspecs' templates. Raises: ClipperException: the installation lacks it."""
    return _bundled("jobspecs")


def terraform_folder() -> Path:
    """Return the folder of the Terraform modules. Raises: ClipperException: the installation lacks it."""
    return _bundled("terraform")


def _bundled(name: str) -> Path:
    # A wheel has it inside the package; a checkout, and an editable install of it, beside the package.
    candidates = (_PACKAGE / "_bundled" / name, _PACKAGE.parent / name)
    for folder in candidates:
        if folder.is_dir():
            return folder
    raise ClipperException(
        f"This installation of clipper-nomad lacks its folder {name}; looked for {candidates[0]} and {candidates[1]}.",
        hint="Install it anew: pip install --force-reinstall clipper-nomad",
    )
