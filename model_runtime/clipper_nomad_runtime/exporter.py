"""Serves this replica's metrics to Prometheus, at /metrics on a TCP port or a unix socket, from a thread of its own.

What code of the model registers with prometheus_client's own registry is shown too. Loaded only if metrics are wanted.
"""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from prometheus_client import REGISTRY, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from clipper_nomad_runtime.config import MetricsAddress
from clipper_nomad_runtime.metrics import Histogram, Metrics

_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_PATIENCE_S = 5.0  # with a client that says nothing


class MetricsCollector(Collector):
    """Reads the counters when Prometheus asks. No lock: each is one number, and one thread raises them."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        """Yield every metric of this replica."""
        metrics = self._metrics
        yield CounterMetricFamily("clipper_mc_pred", "Batches answered", value=metrics.batches)
        yield CounterMetricFamily("clipper_mc_inputs", "Inputs of those batches", value=metrics.inputs)
        yield _labelled("clipper_mc_errors", "Inputs, or whole batches, without an output", "kind", metrics.errors)
        yield _labelled("clipper_mc_dropped", "Messages and batches thrown away", "reason", metrics.dropped)
        yield _labelled("clipper_mc_dials", "Connections begun to frontends", "way", metrics.dials)
        yield GaugeMetricFamily("clipper_mc_links_open", "Frontends that may send work", value=metrics.links_open)
        yield GaugeMetricFamily("clipper_mc_links_wanted", "Frontends to be linked to", value=metrics.links_wanted)
        yield GaugeMetricFamily(
            "clipper_mc_links_by_proxy", "Frontends out of reach at their own address", value=metrics.links_by_proxy
        )
        yield _histogram("clipper_mc_recv_time_ms", "Reading a batch off its socket", metrics.recv)
        yield _histogram("clipper_mc_parse_time_ms", "Unpacking the inputs of a batch", metrics.parse)
        yield _histogram("clipper_mc_handle_time_ms", "The predict function and its outputs", metrics.handle)
        yield _histogram(
            "clipper_mc_end_to_end_latency_ms", "From reading a batch to sending its result", metrics.end_to_end
        )


def start_exporter(address: MetricsAddress, metrics: Metrics) -> None:
    """Listen at `address` and serve there until the process ends. Raises: OSError: the address cannot be had."""
    REGISTRY.register(MetricsCollector(metrics))
    server = _TcpServer((address.host, address.port), _Handler) if address.path is None else _unix_server(address.path)
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()


class _Handler(BaseHTTPRequestHandler):
    timeout = _PATIENCE_S

    def do_GET(self) -> None:  # http.server's name
        if self.path.partition("?")[0] != "/metrics":
            self.send_error(404, explain="Metrics are at /metrics.")
            return
        body = generate_latest(REGISTRY)
        self.send_response(200)
        self.send_header("Content-Type", _CONTENT_TYPE)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "local"  # a unix socket's client has no address

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # http.server's name
        """A scrape is no event."""


class _Quiet(socketserver.BaseServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hung up is no event."""


class _TcpServer(_Quiet, socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


class _UnixServer(_Quiet, socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


def _unix_server(path: Path) -> _UnixServer:
    path.unlink(missing_ok=True)  # left by a predecessor that was killed
    return _UnixServer(str(path), _Handler)


def _labelled(name: str, text: str, label: str, counts: dict[str, int]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=[label])
    for value, count in list(counts.items()):
        family.add_metric([value], count)
    return family


def _histogram(name: str, text: str, histogram: Histogram) -> HistogramMetricFamily:
    buckets: list[tuple[str, float]] = []
    seen = 0
    for bound, count in zip([*map(str, histogram.bounds_ms), "+Inf"], list(histogram.counts), strict=True):
        seen += count
        buckets.append((bound, seen))
    return HistogramMetricFamily(name, text, buckets=buckets, sum_value=histogram.sum_ms)
