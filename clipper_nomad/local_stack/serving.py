"""Answers the requests of control.py. supervisor.py makes it; everything that takes time is answered by a callback."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable

from clipper_nomad.local_stack.control import (
    AskFailure,
    Attach,
    Deploy,
    Detach,
    Done,
    Forget,
    Keep,
    Refused,
    Reply,
    Request,
    Scale,
    StackStatus,
    Status,
    Stop,
    StopModels,
)
from clipper_nomad.local_stack.environment_layout import is_ready
from clipper_nomad.local_stack.event_loop import EventLoop
from clipper_nomad.local_stack.exits import ExitWatch
from clipper_nomad.local_stack.kept import WantedVersion
from clipper_nomad.local_stack.owners import Owners
from clipper_nomad.local_stack.parts import StackSettings
from clipper_nomad.local_stack.stack import AT_ONCE, GRACEFUL, QUICK, Patience, Stack
from clipper_nomad.protocol.names import deployed_problem

Answer = Callable[[Reply], None]

_DIGEST = re.compile(r"sha256-[0-9a-f]{64}\Z")


class Serving:
    """Knows whether the stack is "starting", "up" or "stopping", and whom to answer when that changes.

    `stop` begins to stop the stack. `keep`: it runs on without owners.
    """

    def __init__(
        self,
        settings: StackSettings,
        *,
        loop: EventLoop,
        stack: Stack,
        pid: int,
        addresses: tuple[str, str],
        rpc_addr: str | None,
        note: str | None,
        stop: Callable[[Patience], None],
    ) -> None:
        self.state = "starting"
        self.keep = settings.keep
        self.owners = Owners(loop, self._last_owner_gone)
        self._settings = settings
        self._loop = loop
        self._stack = stack
        self._pid = pid
        self._addresses = addresses
        self._rpc_addr = rpc_addr
        self._note = note
        self._stop = stop
        self._started = loop.now()
        self.owes_reason = False  # it never came up, and nobody was told why
        self._stopping = Refused(kind="stopping", message=f"The local stack of cluster {settings.cluster!r} is stopping.")
        self._refusal: Refused | None = None
        self._waiting: list[Answer] = []

    @property
    def age_s(self) -> float:
        """How long ago the start began."""
        return self._loop.now() - self._started

    def is_up(self) -> None:
        """Answer those who wait for the start."""
        self.state = "up"
        self._answer_waiting(self._status())

    def is_stopping(self, refusal: Refused | None) -> None:
        """Refuse from now on. `refusal`: why it never came up."""
        self.state = "stopping"
        self.owes_reason = refusal is not None and not self._waiting
        self._refusal = refusal or self._stopping
        self._answer_waiting(self._refusal)
        if not self.owes_reason:
            self._refusal = self._stopping

    def handle(self, request: Request, answer: Answer) -> None:
        """Answer one request, now or later."""
        match request:
            case Status():
                answer(self._status())
            case Detach(pid=pid):
                answer(Done())
                self.owners.remove(pid)
            case Stop(graceful=graceful, purge=purge):
                if purge:
                    self._stack.replicas.forget()
                answer(Done())
                self._stop(GRACEFUL if graceful else AT_ONCE)
            case _ if self._refusal is not None:
                answer(self._refusal)
                self.owes_reason, self._refusal = False, self._stopping  # once: a later start is another one
            case Attach():
                self._attach(request, answer)
            case Keep():
                self._keep()
                answer(Done())
            case Forget(models=models):
                self._stack.replicas.forget_versions(models)
                answer(Done())
            case AskFailure(name=name, version=version):
                answer(self._stack.replicas.failure(name, version))
            case Deploy() | Scale() | StopModels():
                self._change_replicas(request, answer)

    def _attach(self, attach: Attach, answer: Answer) -> None:
        refusal = self._why_not(attach)
        if refusal is not None:
            answer(refusal)
            return
        try:
            self.owners.add(ExitWatch(attach.pid))
        except ProcessLookupError:
            answer(Refused(kind="request", message=f"Process {attach.pid} cannot own the local stack: it is gone."))
            return
        if attach.keep:
            self._keep()
        self._stack.revive()
        if self.state == "up":
            answer(self._status())
        else:
            self._waiting.append(answer)

    def _why_not(self, attach: Attach) -> Refused | None:
        cluster, ours, theirs = self._settings.cluster, self._settings.toolkit, attach.toolkit
        if ours != theirs:
            return Refused(
                kind="version",
                message=f"The local stack of cluster {cluster!r} runs clipper-nomad {ours}; this is {theirs}.",
                hint=f"Stop it with the version that started it ({sys.executable}), or use another cluster_name.",
            )
        running = self._addresses[0]
        if attach.port and running.rpartition(":")[2] != str(attach.port):
            return Refused(
                kind="port",
                message=f"The local stack of cluster {cluster!r} runs at {running}; port {attach.port} was asked for.",
                hint="Leave the port out to use what runs, stop it first, or use another cluster_name.",
            )
        count = self._settings.frontends
        if attach.frontends not in {None, count}:
            return Refused(
                kind="frontends",
                message=f"The local stack of cluster {cluster!r} runs with {count} query frontend{'s' * (count > 1)}; "
                f"{attach.frontends} were asked for.",
                hint="Leave the number out to use what runs, or stop it first and start it anew: what is kept comes back.",
            )
        if attach.cache_size not in {None, self._settings.cache_size or 0}:
            return Refused(
                kind="cache",
                message=f"The local stack of cluster {cluster!r} runs with a prediction cache of "
                f"{self._settings.cache_size or 0} bytes; {attach.cache_size} were asked for.",
                hint="Leave the size out to use what runs, or stop it first and start it anew: what is kept comes back.",
            )
        return None

    def _keep(self) -> None:
        self.keep = True
        self._stack.replicas.keep()

    def _change_replicas(self, request: Deploy | Scale | StopModels, answer: Answer) -> None:
        replicas = self._stack.replicas
        match request:
            case Scale(count=count) | Deploy(count=count) if count < 0:
                answer(Refused(kind="request", message=f"{count} replicas were asked for; 0 or more can run."))
            case StopModels(models=models):
                replicas.stop_versions(models, lambda: answer(Done()))
            case Scale(name=name, version=version, count=count):
                if not replicas.scale(name, version, count, lambda: answer(Done())):
                    answer(
                        Refused(
                            kind="request",
                            message=f"Model {name}:{version} was never deployed on this machine.",
                            hint="Deploy it first.",
                        )
                    )
            case Deploy(name=name, version=version, digest=digest):
                problem = deployed_problem("model name", name) or deployed_problem("model version", version)
                known = _DIGEST.match(digest) and (self._settings.place.bundles / digest).is_dir()
                if problem is None and not known:
                    problem = f"Bundle {digest} of model {name}:{version} is not on this machine; publish it first."
                environment = request.environment
                if problem is None and environment and not is_ready(self._settings.place.environments, environment):
                    problem = (
                        f"{environment}, in which {name}:{version} is to run, is not on this machine; publish it first."
                    )
                if problem is not None:  # names become file names here: never without this check
                    answer(Refused(kind="request", message=problem))
                    return
                wanted = WantedVersion(
                    name=name,
                    version=version,
                    uid=request.uid,
                    input_type=request.input_type,
                    digest=digest,
                    count=request.count,
                    env=request.env,
                    environment=environment,
                )
                replicas.want(wanted, lambda: None)
                answer(Done())

    def _last_owner_gone(self) -> None:
        if not self.keep:
            self._stop(QUICK)

    def _answer_waiting(self, reply: Reply) -> None:
        waiting, self._waiting = self._waiting, []
        for answer in waiting:
            answer(reply)

    def _status(self) -> StackStatus:
        query_addr, admin_addr = self._addresses
        return StackStatus(
            cluster=self._settings.cluster,
            toolkit=self._settings.toolkit,
            state=self.state,
            pid=self._pid,
            age_s=self.age_s,
            query_addr=query_addr,
            admin_addr=admin_addr,
            data=self._settings.data,
            python=sys.executable,
            keep=self.keep,
            note=self._note,
            owners=self.owners.pids,
            parts=self._stack.part_statuses(),
            versions=self._stack.replicas.versions(),
            rpc_addr=self._rpc_addr,
        )
