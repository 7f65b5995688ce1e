"""docs/behaviour.md, "JSON": every object of the table has the keys that a real stack's has."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests

import clipper_nomad
from clipper_nomad import ClipperConnection

pytestmark = pytest.mark.process

PAGE = Path(__file__).resolve().parents[2] / "docs" / "behaviour.md"
Json = Any  # JSON; the tests say what is in it


@pytest.fixture(scope="module")
def clipper(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClipperConnection]:
    """A real stack with one model behind one app."""
    connection = clipper_nomad.local(home=tmp_path_factory.mktemp("stack"), port=0)
    try:
        connection.deploy(add_up, "m", sample=[1.0])
        yield connection
    finally:
        connection.stop_all()


def add_up(inputs: np.ndarray) -> list[float]:
    return [float(row.sum()) for row in inputs]


def ask(clipper: ClipperConnection, path: str, body: Json = None) -> Json:
    answer = requests.request(
        "GET" if body is None else "POST",
        f"http://{clipper.cm.get_admin_addr()}/admin/v1/{path}",
        json=body,
        headers={"Authorization": f"Bearer {clipper.cm.get_admin_token()}"},
        timeout=20,
    )
    answer.raise_for_status()
    return answer.json()


def documented() -> dict[str, list[str]]:
    """The table of objects: name → keys."""
    (table,) = re.findall(r"(?ms)^\| object \| keys \| notes \|\n\| --- \| --- \| --- \|\n(.+?)\n\n", PAGE.read_text())
    rows = (row.split("|") for row in table.splitlines())
    return {name.strip(): re.findall(r"`(\w+)`", keys) for _, name, keys, *_ in rows}


def objects(clipper: ClipperConnection) -> Mapping[str, Json]:
    catalog = ask(clipper, "catalog")
    (report,) = clipper.frontends()
    which = {"model_name": "m", "model_version": "1"}
    return {
        "app": clipper.get_app_info("m"),
        "version": clipper.get_model_info("m", 1),
        "replica": clipper.get_model_replica_info("m", 1, 0),
        "health": ask(clipper, "health"),
        "catalog": catalog,
        "app of the catalog": catalog["apps"][0],
        "model of the catalog": catalog["models"][0],
        "version of the catalog": catalog["versions"][0],
        "report": report,
        "replica of a report": report["replicas"][0],
        "version of a report": report["versions"][0],
        "app of a report": report["apps"][0],
        "probe": ask(clipper, "probe", {**which, "input": [1.0]})["probes"][0],
        "probe that failed": ask(clipper, "probe", {**which, "input": "no list"})["probes"][0],
    }


def test_every_object_has_the_keys_that_are_documented(clipper: ClipperConnection) -> None:
    found = objects(clipper)

    assert found.keys() == documented().keys()
    for name, keys in documented().items():
        perhaps = {"error"} if name == "probe that failed" else set()
        assert set(found[name]) - perhaps == set(keys), name


def test_without_verbose_the_names_alone_are_listed_and_with_it_the_objects(clipper: ClipperConnection) -> None:
    assert (clipper.get_all_apps(), clipper.get_all_apps(verbose=True)) == (["m"], [clipper.get_app_info("m")])
    assert (clipper.get_all_models(), clipper.get_all_models(verbose=True)) == (["m:1"], [clipper.get_model_info("m", 1)])
    replica = clipper.get_model_replica_info("m", 1, 0)
    assert (clipper.get_all_model_replicas(), clipper.get_all_model_replicas(verbose=True)) == (["m:1:0"], [replica])
    assert clipper.get_linked_models("m") == ["m"]


def test_what_is_not_there_is_none(clipper: ClipperConnection) -> None:
    assert clipper.get_app_info("no") is None
    assert clipper.get_model_info("no", 1) is None
    assert clipper.get_model_replica_info("m", 1, 7) is None


def test_our_writes_answer_as_documented(clipper: ClipperConnection) -> None:
    app = {"name": "a", "input_type": "doubles", "default_output": "0", "latency_slo_micros": 1000}
    which = {"model_name": "n", "model_version": "1"}

    answers = [
        ask(clipper, "apps", app),
        ask(clipper, "versions", {**which, "input_type": "doubles", "staged": True}),
        ask(clipper, "versions/activate", which),
        ask(clipper, "versions/delete", which),
        ask(clipper, "store/accept", {}),
    ]

    assert [list(answer) for answer in answers] == [["result"], ["uid"], ["result"], ["result"], ["live", "behind"]]
