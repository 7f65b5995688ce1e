"""What a build is given: the Dockerfile and its files, as one tar archive that is the same for the same content."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import io
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from clipper_nomad.errors import ImageError
from clipper_nomad.images.index_settings import IndexSettings
from clipper_nomad.images.parts import Part, requirements
from clipper_nomad.images.recipes import model_recipe, part_recipe
from clipper_nomad.toolkit import DISTRIBUTION


def part_context(part: Part, *, python: str, index: IndexSettings) -> bytes:
    """Return the context for a part's image. Raises: ImageError: this package is not installed."""
    try:
        declared = importlib.metadata.requires(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError as exc:
        raise ImageError(
            f"{DISTRIBUTION} is not installed here, so what its images need is not known.",
            hint="Install it (pip install clipper-nomad), also when it is run from a checkout (pip install -e .).",
        ) from exc
    files = {f"app/{path}": content for path, content in _our_files(part)}
    wanted = "\n".join(requirements(part, declared)) + "\n"
    return packed({"Dockerfile": part_recipe(part, python).encode(), **files, **_build_files(wanted, index)})


def model_context(bundle: Path, *, python: str, packages: Sequence[str], index: IndexSettings) -> bytes:
    """Return the context for a model's image: its bundle, and packages to install as pip's requirement lines.

    Raises: ImageError: the bundle is no folder. One may be empty: a container class may need none.
    """
    if not bundle.is_dir():
        raise ImageError(f"{bundle} is no folder; expected the folder of the model's files.")
    files = {"bundle/": b""} | {
        f"bundle/{path.relative_to(bundle).as_posix()}": path.read_bytes()
        for path in sorted(bundle.rglob("*"))
        if path.is_file()
    }
    if packages:
        files |= _build_files("\n".join(packages) + "\n", index)
    return packed({"Dockerfile": model_recipe(python, has_packages=bool(packages)).encode(), **files})


def packed(files: Mapping[str, bytes]) -> bytes:
    """Return a tar archive of the files; a path that ends with "/" is a folder.

    Owner, mode and time are fixed: a layer is built anew only for new content."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for path in sorted(files):
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(files[path]), 0o644
            if path.endswith("/"):
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(entry, io.BytesIO(files[path]))
    return stream.getvalue()


def _build_files(wanted: str, index: IndexSettings) -> dict[str, bytes]:
    files = {"build/requirements.txt": wanted.encode(), "build/pip.conf": index.pip_conf.encode()}
    if index.ca_bundle is not None:
        files["build/ca.pem"] = index.ca_bundle
    return files


def _our_files(part: Part) -> Iterator[tuple[str, bytes]]:
    """Yield path and content of each of our files in a part's image, paths as under PYTHONPATH."""
    for name in part.packages:
        folder = _folder(name)
        for path in sorted(folder.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                yield f"{name.replace('.', '/')}/{path.relative_to(folder).as_posix()}", path.read_bytes()
    for name in part.modules:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            raise ImageError(f"{name} is not among the files of this installation.", hint="Install the package anew.")
        is_package = Path(spec.origin).name == "__init__.py"
        yield name.replace(".", "/") + ("/__init__.py" if is_package else ".py"), Path(spec.origin).read_bytes()


def _folder(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ImageError(f"{package} is not among the files of this installation.", hint="Install the package anew.")
    return Path(spec.origin).parent
