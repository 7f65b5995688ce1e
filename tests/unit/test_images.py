"""Images before any Docker: what is in them, what a build is given, and what they are called."""

from __future__ import annotations

import ast
import importlib.metadata
import io
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipper_nomad.errors import ImageError, InvalidName
from clipper_nomad.images.contexts import model_context, packed, part_context
from clipper_nomad.images.index_settings import CA_IN_BUILD, IndexSettings, made_from, parse_list
from clipper_nomad.images.parts import Part, normalized, requirements
from clipper_nomad.images.references import Reference, check_registry, model_image, parse, part_image

INDEX = IndexSettings("[global]\nindex-url = https://user:pa55word@index.example/simple\n", b"-----BEGIN")
DECLARED = importlib.metadata.requires("clipper-nomad") or []
IMPORT_NAMES = {"prometheus_client": "prometheus-client", "zmq": "pyzmq"}


def files(context: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(context)) as archive:
        members = [entry for entry in archive.getmembers() if entry.isfile()]
        return {entry.name: archive.extractfile(entry).read() for entry in members}  # type: ignore[union-attr]


def imported_at_load(source: bytes) -> set[str]:
    """The top-level packages that a module imports when it is loaded."""
    found = set()
    for node in ast.parse(source).body:
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            found.add(node.module.partition(".")[0])
    return found


@pytest.mark.parametrize("part", Part)
def test_a_part_s_image_has_what_its_modules_import_and_nothing_else(part: Part) -> None:
    sources = {path: content for path, content in files(part_context(part, python="3.11", index=INDEX)).items()
               if path.startswith("app/") and path.endswith(".py")}  # fmt: skip
    imported = set().union(*map(imported_at_load, sources.values()))
    ours = {"clipper_nomad", "clipper_nomad_frontend", "clipper_nomad_runtime"}

    others = {normalized(IMPORT_NAMES.get(name, name)) for name in imported - ours - sys.stdlib_module_names}

    # uvloop is imported only if it is there, and cloudpickle only where a model is loaded
    assert others - {"uvloop", "cloudpickle"} == set(map(normalized, part.distributions)) - {"uvloop", "cloudpickle"}


@pytest.mark.parametrize("part", Part)
def test_the_files_of_a_part_s_image_are_enough_to_start_it(part: Part, tmp_path: Path) -> None:
    for path, content in files(part_context(part, python="3.11", index=INDEX)).items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(content)

    started = subprocess.run(
        [sys.executable, "-S", "-m", part.module],  # without site: an editable install would help out
        env={"PYTHONPATH": f"{tmp_path / 'app'}:{site_packages()}", "CLIPPER_RPC_MODE": "nonsense"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert started.returncode == 2, started.stderr
    assert "the environment of this process is not right" in started.stderr


def site_packages() -> str:
    return str(Path(pytest.__file__).parent.parent)


@pytest.mark.parametrize("part", Part)
def test_versions_asked_for_are_those_that_the_package_declares(part: Part) -> None:
    asked = requirements(part, DECLARED)

    assert len(asked) == len(part.distributions)
    assert all(">=" in line for line in asked)
    assert not any("extra" in line or ";" in line for line in asked)


def test_secrets_of_the_index_are_in_the_first_stage_only() -> None:
    context = files(part_context(Part.RUNTIME, python="3.11", index=INDEX))

    assert b"pa55word" in context["build/pip.conf"]
    assert all(b"pa55word" not in content for path, content in context.items() if path != "build/pip.conf")
    last_stage = context["Dockerfile"].decode().rpartition("FROM ")[2]
    assert "build/" not in last_stage.replace("--from=build", "")
    assert "pa55word" not in repr(INDEX)


def test_the_same_content_is_the_same_archive_whatever_its_time(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    first = model_context(tmp_path, python="3.11", packages=[], index=INDEX)
    (tmp_path / "manifest.json").touch()

    assert model_context(tmp_path, python="3.11", packages=[], index=INDEX) == first
    assert "build/pip.conf" not in files(first)
    assert files(model_context(tmp_path, python="3.11", packages=["a>1"], index=INDEX))["build/requirements.txt"] == b"a>1\n"


def test_a_container_class_may_have_no_files(tmp_path: Path) -> None:
    context = model_context(tmp_path, python="3.11", packages=[], index=INDEX)

    with tarfile.open(fileobj=io.BytesIO(context)) as archive:
        assert archive.getmember("bundle").isdir()


def test_what_is_no_folder_is_not_built(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    for path in (tmp_path / "nowhere", tmp_path / "file"):
        with pytest.raises(ImageError, match=f"{path} is no folder"):
            model_context(path, python="3.11", packages=[], index=INDEX)


@given(st.dictionaries(st.text("abc/.", min_size=1, max_size=8), st.binary(max_size=20), max_size=4))
def test_an_archive_holds_what_was_packed(content: dict[str, bytes]) -> None:
    content = {f"x{number}/{path.strip('/.')}y": data for number, (path, data) in enumerate(content.items())}

    assert files(packed(content)) == content


def test_pip_s_settings_are_taken_as_pip_lists_them() -> None:
    listed = parse_list(
        [
            "global.index-url='https://a.example/simple'",
            "global.trusted-host='a.example b.example'",
            "install.no-binary='x'",
            ":env:.index-url='https://b.example/simple'",
            ":env:.cert='/nowhere.pem'",
            "no setting",
        ]
    )

    assert listed["index-url"] == "https://b.example/simple"  # the environment counts more
    made = made_from(listed, {})
    assert made.pip_conf == "[global]\nindex-url = https://b.example/simple\ntrusted-host = a.example\n    b.example\n"
    assert made.ca_bundle is None


def test_certificates_are_found_by_pip_s_setting_then_by_the_usual_variables(tmp_path: Path) -> None:
    (tmp_path / "a.pem").write_bytes(b"A")
    (tmp_path / "b.pem").write_bytes(b"B")

    by_pip = made_from({"cert": str(tmp_path / "a.pem")}, {"SSL_CERT_FILE": str(tmp_path / "b.pem")})
    by_variable = made_from({}, {"SSL_CERT_FILE": str(tmp_path / "b.pem")})

    assert (by_pip.ca_bundle, by_variable.ca_bundle) == (b"A", b"B")
    assert f"cert = {CA_IN_BUILD}" in by_pip.pip_conf


@pytest.mark.parametrize(
    "text",
    [
        "a",
        "team/a:1",
        "registry.example:5000/team/a_b-c.d:V1.0-x",
        "a@sha256:" + "0" * 64,
        "localhost:5000/a:1@sha256:" + "f" * 64,
        "[::1]:5000/a",
    ],
)
def test_a_reference_is_taken_apart_and_put_together_again(text: str) -> None:
    assert str(parse(text)) == text


@pytest.mark.parametrize("text", ["", "A", "a:", "a b", "http://r/a", "a@sha256:12", "-a", "a/../b", "a\n", "r/a:1\nFROM x"])
def test_what_is_no_reference_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(InvalidName, match=r"registry\.example/team/digits:1"):
        parse(text)


@pytest.mark.parametrize("registry", ["http://r.example", "r.example/", "r.example:x", "r ex", "r.example/A"])
def test_what_is_no_registry_is_refused_with_an_example(registry: str) -> None:
    with pytest.raises(InvalidName, match=r"registry\.example:5000/team"):
        check_registry(registry)


def test_images_are_named_for_what_they_are_for() -> None:
    assert str(part_image(Part.ADMIN, toolkit="1.2+local", python="3.12", registry="r.example:5000/t")) == (
        "r.example:5000/t/clipper-nomad-admin:1.2-local-py3.12"
    )
    assert model_image("default-cluster", "m", "3", registry="r.example") == Reference("r.example/default-cluster-m", "3")
