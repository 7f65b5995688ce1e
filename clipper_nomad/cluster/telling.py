"""What a manager tells of its work when nobody else listens: a line for each job and image, below a notebook's cell."""

from __future__ import annotations

from clipper_nomad.cell_block import show
from clipper_nomad.cluster.names import ClusterNames
from clipper_nomad.cluster.rollout.events import RolloutEvent
from clipper_nomad.cluster.rollout.lines import rollout_line

WIDTH = 80  # of a builder's line


class CellTelling:
    """Tells of the cluster that has these names."""

    def __init__(self, names: ClusterNames) -> None:
        self._names = names

    def rollout(self, event: RolloutEvent) -> None:
        """Show what became of a job."""
        show(event.job_id.removeprefix(f"{self._names.prefix}-"), rollout_line(event))

    def image(self, image: str, line: str) -> None:
        """Show what a builder or a registry said of an image."""
        name = image.partition("@")[0].rpartition("/")[2].rpartition(":")[0]
        show(f"image {name.removeprefix(f'{self._names.cluster}-')}", " ".join(line.split())[:WIDTH])
