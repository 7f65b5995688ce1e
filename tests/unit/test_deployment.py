"""The order of an atomic deploy, and what is undone when a step fails. Both ends are fakes that write down their calls."""

from __future__ import annotations

import inspect
import itertools
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from clipper_nomad.admin.client import AdminClient, Frontends, NewVersion, Probe, Staged
from clipper_nomad.connection.deployment import Plan, Rollout, withdraw_unused
from clipper_nomad.container_manager import ContainerManager, Failure
from clipper_nomad.errors import AdminRefused, AdminUnreachable, DeployFailed, StackError
from clipper_nomad.protocol.datatypes import InputType

PLAN = Plan(name="m", version="2", kind=InputType.DOUBLES, image="bundle:x", num_replicas=2, sample=[1.0])
READY = Frontends(live=1, reports=({"frontend": "f1", "versions": [{"uid": "u", "ready": 2}]},))
UNREADY = Frontends(live=1, reports=({"frontend": "f1", "versions": []},))
ANSWERED = Probe(frontend="f1", kind="", cause="", output=7, exec_micros=500)
UNREACHABLE = AdminUnreachable("gone")

Calls = list[tuple[Any, ...]]


@dataclass
class Manager:
    """Writes calls down; what `fails` says it raises."""

    calls: Calls
    fails: dict[str, BaseException] = field(default_factory=dict)
    failure: Failure | None = None
    cluster_name: str = "test"
    cluster_identifier: str = "test"
    logger: logging.Logger = field(default_factory=lambda: logging.getLogger("test"))

    def deploy_model(
        self,
        name: str,
        version: str,
        input_type: str,
        image: str,
        num_replicas: int = 1,
        *,
        uid: str = "",
        within_s: float = 600.0,
    ) -> None:
        self._note("start", name, version, input_type, image, num_replicas, uid)

    def stop_models(self, models: Mapping[str, Sequence[str]]) -> None:
        self._note("stop", dict(models))

    def make_channel_key(self, name: str, version: str) -> str:
        return f"key of {name}:{version}"

    def forget_models(self, models: Mapping[str, Sequence[str]]) -> None:
        self._note("forget", dict(models))

    def model_failure(self, name: str, version: str) -> Failure | None:
        return self.failure

    def withdraw_bundle(self, image: str) -> None:
        self._note("withdraw", image)

    def _note(self, what: str, *about: object) -> None:
        self.calls.append((what, *about))
        if what in self.fails:
            raise self.fails[what]

    def __getattr__(self, name: str) -> Callable[..., Any]:
        raise AssertionError(f"a deploy does not call {name}")


class Admin(AdminClient):
    """Writes calls down; answers what it is told, the last answer for ever."""

    def __init__(self, calls: Calls) -> None:
        super().__init__(str, str)
        self.calls = calls
        self.fails: dict[str, BaseException] = {}
        self.catalogs: list[list[dict[str, Any]]] = [[]]  # versions
        self.in_use: frozenset[str] | None = frozenset()
        self.reports = [READY]
        self.probes: list[list[Probe]] = [[ANSWERED]]

    def add_version(self, new: NewVersion) -> Staged:
        assert new.public_key == f"key of {new.name}:{new.version}"  # the replicas are started with its secret
        self._note("register", new.name, new.version, new.staged)
        return Staged(name=new.name, version=new.version, uid="u")

    def frontends(self) -> Frontends:
        self._note("look")
        return self.reports.pop(0) if len(self.reports) > 1 else self.reports[0]

    def probe(self, staged: Staged, input_: object, *, within_s: int) -> list[Probe]:
        self._note("probe", staged.uid, input_)
        return self.probes.pop(0) if len(self.probes) > 1 else self.probes[0]

    def activate(self, staged: Staged) -> None:
        self._note("activate", staged.uid)

    def discard(self, staged: Staged) -> None:
        self._note("discard", staged.uid)

    def catalog(self) -> Mapping[str, Any]:
        self._note("read")
        return {"versions": self.catalogs.pop(0) if len(self.catalogs) > 1 else self.catalogs[0]}

    def images(self) -> frozenset[str] | None:
        self._note("ask")
        return self.in_use

    def _note(self, what: str, *about: object) -> None:
        self.calls.append((what, *about))
        if what in self.fails:
            raise self.fails[what]


class Rig:
    """A rollout between two fakes, on a clock that its own pauses move."""

    def __init__(self, plan: Plan = PLAN) -> None:
        self.calls: Calls = []
        self.manager = Manager(self.calls)
        self.admin = Admin(self.calls)
        clock = itertools.count()
        self.rollout = Rollout(
            self.manager,  # type: ignore[arg-type]  # a fake of the few methods that a deploy may call
            self.admin,
            plan,
            within_s=60,
            now=lambda: next(clock) * 1.0,
            pause=lambda _: None,
        )

    @property
    def steps(self) -> list[str]:
        return [call[0] for call in self.calls]

    def fails_with(self, kind: type[BaseException]) -> BaseException:
        with pytest.raises(kind) as caught:
            self.rollout.run()
        return caught.value


def test_a_deploy_becomes_current_only_after_it_has_answered() -> None:
    rig = Rig()

    done = rig.rollout.run()

    assert rig.steps == ["read", "register", "start", "look", "probe", "activate"]
    assert rig.calls[1] == ("register", "m", "2", True)
    assert rig.calls[2] == ("start", "m", "2", "doubles", "bundle:x", 2, "u")
    assert rig.calls[4] == ("probe", "u", [1.0])
    assert (done.output, done.exec_micros, done.warning, done.uid) == (7, 500, None, "u")


def test_replicas_and_predictions_are_waited_for() -> None:
    rig = Rig()
    rig.admin.reports = [UNREADY, UNREADY, READY]
    rig.admin.probes = [[replace(ANSWERED, kind="no_replica")], [ANSWERED]]

    rig.rollout.run()

    assert rig.steps == ["read", "register", "start", "look", "look", "look", "probe", "probe", "activate"]


def test_a_version_that_is_refused_starts_nothing() -> None:
    rig = Rig()
    rig.admin.fails["register"] = AdminRefused(400, "exists")

    rig.fails_with(AdminRefused)

    assert rig.steps == ["read", "register", "read", "forget"]  # the key that was made for it


def test_a_version_that_is_there_already_keeps_its_key() -> None:
    rig = Rig()
    rig.admin.fails["register"] = AdminRefused(400, "exists")
    rig.admin.catalogs = [[{"name": "m", "version": "2", "uid": "theirs", "staged": False}]]

    rig.fails_with(AdminRefused)

    assert rig.steps == ["read", "register", "read"]


UNDONE = ["discard", "stop", "forget"]


def test_replicas_that_cannot_be_started_are_undone() -> None:
    rig = Rig()
    rig.manager.fails["start"] = StackError("no room")

    assert rig.fails_with(StackError).args == ("no room",)
    assert rig.steps == ["read", "register", "start", *UNDONE]
    assert rig.calls[-2:] == [("stop", {"m": ["2"]}), ("forget", {"m": ["2"]})]


def test_replicas_that_fail_end_the_wait_at_once_and_say_why() -> None:
    rig = Rig()
    rig.admin.reports = [UNREADY]
    rig.manager.failure = Failure(cause="No module named 'torch'", log_tail="Traceback …", hint="Install it.")

    said = str(rig.fails_with(DeployFailed))

    assert rig.steps == ["read", "register", "start", "look", *UNDONE]
    assert said == "Model 'm' version '2' was not deployed: No module named 'torch'\nTraceback …\nInstall it."


def test_a_wait_ends_and_says_what_it_waited_for() -> None:
    rig = Rig()
    rig.admin.reports = [UNREADY]

    said = str(rig.fails_with(DeployFailed))

    assert "gave up after 60 s waiting for its replicas: query frontend f1 has 0 of 2 replicas ready" in said
    assert rig.steps[-3:] == UNDONE


def test_a_wait_for_a_prediction_ends_too() -> None:
    rig = Rig()
    rig.admin.probes = [[replace(ANSWERED, kind="busy", cause="the queue is full")]]

    said = str(rig.fails_with(DeployFailed))

    assert "gave up after 60 s waiting for a prediction: query frontend f1: the queue is full" in said
    assert rig.steps[-3:] == UNDONE


@pytest.mark.parametrize("kind", ["raised", "wrong_count", "wrong_type", "died", "timeout"])
def test_a_wrong_answer_is_undone(kind: str) -> None:
    rig = Rig()
    rig.admin.probes = [[replace(ANSWERED, kind=kind, cause="the cause")]]

    said = str(rig.fails_with(DeployFailed))

    assert f"a prediction failed ({kind}): the cause" in said
    assert rig.steps == ["read", "register", "start", "look", "probe", *UNDONE]


def test_replicas_that_die_during_the_prediction_end_it_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clipper_nomad.connection.deployment.LOOK_EVERY_S", 0.001)
    rig = Rig()
    rig.manager.failure = Failure(cause="it ended with exit code 7")
    is_over: list[bool] = []

    def hang(*_: object, **__: object) -> list[Probe]:
        while not is_over:
            pass
        return []

    monkeypatch.setattr(rig.admin, "probe", hang)
    try:
        said = str(rig.fails_with(DeployFailed))
    finally:
        is_over.append(True)

    assert "it ended with exit code 7" in said


def test_an_admin_that_goes_away_in_the_middle_is_undone() -> None:
    rig = Rig()
    rig.admin.fails["look"] = UNREACHABLE

    rig.fails_with(AdminUnreachable)

    assert rig.steps == ["read", "register", "start", "look", *UNDONE]


def test_an_interrupt_is_undone() -> None:
    rig = Rig()
    rig.admin.fails["look"] = KeyboardInterrupt()

    rig.fails_with(KeyboardInterrupt)

    assert rig.steps[-3:] == UNDONE


def test_an_activation_whose_answer_was_lost_is_a_success() -> None:
    rig = Rig()
    rig.admin.fails = {"activate": UNREACHABLE, "discard": AdminRefused(409, "not staged any more")}
    rig.admin.catalogs = [[], [{"name": "m", "version": "2", "uid": "u", "staged": False}]]

    assert rig.rollout.run().uid == "u"
    assert "stop" not in rig.steps


def test_an_activation_that_did_not_happen_is_undone() -> None:
    rig = Rig()
    rig.admin.fails["activate"] = AdminRefused(400, "already linked to an app of another type")

    rig.fails_with(AdminRefused)

    assert rig.steps[-4:] == ["activate", *UNDONE]


def test_replicas_of_a_version_that_may_be_current_are_left_alone() -> None:
    rig = Rig()
    rig.admin.fails = {"activate": UNREACHABLE, "discard": UNREACHABLE}

    exc = rig.fails_with(AdminUnreachable)

    assert "stop" not in rig.steps
    assert any("It may be current, so its replicas run on" in note for note in exc.__notes__)


def test_replicas_that_somebody_else_deployed_meanwhile_are_theirs() -> None:
    rig = Rig()
    rig.admin.fails = {"look": UNREACHABLE, "discard": AdminRefused(409, "registered anew meanwhile")}
    rig.admin.catalogs = [[], [{"name": "m", "version": "2", "uid": "theirs", "staged": True}]]

    exc = rig.fails_with(AdminUnreachable)

    assert "stop" not in rig.steps
    assert any("deployed by somebody else meanwhile" in note for note in exc.__notes__)


def test_what_cannot_be_undone_is_said_and_the_rest_is_undone() -> None:
    rig = Rig()
    rig.admin.fails = {"look": UNREACHABLE, "discard": UNREACHABLE}
    rig.manager.fails = {"stop": StackError("the supervisor is gone")}

    exc = rig.fails_with(AdminUnreachable)

    assert rig.steps[-2:] == ["discard", "stop"]
    assert any("could not be taken out of the catalog" in note for note in exc.__notes__)
    assert any("could not be stopped: the supervisor is gone" in note for note in exc.__notes__)


def test_what_a_killed_deploy_left_behind_is_stopped_first() -> None:
    rig = Rig()
    rig.admin.catalogs = [[{"name": "m", "version": "2", "uid": "old", "staged": True}]]

    rig.rollout.run()

    assert rig.steps[:4] == ["read", "stop", "register", "start"]


def test_a_live_version_of_the_same_number_is_not_stopped() -> None:
    rig = Rig()
    rig.admin.catalogs = [[{"name": "m", "version": "2", "uid": "old", "staged": False}]]
    rig.admin.fails["register"] = AdminRefused(400, "already exists")

    rig.fails_with(AdminRefused)

    assert "stop" not in rig.steps


def test_without_replicas_nothing_is_waited_for() -> None:
    rig = Rig(replace(PLAN, num_replicas=0))

    done = rig.rollout.run()

    assert rig.steps == ["read", "register", "start", "activate"]
    assert done.warning == "no replica was asked for, so it was not tested"


def test_without_a_sample_ten_values_are_made_up_and_may_be_refused() -> None:
    rig = Rig(replace(PLAN, sample=None))
    rig.admin.probes = [[replace(ANSWERED, kind="raised", cause="10 features, 3 expected")]]

    done = rig.rollout.run()

    assert rig.calls[4] == ("probe", "u", [1.0] * 10)
    assert done.warning is not None
    assert "give sample=" in done.warning


def test_a_long_sample_is_probed_with_and_not_kept_in_the_catalog(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(replace(PLAN, sample=[0.25] * 100_000))
    kept: list[str | None] = []
    register = rig.admin.add_version

    def add_version(new: NewVersion) -> Staged:
        kept.append(new.sample)
        return register(new)

    monkeypatch.setattr(rig.admin, "add_version", add_version)

    rig.rollout.run()

    assert kept == [None]
    assert len(rig.calls[4][2]) == 100_000


def test_the_fake_manager_has_the_arguments_of_the_real_one() -> None:
    """So that these tests fail when the protocol changes."""
    for name in ("deploy_model", "stop_models", "model_failure"):
        ours, real = (list(inspect.signature(getattr(one, name)).parameters) for one in (Manager, ContainerManager))
        assert ours == real


@pytest.mark.parametrize(
    ("in_use", "steps"),
    [
        (frozenset({"bundle:other"}), ["ask", "withdraw"]),
        (frozenset({"bundle:x"}), ["ask"]),  # an older version of the same function, or an answer that was lost
        (None, ["ask"]),  # the store is away
    ],
)
def test_a_bundle_goes_only_if_no_version_runs_from_it(in_use: frozenset[str] | None, steps: list[str]) -> None:
    rig = Rig()
    rig.admin.in_use = in_use

    withdraw_unused(rig.manager, rig.admin, "bundle:x")  # type: ignore[arg-type]  # as above

    assert rig.steps == steps


@pytest.mark.parametrize("what", ["ask", "withdraw"])
def test_a_bundle_that_cannot_be_withdrawn_hides_no_error(what: str) -> None:
    rig = Rig()
    rig.admin.fails = rig.manager.fails = {what: UNREACHABLE}

    withdraw_unused(rig.manager, rig.admin, "bundle:x")  # type: ignore[arg-type]  # as above
