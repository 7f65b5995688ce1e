"""Asking an app for a prediction over HTTP, as any client would. Knows no admin service."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import requests

from clipper_nomad.connection.inputs import one_input
from clipper_nomad.errors import ClipperException, PredictionFailed
from clipper_nomad.http_sessions import HttpSessions

CONNECT_WITHIN_S = 3.0
ANSWER_WITHIN_S = 75.0  # the longest timeout that an app gets by itself is 60 s


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """An app's answer to one query.

    `output`: JSON. `default`: it is the app's default output, and `default_explanation` says why. `late`: it came after
    the SLO. `model` ("name:version") and `replica`: who answered, None for a default output. `cached`: it was answered
    before, and no replica is named. `latency_ms`: as seen here.
    """

    output: Any
    query_id: int
    default: bool
    default_explanation: str | None
    late: bool
    model: str | None
    replica: str | None
    request_id: str
    latency_ms: float
    cached: bool = False


class PredictClient:
    """Posts queries. It may be used by several threads, and after a fork."""

    def __init__(self) -> None:
        self._sessions = HttpSessions()

    def predict(self, url: str, value: object, *, version: str | None, timeout_s: float | None) -> Prediction:
        """Return the answer to one input. `timeout_s`: how long this waits, whatever the app's own timeout is.

        Raises: ClipperException: `value` is no input. PredictionFailed: no answer; the cause is the server's.
        """
        body: dict[str, object] = {"input": one_input(value)}
        if version is not None:
            body["version"] = version
        request_id = secrets.token_hex(8)
        started = time.monotonic()
        answer = self._post(url, body, request_id, ANSWER_WITHIN_S if timeout_s is None else timeout_s)
        latency_ms = (time.monotonic() - started) * 1000
        said = object_in(answer)
        if answer.status_code != requests.codes.ok or "query_id" not in said:
            raise _failed(url, answer, said, request_id)
        return Prediction(
            output=said["output"],
            query_id=said["query_id"],
            default=said["default"],
            default_explanation=said.get("default_explanation"),
            late=said.get("late", False),
            model=answer.headers.get("X-Clipper-Model"),
            replica=answer.headers.get("X-Clipper-Replica"),
            request_id=answer.headers.get("X-Request-Id", request_id),
            latency_ms=latency_ms,
            cached=answer.headers.get("X-Clipper-Cache") == "hit",
        )

    def is_up(self, base_url: str, *, within_s: float) -> bool:
        """Return whether a query frontend answers at `base_url` and has a catalog."""
        try:
            return self._sessions.current().get(f"{base_url}/health/ready", timeout=within_s).ok
        except requests.RequestException:
            return False

    def metrics(self, address: str) -> dict[str, Any]:  # Any: JSON
        """Return Clipper's JSON of the metrics at `address`. Raises: ClipperException: it does not answer, or not so."""
        try:
            answer = self._sessions.current().get(
                f"http://{address}/metrics", headers={"Accept": "application/json"}, timeout=CONNECT_WITHIN_S
            )
        except requests.RequestException as exc:
            raise ClipperException(
                f"No query frontend answered at {address}: {exc}", hint="See that the cluster runs."
            ) from exc
        if answer.status_code != requests.codes.ok:
            raise ClipperException(f"Received error status code: {answer.status_code} and message: {answer.text}")
        return dict(object_in(answer))

    def _post(self, url: str, body: object, request_id: str, within_s: float) -> requests.Response:
        try:
            return self._sessions.current().post(
                url,
                json=body,
                headers={"X-Request-Id": request_id},
                timeout=(min(CONNECT_WITHIN_S, within_s), within_s),
                allow_redirects=False,
            )
        except requests.Timeout as exc:
            raise PredictionFailed(
                f"No answer from {url} within {within_s:g} s (timeout_s).",
                status=None,
                cause="timeout",
                request_id=request_id,
                hint="Give predict a longer timeout_s, or the model more replicas.",
            ) from exc
        except requests.RequestException as exc:
            raise PredictionFailed(
                f"No query frontend answered at {url}: {exc}",
                status=None,
                cause=str(exc),
                request_id=request_id,
                hint="See that the cluster runs.",
            ) from exc


def object_in(answer: requests.Response) -> Mapping[str, Any]:  # Any: JSON
    """Return the JSON object in an answer, an empty one if there is none."""
    try:
        said = answer.json()
    except requests.JSONDecodeError:
        return {}
    return said if isinstance(said, dict) else {}


def _failed(url: str, answer: requests.Response, said: Mapping[str, Any], request_id: str) -> PredictionFailed:
    cause = str(said.get("cause") or answer.text[:500] or answer.reason)
    return PredictionFailed(
        f"No prediction from {url}: {answer.status_code} {said.get('error') or answer.reason}: {cause}",
        status=answer.status_code,
        cause=cause,
        request_id=answer.headers.get("X-Request-Id", request_id),
    )
