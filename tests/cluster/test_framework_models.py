"""A framework's model where the framework is not: the image, or the bundle, brings it in the version of here."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import docker
import numpy as np
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from clipper_nomad import ClipperConnection, ConsulDNS, FabioLoadBalancer, NomadContainerManager
from clipper_nomad.deployers.sklearn import create_endpoint
from clipper_nomad.images.image_set import ImageSet
from tests.cluster.clusters import Cluster, running_cluster
from tests.cluster.rig import Rig

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def cluster(rig: Rig, daemon: docker.DockerClient, images: ImageSet) -> Iterator[Cluster]:
    with running_cluster(rig, daemon, images, frontends=1) as cluster:
        yield cluster


def without_images(rig: Rig) -> ClipperConnection:
    """A connection of somebody who has no Docker: what is deployed goes as a bundle."""
    manager = NomadContainerManager(
        rig.nomad_url,
        ConsulDNS("127.0.0.1", rig.consul_dns_port),
        FabioLoadBalancer("127.0.0.1", rig.fabio_http_port, rig.fabio_tcp_port, admin_port=rig.fabio_admin_port),
        consul_address=rig.consul_url,
    )
    conn = ClipperConnection(manager)
    conn.connect()
    return conn


def predicts_and_tells(model: Pipeline, inputs: Any) -> list[dict[str, Any]]:  # noqa: ANN401  # an array
    import sklearn  # noqa: PLC0415  # the replica's

    return [{"value": value, "of": sklearn.__version__, "at": sklearn.__file__} for value in model.predict(inputs)]


@pytest.mark.parametrize(("name", "place"), [("image", "/opt/model/"), ("bundle", "-packages/")])
def test_a_scikit_learn_model_answers_as_here_with_the_scikit_learn_of_here(
    cluster: Cluster, rig: Rig, name: str, place: str
) -> None:
    rows = np.random.default_rng(0).normal(size=(100, 3))
    model = make_pipeline(StandardScaler(), LinearRegression()).fit(rows, rows @ [1.0, 2.0, 3.0])
    conn = cluster.conn if name == "image" else without_images(rig)

    create_endpoint(conn, name, "doubles", predicts_and_tells, model, timeout_s=400)

    for row in rows[:3]:
        said = conn.predict(name, row, timeout_s=20).output
        assert said["value"] == pytest.approx(model.predict([row])[0], rel=1e-12)
        assert said["of"] == version("scikit-learn")
        assert place in said["at"]
