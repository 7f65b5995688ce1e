"""The article's notebook on a real Nomad, Consul, Fabio and Docker: every cell runs, and shows what is kept of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from clipper_nomad.cluster.nomad_api import NomadApi
from tests.cluster.parts import BUILD_NETWORK, docker_client, local_images, redis_image
from tests.cluster.rig import Rig
from tests.example_notebook import code_cells, is_command, read_article, run_article, shown

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(1200)]

CELL_WITHIN_S = 600  # scikit-learn may have to be fetched, and put into an image


def test_the_articles_notebook_runs_on_a_cluster_and_shows_what_is_kept(rig: Rig, nomad: NomadApi, tmp_path: Path) -> None:
    rig.need_docker()
    redis = redis_image(docker_client())
    local_images()

    ran = run_article(
        tmp_path,
        {
            "NOMAD_ADDR": rig.nomad_url,
            "CONSUL_HTTP_ADDR": rig.consul_url,
            "CLIPPER_FABIO": f"127.0.0.1:{rig.fabio_http_port}",
        },
        within_s=CELL_WITHIN_S,
        instead={
            "ConsulDNS(consul_ip)": f"ConsulDNS(consul_ip, {rig.consul_dns_port})",
            "tcp_proxy_port=7000": f"tcp_proxy_port={rig.fabio_tcp_port}",
            'cluster_name="notebook",': (
                f'cluster_name="notebook", registry="", redis_image={redis!r}, build_network={BUILD_NETWORK!r},'
            ),
        },
    )

    for cell, kept in zip(code_cells(ran), code_cells(read_article()), strict=True):
        if is_command(cell):  # its widths, and what is said of links that come about, may differ
            assert [line for line in shown(cell) if "scikit-learn-model-#" in line] == [
                line for line in shown(kept) if "scikit-learn-model-#" in line
            ]
        else:
            pushed = [line.replace("built and pushed", "built") for line in shown(kept)]  # here there is no registry
            assert shown(cell) == pushed, cell.source
    assert nomad.jobs() == []
