"""Models with packages of their own in local mode: a real pip, a package index of ours, real replicas."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from clipper_nomad import BundleError, ClipperConnection, DeployFailed
from clipper_nomad.deployers.python import deploy_python_closure
from clipper_nomad.local_stack import environments
from clipper_nomad.local_stack.environment_build import Wish, build
from clipper_nomad.local_stack.environment_layout import READY, modules_of, python_of
from clipper_nomad.local_stack.parts import Programs
from clipper_nomad.protocol.bundle import file_digests, read_manifest, write_manifest
from tests.process.archives import make_wheel
from tests.process.bundles import pack
from tests.process.local_stack_rig import Home, home_of_its_own
from tests.process.package_index import Index, served_index
from tests.waiting import wait_until

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]

PLACE = "data/default-cluster/environments"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    with served_index(tmp_path / "index", monkeypatch) as made:
        made.add_wheel("upper", "NAME = 'upper'\nimport lower", needs="lower")
        made.add_wheel("lower", "NAME = 'lower'")
        yield made


@pytest.fixture
def home() -> Iterator[Home]:
    with home_of_its_own(programs=Programs()) as one:
        yield one


@pytest.fixture
def clipper(home: Home) -> ClipperConnection:
    connection = ClipperConnection(home.manager())
    connection.start_clipper()
    return connection


def names(inputs: object) -> list[list[object]]:
    """What a replica finds of packages, and where it runs."""
    import importlib.util  # noqa: PLC0415  # where it runs
    import sys  # noqa: PLC0415  # the same

    import upper  # type: ignore[import-not-found]  # noqa: PLC0415  # from the index

    return [[upper.NAME, upper.lower.NAME, sys.prefix, importlib.util.find_spec("sklearn") is None]]


def deploy(clipper: ClipperConnection, function: Callable[..., object], version: str = "1", **more: Any) -> None:
    deploy_python_closure(clipper, "m", version, "doubles", function, sample=[1.0], **more)


def made(home: Home) -> list[str]:
    """The environments that are there, and what is left of those that are not whole."""
    return sorted(path.name for path in (home.path / PLACE).iterdir())


def wish(*packages: str) -> Wish:
    return Wish(title="Model m:1", packages=packages, wheels={})


def test_a_model_runs_with_its_packages_in_an_environment_of_its_own(
    index: Index, home: Home, clipper: ClipperConnection
) -> None:
    app = clipper.deploy(names, "m", sample=[1.0], pkgs_to_install=["upper==1.0"])

    (environment,) = made(home)
    output: Any = app.predict([1.0]).output
    assert output == ["upper", "lower", str(home.path / PLACE / environment), True]
    clipper.set_num_replicas("m", 2)
    assert clipper.get_num_replicas("m") == 2


def test_the_same_packages_have_one_environment_and_others_another(
    index: Index, home: Home, clipper: ClipperConnection
) -> None:
    deploy(clipper, names, "1", pkgs_to_install=["upper==1.0", "lower"])
    first = made(home)
    asked = len(index.asked)

    deploy(clipper, names, "2", pkgs_to_install=[" lower ", "upper==1.0"])

    assert made(home) == first
    assert len(index.asked) == asked
    deploy(clipper, lambda inputs: [1] * len(inputs), "3", pkgs_to_install=["lower"])
    assert len(made(home)) == 2


def test_the_runtime_s_own_packages_are_those_of_here(index: Index, home: Home, clipper: ClipperConnection) -> None:
    def versions(inputs: object) -> list[list[str]]:
        from importlib.metadata import version  # noqa: PLC0415  # where it runs

        return [[version(name) for name in ("numpy", "cloudpickle", "pyzmq", "prometheus-client")]]

    app = clipper.deploy(versions, "m", sample=[1.0], pkgs_to_install=["lower"])

    assert app.predict([1.0]).output == versions(None)[0]


def test_packages_that_cannot_be_installed_are_told_in_pips_words_and_leave_nothing(
    index: Index, home: Home, clipper: ClipperConnection
) -> None:
    deploy(clipper, lambda inputs: [7] * len(inputs), "1")

    with pytest.raises(BundleError) as caught:
        deploy(clipper, names, "2", pkgs_to_install=["upper", "clipper-nothing>=2"])

    assert caught.value.msg.startswith("The packages of Model m:2 could not be installed. pip's last lines:\n")
    assert "No matching distribution found for clipper-nothing>=2" in caught.value.msg
    assert "clipper-nothing>=2" in str(caught.value.hint)
    assert made(home) == []
    assert clipper.get_all_models() == ["m:1"]


def test_a_deploy_that_fails_takes_its_environment_along(index: Index, home: Home, clipper: ClipperConnection) -> None:
    def broken(inputs: object) -> None:
        raise ValueError("not today")

    with pytest.raises(DeployFailed, match="not today"):
        deploy(clipper, broken, pkgs_to_install=["lower"])

    assert made(home) == []


def test_an_environment_goes_with_the_last_version_that_runs_in_it(
    index: Index, home: Home, clipper: ClipperConnection
) -> None:
    for version in ("1", "2"):
        deploy(clipper, names, version, pkgs_to_install=["upper"])
    (environment,) = made(home)
    long_ago = time.time() - 2 * environments.ASKED_FOR_S
    os.utime(home.path / PLACE / environment / READY, (long_ago, long_ago))

    clipper.stop_versioned_models({"m": ["1"]})
    assert made(home) == [environment]
    clipper.stop_versioned_models({"m": ["2"]})

    assert made(home) == []


def test_one_that_was_asked_for_just_now_stays(index: Index, tmp_path: Path) -> None:
    """Somebody else may be about to deploy with it."""
    made_now = environments.provide(wish("lower"), tmp_path, said=lambda _: None)
    found = environments.provide(wish("lower"), tmp_path, said=lambda _: None)

    environments.withdraw(made_now, tmp_path)  # found since
    environments.withdraw(found, tmp_path)  # not its maker
    environments.remove([made_now.name], tmp_path)

    assert found.name == made_now.name
    assert (tmp_path / made_now.name / READY).exists()
    environments.remove([made_now.name, "../elsewhere"], tmp_path, asked_for_s=0)
    assert not (tmp_path / made_now.name).exists()


def test_a_kept_stack_comes_back_with_the_environments_that_are_used(index: Index, home: Home) -> None:
    clipper = ClipperConnection(home.manager(keep=True))
    clipper.start_clipper()
    app = clipper.deploy(names, "m", sample=[1.0], pkgs_to_install=["upper"])
    (used,) = made(home)
    (home.path / PLACE / "env-0000000000000000-00000000").mkdir()  # as a killed process leaves it

    clipper.stop_all()
    clipper.start_clipper()

    wait_until(lambda: clipper.get_all_model_replicas() != [], "its replica is back", within_s=20)
    assert app.predict([1.0]).output[0] == "upper"
    assert made(home) == [used]


def test_the_wheels_of_a_bundle_are_installed_without_an_index(
    index: Index, clipper: ClipperConnection, tmp_path: Path
) -> None:
    def predict(inputs: object) -> list[list[str]]:
        import upper  # noqa: PLC0415  # from the bundle

        return [[upper.NAME, upper.lower.NAME]]

    bundle = tmp_path / "bundle"
    pack(bundle, predict)
    manifest = read_manifest(bundle)
    make_wheel(bundle / "wheels", "upper", "NAME = 'of the bundle'\nimport lower")
    make_wheel(bundle / "wheels", "lower", "NAME = 'the same'")
    write_manifest(bundle, replace(manifest, files=file_digests(bundle)))

    clipper.build_and_deploy_model("m", "1", "doubles", str(bundle), "default", sample=[1.0])
    clipper.register_application("a", "doubles", "none", 10_000_000)
    clipper.link_model_to_app("a", "m")

    assert clipper.predict("a", [1.0]).output == ["of the bundle", "the same"]
    assert index.asked == []


def test_a_numpy_that_cannot_load_the_function_is_found_before_anything_is_registered(
    index: Index, home: Home, clipper: ClipperConnection
) -> None:
    index.add_wheel("numpy", "raise ImportError('an old one')")  # its version is 1.0
    array = np.arange(3.0)

    with pytest.raises(BundleError) as caught:
        deploy(clipper, lambda inputs: [float(array.sum())] * len(inputs), pkgs_to_install=["numpy==1.0"])

    assert f"numpy is {np.__version__} here and 1.0 there" in caught.value.msg
    assert "an old one" in caught.value.msg
    assert f"'numpy=={np.__version__}'" in str(caught.value.hint)
    assert (made(home), clipper.get_all_models()) == ([], [])


def test_what_the_function_was_packed_with_and_has_not_there_is_said(
    index: Index, home: Home, clipper: ClipperConnection, caplog: pytest.LogCaptureFixture
) -> None:
    def maybe(inputs: object) -> list[int]:
        try:
            import sklearn  # noqa: F401, PLC0415  # here only
        except ImportError:
            return [0]
        return [1]

    with caplog.at_level(logging.WARNING):
        deploy(clipper, maybe, pkgs_to_install=["lower"])

    assert "scikit-learn" in caplog.text
    assert "none there; name it in pkgs_to_install" in caplog.text


# --- how one is made ---


def test_it_is_said_what_is_done(index: Index, tmp_path: Path) -> None:
    lines: list[str] = []

    environments.provide(wish("upper"), tmp_path, said=lines.append)

    assert lines[0] == "making its environment: upper"
    assert any(line.startswith("Downloading ") and "upper" in line for line in lines)
    assert lines[-1].startswith("its environment has ")


def test_an_index_that_does_not_answer_is_given_up_and_pip_is_ended(index: Index, tmp_path: Path) -> None:
    index.stands_still = True

    with pytest.raises(BundleError, match=r"Gave up after 3 s: pip did not end"):
        build(tmp_path / "env", wish("upper"), said=lambda _: None, within_s=3)

    assert not [each for each in psutil.Process().children(recursive=True) if "pip" in " ".join(each.cmdline())]


def test_an_environment_whose_making_was_interrupted_is_not_there(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("clipper_nomad.local_stack.environment_build._add_runtime", interrupted)

    with pytest.raises(KeyboardInterrupt):
        environments.provide(wish("lower"), tmp_path / "environments", said=lambda _: None)

    assert not list((tmp_path / "environments").iterdir())


def test_the_settings_of_this_environment_s_pip_count(index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those that lie in its prefix, which pip would look for in the new one's."""
    prefix = tmp_path / "prefix"
    prefix.mkdir()
    (prefix / "pip.conf").write_text(f"[global]\nindex-url = {index.url}\n")
    monkeypatch.delenv("PIP_INDEX_URL")
    monkeypatch.delenv("PIP_CONFIG_FILE")
    monkeypatch.setenv("PIP_USER", "1")  # of no use in an environment
    monkeypatch.setattr(sys, "prefix", str(prefix))

    versions = build(tmp_path / "env", wish("lower"), said=lambda _: None)

    assert versions["lower"] == "1.0"
    assert any("/simple/lower" in path for path in index.asked)


def test_a_folder_is_installed_as_it_is_now(index: Index, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path / "wheels", "own", "NAME = 'first'")

    first = environments.provide(wish(str(wheel)), tmp_path, said=lambda _: None)
    make_wheel(tmp_path / "wheels", "own", "NAME = 'second'")
    second = environments.provide(wish(str(wheel)), tmp_path, said=lambda _: None)

    assert (modules_of(tmp_path / first.name) / "own.py").read_text() == "NAME = 'first'"
    assert (modules_of(tmp_path / second.name) / "own.py").read_text() == "NAME = 'second'"


def test_an_environment_whose_python_is_gone_is_made_anew(index: Index, tmp_path: Path) -> None:
    first = environments.provide(wish("lower"), tmp_path, said=lambda _: None)
    python_of(tmp_path / first.name).unlink()

    second = environments.provide(wish("lower"), tmp_path, said=lambda _: None)

    assert second.name != first.name
    assert (second.stamp, python_of(tmp_path / second.name).exists()) != (None, False)


def test_nothing_of_this_environment_is_changed_by_one_that_is_removed(index: Index, tmp_path: Path) -> None:
    """What is linked stays, what was copied is a copy."""
    import clipper_nomad_runtime  # noqa: PLC0415  # whose folder is linked

    made_now = environments.provide(wish("lower"), tmp_path, said=lambda _: None)
    modules = modules_of(tmp_path / made_now.name)

    shutil.rmtree(tmp_path / made_now.name)

    assert not modules.exists()
    assert Path(clipper_nomad_runtime.__file__).exists()
    assert Path(np.__file__).exists()


@pytest.mark.parametrize("packages", [["--pre"], ["-r", "x"], [""], [7], "six"])
def test_what_is_no_package_is_refused_by_name(home: Home, tmp_path: Path, packages: Any) -> None:  # noqa: ANN401
    manager = home.manager()
    manager.start_clipper()
    pack(tmp_path / "bundle", len)

    with pytest.raises(BundleError, match="pkgs_to_install"):
        manager.publish_bundle("m", "1", tmp_path / "bundle", pkgs_to_install=packages)

    assert made(home) == []


# --- with the real packages, from the index of this machine ---

OLD_NUMPY = "1.26.4"


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(
    sys.version_info >= (3, 13) or np.__version__ < "2", reason="numpy 1.26 has no wheel here, or is no other one"
)
def test_an_older_numpy_serves_what_it_can_load_and_no_other(home: Home, clipper: ClipperConnection) -> None:
    array = np.arange(3.0)

    def without_arrays(inputs: Any) -> list[str]:  # noqa: ANN401  # an array of that numpy
        import numpy  # noqa: ICN001, PLC0415  # the environment's

        return [f"{numpy.__version__} {inputs.sum()}"]

    app = clipper.deploy(without_arrays, "m", sample=[1.0], pkgs_to_install=[f"numpy=={OLD_NUMPY}"])
    assert app.predict([1.0, 2.0]).output == f"{OLD_NUMPY} 3.0"

    with pytest.raises(BundleError, match=f"numpy is {np.__version__} here and {OLD_NUMPY} there") as caught:
        deploy(clipper, lambda inputs: [float(array.sum())] * len(inputs), "2", pkgs_to_install=[f"numpy=={OLD_NUMPY}"])
    assert "numpy._core" in caught.value.msg
    assert app.predict([1.0, 2.0]).output == f"{OLD_NUMPY} 3.0"
    assert len(made(home)) == 1


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_an_older_cloudpickle_is_found_out(clipper: ClipperConnection) -> None:
    with pytest.raises(BundleError, match=r"cloudpickle is \S+ here and 2\.2\.1 there"):
        deploy(clipper, lambda inputs: [1] * len(inputs), pkgs_to_install=["cloudpickle==2.2.1"])
