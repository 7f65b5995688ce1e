"""Model replicas in local mode, on stand-ins: deploy, scale, fail, stop, and what a kept stack brings back."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from clipper_nomad.cluster.jobs.options import JobOptions
from clipper_nomad.container_manager import Failure
from clipper_nomad.errors import BundleError, ClipperException, StackError
from clipper_nomad.local_stack.control import VersionStatus
from clipper_nomad.local_stack.logs import MAX_LOG_BYTES
from clipper_nomad.local_stack.manager import LocalContainerManager
from tests.process.local_stack_rig import Home, ask, home_of_its_own, part, pid_of_part
from tests.waiting import wait_until

pytestmark = pytest.mark.process


@pytest.fixture
def home() -> Iterator[Home]:
    with home_of_its_own() as one:
        yield one


@pytest.fixture
def manager(home: Home) -> LocalContainerManager:
    started = home.manager()
    started.start_clipper()
    return started


def version_of(manager: LocalContainerManager, name: str = "m") -> VersionStatus:
    (found,) = (item for item in manager.status().versions if item.name == name)
    return found


def failure_of(manager: LocalContainerManager) -> Failure:
    failure = manager.model_failure("m", "1")
    assert failure is not None
    return failure


def wait_ready(manager: LocalContainerManager, count: int) -> None:
    wait_until(lambda: version_of(manager).ready == count, f"{count} replicas are ready")


def test_a_deployed_version_runs_as_many_replicas_as_were_asked_for(home: Home, manager: LocalContainerManager) -> None:
    home.deploy(manager, "serve", replicas=2)

    wait_ready(manager, 2)
    assert manager.get_num_replicas("m", "1") == 2
    environment = psutil.Process(pid_of_part(manager, "model-m-1-1")).environ()
    assert environment["CLIPPER_MODEL_UID"] == "u1"
    assert environment["CLIPPER_REPLICA_ID"] == "m-1-1"
    assert environment["CLIPPER_RPC_ADDRESSES"].startswith("ipc:///")


def test_scaling_starts_and_drains_replicas(home: Home, manager: LocalContainerManager) -> None:
    home.deploy(manager, "serve")
    wait_ready(manager, 1)
    first = pid_of_part(manager, "model-m-1-0")

    manager.set_num_replicas("m", "1", "doubles", "unused", 3)
    wait_ready(manager, 3)
    manager.set_num_replicas("m", "1", "doubles", "unused", 1)

    assert version_of(manager).ready == 1
    assert pid_of_part(manager, "model-m-1-0") == first
    assert [item.name for item in manager.status().parts if item.kind == "replica"] == ["model-m-1-0"]


def test_stopped_versions_can_be_scaled_up_again(home: Home, manager: LocalContainerManager) -> None:
    home.deploy(manager, "serve")
    wait_ready(manager, 1)

    manager.stop_models({"m": ["1"], "unknown": ["7"]})

    assert not [item for item in manager.status().parts if item.kind == "replica"]
    assert manager.get_num_replicas("m", "1") == 0
    manager.set_num_replicas("m", "1", "doubles", "unused", 1)
    wait_ready(manager, 1)
    manager.stop_all_model_containers()
    assert manager.get_num_replicas("m", "1") == 0


def test_another_build_of_a_version_replaces_its_replicas(home: Home, manager: LocalContainerManager) -> None:
    home.deploy(manager, "serve")
    wait_ready(manager, 1)
    old = pid_of_part(manager, "model-m-1-0")
    image = manager.publish_bundle("m", "1", home.bundle("fork"))

    manager.deploy_model("m", "1", "doubles", image, 1, uid="u2")

    wait_until(lambda: not psutil.pid_exists(old) or _is_zombie(old), "the old replica has ended")
    wait_ready(manager, 1)
    (replica,) = (item for item in manager.status().parts if item.kind == "replica")
    assert replica.pid is not None
    assert psutil.Process(replica.pid).environ()["CLIPPER_MODEL_UID"] == "u2"


def _is_zombie(pid: int) -> bool:
    return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_what_a_model_forked_ends_with_its_replica(home: Home, manager: LocalContainerManager) -> None:
    home.deploy(manager, "fork")
    wait_ready(manager, 1)
    before = {pid for pid, command in home.processes().items() if command == "sleep 1000"}

    os.kill(pid_of_part(manager, "model-m-1-0"), signal.SIGKILL)

    wait_until(lambda: not before & home.processes().keys(), "the model's own process has ended")


def test_a_first_start_that_raises_is_a_failure_at_once_with_the_traceback(
    home: Home, manager: LocalContainerManager
) -> None:
    home.deploy(manager, "raise")

    wait_until(lambda: manager.model_failure("m", "1"), "the failure is known", within_s=2)

    failure = failure_of(manager)
    assert "ValueError: the weights are not a matrix" in failure.cause
    assert "m-1-0" in failure.cause
    assert failure.log_tail.startswith("Traceback (most recent call last):")
    assert "local_stack_standin.py" in failure.log_tail


def test_five_deaths_are_a_failure_with_the_last_traceback(home: Home, manager: LocalContainerManager) -> None:
    home.deploy(manager, "once")

    wait_until(lambda: version_of(manager).failed == 1, "the replica is given up")

    replica = part(manager.status(), "model-m-1-0")
    failure = failure_of(manager)
    assert (replica.state, replica.deaths, replica.pid) == ("failed", 5, None)
    assert "loading m-1-0" in failure.cause
    assert manager.get_num_replicas("m", "1") == 0
    manager.set_num_replicas("m", "1", "doubles", "unused", 1)
    assert part(manager.status(), "model-m-1-0").state != "failed"  # whoever asks again gets another try


@pytest.mark.parametrize(("behaviour", "word"), [("missing", "package"), ("settings", "settings")])
def test_an_exit_that_another_start_cannot_change_is_a_failure_at_once(
    home: Home, manager: LocalContainerManager, behaviour: str, word: str
) -> None:
    home.deploy(manager, behaviour)

    wait_until(lambda: manager.model_failure("m", "1"), "the failure is known", within_s=2)

    failure = failure_of(manager)
    assert word in f"{failure.cause} {failure.hint}"
    assert part(manager.status(), "model-m-1-0").deaths == 1
    assert part(manager.status(), "model-m-1-0").state == "failed"


def test_a_model_that_ends_its_process_with_a_code_of_ours_is_started_again(
    home: Home, manager: LocalContainerManager
) -> None:
    home.deploy(manager, "exit")

    wait_until(lambda: part(manager.status(), "model-m-1-0").deaths > 1, "it is started again", within_s=5)

    assert "ended with exit code 3" in failure_of(manager).cause


def test_a_replica_killed_before_it_was_ready_is_no_failure_of_the_model(home: Home, manager: LocalContainerManager) -> None:
    home.deploy(manager, "serve")
    os.kill(pid_of_part(manager, "model-m-1-0"), signal.SIGKILL)

    wait_until(lambda: part(manager.status(), "model-m-1-0").deaths == 1, "its death is seen")

    assert manager.model_failure("m", "1") is None
    wait_ready(manager, 1)


def test_a_version_that_was_never_deployed_has_a_failure_that_says_so(manager: LocalContainerManager) -> None:
    failure = manager.model_failure("other", "1")

    assert failure is not None
    assert "other:1" in failure.cause
    with pytest.raises(StackError, match="never deployed"):
        manager.set_num_replicas("other", "1", "doubles", "unused", 2)


def test_bad_requests_are_refused_with_the_reason(home: Home, manager: LocalContainerManager) -> None:
    with pytest.raises(ClipperException, match="no bundle's reference"):
        manager.deploy_model("m", "1", "doubles", "registry/image:1")
    with pytest.raises(StackError, match="publish it first"):
        manager.deploy_model("m", "1", "doubles", "bundle:sha256-" + "0" * 64)
    with pytest.raises(StackError, match="publish it first"):
        manager.deploy_model("m", "1", "doubles", "bundle:../../etc")
    image = manager.publish_bundle("m", "1", home.bundle("serve"))
    with pytest.raises(StackError, match="DNS-1123"):
        manager.deploy_model("../m", "1", "doubles", image)
    with pytest.raises(StackError, match="0 or more"):
        manager.deploy_model("m", "1", "doubles", image, -1)
    with pytest.raises(StackError, match="env-1, in which m:1 is to run, is not on this machine"):
        manager.deploy_model("m", "1", "doubles", f"{image}+env-1")


def test_a_bundle_is_copied_once_and_whole(home: Home, manager: LocalContainerManager) -> None:
    bundle = home.bundle("serve")

    first = manager.publish_bundle("m", "1", bundle)
    copied = home.path / "data" / "default-cluster" / "bundles" / first.removeprefix("bundle:")
    inode = copied.stat().st_ino
    second = manager.publish_bundle("other", "2", bundle)

    assert second == first
    assert copied.stat().st_ino == inode
    (copied / "func.pkl").write_text("changed behind our back")
    manager.publish_bundle("m", "1", bundle)
    assert (copied / "func.pkl").read_text() == "serve"
    (bundle / "func.pkl").write_text("damaged")
    (copied / "manifest.json").unlink()
    with pytest.raises(BundleError, match=r"func\.pkl"):
        manager.publish_bundle("m", "1", bundle)
    assert not list(copied.parent.glob(".copy-*"))


def test_what_a_model_writes_beside_itself_goes_with_the_stack(home: Home, manager: LocalContainerManager) -> None:
    home.deploy(manager, "write")
    wait_ready(manager, 1)
    assert list(home.path.rglob("written-by-the-model"))

    manager.stop_all()

    home.assert_nothing_left()


def test_a_log_is_emptied_when_it_is_large_and_the_last_words_are_still_found(
    home: Home, manager: LocalContainerManager
) -> None:
    log = home.path / "data" / "default-cluster" / "logs" / "model-m-1-0.log"
    log.write_text("of a life before\n" * 100_000)

    home.deploy(manager, "flood")
    wait_until(lambda: manager.model_failure("m", "1"), "the model has failed", within_s=20)

    assert failure_of(manager).cause.endswith("ValueError: after the flood")
    assert log.with_name(f"{log.name}.1").stat().st_size == MAX_LOG_BYTES


def test_logs_are_copied_with_the_lines_of_every_process(home: Home, manager: LocalContainerManager) -> None:
    home.deploy(manager, "serve")
    wait_ready(manager, 1)

    paths = manager.get_logs(home.path.parent / "logs")

    by_name = {Path(path).name: Path(path).read_text() for path in paths}
    assert set(by_name) == {"supervisor.log", "store.log", "admin.log", "frontend-0.log", "model-m-1-0.log"}
    assert by_name["model-m-1-0.log"] == "loading m-1-0\n"


def test_a_kept_stack_outlives_its_owner_and_brings_its_replicas_back(home: Home) -> None:
    owner = home.owner(keep=True)
    owner.up()
    manager = home.manager()
    manager.connect()
    home.deploy(manager, "serve", replicas=2)
    token = manager.get_admin_token()
    manager.detach()
    owner.kill()
    manager.connect()
    wait_ready(manager, 2)

    manager.stop_all()
    wait_until(lambda: not home.processes(), "no process is left", within_s=5)
    manager.start_clipper()

    wait_ready(manager, 2)
    assert manager.get_admin_token() == token
    manager.stop_all(purge=True)
    home.assert_nothing_left()


def test_a_kept_stack_that_was_killed_brings_its_replicas_back(home: Home) -> None:
    manager = home.manager(keep=True)
    manager.start_clipper()
    home.deploy(manager, "serve")

    os.kill(manager.status().pid, signal.SIGKILL)
    wait_until(lambda: not home.processes(), "no process is left", within_s=5)
    manager.start_clipper()

    wait_ready(manager, 1)


def test_a_stack_that_is_kept_later_outlives_its_owner(home: Home) -> None:
    owner = home.owner()
    address = owner.up()
    home.manager().keep()

    owner.kill()

    manager = home.manager()
    wait_until(lambda: not manager.status().owners, "the owner's end is seen")
    assert ask(address).startswith("frontend ")


def test_the_data_of_a_kept_stack_that_does_not_run_can_be_purged(home: Home) -> None:
    manager = home.manager(keep=True)
    manager.start_clipper()
    manager.stop_all()
    assert (home.path / "data" / "default-cluster" / "token").exists()

    manager.stop_all(purge=True)

    home.assert_nothing_left()


def test_an_owner_that_does_not_keep_ends_a_kept_stack_and_leaves_its_data(home: Home) -> None:
    kept = home.manager(keep=True)
    kept.start_clipper()
    home.deploy(kept, "serve")
    kept.stop_all()
    owner = home.owner()
    owner.up()

    owner.kill()

    wait_until(lambda: not home.processes(), "no process is left", within_s=5)
    state = json.loads((home.path / "data" / "default-cluster" / "state.json").read_text())
    assert state["keep"]
    assert [item["name"] for item in state["wanted"]] == ["m"]


def test_replicas_have_the_variables_that_were_asked_for_also_after_scaling_and_the_rest_is_said_to_be_idle(
    home: Home, manager: LocalContainerManager, caplog: pytest.LogCaptureFixture
) -> None:
    home.deploy(manager, "serve", options=JobOptions(env={"GREETING": "hello"}, memory_mb=512, node_pool="gpu"))
    manager.set_num_replicas("m", "1", "doubles", "unused", 2)
    wait_ready(manager, 2)

    environments = [psutil.Process(pid_of_part(manager, f"model-m-1-{number}")).environ() for number in range(2)]

    assert [each.get("GREETING") for each in environments] == ["hello", "hello"]
    assert "memory_mb, node_pool have no effect here" in caplog.text


def test_a_variable_that_the_stack_sets_itself_is_refused(home: Home, manager: LocalContainerManager) -> None:
    with pytest.raises(ClipperException, match="the stack sets CLIPPER_MODEL_UID itself"):
        manager.check_job_options("m", "1", JobOptions(env={"CLIPPER_MODEL_UID": "x", "MINE": "y"}))
