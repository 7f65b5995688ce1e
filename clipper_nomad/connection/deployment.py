"""The atomic deploy of a model version: staged → replicas ready everywhere → probed → current; or nothing of it is left.

    register staged     the catalog refuses what cannot be; nothing has started yet, the old version serves
    start replicas      by the container manager
    wait                until every live query frontend reports as many ready replicas as were asked for
    probe               one real prediction through every live frontend, and one through the load balancer, if there is one
    activate            the version becomes current, in one transaction

Whatever fails on the way, also Ctrl+C: the staged record is deleted, the replicas are stopped, the old version serves on.
Pure policy is in readiness.py.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from clipper_nomad.admin.client import AdminClient, NewVersion, Probe, Staged
from clipper_nomad.cluster.jobs.options import JobOptions
from clipper_nomad.connection.inputs import Input, made_up_input
from clipper_nomad.connection.public_probe import probe_through
from clipper_nomad.connection.readiness import Again, Answered, Broken, judge, missing
from clipper_nomad.container_manager import ContainerManager, Failure
from clipper_nomad.errors import AdminRefused, AdminUnreachable, ClipperException, DeployFailed
from clipper_nomad.protocol.datatypes import InputType

DEPLOY_WITHIN_S = 300.0  # loading a large model from a cold disk; what cannot get ready fails long before
LOOK_EVERY_S = 0.1
PROBE_WITHIN_S = 60  # the most that admin lets a probe take
MAX_SAMPLE_BYTES = 64 * 1024  # admin's MAX_TEXT_BYTES; the bundle holds a longer one
HTTP_CONFLICT = 409
WIDTH = 60  # of the first line of what is printed
MAX_OUTPUT = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A version to deploy. `sample`: one input to probe with; None: one is made up, which a model may refuse.

    `job_options`: what its replicas get of the place they run in; None: the usual.
    """

    name: str
    version: str
    kind: InputType
    image: str
    labels: Sequence[str] = ()
    num_replicas: int = 1
    batch_size: int = -1
    retry: bool = True
    sample: Input | None = None
    job_options: JobOptions | None = None

    @property
    def title(self) -> str:
        """How messages name the version."""
        return f"Model '{self.name}' version '{self.version}'"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Deployment:
    """A version that serves. `output`: the answer to the probe; None with a `warning` if there was none.

    Printed, as a notebook does with a cell's last value, it says how it was tested."""

    name: str
    version: str
    uid: str
    sample: Input | None
    output: Any  # Any: JSON
    exec_micros: int
    took_s: float
    warning: str | None = None

    def lines(self, input_type: str = "") -> list[str]:
        """Return what there is to say of it, the first line that it is live."""
        live = f"✔ {self.name}:{self.version} is live"
        first = f"{live:<{WIDTH}} {self.took_s:.1f} s"
        if self.warning:
            return [first, f"  warning   {self.warning}"]
        length = f"[{len(self.sample)}]" if isinstance(self.sample, list) else ""
        taken = f"    input: {input_type}{length}" if input_type else ""
        answer = _short(self.output)
        return [first, f"  tested    your function ran on a sample → {answer} in {self.exec_micros / 1000:.1f} ms{taken}"]

    def __repr__(self) -> str:
        return "\n".join(self.lines())


@dataclass(slots=True)
class Rollout:
    """Deploys one plan. `now` and `pause`: the clock, which tests replace."""

    manager: ContainerManager
    admin: AdminClient
    plan: Plan
    within_s: float = DEPLOY_WITHIN_S
    now: Callable[[], float] = time.monotonic
    pause: Callable[[float], None] = time.sleep
    _deadline: float = field(default=0.0, init=False)

    def run(self) -> Deployment:
        """Deploy, or undo. Raises: AdminRefused: the catalog does not take it. DeployFailed: it does not serve."""
        started = self.now()
        self._deadline = started + self.within_s
        self._clear_left_over()
        staged = self._register()
        answered, is_decided = Answered(), False
        try:
            self._start(staged)
            if self.plan.num_replicas:
                self._wait(staged)
                answered = self._probe(staged)
                self._probe_public(staged)
            else:
                answered = Answered(warning="no replica was asked for, so it was not tested")
            is_decided = True  # from here on the catalog may say that it serves, whatever is heard of it
            self.admin.activate(staged)
        except BaseException as exc:
            if not self._undo(staged, exc, may_be_live=is_decided):
                raise
        return Deployment(
            name=self.plan.name,
            version=self.plan.version,
            uid=staged.uid,
            sample=self.plan.sample,
            output=answered.output,
            exec_micros=answered.exec_micros,
            took_s=self.now() - started,
            warning=answered.warning,
        )

    def _register(self) -> Staged:
        plan = self.plan
        sample = json.dumps(plan.sample) if plan.sample is not None else None
        new = NewVersion(
            name=plan.name,
            version=plan.version,
            input_type=plan.kind.word,
            image=plan.image,
            labels=plan.labels,
            batch_size=plan.batch_size,
            replicas=plan.num_replicas,
            retry=plan.retry,
            sample=sample if sample is not None and len(sample) <= MAX_SAMPLE_BYTES else None,
            public_key=self.manager.make_channel_key(plan.name, plan.version),
            legacy=plan.job_options is not None and plan.job_options.is_legacy,
            staged=True,
        )
        try:
            return self.admin.add_version(new)
        except AdminRefused:
            if self._record() is None:  # else the key is that of a version which is there
                self.manager.forget_models({plan.name: [plan.version]})
            raise

    def _start(self, staged: Staged) -> None:
        plan = self.plan
        self.manager.deploy_model(
            plan.name,
            plan.version,
            plan.kind.word,
            plan.image,
            plan.num_replicas,
            uid=staged.uid,
            options=plan.job_options,
            within_s=max(1.0, round(self._deadline - self.now(), 1)),
        )

    def _clear_left_over(self) -> None:
        """Stop replicas of a deploy of this version that was killed: they would be taken for ours."""
        record = self._record()
        if record is not None and record["staged"]:
            self.manager.stop_models({self.plan.name: [self.plan.version]})

    def _wait(self, staged: Staged) -> None:
        """Return when every live frontend has all replicas ready."""
        while lack := missing(self.admin.frontends(), staged.uid, self.plan.num_replicas):
            self._go_on_unless_hopeless(f"waiting for its replicas: {lack}")

    def _probe(self, staged: Staged) -> Answered:
        """Return the answer to a prediction that went through every live frontend."""
        return self._answered(lambda within_s: self.admin.probe(staged, self._sample, within_s=within_s))

    def _probe_public(self, staged: Staged) -> None:
        """See that a prediction comes by the way that clients' queries will: through the load balancer."""
        url = self.manager.public_url()
        if url:
            token = self.manager.get_admin_token()
            self._answered(
                lambda within_s: [probe_through(url, staged, self._sample, token=token, within_s=within_s)],
                where=f" through {url}",
            )

    @property
    def _sample(self) -> Input:
        return self.plan.sample if self.plan.sample is not None else made_up_input(self.plan.kind)

    def _answered(self, probe: Callable[[int], list[Probe]], *, where: str = "") -> Answered:
        """Return the answer of a probe that is repeated until there is one. Raises: DeployFailed: there will be none."""
        while True:
            match judge(self._probe_once(probe), is_made_up=self.plan.sample is None):
                case Answered() as answered:
                    return answered
                case Broken(cause=cause, hint=hint):
                    raise self._failed(
                        f"{cause}{where and f' (asked{where})'}",
                        self.manager.model_failure(self.plan.name, self.plan.version),
                        hint,
                    )
                case Again(reason=reason):
                    self._go_on_unless_hopeless(f"waiting for a prediction{where}: {reason}")

    def _probe_once(self, probe: Callable[[int], list[Probe]]) -> list[Probe]:
        """Return what all frontends say; raise at once if the replicas fail for good while the prediction is waited for."""
        within_s = min(PROBE_WITHIN_S, max(1, int(self._deadline - self.now())))
        asking = _in_background(lambda: probe(within_s))
        while True:
            try:
                return asking.result(timeout=LOOK_EVERY_S)
            except TimeoutError:
                if asking.done():  # it was the call's own
                    raise
            self._raise_if_failed()

    def _raise_if_failed(self) -> None:
        failure = self.manager.model_failure(self.plan.name, self.plan.version)
        if failure is not None:
            raise self._failed(failure.cause, failure)

    def _go_on_unless_hopeless(self, what: str) -> None:
        self._raise_if_failed()
        if self.now() >= self._deadline:
            hint = "If it only needs longer: timeout_s=, or --timeout on the command line."
            raise self._failed(f"gave up after {self.within_s:g} s {what}", hint=hint)
        self.pause(LOOK_EVERY_S)

    def _failed(self, cause: str, failure: Failure | None = None, hint: str | None = None) -> DeployFailed:
        text = f"{self.plan.title} was not deployed: {cause}"
        if failure is not None and failure.log_tail:
            text = f"{text}\n{failure.log_tail}"
        return DeployFailed(text, hint=hint or (failure.hint if failure else None))

    def _undo(self, staged: Staged, exc: BaseException, *, may_be_live: bool) -> bool:
        """Leave nothing behind; return True if the version serves after all, because only an answer was lost."""
        fate = self._discard(staged)
        if isinstance(exc, KeyboardInterrupt) and fate == "gone":
            exc.add_note(f"{self.plan.title} was not deployed; nothing of it is left, and what served before serves on.")
        if fate == "live":
            return isinstance(exc, AdminRefused | AdminUnreachable)
        if fate == "another's":
            exc.add_note(f"{self.plan.title} was deployed by somebody else meanwhile; the replicas are left to them.")
            return False
        if fate == "unknown":
            exc.add_note(f"{self.plan.title} could not be taken out of the catalog; a later deploy of it replaces it.")
            if may_be_live:
                exc.add_note("It may be current, so its replicas run on. See `get_current_model_version`.")
                return False
        models = {self.plan.name: [self.plan.version]}
        try:
            self.manager.stop_models(models, wait=not isinstance(exc, KeyboardInterrupt))
            if fate == "gone":
                self.manager.forget_models(models)
        except ClipperException as left:
            exc.add_note(f"Its replicas could not be stopped: {left}")
        return False

    def _discard(self, staged: Staged) -> str:
        """Delete the staged record. Returns: gone, live (it was activated), another's, or unknown."""
        try:
            self.admin.discard(staged)
        except AdminRefused as exc:
            if exc.status != HTTP_CONFLICT:
                return "unknown" if exc.status >= 500 else "gone"  # HTTP: 5xx are the server's troubles
        except AdminUnreachable:
            return "unknown"
        else:
            return "gone"
        try:
            record = self._record()
        except ClipperException:
            return "unknown"
        return "live" if record is not None and record["uid"] == staged.uid else "another's"

    def _record(self) -> Mapping[str, Any] | None:  # Any: JSON of a version's record
        versions: Sequence[Mapping[str, Any]] = self.admin.catalog()["versions"]
        wanted = (self.plan.name, self.plan.version)
        return next((one for one in versions if (one["name"], one["version"]) == wanted), None)


def _short(output: Any) -> str:  # noqa: ANN401  # JSON
    text = json.dumps(output)
    return text if len(text) <= MAX_OUTPUT else f"{text[: MAX_OUTPUT - 1]}…"


def withdraw_unused(manager: ContainerManager, admin: AdminClient, image: str) -> None:
    """Remove what was published for a deploy that failed, unless a version runs from it: an older one of the same
    function, or the very one, if only its answer was lost. Where that is not known it stays; it harms nobody."""
    with contextlib.suppress(ClipperException):
        in_use = admin.images()
        if in_use is not None and image not in in_use:
            manager.withdraw_bundle(image)


def _in_background(work: Callable[[], list[Probe]]) -> Future[list[Probe]]:
    """Do `work` in a thread. One that is waited for no longer ends with its call, which has a deadline."""
    future: Future[list[Probe]] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as exc:  # noqa: BLE001  # whoever waits for the result gets it
            future.set_exception(exc)

    threading.Thread(target=run, name="clipper-probe", daemon=True).start()
    return future
