"""One prediction of a version that is not current yet, by the way that clients' queries come: through the load balancer.

The query frontends answer it there as they answer admin, to whoever has the token.
"""

from __future__ import annotations

from urllib.parse import quote

import requests

from clipper_nomad.admin.client import Probe, Staged
from clipper_nomad.connection.inputs import Input
from clipper_nomad.connection.prediction import object_in

CONNECT_WITHIN_S = 3.0


def probe_through(url: str, staged: Staged, sample: Input, *, token: str, within_s: float) -> Probe:
    """Return what a query frontend behind `url` ("http://host:port/clipper") answers, or why none did."""
    path = f"/_clipper/probe/{quote(staged.name, safe='')}/{quote(staged.version, safe='')}"
    where = f"behind {url}"
    try:
        with requests.Session() as session:
            session.trust_env = False  # no proxy in between, no .netrc that would replace the token
            answer = session.post(
                f"{url}{path}",
                json={"input": sample},
                headers={"Authorization": f"Bearer {token}"},
                timeout=(min(CONNECT_WITHIN_S, within_s), within_s),
                allow_redirects=False,
            )
    except requests.RequestException as exc:
        return Probe(frontend=where, kind="unreachable", cause=f"it could not be asked: {exc}")
    said = object_in(answer)
    if answer.status_code == requests.codes.ok and "output" in said:
        return Probe(frontend=where, kind="", cause="", output=said["output"], exec_micros=int(said.get("exec_micros", 0)))
    cause = str(said.get("cause") or answer.text[:200].strip() or answer.reason)
    if "kind" not in said:  # of the load balancer itself, or of somebody else who listens there
        if answer.status_code == requests.codes.not_found and "cause" in said:
            cause += " (is it of this version of clipper-nomad? `clipper-nomad up` makes it so)"
        return Probe(frontend=where, kind="unreachable", cause=f"HTTP {answer.status_code} {cause}")
    is_busy = answer.status_code == requests.codes.too_many_requests
    return Probe(frontend=where, kind="busy" if is_busy else str(said["kind"]), cause=cause)
