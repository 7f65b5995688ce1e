"""Raw queries through Fabio in an open loop, round a change of the cluster or a fault."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from benchmarks.checked_load import Address
from tests.cluster.clusters import APP, Cluster
from tests.process.steady_load import SteadyLoad
from tests.waiting import wait_until

log = logging.getLogger(__name__)
RATE_PER_S = 200.0
BEFORE, AFTER = 1_000, 1_000  # queries that were answered before the change begins, and after it is done
LONGEST_CHANGE_S = 300.0


@contextmanager
def raw_queries(cluster: Cluster, *, least: int = 0, longest_s: float = LONGEST_CHANGE_S) -> Iterator[SteadyLoad]:
    """Run the load: `least` queries in all, BEFORE of them before the block begins, AFTER of them after it has ended.

    The caller judges its tally. What a busy machine sends late is counted, and its latency is from when it was due.
    """
    place = urlsplit(cluster.url)
    assert place.hostname
    assert place.port
    prefix = cluster.manager.names.query_path
    load = SteadyLoad(
        [Address(place.hostname, place.port)], app=APP, prefix=prefix, is_proxied=True, connections=64, timeout_s=30.0
    )
    with load.running(rate_per_s=RATE_PER_S, seconds=longest_s) as result:

        def await_answered(count: int) -> None:
            wait_until(lambda: load.answered >= count or result.done(), f"{count} answers", within_s=longest_s)
            if result.done():
                result.result()  # its failure, if it has one
                raise AssertionError(f"the load ended after {longest_s} s, before the change was done")

        try:
            await_answered(BEFORE)
            yield load
            await_answered(max(least, load.answered + AFTER))
        finally:
            load.stop()
    tally = load.tally
    log.info("%s\nslowest answer %.0f ms", tally.describe(), load.slowest_s * 1e3)
    assert tally.queries >= 0.8 * RATE_PER_S * tally.seconds, tally.describe()
