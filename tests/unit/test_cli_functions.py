"""FILE:FUNCTION and MODULE:FUNCTION: what is found, and what is said when it is not."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from clipper_nomad.cli.functions import load_function
from clipper_nomad.cli.options import WrongUsage
from clipper_nomad.errors import ClipperException


@pytest.fixture(autouse=True)
def fresh_interpreter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test imports is forgotten, and it is in a directory of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.fixture
def written(tmp_path: Path) -> Callable[[str, str], Path]:
    def write(name: str, code: str) -> Path:
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(code)
        return file

    return write


Write = Callable[[str, str], Path]


def test_a_function_of_a_file_is_found_and_may_import_its_neighbours(written: Write) -> None:
    written("models/neighbour.py", "FACTOR = 3\n")
    file = written("models/triple.py", "from neighbour import FACTOR\ndef triple(xs): return [x * FACTOR for x in xs]\n")

    function = load_function(f"{file}:triple")

    assert function([1, 2]) == [3, 6]


def test_a_file_is_named_relative_to_this_directory(written: Write) -> None:
    written("model.py", "def predict(xs): return xs\n")

    assert load_function("model.py:predict")([1]) == [1]


def test_a_file_may_have_the_name_of_a_module_that_is_loaded(written: Write) -> None:
    written("json.py", "def predict(xs): return ['mine' for _ in xs]\n")
    stdlib = sys.modules["json"]

    function = load_function("json.py:predict")

    assert function([1]) == ["mine"]
    assert sys.modules["json"] is stdlib


def test_a_function_of_a_package_in_this_directory_is_found(written: Write) -> None:
    written("pack/__init__.py", "")
    written("pack/models.py", "def predict(xs): return xs\n")

    assert load_function("pack.models:predict")([1]) == [1]


def test_a_method_of_an_object_is_found(written: Write) -> None:
    written("model.py", "class Model:\n    def predict(self, xs): return xs\nclf = Model()\n")

    assert load_function("model.py:clf.predict")([1]) == [1]


@pytest.mark.parametrize("reference", ["model.py", "model.py:", ":predict", ""])
def test_what_names_no_function_is_wrong_usage(reference: str) -> None:
    with pytest.raises(WrongUsage, match="names no function"):
        load_function(reference)


@pytest.mark.parametrize(
    ("reference", "what", "fix"),
    [
        ("missing.py:predict", "There is no file .*/missing.py", "FILE:FUNCTION"),
        ("no.such.module:predict", "There is no module 'no.such.module'", "FILE.py:FUNCTION"),
        ("model.py:absent", "model.py has no 'absent'", "It has: predict"),
        ("model.py:clf.absent", "'absent' is not there", "nothing that can be called"),
        ("model.py:number", "is a int, which cannot be called", "Name a function"),
    ],
)
def test_what_is_not_there_is_named_with_what_is(written: Write, reference: str, what: str, fix: str) -> None:
    written("model.py", "number = 1\nclf = object()\ndef predict(xs): return xs\n")

    with pytest.raises(ClipperException, match=what) as caught:
        load_function(reference)

    assert fix in (caught.value.hint or "")


def test_code_that_raises_is_told_with_its_own_line(written: Write) -> None:
    file = written("model.py", "def load():\n    return 1 / 0\n\nclf = load()\n")

    with pytest.raises(ClipperException) as caught:
        load_function("model.py:clf")

    assert caught.value.msg == f"{file} could not be loaded: ZeroDivisionError: division by zero ({file}, line 2)."


@pytest.mark.parametrize(
    ("module", "distribution"), [("no_such_package.part", "no_such_package"), ("sklearn.linear_model", "scikit-learn")]
)
def test_a_missing_package_is_named_with_how_to_install_it(written: Write, module: str, distribution: str) -> None:
    written("model.py", f"raise ModuleNotFoundError(\"No module named '{module}'\", name='{module}')\n")

    with pytest.raises(ClipperException, match=f"No module named '{module}'") as caught:
        load_function("model.py:predict")

    assert caught.value.hint == f"Install it: {sys.executable} -m pip install {distribution}"


def test_a_file_with_a_syntax_error_is_told_as_such(written: Write) -> None:
    written("model.py", "def predict(:\n")

    with pytest.raises(ClipperException, match=r"could not be loaded: SyntaxError: .*line 1"):
        load_function("model.py:predict")


def test_what_the_code_prints_is_kept_from_the_results(written: Write, capsys: pytest.CaptureFixture[str]) -> None:
    written("model.py", "print('loading')\ndef predict(xs): return xs\n")

    load_function("model.py:predict")

    assert capsys.readouterr() == ("", "loading\n")


def test_code_that_exits_is_an_error_as_any_other(written: Write) -> None:
    written("model.py", "raise SystemExit(3)\n")

    with pytest.raises(ClipperException, match="could not be loaded: SystemExit: 3"):
        load_function("model.py:predict")
