"""What an app promises, and which of its queries run out when."""

from __future__ import annotations

import pytest

from clipper_nomad.state.records import App, SloPolicy
from clipper_nomad_frontend.endpoints import Endpoint, Query, expire
from clipper_nomad_frontend.metrics import AppCounters
from tests.unit.queries import endpoint, query


def owed(at: Endpoint, *arrivals: float) -> list[Query]:
    """Queries that `at` owes an answer."""
    queries = [query(at, arrived=arrived) for arrived in arrivals]
    at.owed.update(dict.fromkeys(queries))
    return queries


class GivenUp(list[Query]):
    """Notes what is given up, as serving.py does."""

    def __call__(self, query: Query) -> None:
        """Give up one query."""
        self.append(query)
        del query.endpoint.owed[query]


def test_an_endpoint_promises_what_its_app_says() -> None:
    app = App(
        name="digits", input_type="doubles", default_output="[1,2]", slo_micros=20_000, timeout_micros=500_000,
        linked_models=("m",), slo_policy="error",
    )  # fmt: skip

    at = Endpoint(app, AppCounters())

    assert (at.name, at.model, at.policy) == ("digits", "m", "error")
    assert (at.slo_s, at.timeout_s) == (0.02, 0.5)
    assert at.default_output == b"[1,2]"
    assert at.reader.read(b'{"input":[1.5]}').inputs[0][1] == 1


def test_an_app_without_a_link_has_no_model() -> None:
    app = App(name="digits", input_type="doubles", default_output="0", slo_micros=1)

    assert Endpoint(app, AppCounters()).model is None


@pytest.mark.parametrize(("default", "text"), [("-1.0", b"-1.0"), ("none", b'"none"'), ("", b'""'), ("\ud800", b'"?"')])
def test_the_default_output_follows_clippers_rule(default: str, text: bytes) -> None:
    assert endpoint(default=default).default_output == text


@pytest.mark.parametrize(
    ("policy", "slo_s", "timeout_s", "patience_s"),
    [
        ("late", 0.1, 5.0, 5.0),
        ("late", 0.1, None, 10.0),
        ("default", 0.1, 5.0, 0.1),
        ("error", 0.1, 5.0, 0.1),
        ("default", 3.0, 2.0, 2.0),  # a timeout below the SLO
    ],
)
def test_an_app_waits_as_long_as_its_policy_says(
    policy: SloPolicy, slo_s: float, timeout_s: float | None, patience_s: float
) -> None:
    assert endpoint(policy=policy, slo_s=slo_s, timeout_s=timeout_s).patience_s == patience_s


def test_a_query_has_its_instants_from_its_arrival() -> None:
    asked = query(endpoint(slo_s=0.1, timeout_s=5.0), arrived=100.0)

    assert asked.slo_at == pytest.approx(100.1)
    assert asked.timeout_at == 105.0


# ---- expiry


def test_the_oldest_queries_run_out_first_and_no_others() -> None:
    at = endpoint(policy="default", slo_s=1.0)
    queries = owed(at, 0.0, 0.5, 0.6, 2.0)
    given_up = GivenUp()

    following = expire([at], 1.55, given_up)

    assert given_up == queries[:2]
    assert following == 1.6
    assert list(at.owed) == queries[2:]


def test_a_query_runs_out_at_its_instant() -> None:
    at = endpoint(policy="default", slo_s=1.0)
    owed(at, 0.5)
    given_up = GivenUp()

    assert expire([at], 1.4999, given_up) == 1.5
    assert not given_up
    assert expire([at], 1.5, given_up) is None
    assert len(given_up) == 1


def test_several_endpoints_tell_the_earliest_that_follows() -> None:
    late, early, idle = endpoint("a", timeout_s=9.0), endpoint("b", timeout_s=2.0), endpoint("c")
    owed(late, 0.0)
    owed(early, 1.0, 2.0)
    given_up = GivenUp()

    assert expire([late, early, idle], 0.0, given_up) == 3.0
    assert expire([late, early, idle], 3.0, given_up) == 4.0
    assert expire([late, early, idle], 4.0, given_up) == 9.0
    assert len(given_up) == 2


def test_without_anything_owed_nothing_follows() -> None:
    assert expire([endpoint()], 1e9, GivenUp()) is None
    assert expire([], 1e9, GivenUp()) is None


def test_what_was_answered_meanwhile_does_not_run_out() -> None:
    at = endpoint(policy="default", slo_s=1.0)
    first, second = owed(at, 0.0, 0.2)
    del at.owed[first]
    given_up = GivenUp()

    assert expire([at], 1.1, given_up) == 1.2
    assert not given_up
    assert list(at.owed) == [second]


def test_a_replaced_endpoint_keeps_its_own_terms() -> None:
    old, new = endpoint(policy="default", slo_s=1.0), endpoint(policy="default", slo_s=0.1)
    (early,), (late,) = owed(old, 0.0), owed(new, 0.5)
    given_up = GivenUp()

    assert expire([new, old], 0.6, given_up) == 1.0
    assert given_up == [late]
    assert list(old.owed) == [early]


def test_a_query_that_will_not_go_cannot_hold_up_the_others() -> None:
    at = endpoint(policy="default", slo_s=1.0)
    queries = owed(at, 0.0, 0.1)
    given_up: list[Query] = []

    assert expire([at], 5.0, given_up.append) is None

    assert given_up == queries
    assert not at.owed
