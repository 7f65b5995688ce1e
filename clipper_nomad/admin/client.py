"""The client of the admin service: synchronous, with a deadline on every call. The library calls it, nothing else does.

A call that cannot reach the service, or meets a store that is away, is repeated until PATIENCE_S is over: it carries an
X-Request-Id, so the service does a write once however often it is asked. What `requests` raises ends here.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any
from urllib.parse import urlencode

import requests

from clipper_nomad.errors import AdminRefused, AdminUnreachable
from clipper_nomad.http_sessions import HttpSessions
from clipper_nomad.state.records import ADAPTIVE_BATCH_SIZE

CONNECT_WITHIN_S = 3.0
ANSWER_WITHIN_S = 20.0  # what a proxy lets through; a write takes 2.5 s when a frontend does not answer
PATIENCE_S = 10.0  # the admin service or the store is back within seconds when it was restarted
RETRY_EVERY_S = 0.2

log = logging.getLogger(__name__)

Json = Any  # the callers know the form; it is in docs/behaviour.md, "JSON"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewVersion:
    """A version to register. `image` None: without a container. `sample`: one input as JSON text. `legacy`: containers of
    Clipper's RPC version 3 may serve it.
    """

    name: str
    version: str
    input_type: str
    image: str | None = None
    labels: Sequence[str] = ()
    batch_size: int = ADAPTIVE_BATCH_SIZE
    replicas: int = 1
    retry: bool = True
    sample: str | None = None
    public_key: str = ""
    legacy: bool = False
    staged: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Staged:
    """A registered version: `uid` tells it from any other registration of the same name and version."""

    name: str
    version: str
    uid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What one query frontend answered to a probe. `kind`: why there is no output, "" if there is one.

    Kinds: no_replica, unknown_version, unreachable, busy (pass by themselves) · raised, wrong_count, wrong_type, died,
    timeout (the model's) · refused (the input's).
    """

    frontend: str
    kind: str
    cause: str
    output: Json = None
    exec_micros: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Frontends:
    """Who is there: how many frontends live, and the reports of those that answered the roll call."""

    live: int
    reports: tuple[Mapping[str, Json], ...]


class AdminClient:
    """Calls the admin service at `address()` ("host:port") with `token()`; both are asked anew for each call.

    Every method raises AdminRefused, with Clipper's text, when the service says no, and AdminUnreachable.
    """

    def __init__(self, address: Callable[[], str], token: Callable[[], str], *, patience_s: float = PATIENCE_S) -> None:
        self._address = address
        self._token = token
        self._patience_s = patience_s
        self._sessions = HttpSessions()

    def ping(self, *, within_s: float = CONNECT_WITHIN_S) -> None:
        """Return when the service answers, once."""
        self._once("GET", "/admin/ping", None, {}, within_s)

    def is_ready(self, *, within_s: float = CONNECT_WITHIN_S) -> bool:
        """Return whether the service answers and has reached its store."""
        try:
            self._once("GET", "/health", None, {}, within_s)
        except (AdminRefused, AdminUnreachable):
            return False
        return True

    def call(self, call: str, /, **body: Json) -> str:
        """Do one of Clipper's writes and return its text: `call("delete_app", name="digits")`."""
        return self._ask("POST", f"/admin/{call}", body).text

    def get(self, call: str, /, **body: Json) -> Json:
        """Ask one of Clipper's questions and return its JSON: `get("get_all_applications", verbose=True)`."""
        return json_of(self._ask("POST", f"/admin/{call}", body))

    def add_app(
        self,
        name: str,
        *,
        input_type: str,
        default_output: str,
        slo_micros: int,
        slo_policy: str | None = None,
        timeout_micros: int | None = None,
    ) -> None:
        """Register an app."""
        body = {
            "name": name,
            "input_type": input_type,
            "default_output": default_output,
            "latency_slo_micros": slo_micros,
            "slo_policy": slo_policy,
            "timeout_micros": timeout_micros,
        }
        self._ask("POST", "/admin/v1/apps", body)

    def add_version(self, new: NewVersion) -> Staged:
        """Register a version; it becomes current unless it is staged."""
        body = {
            "model_name": new.name,
            "model_version": new.version,
            "input_type": new.input_type,
            "container_name": new.image,
            "labels": new.labels,  # as it is: one text is refused there, not taken for its letters
            "batch_size": new.batch_size,
            "replicas": new.replicas,
            "retry": new.retry,
            "sample": new.sample,
            "public_key": new.public_key,
            "legacy": new.legacy,
            "staged": new.staged,
        }
        said = json_of(self._ask("POST", "/admin/v1/versions", body))
        return Staged(name=new.name, version=new.version, uid=said["uid"])

    def activate(self, staged: Staged) -> None:
        """Make a staged version current."""
        self._ask("POST", "/admin/v1/versions/activate", _named(staged))

    def discard(self, staged: Staged) -> None:
        """Delete a staged version. Raises: AdminRefused: with status 409 if it was activated, or registered anew."""
        self._ask("POST", "/admin/v1/versions/delete", {**_named(staged), "only_staged": True})

    def catalog(self) -> Mapping[str, Json]:
        """Return the whole catalog: store_id, revision, apps, models, versions (staged ones too)."""
        found: Mapping[str, Json] = json_of(self._ask("GET", "/admin/v1/catalog", None))
        return found

    def images(self) -> frozenset[str] | None:
        """Return what all versions run from, staged ones too; None: the store is away, and it may have others."""
        answer = self._ask("GET", "/admin/v1/catalog", None)
        if "X-Clipper-Stale" in answer.headers:
            return None
        return frozenset(version["image"] for version in json_of(answer)["versions"])

    def frontends(self) -> Frontends:
        """Return the reports of all query frontends."""
        said = json_of(self._ask("GET", "/admin/v1/frontends", None))
        return Frontends(live=said["live"], reports=tuple(said["frontends"]))

    def feedback(self, app: str | None, *, most: int) -> list[dict[str, Json]]:
        """Return the newest feedback first, of one app or of all."""
        query = urlencode({"most": most} | ({} if app is None else {"app": app}))
        found: list[dict[str, Json]] = json_of(self._ask("GET", f"/admin/v1/feedback?{query}", None))["feedback"]
        return found

    def probe(self, staged: Staged, input_: Json, *, within_s: int) -> list[Probe]:
        """Send one input through every live frontend to a replica of the version, and say how each went."""
        body = {**_named(staged), "input": input_, "timeout_s": within_s}
        said = json_of(self._ask("POST", "/admin/v1/probe", body, answer_within_s=within_s + ANSWER_WITHIN_S))
        return [
            Probe(
                frontend=str(one.get("frontend")),
                kind=_probe_kind(one["status"], str(one.get("kind", "refused"))),
                cause=str(one.get("cause", "")),
                output=one.get("output"),
                exec_micros=int(one.get("exec_micros", 0)),
            )
            for one in said["probes"]
        ]

    def _ask(self, method: str, path: str, body: Json, *, answer_within_s: float = ANSWER_WITHIN_S) -> requests.Response:
        """Return the answer, of a later try if need be. `body`: JSON, or bytes as they are."""
        headers = {"X-Request-Id": secrets.token_hex(16)}
        deadline = time.monotonic() + self._patience_s
        while True:
            try:
                return self._once(method, path, body, headers, answer_within_s)
            except (AdminUnreachable, _AwayForNow) as exc:
                pause_s = exc.retry_after_s if isinstance(exc, _AwayForNow) else RETRY_EVERY_S
                if time.monotonic() + pause_s > deadline:
                    raise
            time.sleep(pause_s)

    def _once(
        self, method: str, path: str, body: Json, headers: Mapping[str, str], answer_within_s: float
    ) -> requests.Response:
        address = self._address()
        # as a file bytes are sent block by block: sent at once, all of them would have to go within CONNECT_WITHIN_S
        given: dict[str, Any] = {"data": BytesIO(body)} if isinstance(body, bytes) else {"json": body}
        kind = {"Content-Type": "application/octet-stream"} if isinstance(body, bytes) else {}
        try:
            answer = self._sessions.current().request(
                method,
                f"http://{address}{path}",
                **given,
                headers={**headers, **kind, "Authorization": f"Bearer {self._token()}"},
                timeout=(CONNECT_WITHIN_S, answer_within_s),
                allow_redirects=False,
            )
        except requests.RequestException as exc:
            raise AdminUnreachable(
                f"The admin service at {address} did not answer {method} {path}: {exc}",
                hint="See that the cluster runs, and whether its admin service can be reached from here.",
            ) from exc
        if answer.status_code == requests.codes.ok:
            _warn_of_doubts(answer, path)
            return answer
        after = answer.headers.get("Retry-After", "")
        if answer.status_code == requests.codes.service_unavailable and after.isdecimal():
            raise _AwayForNow(answer.status_code, _cause(answer), retry_after_s=int(after))
        raise AdminRefused(answer.status_code, _cause(answer))


class _AwayForNow(AdminRefused):
    """The service asks to come again in `retry_after_s`."""

    def __init__(self, status: int, body: str, *, retry_after_s: float) -> None:
        super().__init__(status, body)
        self.retry_after_s = retry_after_s


def _warn_of_doubts(answer: requests.Response, path: str) -> None:
    if behind := answer.headers.get("X-Clipper-Behind"):
        log.warning("%s is done, and these query frontends do not serve it yet: %s", path, behind)
    if stale_s := answer.headers.get("X-Clipper-Stale"):
        log.warning("the store is away: the answer to %s is %s s old", path, stale_s)


def _named(staged: Staged) -> dict[str, Json]:
    return {"model_name": staged.name, "model_version": staged.version, "uid": staged.uid}


def _probe_kind(status: int, kind: str) -> str:
    if status == requests.codes.ok:
        return ""
    return "busy" if kind == "refused" and status == requests.codes.too_many_requests else kind


def json_of(answer: requests.Response) -> Json:
    """Return the JSON of an answer. Raises: AdminRefused: it is none."""
    try:
        return answer.json()
    except requests.JSONDecodeError as exc:
        raise AdminRefused(answer.status_code, f"no JSON: {answer.text[:200]}") from exc


def _cause(answer: requests.Response) -> str:
    """Return the text of an error: Clipper's is plain, ours is the cause in a JSON object."""
    try:
        said = answer.json()
    except requests.JSONDecodeError:
        return answer.text
    return str(said["cause"]) if isinstance(said, dict) and "cause" in said else answer.text
