"""Changes the key that the frontends of a cluster share, while they serve. Source: docs/decisions/0023-key-rotation.md.

Looks and acts; rotation_policy.py says what comes next.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from clipper_nomad.cluster.jobs.hcl import aligned
from clipper_nomad.cluster.jobs.task_files import SERVER_KEYS
from clipper_nomad.cluster.names import META_KEY_ROUND, META_TOOLKIT, ClusterNames
from clipper_nomad.cluster.nomad_api import NomadApi
from clipper_nomad.cluster.ownership import Survey
from clipper_nomad.cluster.part_options import key_round_of
from clipper_nomad.cluster.registering import Registering
from clipper_nomad.cluster.rollout.parsed_job import Json
from clipper_nomad.cluster.rotation_policy import GivenUp, RotationPolicy, Step, View, Wait
from clipper_nomad.cluster.secret_keeper import SecretKeeper
from clipper_nomad.errors import ClipperException

KEYS_SETTING, OLD_SETTING = "CLIPPER_CURVE_SERVER_KEYS_FILE", "CLIPPER_CURVE_SERVER_KEY"
LOOK_EVERY_S = 0.25
LIVE = frozenset({"pending", "running"})
Reports = Callable[[], Iterable[Mapping[str, Any]]]  # Any: JSON
_ROUND = re.compile(rf"^( *){META_KEY_ROUND} *= .*\n", re.MULTILINE)
_TOOLKIT = re.compile(rf"^( *){META_TOOLKIT} *= .*\n", re.MULTILINE)
_SAID = {
    Step.TELL: "tells everybody of the new key",
    Step.MAKE: "lets frontends that start have the new key",
    Step.REPLACE: "replaces the query frontends",
    Step.RETIRE: "takes the old key away",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotated:
    """The new public key (40 characters of Z85), how many frontends have it, and how many replicas were told."""

    key: str
    frontends: int
    replicas: int


class KeyRotation:
    """Changes the key of one cluster's frontends. `find_jobs`: of this Nomad; `reports`: what each live frontend says of
    itself; `said`: hears of each step."""

    def __init__(
        self,
        names: ClusterNames,
        *,
        nomad: NomadApi,
        secrets: SecretKeeper,
        registering: Registering,
        find_jobs: Callable[[], Survey],
        reports: Reports,
        said: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._names = names
        self._nomad = nomad
        self._secrets = secrets
        self._registering = registering
        self._find_jobs = find_jobs
        self._reports = reports
        self._said = said
        self._clock = clock

    def run(self, *, replace_within_s: float) -> Rotated:
        """Change the key, and return when all frontends have the new one and nobody takes the old one any more.

        Raises: ClipperException: the channel is in clear; a model cannot be told; somebody was not told in time.
        RolloutFailed: the frontends could not be replaced, and the old ones serve on. Begun again, it goes on."""
        self._refuse_what_cannot_be_told()
        policy = RotationPolicy(new=self._secrets.begin_key_change())
        while True:
            view = self._look()
            match policy.judge(view, now=self._clock()):
                case GivenUp() as given_up:
                    raise ClipperException(given_up.reason, hint=given_up.hint)
                case Wait():
                    time.sleep(LOOK_EVERY_S)
                case Step.DONE:
                    replicas = sum(not place.startswith(f"{self._names.frontend_job}/") for place in view.told)
                    return Rotated(key=policy.new, frontends=len(view.frontends), replicas=replicas)
                case step:
                    self._said(_SAID[step])
                    self._take(step, policy.new, within_s=replace_within_s)

    def _take(self, step: Step, new: str, *, within_s: float) -> None:
        match step:
            case Step.TELL:
                self._secrets.tell_keys([*(key for key in self._secrets.known_keys() if key != new), new])
            case Step.MAKE:
                self._secrets.make_key_change()
            case Step.REPLACE:
                self._registering.roll_out_source(self._next_round(), deadline_s=within_s)
            case Step.RETIRE:
                self._secrets.tell_keys([new])

    def _look(self) -> View:
        frontends = self._names.frontend_job
        told, live = {}, []
        for job in (frontends, *self._models()):
            for each in self._nomad.allocations(job):
                if job == frontends and each["ClientStatus"] in LIVE:
                    live.append(f"frontend-{each['ID'][:8]}")
                if each["ClientStatus"] == "running" and each["DesiredStatus"] == "run":
                    text = self._nomad.file_text(each["ID"], f"{job}/{SERVER_KEYS}") or ""
                    told[f"{job}/{each['ID'][:8]}"] = text.split()
        keys = {report["frontend"]: str(report.get("curve_key") or "") for report in self._reports()}
        return View(
            known=self._secrets.told_keys(),
            starting=self._secrets.starting_key(),
            told=told,
            frontends={name: keys.get(name) for name in live},
        )

    def _models(self) -> list[str]:
        """Return the jobs of models that dial with a key of the frontends."""
        jobs = [stub.id for _, stub in sorted(self._find_jobs().models.items())]
        return [job for job in jobs if KEYS_SETTING in _env(self._nomad.job(job) or {})]

    def _refuse_what_cannot_be_told(self) -> None:
        names = self._names
        if KEYS_SETTING not in _env(self._nomad.job(names.frontend_job) or {}):
            raise ClipperException(
                f"The frontends of cluster {names.cluster!r} have no key that could be changed: the model channel is in"
                " clear, or they were brought up by an older clipper-nomad.",
                hint="`clipper-nomad up` brings them up to date; --encryption encrypts the channel.",
            )
        models = sorted(self._find_jobs().models.items())
        old = [":".join(key) for key, stub in models if OLD_SETTING in _env(self._nomad.job(stub.id) or {})]
        if old:
            raise ClipperException(
                f"These versions were deployed by an older clipper-nomad and know one key for ever: {', '.join(old)}.",
                hint="Deploy them as new versions; then their old ones can be stopped, and the key changed.",
            )

    def _next_round(self) -> str:
        """Return the frontends' jobspec as it runs, with the next number of the key, so that Nomad replaces them."""
        job_id = self._names.frontend_job
        job = self._nomad.job(job_id) or {}
        versions = range(int(job.get("Version") or 0), -1, -1)  # scaling makes a version, without a source
        sources = (self._nomad.source(job_id, version=version) for version in versions)
        source = next((text for text in sources if text is not None), None)
        if source is None:
            raise ClipperException(f"Nomad has no source of the job {job_id}.", hint="`clipper-nomad up`, then begin again.")
        return with_round(source, key_round_of(self._find_jobs().ours) + 1)


def with_round(source: str, number: int) -> str:
    """Return a jobspec of the frontends with this number of the key. Pure."""
    without = _ROUND.sub("", source)
    return aligned(_TOOLKIT.sub(lambda found: f'{found[0]}{found[1]}{META_KEY_ROUND} = "{number}"\n', without, count=1))


def _env(job: Json) -> Json:
    groups = job.get("TaskGroups") or [{"Tasks": [{}]}]
    env: Json = groups[0]["Tasks"][0].get("Env") or {}
    return env
