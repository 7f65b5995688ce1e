"""Which names may be given."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipper_nomad.protocol.names import (
    MAX_SERVICE_NAME,
    app_problem,
    deployed_problem,
    length_problem,
    registered_problem,
    service_name,
)

CLIPPER_S_RULE = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?\Z")


@given(st.one_of(st.text(), st.from_regex(CLIPPER_S_RULE)))
def test_deployed_names_are_those_that_clipper_took(name: str) -> None:
    assert (deployed_problem("model name", name) is None) == bool(CLIPPER_S_RULE.match(name))


@pytest.mark.parametrize("name", ["1.0", "My-Model", "my_model", "-a", "a-", "", "a\n", "ä"])
def test_a_refused_name_is_told_in_clipper_s_words(name: str) -> None:
    problem = deployed_problem("model name", name)

    assert problem is not None
    assert problem.startswith(f"Invalid value: {name}: a model name must be a valid DNS-1123")


@given(st.from_regex(r"[a-z]{1,40}\Z"), st.from_regex(r"[a-z]{1,40}\Z"), st.from_regex(r"[0-9]{1,5}\Z"))
def test_a_service_name_that_passes_fits_into_dns(cluster: str, model: str, version: str) -> None:
    fits = len(service_name(cluster, model, version)) <= MAX_SERVICE_NAME

    assert (length_problem(cluster, model, version) is None) == fits


def test_a_name_that_is_too_long_is_told_how_long_it_may_be() -> None:
    problem = length_problem("default-cluster", "m" * 40, "1")

    assert problem is not None
    assert "is 9 characters too long; the model name may have 31 here" in problem


@given(st.text())
def test_registered_names_never_break_keys_urls_or_lists(name: str) -> None:
    if registered_problem("model name", name) is None:
        assert not set(name) & set(",:/ \t\r\n\x00")
        assert 0 < len(name.encode()) <= 128


@pytest.mark.parametrize(("name", "cause"), [("", "is empty"), ("a,b", "Contains one of"), ("ä" * 65, "has 130 bytes")])
def test_a_registered_name_that_is_refused_is_told_why(name: str, cause: str) -> None:
    assert cause in (registered_problem("label", name) or "")


@pytest.mark.parametrize("name", ["a", "App-1", "scikit.learn_model", "0", "x" * 128])
def test_apps_may_have_names_that_are_one_part_of_a_url(name: str) -> None:
    assert app_problem(name) is None


@pytest.mark.parametrize("name", ["", "-a", ".a", "a/b", "a b", "a?b", "x" * 129, "ä", "admin", "metrics", "v2", "_clipper"])
def test_apps_may_not_have_names_that_are_more_or_that_are_taken(name: str) -> None:
    assert "Invalid application name" in (app_problem(name) or "")
