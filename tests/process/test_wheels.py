"""The packages of a bundle, by a real pip from a real index: ours, at a port of this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from clipper_nomad.cluster.bundles.wheels import download_wheels, is_for_any_machine
from clipper_nomad.errors import BundleError
from tests.process.package_index import Index, served_index

pytestmark = pytest.mark.process


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    with served_index(tmp_path / "index", monkeypatch) as made:
        yield made


def download(folder: Path, *packages: str, python: str = "3.11", architecture: str = "amd64") -> list[str]:
    return [wheel.name for wheel in download_wheels(packages, folder, python=python, architecture=architecture)]


def test_a_package_comes_with_what_it_needs_from_the_index_of_this_machine(index: Index, tmp_path: Path) -> None:
    index.add_wheel("upper", needs="lower")
    index.add_wheel("lower")

    assert download(tmp_path / "wheels", "upper==1.0") == ["lower-1.0-py3-none-any.whl", "upper-1.0-py3-none-any.whl"]
    assert any("/simple/upper" in path for path in index.asked)


@pytest.mark.parametrize(
    ("architecture", "python", "tag"),
    [
        ("amd64", "3.11", "cp311-cp311-manylinux_2_28_x86_64"),
        ("arm64", "3.12", "cp312-cp312-manylinux2014_aarch64"),
        ("amd64", "3.13", "cp39-abi3-manylinux_2_17_x86_64"),
    ],
)
def test_wheels_are_those_of_the_machines_that_will_run_them(
    index: Index, tmp_path: Path, architecture: str, python: str, tag: str
) -> None:
    for each in (tag, "cp311-cp311-win_amd64", "cp312-cp312-macosx_11_0_arm64", "cp310-cp310-manylinux2014_x86_64"):
        index.add_wheel("compiled", tag=each)

    found = download(tmp_path / "wheels", "compiled", python=python, architecture=architecture)

    assert found == [f"compiled-1.0-{tag}.whl"]
    assert not is_for_any_machine(Path(found[0]))


def test_a_package_with_source_only_is_named_and_its_source_is_not_run(index: Index, tmp_path: Path) -> None:
    index.add_source("sourceonly")

    with pytest.raises(BundleError) as caught:
        download(tmp_path / "wheels", "sourceonly")

    assert caught.value.msg.startswith(
        "There is no wheel of 'sourceonly' for Linux on x86_64 with Python 3.11: only its source"
    )
    assert "give registry=" in str(caught.value.hint)
    assert "was run" not in str(caught.value)


def test_a_package_that_is_not_there_is_named(index: Index, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="The package index has no package 'clipper-nothing'"):
        download(tmp_path / "wheels", "clipper-nothing")


def test_what_a_package_needs_and_is_not_there_is_named(index: Index, tmp_path: Path) -> None:
    index.add_wheel("upper", needs="clipper-nothing>=2")

    with pytest.raises(BundleError, match="has no package 'clipper-nothing>=2'"):
        download(tmp_path / "wheels", "upper")


def test_two_that_do_not_fit_together_are_told_in_pips_words(index: Index, tmp_path: Path) -> None:
    index.add_wheel("lower")
    index.add_wheel("upper", needs="lower==1.0")

    with pytest.raises(BundleError, match="could not be downloaded"):
        download(tmp_path / "wheels", "upper", "not a requirement at all !")


def test_a_word_that_looks_like_an_option_is_none(index: Index, tmp_path: Path) -> None:
    with pytest.raises(BundleError):
        download(tmp_path / "wheels", f"--dest={tmp_path}/elsewhere")

    assert not (tmp_path / "elsewhere").exists()
