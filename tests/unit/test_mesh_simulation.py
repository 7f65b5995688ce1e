"""The simulation of the mesh at a small size: what docs/scaling.md says of a hundred frontends holds for ten too."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator

import pytest

from benchmarks import mesh_simulation
from benchmarks import mesh_simulation_scenarios as scenarios
from benchmarks.mesh_simulation_cluster import Cluster, Shape
from benchmarks.mesh_simulation_frontend import simulated
from benchmarks.mesh_simulation_scenarios import Cell, Table
from clipper_nomad.protocol.links import MOST_LINKS
from clipper_nomad_runtime.search_pace import SEARCH_EVERY_S, SEARCHES_PER_LINK

pytestmark = pytest.mark.slow  # seconds each of pure computation

SMALL = Shape(frontends=10, replicas=100, sizes=5, models_of_a_size=2, exec_s=0.05)
LIGHT = 0.05  # of what the replicas can do


@pytest.fixture(autouse=True)
def _no_log(caplog: pytest.LogCaptureFixture) -> None:
    for package in ("clipper_nomad_frontend", "clipper_nomad_runtime"):
        caplog.set_level(logging.CRITICAL, package)  # links come and go; that is the point


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """Ten frontends and a hundred replicas, all linked."""
    made = Cluster(SMALL)
    with simulated(made.loop):
        made.start_frontends()
        made.run_for(1.0)
        made.start_replicas(within_s=1.0)
        made.run_for(4.0)
        yield made


def figure(table: Table, name: str) -> Cell:
    """The second cell of the row whose first one starts so."""
    (found,) = [row[1] for row in table.rows if str(row[0]).startswith(name)]
    return found


def counts(cell: Cell) -> list[int]:
    """The numbers in a cell that holds several."""
    return [int(number) for number in re.findall(r"\d+", str(cell))]


def test_every_replica_finds_its_frontends_in_hardly_more_dials_than_links() -> None:
    cluster = Cluster(SMALL)
    with simulated(cluster.loop):
        table = scenarios.cover(cluster)

        assert cluster.is_covered()
        assert cluster.reaches_all()
    assert sum(replica.dials_when_covered for replica in cluster.replicas) / SMALL.replicas <= MOST_LINKS + 1
    assert figure(table, "messages that broke the protocol") == 0


def test_at_rest_replicas_say_nothing_and_frontends_announce(cluster: Cluster) -> None:
    table = scenarios.rest(cluster)

    _, frontend, replica = table.rows[1]
    assert replica == 0.0
    assert frontend == pytest.approx(2 * (SMALL.frontends - 1), rel=0.3)  # one to each peer, one from each, a second


def test_a_model_of_one_replica_is_relayed_to_by_the_frontends_that_it_does_not_link_to(cluster: Cluster) -> None:
    table = scenarios.load(cluster, utilisation=0.15, seconds=10.0)

    shares = {row[0]: float(str(row[1]).rstrip("%")) / 100 for row in table.rows}
    assert shares[1] == pytest.approx(1 - MOST_LINKS / SMALL.frontends, abs=0.1)
    assert shares[8] <= 0.001
    assert set(cluster.answers.verdicts) == {"answered"}


def test_the_end_of_half_of_the_frontends_costs_what_they_had_in_hand(cluster: Cluster) -> None:
    table = scenarios.lose(cluster, cluster.live[:5], utilisation=LIGHT, watch_s=35.0)

    answered, failed = counts(figure(table, "queries answered after the kill"))
    assert answered > 500
    assert failed == 0
    assert cluster.is_covered()
    assert cluster.reaches_all()


def test_a_store_that_comes_back_empty_changes_nothing(cluster: Cluster) -> None:
    table = scenarios.empty_store(cluster, utilisation=LIGHT)

    assert figure(table, "entries of rosters lost") == 0
    assert figure(table, "connections lost") == 0
    assert counts(figure(table, "frontends that serve")) == [SMALL.frontends, SMALL.frontends]
    assert counts(figure(table, "queries answered"))[1] == 0


def test_through_a_proxy_a_replica_finds_all_of_few_frontends() -> None:
    shape = Shape(frontends=4, replicas=20, sizes=1, models_of_a_size=1)

    (row,) = scenarios.proxy(shape, [4], at_most_s=30.0).rows

    assert row[6] == 0  # not covered


def test_through_a_proxy_dials_are_bounded_however_many_frontends_there_are() -> None:
    shape = Shape(frontends=60, replicas=10, sizes=1, models_of_a_size=1)

    (row,) = scenarios.proxy(shape, [60], at_most_s=42.0).rows

    per_replica_s = float(str(row[-1])) / shape.replicas
    assert float(str(row[-2])) * 2.0 <= shape.replicas * (SEARCHES_PER_LINK * MOST_LINKS + 2)
    assert per_replica_s <= 1.2 / SEARCH_EVERY_S


def test_the_same_seed_is_the_same_run() -> None:
    tables = []
    for _ in range(2):
        cluster = Cluster(SMALL)
        with simulated(cluster.loop):
            cluster.start_frontends()
            cluster.start_replicas(within_s=1.0)
            cluster.run_for(2.0)
            tables.append(scenarios.load(cluster, utilisation=0.1, seconds=2.0))

    assert tables[0] == tables[1]


def test_a_table_is_written_as_markdown() -> None:
    table = Table("Title", ["", "figure"], [["one", 1234], ["two", 0.123], ["three", None]], ["A note."])

    assert mesh_simulation.render(table) == (
        "### Title\n\n|  | figure |\n| --- | --- |\n| one | 1,234 |\n| two | 0.12 |\n| three | – |\n\nA note."
    )
