"""Who holds which route of Fabio."""

from __future__ import annotations

import pytest

from clipper_nomad.cluster.names import ClusterNames, rpc_tag
from clipper_nomad.cluster.route_claims import RouteClaim, read_claims, refuse_clashes
from clipper_nomad.errors import NotOurs

DEFAULT, B = ClusterNames(), ClusterNames("b")


def services_of(names: ClusterNames, *, tcp_port: int) -> dict[str, list[str]]:
    return {
        names.query_service: ["clipper", names.query_tag],
        names.admin_service: ["clipper", names.admin_tag],
        names.rpc_service: [rpc_tag(tcp_port)],
    }


def test_routes_are_read_as_fabio_reads_them() -> None:
    tags = ["urlprefix-/a/ strip=/a", "urlprefix-:7000 proto=tcp", "urlprefix-Example.org:7001 proto=tcp", "v1"]

    claims = read_claims({"s": tags, "t": ["urlprefix-api.example.org/x/", " urlprefix-/y", "urlprefix-", "urlprefix- "]})

    assert [claim.source for claim in claims] == ["/a/", ":7000", ":7001", "api.example.org/x/", "/y"]
    assert claims[0] == RouteClaim(source="/a/", service="s")


def test_two_clusters_with_a_tcp_port_each_live_side_by_side() -> None:
    refuse_clashes(B, services_of(DEFAULT, tcp_port=7000), tcp_port=7001)
    refuse_clashes(DEFAULT, services_of(B, tcp_port=7001), tcp_port=7000)
    refuse_clashes(ClusterNames("b-c"), services_of(B, tcp_port=7001), tcp_port=7002)


def test_a_cluster_does_not_stand_in_its_own_way() -> None:
    refuse_clashes(B, services_of(B, tcp_port=7001), tcp_port=7001)


def test_a_tcp_port_of_another_cluster_is_refused_with_the_way_out() -> None:
    with pytest.raises(NotOurs) as error:
        refuse_clashes(B, services_of(DEFAULT, tcp_port=7000), tcp_port=7000)

    assert "'clipper-default-cluster-query-frontend-rpc' holds :7000" in error.value.msg
    assert "half" in error.value.msg
    assert error.value.hint is not None
    assert "tcp_proxy_port=7001" in error.value.hint
    assert "another name" not in error.value.hint


def test_a_port_of_rpc_version_3_that_another_cluster_holds_is_refused_with_the_way_out() -> None:
    with pytest.raises(NotOurs) as error:
        refuse_clashes(B, services_of(DEFAULT, tcp_port=7001), tcp_port=7000, legacy_port=7001)

    assert ":7001 is needed by 'clipper-b-query-frontend-rpc3'" in error.value.msg
    assert error.value.hint is not None
    assert "legacy_rpc_port=7002" in error.value.hint
    assert "tcp_proxy_port" not in error.value.hint


def test_a_cluster_that_serves_rpc_version_3_does_not_stand_in_its_own_way() -> None:
    services = services_of(B, tcp_port=7000) | {B.legacy_service: [rpc_tag(7001)]}

    refuse_clashes(B, services, tcp_port=7000, legacy_port=7001)
    refuse_clashes(B, services, tcp_port=7000)


@pytest.mark.parametrize(
    ("tag", "effect"),
    [
        ("urlprefix-/clipper/ strip=/clipper", "half of what comes there"),
        ("urlprefix-/clipper strip=/clipper", "half of what comes there"),  # an old Clipper's: ours would take all of it
        ("urlprefix-/clipper/diabetes/", "what comes to /clipper/diabetes/ there"),
        ("urlprefix-/clipper-admin/", "half of what comes there"),
    ],
)
def test_a_route_that_somebody_else_holds_is_refused_with_the_holder(tag: str, effect: str) -> None:
    with pytest.raises(NotOurs, match="'web' holds /clipper") as error:
        refuse_clashes(DEFAULT, {"web": [tag]}, tcp_port=7000)

    assert effect in error.value.msg
    assert error.value.hint is not None
    assert "another name" in error.value.hint


@pytest.mark.parametrize(
    "tag",
    ["urlprefix-/", "urlprefix-/clipperx/", "urlprefix-/web/clipper/", "urlprefix-example.org/clipper/", "clipper", ""],
)
def test_a_route_that_leaves_ours_alone_is_no_clash(tag: str) -> None:
    refuse_clashes(DEFAULT, {"web": [tag]}, tcp_port=7000)
