"""What a user gets: the wheel, the source archive, the editable install, and a model's own environment.

All are made from a copy of the checkout in which files lie that must not be packed. The quick tests need no network:
they install without dependencies and borrow those of this environment. The slow ones install from the package index.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from dataclasses import dataclass
from email.message import Message
from email.parser import Parser
from pathlib import Path
from typing import Any

import pytest
from numpy.typing import NDArray

from clipper_nomad.images.parts import Part
from tests.process.bundles import pack
from tests.process.frontends import Frontend, a_version, an_app, uid_of

PROJECT = Path(__file__).resolve().parents[1]
SOURCE_ROOTS = ("clipper_nomad", "frontend/clipper_nomad_frontend", "model_runtime/clipper_nomad_runtime")
PACKAGES = tuple(Path(root).name for root in SOURCE_ROOTS)

pytestmark = pytest.mark.process


@dataclass(frozen=True, slots=True)
class Environment:
    """A virtual environment without pip; this environment's pip installs into it."""

    folder: Path

    @classmethod
    def made_in(cls, folder: Path) -> Environment:
        run([sys.executable, "-m", "venv", "--without-pip", str(folder)])
        return cls(folder)

    @property
    def python(self) -> str:
        return str(self.folder / "bin" / "python")

    def install(self, *what: str) -> None:
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "--python", self.python]
        run([*pip, "install", *what])

    def output_of(self, code: str, *, also_on_path: Path | None = None) -> str:
        """What a Python program prints, run far from the checkout."""
        variables = {"PYTHONPATH": str(also_on_path)} if also_on_path else {}
        return run([self.python, "-c", code], cwd=self.folder, variables=variables)


def run(command: list[str], *, cwd: Path | None = None, variables: dict[str, str] | None = None) -> str:
    """Run a command to its end and return what it printed; what it said comes with the failure."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COV_", "COVERAGE"))}
    done = subprocess.run(
        command, cwd=cwd, env=kept | (variables or {}), capture_output=True, text=True, check=False, timeout=540
    )
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done.stdout.strip()


def files_below(folder: Path) -> set[str]:
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}


def build(checkout: Path, target: str, into: Path) -> Path:
    run([sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(into)], cwd=checkout)
    (archive,) = into.iterdir()
    return archive


@pytest.fixture(scope="module")
def sources() -> set[str]:
    """The files of our packages, named as in a wheel."""
    kept = {
        str(file.relative_to((PROJECT / root).parent))
        for root in SOURCE_ROOTS
        for file in (PROJECT / root).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts and file.suffix != ".local"
    }
    assert {f"{package}/py.typed" for package in PACKAGES} <= kept
    return kept


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout, with files that must never be packed."""
    copy = tmp_path_factory.mktemp("checkout")
    for root in (*SOURCE_ROOTS, "jobspecs", "terraform", "tests"):
        shutil.copytree(PROJECT / root, copy / root, ignore=shutil.ignore_patterns("__pycache__", "*.local", ".terraform*"))
    for name in ("pyproject.toml", "LICENSE", "README.md", "CHANGELOG.md", ".gitignore"):
        shutil.copy(PROJECT / name, copy / name)
    module = "terraform/modules/aws"
    terraforms = (f"{module}/.terraform/providers/plugin", f"{module}/.terraform.lock.hcl", f"{module}/terraform.tfstate")
    others = ("clipper_nomad/token.local", "terraform/state.local", "clipper_nomad/__pycache__/errors.pyc")
    for name in (*others, *terraforms, f"{module}/terraform.tfstate.backup"):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_text("must not be packed")
    return copy


@pytest.fixture(scope="module")
def wheel(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(checkout, "wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def source_archive(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(checkout, "sdist", tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return Parser().parsestr(archive.read(name).decode())


def packed_in(wheel: Path) -> set[str]:
    """The files of a wheel, without its own metadata."""
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def test_a_wheel_holds_our_packages_and_what_they_bundle_and_nothing_else(wheel: Path, sources: set[str]) -> None:
    jobspecs = {f"clipper_nomad/_bundled/jobspecs/{name}" for name in files_below(PROJECT / "jobspecs")}
    terraform = {
        f"clipper_nomad/_bundled/terraform/{name}"
        for name in files_below(PROJECT / "terraform")
        if "/.terraform" not in name and not name.endswith(".local")
    }

    assert "clipper_nomad/_bundled/jobspecs/model.nomad.hcl.j2" in jobspecs
    assert "clipper_nomad/_bundled/terraform/modules/cluster-config/policies/nomad-toolkit.hcl" in terraform
    assert "clipper_nomad/_bundled/terraform/modules/cluster-config/templates/nomad/client.hcl" in terraform
    assert packed_in(wheel) == sources | jobspecs | terraform


def test_a_wheel_names_its_licence_its_command_and_no_newest_python(wheel: Path, metadata: Message) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (commands,) = (archive.read(name).decode() for name in archive.namelist() if name.endswith("entry_points.txt"))

    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata.get_all("License-File") == ["LICENSE"]
    assert metadata["Requires-Python"] == ">=3.11"
    assert "clipper-nomad = clipper_nomad.cli:main" in commands


def test_a_plain_install_takes_no_test_tool_and_no_framework(metadata: Message) -> None:
    plain = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]

    assert any(line.startswith("aiohttp") for line in plain)
    assert not [line for line in plain if line.startswith(("pytest", "hypothesis", "scikit-learn", "ruff", "fastapi"))]


def test_a_source_archive_holds_what_the_wheel_needs_and_gives_the_same_wheel(
    source_archive: Path, wheel: Path, tmp_path: Path
) -> None:
    run([sys.executable, "-m", "tarfile", "-e", str(source_archive), str(tmp_path / "unpacked")])
    (unpacked,) = (tmp_path / "unpacked").iterdir()

    rebuilt = build(unpacked, "wheel", tmp_path / "rebuilt")

    assert packed_in(rebuilt) == packed_in(wheel)
    packed = files_below(unpacked)
    assert not [name for name in packed if name.startswith("tests/") or name.endswith((".local", ".pyc"))]
    assert {"LICENSE", "README.md", "CHANGELOG.md", "pyproject.toml"} <= packed


IMPORT_ALL = """
import importlib, sys
for name in {names!r}:
    importlib.import_module(name)
files = [str(getattr(module, "__file__", None)) for module in list(sys.modules.values())]
ours = sorted(file for file in files if "clipper_nomad" in file)
assert len(ours) == len(set(ours)), "two module objects of one file"
print(*{{str(sys.modules[package].__path__[0]) for package in {packages!r}}}, sep="\\n")
"""


def module_names(sources: set[str]) -> list[str]:
    files = (Path(name).with_suffix("") for name in sources if name.endswith(".py"))
    return sorted(".".join(file.parts).removesuffix(".__init__") for file in files if file.name != "__main__")


def import_all(names: list[str]) -> str:
    return IMPORT_ALL.format(names=names, packages=PACKAGES)


def test_every_module_of_an_installed_wheel_imports(wheel: Path, sources: set[str], tmp_path: Path) -> None:
    environment = Environment.made_in(tmp_path / "venv")
    environment.install("--no-deps", "--no-index", str(wheel))
    dependencies = Path(sysconfig.get_path("purelib"))  # a .pth there is not read, so our editable install is not seen

    printed = environment.output_of(import_all(module_names(sources)), also_on_path=dependencies)

    found = {Path(line) for line in printed.splitlines()}
    assert {path.name for path in found} == set(PACKAGES)
    assert all(path.is_relative_to(environment.folder) for path in found)


def test_an_editable_install_gives_one_module_for_each_file_of_the_checkout(
    checkout: Path, sources: set[str], tmp_path: Path
) -> None:
    build_editable = f"from hatchling.build import build_editable; print(build_editable({str(tmp_path)!r}))"
    link = tmp_path / run([sys.executable, "-c", build_editable], cwd=checkout)  # what `pip install --editable` installs
    environment = Environment.made_in(tmp_path / "venv")
    environment.install("--no-deps", "--no-index", str(link))
    dependencies = Path(sysconfig.get_path("purelib"))

    printed = environment.output_of(import_all(module_names(sources)), also_on_path=dependencies)

    assert {Path(line) for line in printed.splitlines()} == {checkout / root for root in SOURCE_ROOTS}


RENDER = """
from clipper_nomad.cluster.names import ClusterNames
from clipper_nomad.cluster.jobs.programs import Image
from clipper_nomad.cluster.jobs.render import render_job
from clipper_nomad.cluster.jobs.specs import AdminJob
from clipper_nomad.resources import jobspecs_folder
print(jobspecs_folder())
print(render_job(AdminJob(cluster=ClusterNames(), toolkit="1", image=Image(reference="admin:1"))).splitlines()[0])
"""


def test_jobspecs_are_found_and_rendered_in_a_wheel_and_in_a_checkout(wheel: Path, checkout: Path, tmp_path: Path) -> None:
    environment = Environment.made_in(tmp_path / "venv")
    environment.install("--no-deps", "--no-index", str(wheel))
    dependencies = Path(sysconfig.get_path("purelib"))

    in_wheel = environment.output_of(RENDER, also_on_path=dependencies).splitlines()
    in_checkout = run([sys.executable, "-c", RENDER], cwd=checkout, variables={"PYTHONPATH": str(checkout)}).splitlines()

    assert Path(in_wheel[0]).is_relative_to(environment.folder)
    assert in_wheel[0].endswith("clipper_nomad/_bundled/jobspecs")
    assert in_checkout[0] == str(checkout / "jobspecs")
    assert in_wheel[1] == in_checkout[1] == 'job "clipper-default-cluster-mgmt" {'


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_plain_install_from_the_index_brings_all_that_our_modules_import(
    wheel: Path, sources: set[str], tmp_path: Path
) -> None:
    environment = Environment.made_in(tmp_path / "venv")

    environment.install(str(wheel))

    printed = environment.output_of(import_all(module_names(sources)))
    assert len(printed.splitlines()) == len(PACKAGES)


# --- a model's own environment: it pins what it likes, and the runtime comes as files ---

OLD_NUMPY = "1.26.4"
OLD_AIOHTTP = "3.9.5"


@pytest.fixture(scope="module")
def model_environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """The environment of a user's model with numpy 1.26 and an old aiohttp, and only what the runtime itself needs."""
    if sys.version_info >= (3, 13):
        pytest.skip("numpy 1.26 has no wheels for Python 3.13 and later")
    environment = Environment.made_in(tmp_path_factory.mktemp("model") / "venv")
    environment.install("--only-binary=:all:", f"numpy=={OLD_NUMPY}", f"aiohttp=={OLD_AIOHTTP}")
    environment.install("--only-binary=:all:", "pyzmq>=25", "numpy>=1.22", "cloudpickle>=3", "prometheus-client")
    return environment


@pytest.fixture(scope="module")
def runtime_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that a model's container has on PYTHONPATH."""
    folder = tmp_path_factory.mktemp("runtime")
    nothing_compiled = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PROJECT / SOURCE_ROOTS[2], folder / "clipper_nomad_runtime", ignore=nothing_compiled)
    shutil.copytree(PROJECT / "clipper_nomad/protocol", folder / "clipper_nomad/protocol", ignore=nothing_compiled)
    for module in Part.RUNTIME.modules:
        file = Path(*module.split(".")).with_suffix(".py")
        shutil.copy(PROJECT / file, folder / file)
    return folder


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_runtime_imports_beside_a_models_old_numpy_and_aiohttp(
    model_environment: Environment, runtime_files: Path
) -> None:
    names = module_names({name for name in files_below(runtime_files) if name.endswith(".py")})
    code = "\n".join(
        [
            "import importlib, importlib.metadata as installed, sys",
            f"for name in {names!r}: importlib.import_module(name)",
            "print(installed.version('numpy'), installed.version('aiohttp'))",
            "print(sorted({'aiohttp', 'redis', 'typer', 'msgspec'} & set(sys.modules)))",
        ]
    )

    printed = model_environment.output_of(code, also_on_path=runtime_files)

    assert "clipper_nomad.protocol.wire" in names
    assert printed.splitlines() == [f"{OLD_NUMPY} {OLD_AIOHTTP}", "[]"]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_model_is_served_beside_its_own_old_numpy_and_aiohttp(
    model_environment: Environment, runtime_files: Path, tmp_path: Path
) -> None:
    def numpy_and_sum(inputs: NDArray[Any]) -> list[str]:
        import aiohttp  # noqa: PLC0415  # in the model's environment
        import numpy as np  # noqa: PLC0415  # the same

        return [f"{np.__version__} {aiohttp.__version__} {sum(row)}" for row in inputs]

    pack(tmp_path / "bundle", numpy_and_sum)
    with Frontend(an_app(), a_version()) as frontend:
        variables = {
            "PYTHONPATH": str(runtime_files),
            "CLIPPER_MODEL_NAME": "m",
            "CLIPPER_MODEL_VERSION": "1",
            "CLIPPER_MODEL_UID": uid_of("m", "1"),
            "CLIPPER_MODEL_PATH": str(tmp_path / "bundle"),
            "CLIPPER_RPC_ADDRESSES": frontend.rpc,
        }
        replica = subprocess.Popen(
            [model_environment.python, "-m", "clipper_nomad_runtime"], env={**os.environ, **variables}
        )
        try:
            reply = frontend.predict("a", [1.0, 2.0])
        finally:
            replica.terminate()
            exit_code = replica.wait(30)

    assert (reply.status, reply.json["output"]) == (200, f"{OLD_NUMPY} {OLD_AIOHTTP} 3.0")
    assert exit_code == 0
