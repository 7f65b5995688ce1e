"""One predict request over HTTP, as any client would make it, and what came back. predict, bench and demo use it."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from clipper_nomad.cli.load import Target
from clipper_nomad.errors import ClipperException

_CONNECT_WITHIN_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An answer: HTTP status, the JSON body (Any: it is the server's), header names in lower case."""

    status: int
    body: Any
    headers: Mapping[str, str]
    took_s: float

    @property
    def parts(self) -> Sequence[Mapping[str, Any]]:
        """The answers: one, or those of a batch."""
        if not isinstance(self.body, dict):
            return ()
        batch: Sequence[Mapping[str, Any]] = self.body.get("batch_predictions", [self.body])
        return batch

    @property
    def cause(self) -> str:
        """Why there is no answer, as the server says it."""
        if isinstance(self.body, dict) and "cause" in self.body:
            return str(self.body["cause"]).strip()
        return str(self.body)[:300]


def problem_with(reply: Reply) -> str | None:
    """Return why a reply holds no prediction, or None."""
    if reply.status != 200:
        return f"status {reply.status}, {reply.cause.rstrip('.')}"
    default = next((part for part in reply.parts if part.get("default")), None)
    return f"the default output came, because: {default.get('default_explanation')}" if default else None


def target_of(url: str) -> Target:
    """Return where `url` points."""
    parts = urlsplit(url)
    return Target(host=parts.hostname or "127.0.0.1", port=parts.port or 80, path=parts.path or "/")


def post_query(url: str, body: bytes, *, within_s: float) -> Reply:
    """Post a predict request's body and return the answer, whatever its status.

    Raises: ClipperException: nobody answers at `url`, or not within `within_s`.
    """
    target = target_of(url)
    connection = http.client.HTTPConnection(target.host, target.port, timeout=_CONNECT_WITHIN_S)
    try:
        connection.connect()
        connection.sock.settimeout(within_s)
        began = time.perf_counter()
        connection.request("POST", target.path, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        raw = response.read()
        took_s = time.perf_counter() - began
    except TimeoutError as exc:
        raise ClipperException(
            f"{url} did not answer within {within_s:g} s.", hint="See how the parts are: clipper-nomad status"
        ) from exc
    except (OSError, http.client.HTTPException) as exc:
        raise ClipperException(
            f"{url} cannot be reached: {exc}.", hint="See how the parts are: clipper-nomad status"
        ) from exc
    finally:
        connection.close()
    headers = {name.lower(): value for name, value in response.getheaders()}
    return Reply(status=response.status, body=_parsed(raw), headers=headers, took_s=took_s)


def _parsed(raw: bytes) -> Any:  # noqa: ANN401  # the server's JSON
    try:
        return json.loads(raw)
    except ValueError:
        return raw.decode(errors="replace")
