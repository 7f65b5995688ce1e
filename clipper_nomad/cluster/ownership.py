"""Which jobs of a Nomad are this cluster's. Pure: judges the list that Nomad gives with `?meta=true`.

A job is ours if its meta says so and its id is the one that this meta leads to. One of the two alone is ambiguous: it is
shown, and nothing is changed. A prefix proves nothing: cluster `a` shares it with cluster `a-b`, and model `m-1` version `2`
has the id of model `m` version `1-2`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from clipper_nomad.cluster.names import (
    META_CLUSTER,
    META_KIND,
    META_MODEL,
    META_MODEL_UID,
    META_MODEL_VERSION,
    META_TOOLKIT,
    ClusterNames,
    Kind,
)
from clipper_nomad.errors import InvalidName, NotOurs

DEFAULT_NAMESPACE = "default"


class Ownership(StrEnum):
    """Whose a job is. `AMBIGUOUS`: it looks like ours and is not proven to be."""

    OURS = "ours"
    FOREIGN = "foreign"
    AMBIGUOUS = "ambiguous"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStub:
    """What ownership is judged by, of one entry of Nomad's job list."""

    id: str
    namespace: str = DEFAULT_NAMESPACE
    meta: Mapping[str, str] = field(default_factory=dict)

    @property
    def cluster(self) -> str | None:
        """The cluster that the meta names."""
        return self.meta.get(META_CLUSTER)

    @property
    def kind(self) -> Kind | None:
        """What the meta says that the job is, None if it says nothing that we know."""
        try:
            return Kind(self.meta.get(META_KIND, ""))
        except ValueError:
            return None

    @property
    def model(self) -> tuple[str, str] | None:
        """Model and version that the meta names, None for other kinds."""
        if self.kind is not Kind.MODEL or META_MODEL not in self.meta or META_MODEL_VERSION not in self.meta:
            return None
        return self.meta[META_MODEL], self.meta[META_MODEL_VERSION]

    @property
    def uid(self) -> str | None:
        """The uid of the model version, None for other kinds."""
        return self.meta.get(META_MODEL_UID)

    @property
    def toolkit(self) -> str | None:
        """The version of the toolkit that registered the job."""
        return self.meta.get(META_TOOLKIT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """One job, whose it is, and why, in words that can be shown."""

    job: JobStub
    ownership: Ownership
    reason: str


def read_stub(entry: Mapping[str, Any]) -> JobStub:
    """Return what matters of one entry of `GET /v1/jobs?meta=true`, or of a whole job. Any: Nomad's JSON."""
    meta = entry.get("Meta") or {}  # null where a job has none
    return JobStub(
        id=str(entry["ID"]),
        namespace=str(entry.get("Namespace") or DEFAULT_NAMESPACE),
        meta={str(key): str(value) for key, value in meta.items()},
    )


def model_stub(names: ClusterNames, model: str, version: str, *, namespace: str = DEFAULT_NAMESPACE) -> JobStub:
    """Return the job that a model version of ours has, for `check_claim`. Raises: InvalidName."""
    meta = {META_CLUSTER: names.cluster, META_KIND: Kind.MODEL, META_MODEL: model, META_MODEL_VERSION: version}
    return JobStub(id=names.model_job(model, version), namespace=namespace, meta=meta)


def expected_id(job: JobStub) -> str | None:
    """Return the id that the job's meta leads to, None if the meta is not that of a job of any cluster."""
    try:
        names = ClusterNames(job.cluster or "")
        match job.kind:
            case Kind.REDIS:
                return names.redis_job
            case Kind.ADMIN:
                return names.admin_job
            case Kind.FRONTEND:
                return names.frontend_job
            case Kind.FABIO:
                return names.fabio_job
            case Kind.MODEL if job.model is not None:
                return names.model_job(*job.model)
    except InvalidName:
        pass
    return None


def judge(job: JobStub, names: ClusterNames, *, namespace: str = DEFAULT_NAMESPACE) -> Judgement:
    """Return whose `job` is, seen from the cluster of `names` that lives in `namespace`."""
    ownership, reason = _judged(job, names, namespace)
    return Judgement(job=job, ownership=ownership, reason=reason)


def _judged(job: JobStub, names: ClusterNames, namespace: str) -> tuple[Ownership, str]:
    has_meta = job.cluster == names.cluster
    has_prefix = job.id.startswith(f"{names.prefix}-")
    proven = expected_id(job) == job.id
    if has_meta and proven:
        if job.namespace != namespace:
            # Consul knows no namespaces of Nomad's: the two would share all services
            return Ownership.AMBIGUOUS, (
                f"it is of a cluster '{names.cluster}' in the namespace '{job.namespace}'; this one is in '{namespace}', "
                "and both would have the same services in Consul"
            )
        return Ownership.OURS, "its meta and its id agree"
    if has_meta:
        return Ownership.AMBIGUOUS, f"its meta names the cluster '{names.cluster}', but its id is not the one that follows"
    if not has_prefix:
        return Ownership.FOREIGN, "neither its id nor its meta is of this cluster"
    if proven:
        return Ownership.FOREIGN, f"it is of the cluster '{job.cluster}', by its meta and its id"
    return Ownership.AMBIGUOUS, f"its id begins with '{names.prefix}-', but its meta does not name the cluster"


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """All jobs of a Nomad, sorted by whose they are."""

    ours: tuple[JobStub, ...]
    ambiguous: tuple[Judgement, ...]
    foreign: tuple[JobStub, ...]

    @property
    def models(self) -> dict[tuple[str, str], JobStub]:
        """This cluster's model jobs by model and version."""
        return {job.model: job for job in self.ours if job.model is not None}


def survey(jobs: Iterable[JobStub], names: ClusterNames, *, namespace: str = DEFAULT_NAMESPACE) -> Survey:
    """Return the jobs of a Nomad, sorted by whose they are."""
    judged = [judge(job, names, namespace=namespace) for job in jobs]
    return Survey(
        ours=tuple(each.job for each in judged if each.ownership is Ownership.OURS),
        ambiguous=tuple(each for each in judged if each.ownership is Ownership.AMBIGUOUS),
        foreign=tuple(each.job for each in judged if each.ownership is Ownership.FOREIGN),
    )


def check_claim(
    wanted: JobStub, jobs: Iterable[JobStub], names: ClusterNames, *, namespace: str = DEFAULT_NAMESPACE
) -> JobStub | None:
    """Return the job that `wanted` would replace, None if there is none. `jobs`: those that there are.

    Raises: NotOurs: one with that id is not proven to be ours, or is another of ours: its meta names another kind, or
    another model and version that lead to the same id.
    """
    for job in jobs:
        if job.id != wanted.id or job.namespace != wanted.namespace:
            continue
        judgement = judge(job, names, namespace=namespace)
        if judgement.ownership is not Ownership.OURS:
            raise NotOurs(
                f"Nomad has a job '{job.id}', and it is not this cluster's: {judgement.reason}. Nothing was changed.",
                hint=f"Take another name, or see whose it is (nomad job inspect {job.id}) and remove it yourself.",
            )
        if (job.kind, job.model) != (wanted.kind, wanted.model):
            raise NotOurs(
                f"The job id '{job.id}' is taken: {_content(job)} has it, and {_content(wanted)} would have it too. "
                "Nothing was changed.",
                hint="Take another name or version: 'm-1' version '2' and 'm' version '1-2' have one id.",
            )
        return job
    return None


def refuse_ambiguous(found: Survey, names: ClusterNames) -> None:
    """Refuse to go on while there are jobs that may be ours or not. Raises: NotOurs: with each and why."""
    if found.ambiguous:
        lines = "\n".join(f"  {each.job.id} ({each.job.namespace}): {each.reason}" for each in found.ambiguous)
        raise NotOurs(
            f"It cannot be told whether these jobs are of the cluster '{names.cluster}'; nothing was changed:\n{lines}",
            hint="Remove them yourself (nomad job stop -purge …), or give this cluster another name.",
        )


def _content(job: JobStub) -> str:
    return f"model '{job.model[0]}' version '{job.model[1]}'" if job.model else f"the {job.kind or 'unknown'} job"
