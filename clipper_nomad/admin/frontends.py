"""Calls to query frontends' internal addresses, as they stand in their reports: probe a version, fetch a mirror."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import aiohttp

from clipper_nomad.state.records import Snapshot, from_mirror

MIRROR_WITHIN_S = 10.0

Report = Mapping[str, Any]  # Any: JSON, as the frontend sent it
Json = dict[str, Any]


class FrontendCalls:
    """The calls, with the token that frontends want."""

    def __init__(self, token: str) -> None:
        self._headers = {"Authorization": f"Bearer {token}"}

    async def probe_all(self, reports: Sequence[Report], name: str, version: str, body: Json, within_s: float) -> list[Json]:
        """Probe through every frontend at once; see `probe`."""
        return list(await asyncio.gather(*(self.probe(one, name, version, body, within_s) for one in reports)))

    async def probe(self, report: Report, name: str, version: str, body: Json, within_s: float) -> Json:
        """Let one frontend send one input to a replica of the version.

        Returns: {"frontend", "status"} and what the frontend answered: "output", "replica", "exec_micros"; or "cause" and
        "kind". Status 0: it could not be asked (kind "unreachable"); 504: it did not answer in time (kind "timeout").
        """
        said: Json = {"frontend": report.get("frontend")}
        path = f"/_clipper/probe/{quote(name, safe='')}/{quote(version, safe='')}"
        try:
            async with self._session(report, within_s) as session, session.post(path, json=body) as answer:
                found = await answer.json(content_type=None)
                return {**found, **said, "status": answer.status}
        except TimeoutError:
            cause = f"the query frontend did not answer the probe within {within_s:g} s"
            return {**said, "status": 504, "kind": "timeout", "cause": cause}
        except (aiohttp.ClientError, OSError, ValueError, TypeError) as exc:
            cause = f"the query frontend could not be asked at {report.get('internal')}: {exc!r}"
            return {**said, "status": 0, "kind": "unreachable", "cause": cause}

    async def newest_mirror(self, reports: Sequence[Report]) -> tuple[Snapshot, str] | None:
        """Return the newest catalog that any of these frontends serves, and whose it is; None: none can be had."""
        found = await asyncio.gather(*map(self._mirror, reports))
        snapshots = [
            (snapshot, str(report.get("frontend"))) for snapshot, report in zip(found, reports, strict=True) if snapshot
        ]
        return max(snapshots, key=lambda one: one[0].revision, default=None)

    async def _mirror(self, report: Report) -> Snapshot | None:
        try:
            async with self._session(report, MIRROR_WITHIN_S) as session, session.get("/_clipper/mirror") as answer:
                answer.raise_for_status()
                return from_mirror(await answer.read())
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
            return None

    def _session(self, report: Report, within_s: float) -> aiohttp.ClientSession:
        internal = report.get("internal")
        if not isinstance(internal, str):
            raise ValueError("it has no internal address")  # noqa: TRY004  # a report's content is data, not a type
        timeout = aiohttp.ClientTimeout(total=within_s)
        if internal.startswith("unix://"):
            connector = aiohttp.UnixConnector(internal.removeprefix("unix://"))
            return aiohttp.ClientSession("http://frontend", connector=connector, headers=self._headers, timeout=timeout)
        return aiohttp.ClientSession(f"http://{internal}", headers=self._headers, timeout=timeout)
