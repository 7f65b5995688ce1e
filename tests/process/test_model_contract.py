"""Clipper's contract with a predict function, where ours is the better one: what it is called with, how it is measured."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from numpy.typing import NDArray

from tests.process.bundles import pack
from tests.process.frontends import Frontend, a_version, an_app, uid_of
from tests.process.replicas import Bench, Replica, numbers
from tests.process.test_runtime_ends import scrape_unix

pytestmark = pytest.mark.process

LONG = "5.0 10.0 20.0 35.0 50.0 75.0 100.0 150.0 200.0 250.0 300.0 400.0 500.0 +Inf"
SHORT = "0.1 0.2 0.3 0.4 0.5 0.6 0.7 0.8 0.9 1.0 +Inf"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_a_query_reaches_the_function_once_and_no_copy_of_it_does(tmp_path: Path) -> None:
    """Clipper fills up the batches of an idle model with copies of their last input."""
    seen: list[int] = []

    def predict(inputs: NDArray[Any]) -> list[int]:
        seen.append(len(inputs))
        return [sum(seen)] * len(inputs)

    pack(tmp_path / "bundle", predict)
    with Frontend(an_app(), a_version()) as frontend:
        named = {"MODEL_NAME": "m", "MODEL_VERSION": "1", "MODEL_UID": uid_of("m", "1")}
        with Replica(tmp_path, tmp_path / "bundle", frontends=[frontend.rpc], **named):
            outputs = [frontend.predict("a", [float(number)]).json["output"] for number in range(40)]

    assert outputs == list(range(1, 41))


def test_what_a_function_keeps_of_its_inputs_stays_as_it_was(bench: Bench) -> None:
    """Clipper's arrays are views of a buffer that the next request overwrites."""
    kept: list[NDArray[Any]] = []

    def predict(inputs: NDArray[Any]) -> list[float]:
        kept.append(inputs)
        return [float(kept[0].sum())] * len(inputs)

    pack(bench.bundle, predict)
    with bench.frontend() as frontend, bench.replica(None):
        frontend.welcome()

        assert [numbers(frontend.ask([[float(batch)]], batch=batch)) for batch in (7, 8, 9)] == [[7.0]] * 3


def test_the_histograms_have_the_buckets_that_clipper_says_they_have(bench: Bench) -> None:
    """In Clipper a wrong key gives every one of them the long ones."""
    path = bench.folder / "metrics"
    with bench.frontend() as frontend, bench.replica("echo_sum", METRICS_ADDRESS=f"unix://{path}"):
        frontend.welcome()
        text = scrape_unix(path)

    for name, bounds in {"recv_time": SHORT, "parse_time": SHORT, "handle_time": LONG, "end_to_end_latency": LONG}.items():
        assert " ".join(re.findall(rf'clipper_mc_{name}_ms_bucket{{le="(.+?)"}}', text)) == bounds
