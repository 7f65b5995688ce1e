"""What a cluster's jobs, services and routes are called."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipper_nomad.cluster.names import ClusterNames, Kind, rpc_tag, tcp_port_of, variable_path
from clipper_nomad.errors import InvalidName
from clipper_nomad.protocol.names import MAX_SERVICE_NAME

NAMES = st.from_regex(r"\A[a-z0-9]([-a-z0-9]{0,30}[a-z0-9])?\Z").filter(lambda name: name != "admin")


def test_the_names_are_those_that_clipper_s_container_manager_gave() -> None:
    names = ClusterNames("default-cluster")

    assert names.redis_job == "clipper-default-cluster-redis"
    assert names.admin_job == "clipper-default-cluster-mgmt"
    assert names.frontend_job == "clipper-default-cluster-query-frontend"
    assert names.query_service == "clipper-default-cluster-query-frontend-service"
    assert names.rpc_service == "clipper-default-cluster-query-frontend-rpc"
    assert names.legacy_service == "clipper-default-cluster-query-frontend-rpc3"
    assert names.model_job("scikit-learn-model", "1") == "clipper-default-cluster-model-scikit-learn-model-1"


def test_the_default_cluster_keeps_clipper_s_public_path() -> None:
    names = ClusterNames()

    assert names.query_tag == "urlprefix-/clipper/ strip=/clipper"
    assert names.admin_tag == "urlprefix-/clipper-admin/ strip=/clipper-admin"
    assert rpc_tag(7000) == "urlprefix-:7000 proto=tcp"
    assert tcp_port_of(["clipper", rpc_tag(7000)]) == 7000
    assert tcp_port_of(["clipper", names.query_tag]) is None


def test_another_cluster_has_paths_of_its_own() -> None:
    names = ClusterNames("b")

    assert names.query_tag == "urlprefix-/clipper-b/ strip=/clipper-b"
    assert names.admin_tag == "urlprefix-/clipper-b/admin/ strip=/clipper-b/admin"


@given(NAMES, NAMES)
def test_two_clusters_share_no_name_and_no_path(one: str, other: str) -> None:
    def all_of(cluster: str) -> set[str]:
        names = ClusterNames(cluster)
        jobs = {names.redis_job, names.admin_job, names.frontend_job, names.fabio_job}
        return jobs | {*names.routed_services, names.query_tag, names.admin_tag}

    assert (one == other) or not all_of(one) & all_of(other)


@given(NAMES)
def test_every_service_of_a_cluster_that_passes_fits_into_dns(cluster: str) -> None:
    names = ClusterNames(cluster)

    for service in (names.redis_service, *names.routed_services):
        assert len(service) <= MAX_SERVICE_NAME


@pytest.mark.parametrize("name", ["", "A", "a_b", "-a", "a-", "a b", 'a"', "ä", "a\n", "${x}"])
def test_a_cluster_s_name_is_a_dns_label(name: str) -> None:
    with pytest.raises(InvalidName, match="a cluster name must be a valid DNS-1123 label"):
        ClusterNames(name)


def test_a_cluster_s_name_that_is_too_long_is_told_how_long_it_may_be() -> None:
    with pytest.raises(InvalidName, match="is 3 characters too long; the cluster name may have 32"):
        ClusterNames("c" * 35)


def test_a_cluster_called_admin_would_take_the_default_cluster_s_route() -> None:
    with pytest.raises(InvalidName, match="/clipper-admin/ is the one of the default cluster's admin"):
        ClusterNames("admin")


def test_a_model_s_name_that_is_too_long_is_told_how_long_it_may_be() -> None:
    with pytest.raises(InvalidName, match="is 7 characters too long; the model name may have 28"):
        ClusterNames("a" * 16).model_job("m" * 35, "1-0")


@pytest.mark.parametrize(("model", "version"), [("my_model", "1"), ("m", "1.0"), ("m", ""), ('m"', "1")])
def test_a_model_s_name_and_version_are_dns_labels(model: str, version: str) -> None:
    with pytest.raises(InvalidName, match="DNS-1123"):
        ClusterNames().model_job(model, version)


def test_meta_and_variable_are_named_after_the_job() -> None:
    names = ClusterNames("b")

    assert names.meta(Kind.ADMIN, toolkit="1") == {
        "clipper_cluster": "b", "clipper_kind": "admin", "clipper_toolkit": "1"
    }  # fmt: skip
    assert variable_path(names.admin_job) == "nomad/jobs/clipper-b-mgmt"
