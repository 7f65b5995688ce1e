"""Passwords, tokens and keys of a cluster: in the Nomad Variables of its jobs, and nowhere else.

A job's tasks can read its own Variable and no other, so what two jobs need is in both. What is there is kept: `ensure` run
twice changes nothing, and a cluster that was stopped comes back with its secrets. Source: docs/cluster.md
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from clipper_nomad.channel_keys import new_secret_key, public_key_of
from clipper_nomad.cluster.jobs.task_files import (
    ADMIN_TOKEN,
    BUNDLE_TOKEN,
    CURVE_KEYS,
    CURVE_NEXT,
    CURVE_SECRET,
    REGISTRY_PASSWORD,
    STORE_PASSWORD,
)
from clipper_nomad.cluster.names import ClusterNames, job_of, variable_path
from clipper_nomad.cluster.nomad_api import NomadApi
from clipper_nomad.cluster.ownership import DEFAULT_NAMESPACE, JobStub, Ownership, judge
from clipper_nomad.errors import NomadConflict

_TRIES = 5  # somebody else may bring the same cluster up at the same time


@dataclass(frozen=True, slots=True)
class ClusterSecrets:
    """What is shared by the jobs of a cluster."""

    admin_token: str = field(repr=False)


class SecretKeeper:
    """Makes and finds the secrets of one cluster. Every method raises NomadUnreachable and NomadRefused.

    `registry_password`: of who pulls the images; None: the clients have a login of their own, or need none."""

    def __init__(self, nomad: NomadApi, names: ClusterNames, *, registry_password: str | None = None) -> None:
        self._nomad = nomad
        self._names = names
        self._of_registry = {REGISTRY_PASSWORD: registry_password} if registry_password is not None else {}

    def ensure(self, *, store_password: str | None = None) -> ClusterSecrets:
        """Make what is not there yet, in the Variables of redis, admin and the frontends.

        `store_password`: of a store that somebody else runs; without it one is made.
        """
        names = self._names
        owners = {
            ADMIN_TOKEN: (names.admin_job, names.frontend_job),
            STORE_PASSWORD: (names.redis_job, names.admin_job, names.frontend_job),
            CURVE_SECRET: (names.frontend_job,),
        }
        makers: Mapping[str, Callable[[], str]] = {
            ADMIN_TOKEN: lambda: secrets.token_urlsafe(32),
            STORE_PASSWORD: lambda: store_password or secrets.token_urlsafe(32),
            CURVE_SECRET: new_secret_key,
        }
        values = {}
        for item, jobs in owners.items():
            # one job's Variable decides, by compare-and-set: of two who bring a cluster up at once, both take the same
            values[item] = self._settled(jobs[0], item, makers[item])
            for job in jobs[1:]:
                self._put(job, {item: values[item]})
        for job in (names.redis_job, names.admin_job, names.frontend_job) if self._of_registry else ():
            self._put(job, self._of_registry)
        self._put(names.frontend_job, {}, make={CURVE_KEYS: lambda: public_key_of(values[CURVE_SECRET])})
        return ClusterSecrets(values[ADMIN_TOKEN])

    def find(self) -> ClusterSecrets | None:
        """Return the secrets of a cluster that was brought up before, None if there are none."""
        items = self._items(self._names.frontend_job)
        if ADMIN_TOKEN not in items or CURVE_SECRET not in items:
            return None
        return ClusterSecrets(items[ADMIN_TOKEN])

    def ensure_of_model(self, job: JobStub, *, has_key: bool) -> str:
        """Make what a model version's job lacks of its secrets, and return its public key, "" without one.

        Whose they are stands beside them, as in the job's meta: they may outlive it."""
        if not has_key:
            self._put(job.id, {**self._of_registry, **job.meta})
            return ""
        keys = {CURVE_KEYS: " ".join(known)} if (known := self.known_keys()) else {}
        items = self._put(job.id, {**self._of_registry, **job.meta, **keys}, make={CURVE_SECRET: new_secret_key})
        return public_key_of(items[CURVE_SECRET])

    # ---- changing the frontends' key: begin, tell (both), make, tell (the new one) ---------------------------------

    def begin_key_change(self) -> str:
        """Make the next key of the frontends, or find the one of a change that was not ended. Return its public half."""
        job = self._names.frontend_job
        items = self._items(job)
        if CURVE_NEXT not in items and len(items.get(CURVE_KEYS, "").split()) > 1:
            return public_key_of(items[CURVE_SECRET])
        return public_key_of(self._put(job, {}, make={CURVE_NEXT: new_secret_key})[CURVE_NEXT])

    def tell_keys(self, keys: Sequence[str]) -> None:
        """Let the frontends and the replicas of all models know the public keys that frontends have from now on."""
        for job in (*self.models(), self._names.frontend_job):  # the frontends' last: it says whether a change has ended
            self._put(job, {CURVE_KEYS: " ".join(keys)})

    def known_keys(self) -> list[str]:
        """Return the public keys that frontends have."""
        return self._items(self._names.frontend_job).get(CURVE_KEYS, "").split()

    def told_keys(self) -> dict[str, list[str]]:
        """Return the public keys that the Variables of the frontends and of all models tell, by their jobs."""
        jobs = (self._names.frontend_job, *self.models())
        return {job: self._items(job).get(CURVE_KEYS, "").split() for job in jobs}

    def starting_key(self) -> str:
        """Return the public half of the key that a frontend has which starts now."""
        return public_key_of(self._items(self._names.frontend_job)[CURVE_SECRET])

    def make_key_change(self) -> None:
        """Let frontends that start from now on have the next key."""
        job = self._names.frontend_job
        self._put(job, {CURVE_SECRET: self._items(job)[CURVE_NEXT]}, drop={CURVE_NEXT})

    def keep_bundle_token(self, job: str, token: str) -> None:
        """Let the replicas of a model version have what opens their bundle."""
        self._put(job, {BUNDLE_TOKEN: token})

    def models(self) -> list[str]:
        """Return the jobs of model versions of this cluster that have secrets, whether they run or not."""
        namespace = self._nomad.endpoint.namespace or DEFAULT_NAMESPACE
        found = []
        for path in self._nomad.variable_paths(variable_path(f"{self._names.prefix}-")):
            variable = self._nomad.variable(path)
            stub = JobStub(id=job_of(path), namespace=namespace, meta=variable.items if variable is not None else {})
            if stub.model is not None and judge(stub, self._names, namespace=namespace).ownership is Ownership.OURS:
                found.append(stub.id)
        return found

    def paths(self, jobs: Iterable[JobStub]) -> list[str]:
        """Return the paths of the Variables of the cluster: of these jobs of its own, and what removed ones left."""
        names = self._names
        owners = [names.redis_job, names.admin_job, names.frontend_job, *self.models(), *(job.id for job in jobs)]
        paths = map(variable_path, dict.fromkeys(owners))
        return [path for path in paths if self._nomad.variable(path) is not None]

    def forget_model_key(self, job: str) -> None:
        """Delete a model version's secrets; what is not there is no error."""
        self._nomad.delete_variable(variable_path(job))

    def _items(self, job: str) -> Mapping[str, str]:
        found = self._nomad.variable(variable_path(job))
        return found.items if found is not None else {}

    def _settled(self, job: str, item: str, make: Callable[[], str]) -> str:
        return self._put(job, {}, make={item: make})[item]

    def _put(
        self,
        job: str,
        given: Mapping[str, str],
        make: Mapping[str, Callable[[], str]] | None = None,
        drop: Collection[str] = (),
    ) -> Mapping[str, str]:
        """Set items of a job's Variable, make those that it lacks, and drop some; the others stay. Return all."""
        path = variable_path(job)
        for attempt in range(_TRIES):
            found = self._nomad.variable(path)
            before = dict(found.items) if found is not None else {}
            made = {item: new() for item, new in (make or {}).items() if item not in before}
            wanted = {name: text for name, text in {**before, **given, **made}.items() if name not in drop}
            if wanted == before:
                return before
            try:
                self._nomad.put_variable(path, wanted, cas=found.modify_index if found is not None else 0)
            except NomadConflict:  # somebody else wrote it meanwhile: theirs counts
                if attempt == _TRIES - 1:
                    raise
            else:
                return wanted
        raise AssertionError("unreachable")
