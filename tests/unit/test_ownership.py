"""Whose a job is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipper_nomad.cluster.names import ClusterNames, Kind
from clipper_nomad.cluster.ownership import (
    JobStub,
    Ownership,
    check_claim,
    judge,
    read_stub,
    refuse_ambiguous,
    survey,
)
from clipper_nomad.errors import NotOurs

A, A_B = ClusterNames("a"), ClusterNames("a-b")


def redis_of(names: ClusterNames, *, namespace: str = "default") -> JobStub:
    return JobStub(id=names.redis_job, namespace=namespace, meta=names.meta(Kind.REDIS, toolkit="1"))


def model_of(names: ClusterNames, model: str, version: str) -> JobStub:
    meta = names.model_meta(model, version, uid="u", toolkit="1")
    return JobStub(id=names.model_job(model, version), meta=meta)


def test_what_nomad_lists_is_read() -> None:
    entry = {"ID": "clipper-a-redis", "Namespace": "ml", "Meta": {"clipper_cluster": "a"}, "Status": "running"}

    assert read_stub(entry) == JobStub(id="clipper-a-redis", namespace="ml", meta={"clipper_cluster": "a"})
    assert read_stub({"ID": "x", "Meta": None}) == JobStub(id="x")


def test_a_job_with_our_meta_and_the_id_that_follows_is_ours() -> None:
    found = survey([redis_of(A), model_of(A, "m", "1")], A)

    assert [job.id for job in found.ours] == ["clipper-a-redis", "clipper-a-model-m-1"]
    assert found.models[("m", "1")].uid == "u"
    assert not found.ambiguous
    assert not found.foreign


def test_jobs_of_a_cluster_whose_name_begins_like_ours_are_foreign() -> None:
    found = survey([redis_of(A_B), model_of(A_B, "m", "1"), JobStub(id="web")], A)

    assert not found.ours
    assert not found.ambiguous
    assert len(found.foreign) == 3


@pytest.mark.parametrize(
    ("job", "reason"),
    [
        (JobStub(id="clipper-a-redis"), "its id begins with 'clipper-a-'"),
        (JobStub(id="clipper-a-anything"), "its id begins with 'clipper-a-'"),
        (JobStub(id="clipper-a-redis", meta={"clipper_cluster": "b", "clipper_kind": "redis"}), "its id begins with"),
        (JobStub(id="mine", meta=A.meta(Kind.REDIS, toolkit="1")), "its meta names the cluster 'a'"),
        (JobStub(id=A.redis_job, meta=A.meta(Kind.ADMIN, toolkit="1")), "its meta names the cluster 'a'"),
        (JobStub(id=A.redis_job, meta={"clipper_cluster": "a"}), "its meta names the cluster 'a'"),
        (JobStub(id=A.redis_job, meta={"clipper_cluster": "a", "clipper_kind": "?"}), "its meta names the cluster 'a'"),
        (JobStub(id="clipper-a-model-m-1", meta=A.meta(Kind.MODEL, toolkit="1")), "its meta names the cluster 'a'"),
        (JobStub(id="x", meta={"clipper_cluster": "a", "clipper_model": "M", "clipper_kind": "model"}), "its meta names"),
        (redis_of(A, namespace="other"), "in the namespace 'other'"),
    ],
)
def test_one_of_the_two_alone_is_ambiguous_and_stops_everything(job: JobStub, reason: str) -> None:
    found = survey([redis_of(A), job], A)

    assert [each.job for each in found.ambiguous] == [job]
    assert reason in found.ambiguous[0].reason
    with pytest.raises(NotOurs, match="nothing was changed") as error:
        refuse_ambiguous(found, A)
    assert job.id in error.value.msg
    assert redis_of(A) not in [each.job for each in found.ambiguous]


def test_without_ambiguous_jobs_there_is_nothing_to_refuse() -> None:
    refuse_ambiguous(survey([redis_of(A), redis_of(A_B)], A), A)


NAMES = st.from_regex(r"\A[a-z]([-a-z]{0,4}[a-z])?\Z").filter(lambda name: name != "admin")


@given(NAMES, NAMES, NAMES, NAMES)
def test_no_job_is_ever_two_clusters_own(one: str, other: str, model: str, version: str) -> None:
    mine, theirs = ClusterNames(one), ClusterNames(other)
    jobs = [redis_of(theirs), model_of(theirs, model, version)]

    ownerships = {judge(job, mine).ownership for job in jobs}

    assert ownerships == ({Ownership.OURS} if one == other else {Ownership.FOREIGN})


def test_a_job_of_ours_may_be_replaced_by_the_same_job() -> None:
    assert check_claim(redis_of(A), [redis_of(A), redis_of(A_B)], A) == redis_of(A)
    assert check_claim(redis_of(A), [redis_of(A_B)], A) is None


def test_two_models_that_lead_to_one_job_id_are_told_apart() -> None:
    with pytest.raises(NotOurs, match=r"model 'm' version '1-2' has it, and model 'm-1' version '2' would have it too"):
        check_claim(model_of(A, "m-1", "2"), [model_of(A, "m", "1-2")], A)


def test_a_job_of_another_cluster_under_our_id_is_left_alone() -> None:
    theirs = JobStub(id="clipper-a-model-b-redis", meta=ClusterNames("a-model-b").meta(Kind.REDIS, toolkit="1"))

    with pytest.raises(NotOurs, match="it is of the cluster 'a-model-b'") as error:
        check_claim(model_of(A, "b", "redis"), [theirs], A)

    assert error.value.hint is not None
    assert "nomad job inspect" in error.value.hint


def test_a_job_of_the_same_id_in_another_namespace_is_no_hindrance() -> None:
    assert check_claim(model_of(A, "m", "1"), [JobStub(id="clipper-a-model-m-1", namespace="other")], A) is None
