"""Nomad's HTTP API as the rest of clipper_nomad.cluster uses it: one thin layer over python-nomad, the only file with it.

What the library leaves open is closed here: TLS is verified, every part of a path is quoted, namespace and region go with
each call, each call has a deadline, errors are the project's own and hold no secret. What Nomad answers is passed on as its
own JSON (`Json`). No decisions: those are in policy.py and explain.py. One object may be used by many threads.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any
from urllib.parse import quote, urlsplit

import nomad
import requests
from nomad.api.exceptions import BaseNomadException, TimeoutNomadException, VariableConflict

from clipper_nomad.cluster.endpoints import Endpoint, nomad_endpoint
from clipper_nomad.cluster.http_calls import OnePerThread, session_for, shortly, where_to_look
from clipper_nomad.cluster.rollout.parsed_job import Json, changed_strings
from clipper_nomad.errors import JobspecError, NomadConflict, NomadRefused, NomadUnreachable

CALL_TIMEOUT_S = 10.0  # an answer takes milliseconds; a server that elects a leader takes a few seconds
WAIT_S = 30.0  # of a blocking query; the API's own default is five minutes
ACTIVE_DEPLOYMENT = frozenset({"initializing", "running", "paused", "blocked", "unblocking", "pending"})
_CONFLICT_TEXT = "Enforcing job modify index"  # HTTP 500: told by nothing but its text (Nomad 1.11, job_endpoint.go)
_NOT_NOMAD = "See what listens at that address; NOMAD_ADDR names Nomad's HTTP port, 4646 by default."
# HTTP 500, told by nothing but their text (Nomad 1.11): of a task's log, and of a token that has ended
_DENIED_TEXTS = ("Permission denied", "ACL token expired")
_LONGEST_BODY = 2000  # characters of an answer that an error repeats


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """What Nomad answered to a registration."""

    eval_id: str
    job_modify_index: int
    warnings: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """The answer of a blocking query and the index to wait for next; 0 when the server's index went back."""

    body: Any  # a Json object, or a list of them
    index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """A Nomad Variable. Its items are secrets and never shown."""

    path: str
    items: Mapping[str, str] = field(repr=False)
    modify_index: int


class NomadApi:
    """A Nomad server or agent. Every method raises NomadUnreachable, and NomadRefused unless it says otherwise."""

    def __init__(self, endpoint: Endpoint | None = None) -> None:
        self.endpoint = endpoint or nomad_endpoint(os.environ)
        self._clients = OnePerThread(self._make_client)

    def _make_client(self) -> nomad.Nomad:
        endpoint = self.endpoint
        return nomad.Nomad(
            address=endpoint.url,
            token=endpoint.token,
            region=endpoint.region,
            namespace=endpoint.namespace,
            timeout=CALL_TIMEOUT_S,
            verify=endpoint.verify,
            cert=endpoint.client_cert or (),
            session=session_for(endpoint),
        )

    # --- jobs ---

    def parse(self, hcl: str, *, whole: Collection[str] = (), within: Collection[str] = ()) -> Json:
        """Return the job that `hcl` is, with Nomad's defaults filled in.

        `whole`: strings that were put in and must be values (or keys) of the parsed job, unchanged; `within`: those that
        were put into longer texts. Raises: JobspecError: Nomad cannot read it, or one of the strings was changed."""
        try:
            job: Json = self._json("jobs", "parse", method="post", json={"JobHCL": hcl, "Canonicalize": True})
        except NomadRefused as exc:
            if exc.status != 400:
                raise
            raise JobspecError(
                f"Nomad cannot read the jobspec: {exc.body.removeprefix('Failed to parse job: ')}",
                hint="Lines and columns are those of the rendered jobspec: `clipper-nomad render` prints it.",
            ) from exc
        if changed := changed_strings(job, whole=whole, within=within):
            raise JobspecError(
                f"Nomad read the jobspec differently than it was meant: {', '.join(map(repr, changed))} did not come out"
                " unchanged. Nothing was registered.",
                hint="Remove quotes, line ends, backslashes and dollar or percent braces from that value.",
            )
        return job

    def plan(self, job: Json) -> Json:
        """Return what registering `job` would do: Diff, Annotations, FailedTGAllocs, JobModifyIndex, Warnings."""
        answer: Json = self._json("job", job["ID"], "plan", method="post", json={"Job": job, "Diff": True})
        return answer

    def register(self, job: Json, *, modify_index: int, source: str | None = None) -> Registered:
        """Register a job. A count that was scaled meanwhile is kept.

        `modify_index`: JobModifyIndex of the job that this one replaces, 0 for a new one. `source`: the HCL, for Nomad's UI.
        Raises: NomadConflict: somebody else registered the job since."""
        body: Json = {"Job": job, "EnforceIndex": True, "JobModifyIndex": modify_index, "PreserveCounts": True}
        if source is not None:
            body["Submission"] = {"Source": source, "Format": "hcl2"}
        try:
            answer: Json = self._json("jobs", method="post", json=body)
        except NomadRefused as exc:
            if _CONFLICT_TEXT not in exc.body:
                raise
            raise NomadConflict(
                f"Job {job['ID']!r} was changed by somebody else since it was read: {exc.body}",
                status=exc.status,
                body=exc.body,
                hint="Look at what they changed (`nomad job history`), then do it again.",
            ) from exc
        return Registered(
            eval_id=answer["EvalID"], job_modify_index=answer["JobModifyIndex"], warnings=answer.get("Warnings") or ""
        )

    def revert(self, job_id: str, *, version: int, from_version: int) -> str:
        """Make an older version of a job the newest again and return the evaluation's id. Refused unless the job is at
        `from_version`."""
        body = {"JobID": job_id, "JobVersion": version, "EnforcePriorVersion": from_version}
        return str(self._json("job", job_id, "revert", method="post", json=body)["EvalID"])

    def deregister(self, job_id: str, *, purge: bool = False) -> str:
        """Stop a job, and with `purge` forget it; return the evaluation's id, "" if there was none to make."""
        answer = self._json("job", job_id, method="delete", params={"purge": str(purge).lower()})
        return str(answer.get("EvalID") or "")

    def job(self, job_id: str) -> Json | None:
        """Return a job, also a stopped one; None if there is none."""
        return self._found("job", job_id)

    def source(self, job_id: str, *, version: int) -> str | None:
        """Return the jobspec that a version of a job was registered from, as it was written; None: Nomad has none."""
        found = self._found("job", job_id, "submission", params={"version": version})
        return None if found is None else str(found.get("Source") or "") or None

    def jobs(self, meta: Mapping[str, str] | None = None) -> list[Json]:
        """Return the stubs (with Meta) of all jobs whose meta holds these entries, stopped ones too."""
        wanted = dict(meta or {})
        stubs: list[Json] = self._json("jobs", params={"meta": "true"})
        return [stub for stub in stubs if wanted.items() <= (stub.get("Meta") or {}).items()]

    def scale(self, job_id: str, *, group: str, count: int, message: str, deadline_s: float) -> str:
        """Set a group's count and return the evaluation's id. Nomad refuses while a deployment runs: waits for its end.
        Raises: NomadRefused: also when the deployment goes on for `deadline_s`, or the count is above `scaling.max`."""
        deadline = time.monotonic() + deadline_s
        body = {"Target": {"Group": group}, "Count": count, "Message": message}
        while True:
            try:
                return str(self._json("job", job_id, "scale", method="post", json=body).get("EvalID") or "")
            except NomadRefused as exc:
                active = [each for each in self.deployments(job_id) if each["Status"] in ACTIVE_DEPLOYMENT]
                left = deadline - time.monotonic()
                if exc.status != 400 or not active:
                    raise
                if left <= 0:
                    raise NomadRefused(
                        f"Gave up scaling job {job_id!r} to {count} after {deadline_s:g} s: its deployment"
                        f" {active[0]['ID'][:8]} still goes on.",
                        status=exc.status,
                        body=exc.body,
                        hint=f"`nomad deployment status {active[0]['ID'][:8]}` says what it waits for.",
                    ) from exc
                seen = self.watch_deployment(active[0]["ID"], index=active[0]["ModifyIndex"], wait_s=min(left, WAIT_S))
                del seen  # only its end was waited for; whether it ended is asked again above

    # --- what became of a job ---

    def evaluation(self, eval_id: str) -> Json:
        """Return an evaluation."""
        found: Json = self._json("evaluation", eval_id)
        return found

    def evaluations(self, job_id: str) -> list[Json]:
        """Return a job's evaluations; a blocked one holds FailedTGAllocs."""
        return list(self._json("job", job_id, "evaluations") or ())

    def deployments(self, job_id: str) -> list[Json]:
        """Return a job's deployments, those of all its versions."""
        return list(self._json("job", job_id, "deployments", params={"all": "true"}) or ())

    def promote(self, deployment_id: str) -> None:
        """Promote all canaries of a deployment."""
        self._json("deployment", "promote", deployment_id, method="post", json={"DeploymentID": deployment_id, "All": True})

    def allocations(self, job_id: str) -> list[Json]:
        """Return the stubs of a job's allocations with their task states, those of its former versions too."""
        return list(self._json("job", job_id, "allocations", params={"all": "true"}) or ())

    def allocation(self, alloc_id: str) -> Json:
        """Return an allocation whole, with its resources."""
        found: Json = self._json("allocation", alloc_id)
        return found

    def watch_evaluation(self, eval_id: str, *, index: int, wait_s: float = WAIT_S) -> Seen:
        """Return an evaluation once it changes after `index`, or after `wait_s`. Index 0 returns at once."""
        return self._watch("evaluation", eval_id, index=index, wait_s=wait_s)

    def watch_deployment(self, deployment_id: str, *, index: int, wait_s: float = WAIT_S) -> Seen:
        """Return a deployment once it changes after `index`, or after `wait_s`."""
        return self._watch("deployment", deployment_id, index=index, wait_s=wait_s)

    def watch_allocations(self, job_id: str, *, index: int, wait_s: float = WAIT_S) -> Seen:
        """Return what `allocations` does, once one of them changes after `index`, or after `wait_s`."""
        return self._watch("job", job_id, "allocations", index=index, wait_s=wait_s, params={"all": "true"})

    def log_tail(self, alloc_id: str, *, task: str, stream: str = "stderr", last_bytes: int = 4000) -> str:
        """Return the end of a task's log; "" when it has none, or its client cannot be asked any more.
        Raises: NomadRefused: this token may not read logs."""
        params = {"task": task, "type": stream, "plain": "true", "origin": "end", "offset": last_bytes}
        try:
            answer = self._call("logs", alloc_id, params=params)
        except NomadRefused as exc:
            if _is_denied(exc.status, exc.body):
                raise
            return ""  # 404: not started, 500: the client is gone; a missing log must not hide the cause
        return answer.content.decode("utf-8", "replace")

    def file_text(self, alloc_id: str, path: str) -> str | None:
        """Return a file of an allocation, as `task/local/name`; None: it is not there, or its client cannot be asked now.
        Secrets cannot be read so. Raises: NomadRefused: this token may not read files."""
        try:
            self._call("stat", alloc_id, params={"path": path})  # `cat` answers 200 whatever comes, an error as the text
            answer = self._call("cat", alloc_id, params={"path": path})
        except NomadRefused as exc:
            if _is_denied(exc.status, exc.body):
                raise
            return None
        return answer.content.decode("utf-8", "replace")

    # --- variables ---

    def variable(self, path: str) -> Variable | None:
        """Return a variable with its items, None if there is none."""
        found = self._found("var", path)
        if found is None:
            return None
        return Variable(path=found["Path"], items=found["Items"], modify_index=found["ModifyIndex"])

    def variable_paths(self, prefix: str) -> list[str]:
        """Return the paths of the variables that begin with `prefix`; with ACLs those that this token may list or read."""
        found: list[Json] = self._json("vars", params={"prefix": prefix})
        return [str(each["Path"]) for each in found]

    def put_variable(self, path: str, items: Mapping[str, str], *, cas: int | None = None) -> int:
        """Write a variable and return its new index. `cas`: only if its index is this one; 0: only if there is none.
        Raises: NomadConflict: it is at another index; says nothing of what is stored."""
        params = {} if cas is None else {"cas": cas}
        body = {"Path": path, "Items": dict(items)}
        return int(self._json("var", path, method="put", json=body, params=params)["ModifyIndex"])

    def delete_variable(self, path: str, *, cas: int | None = None) -> None:
        """Delete a variable; one that is not there is no error. Raises: NomadConflict: it is not at index `cas`."""
        self._call("var", path, method="delete", params={} if cas is None else {"cas": cas})

    # --- the cluster ---

    def agent(self) -> Json:
        """Return the agent's description of itself; config.Version.Version is Nomad's."""
        found: Json = self._json("agent", "self")
        return found

    def leader(self) -> str:
        """Return the leader's address, "" while there is none."""
        return str(self._json("leader") or "")

    def nodes(self) -> list[Json]:
        """Return the stubs of all clients, with NodeResources and ReservedResources."""
        return list(self._json("nodes", params={"resources": "true"}) or ())

    def node(self, node_id: str) -> Json:
        """Return a client whole, with its Attributes."""
        found: Json = self._json("node", node_id)
        return found

    def all_allocations(self) -> list[Json]:
        """Return the stubs of the allocations of all namespaces that this token may see, with AllocatedResources."""
        return list(self._json("allocations", params={"resources": "true", "task_states": "false", "namespace": "*"}) or ())

    # --- who asks ---

    def token(self) -> Json:
        """Return this token: Type ("client" or "management"), AccessorID, Policies, ExpirationTime, where it has one."""
        found: Json = self._json("acl", "token", "self")
        return found

    def policies(self) -> dict[str, Json]:
        """Return the rules of each policy that this token has, of its roles too, by the policy's name; of a management
        token all that there are. Shorthands are spelled out: `policy = "read"` is there as capabilities."""
        names = [str(each["Name"]) for each in self._json("acl", "policies") or ()]
        return {name: self._json("acl", "policy", name).get("RulesJSON") or {} for name in names}

    # --- calls ---

    def _watch(
        self, endpoint: str, *parts: str, index: int, wait_s: float, params: Mapping[str, object] | None = None
    ) -> Seen:
        wait_s = max(0.1, wait_s)  # 0 would mean the server's five minutes
        asked = {**(params or {}), "index": index, "wait": f"{int(wait_s * 1000)}ms"}
        # the server adds up to a sixteenth, so that not all waiters come back at once
        answer = self._call(endpoint, *parts, params=asked, timeout_s=wait_s * 17 / 16 + CALL_TIMEOUT_S)
        now_at = int(answer.headers.get("X-Nomad-Index") or 0)
        return Seen(body=self._decoded(answer), index=now_at if now_at >= index else 0)

    def _found(self, endpoint: str, *parts: str, **how: Any) -> Json | None:  # arguments of _call
        try:
            found: Json = self._json(endpoint, *parts, **how)
        except NomadRefused as exc:
            if exc.status != 404:
                raise
            return None
        return found

    def _json(self, endpoint: str, *parts: str, **how: Any) -> Any:  # noqa: ANN401  # arguments of _call; JSON of Nomad's
        return self._decoded(self._call(endpoint, *parts, **how))

    def _decoded(self, answer: requests.Response) -> Any:  # noqa: ANN401  # JSON of Nomad's
        try:
            return answer.json()
        except requests.JSONDecodeError as exc:
            raise NomadRefused(
                f"{self.endpoint.url} answered {answer.status_code} with something that is not JSON; expected Nomad's API.",
                status=answer.status_code,
                body=answer.text[:200],
                hint=_NOT_NOMAD,
            ) from exc

    def _call(
        self,
        endpoint: str,
        *parts: str,
        method: str = "get",
        params: Mapping[str, object] | None = None,
        json: Json | None = None,
        timeout_s: float = CALL_TIMEOUT_S,
    ) -> requests.Response:
        """Call one endpoint of python-nomad through the session, token and TLS of this thread's client."""
        # the library sends the namespace to some endpoints only
        namespace = {"namespace": self.endpoint.namespace} if self.endpoint.namespace else {}
        sender = _SENDERS.get(endpoint, attrgetter(endpoint))(self._clients.current())
        path = [_quoted(part, slashes=endpoint == "var") for part in parts]
        answer: requests.Response | None = None
        try:
            answer = sender.request(
                *path, method=method, params={**namespace, **(params or {})}, json=json, timeout=timeout_s
            )
        except VariableConflict:
            pass  # its text holds the stored items, so that it may not even be the context of ours, raised below
        except BaseNomadException as exc:
            if isinstance(exc.nomad_resp, requests.Response):
                raise self._refused(exc.nomad_resp) from exc
            raise self._unreachable(exc.nomad_resp) from exc
        except (TimeoutNomadException, OSError) as exc:  # requests' errors, and a CA or certificate that cannot be read
            raise self._unreachable(exc) from exc
        if answer is None:
            raise _variable_conflict(parts[0])
        if answer.is_redirect:
            raise self._refused(answer)
        return answer

    def _refused(self, answer: requests.Response) -> NomadRefused:
        body = answer.text.strip()[:_LONGEST_BODY]
        hint = None if body else _NOT_NOMAD  # whoever answers without a word
        said = f"answered {answer.status_code}"
        if _is_denied(answer.status_code, body):
            asked = answer.request
            said = f"does not allow {asked.method} {urlsplit(asked.url or '').path!s}: it answered {answer.status_code}"
            hint = (
                "NOMAD_TOKEN is unknown, expired, or its policy does not allow this; `nomad acl token self` shows it."
                if self.endpoint.token
                else "NOMAD_TOKEN is not set; this Nomad has ACLs."
            )
        return NomadRefused(
            f"Nomad at {self.endpoint.url} {said}: {_in_one_line(body)}",
            status=answer.status_code,
            body=body,
            hint=hint,
        )

    def _unreachable(self, cause: BaseException) -> NomadUnreachable:
        return NomadUnreachable(
            f"Nomad at {self.endpoint.url} did not answer: {shortly(cause)}.",
            hint=where_to_look(cause, "NOMAD"),
        )


# The library's object for an endpoint, where it is not called like it.
_SENDERS: Mapping[str, attrgetter[Any]] = {
    "var": attrgetter("variable"),
    "vars": attrgetter("variables"),
    "cat": attrgetter("client.cat"),
    "stat": attrgetter("client.stat"),
    "logs": attrgetter("client.stream_logs"),
    "leader": attrgetter("status.leader"),
}


def _is_denied(status: int, body: str) -> bool:
    return status in {401, 403} or (status == 500 and body.endswith(_DENIED_TEXTS))


def _variable_conflict(path: str) -> NomadConflict:
    return NomadConflict(
        f"Nomad variable {path!r} was changed by somebody else since it was read.",
        status=409,
        body="",
        hint="Read it again, then decide whether to write.",
    )


def _quoted(part: str, *, slashes: bool) -> str:
    """Return one part of a path. Only a variable's path has slashes.

    Quoting a slash does not help: Nomad decodes the path first, so that the job "a/plan" is the plan of "a"."""
    if not part or part in {".", ".."} or ("/" in part and not slashes):
        raise JobspecError(f"{part!r} cannot be the id of anything that clipper-nomad asks Nomad for.")
    return quote(part, safe="")


def _in_one_line(text: str) -> str:
    """Return an error list of Nomad, a line for each and a heading, as a sentence."""
    lines = [line.strip().removeprefix("* ") for line in text.splitlines()]
    return " ".join(line for line in lines if line and not line.endswith(("error occurred:", "errors occurred:")))
