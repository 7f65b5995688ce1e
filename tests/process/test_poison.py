"""Models that fail, as real processes behind a real frontend: what each client gets, and that the system goes on.

Inputs that end their replica are poison: they get 422, their batch mates are answered, and few replicas end for it.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from benchmarks.checked_answers import Answer, Query, Verdict
from benchmarks.checked_load import CheckingClient, Shape
from benchmarks.rig import Rig
from benchmarks.rig_plan import Plan, Served
from clipper_nomad.state.records import App
from tests.process.bundles import load_model
from tests.process.frontends import a_version, an_app
from tests.process.http_clients import Client, Reply

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]

POISON = 666
HALF = 0.5
IN_FLIGHT = 256
FAILING = ("raises", "wrong_count", "wrong_types", "exits_politely", "hangs", "exits", "segfaults", "identity")


def served(model: str, *, replicas: int = 1, batch_size: int = -1, **settings: str) -> Served:
    """Return version 1 of a model of tests/models."""
    record = a_version(model, replicas=replicas, batch_size=batch_size)
    return Served(record=record, function=load_model(model).predict, settings=settings)


async def predict(rig: Rig, app: str, value: object) -> Reply:
    """Ask for one prediction on a connection of its own."""
    address = rig.addresses[0]

    def ask() -> Reply:
        with Client((address.host, address.port)) as client:
            return client.predict(app, value)

    return await asyncio.to_thread(ask)


# ---- poison ----------------------------------------------------------------------------------------------------------


@pytest.fixture
async def three_replicas(tmp_path: Path) -> AsyncIterator[Rig]:
    """An app whose model ends its process on inputs that begin with POISON."""
    plan = Plan(
        apps=[an_app("a", model="poison", slo_s=10, timeout_s=30)],
        served=[served("poison", replicas=3, batch_size=128)],
        current={"poison": "1"},
        proxy=None,
    )
    async with Rig(tmp_path, plan) as rig:
        yield rig


async def ask_all_at_once(rig: Rig, poison: frozenset[int]) -> Counter[str]:
    """Have IN_FLIGHT numbered queries in flight, the `poison` ones among them; count right answers and statuses."""
    counts: Counter[str] = Counter()

    def make_query(number: int) -> Query:
        value = [POISON, number] if number in poison else [number, HALF]
        return Query(number, "/a/predict", json.dumps({"input": value}).encode())

    def check(query: Query, answer: Answer) -> Verdict:
        is_right = answer.status == 200 and json.loads(answer.body)["output"] == query.number + HALF
        counts["right" if is_right else str(answer.status)] += 1
        is_poisoned = query.number in poison and answer.status == 422 and json.loads(answer.body)["error"] == "poison_input"
        return Verdict.RIGHT if is_right or is_poisoned else Verdict.WRONG

    shape = Shape(connections=IN_FLIGHT, pipelining_share=0, timeout_s=40)
    client = CheckingClient(rig.addresses, make_query=make_query, check=check, shape=shape)
    tally = await client.run_closed(count=IN_FLIGHT)
    assert tally.verdicts[Verdict.RIGHT] == IN_FLIGHT, tally.describe()
    return counts


async def test_two_poisonous_inputs_among_256_fail_alone_and_end_four_replicas_at_most(three_replicas: Rig) -> None:
    rig = three_replicas

    counts = await ask_all_at_once(rig, frozenset({70, 190}))

    assert counts == {"right": 254, "422": 2}
    await rig.until_whole()
    assert 2 <= rig.death_count <= 4
    assert {death.code for death in rig.deaths()} == {1}, "a replica ended by something else than its input"


async def test_an_input_that_was_poison_is_refused_without_ending_another_replica(three_replicas: Rig) -> None:
    rig = three_replicas
    await ask_all_at_once(rig, frozenset({100}))
    await rig.until_whole()
    deaths = rig.death_count

    again = await predict(rig, "a", [POISON, 100])
    innocent = await predict(rig, "a", [POISON - 1, 100])

    assert (again.status, innocent.json["output"]) == (422, POISON - 1 + 100)
    assert rig.death_count == deaths


# ---- each way to fail ------------------------------------------------------------------------------------------------


async def test_each_failing_model_gets_a_clear_answer_and_the_others_go_on(tmp_path: Path) -> None:
    apps: list[App] = [an_app(model, model=model, slo_s=1, timeout_s=30) for model in FAILING]
    plan = Plan(
        apps=apps,
        served=[served(model, CLIPPER_HANG_AFTER_S="0.5") for model in FAILING],
        current=dict.fromkeys(FAILING, "1"),
        proxy=None,
    )
    async with Rig(tmp_path, plan) as rig:
        replies = dict(zip(FAILING, await asyncio.gather(*(predict(rig, model, [-1.0]) for model in FAILING)), strict=True))

        for model, status, words in [
            ("raises", 500, "ValueError: a number below 0"),
            ("wrong_count", 500, "Expected model to return 1 outputs, found 0 outputs"),
            ("exits_politely", 500, "SystemExit: enough"),
            ("hangs", 422, "ended two replicas"),
            ("exits", 422, "ended two replicas"),
            ("segfaults", 422, "ended two replicas"),
        ]:
            reply = replies[model]
            assert reply.status == status, (model, reply)
            assert words in reply.json["cause"], (model, reply)
        assert "traceback id" in replies["raises"].json["cause"]
        assert replies["identity"].json["output"] == [-1.0]
        assert "Found None for input 0 of 1" in (await predict(rig, "wrong_types", [0.0])).json["cause"]

        await rig.until_whole()
        for model in ("raises", "wrong_types", "hangs"):  # what is well on a good input answers it now
            assert (await predict(rig, model, [9.0])).json["output"] == 1.0
        ended = Counter(death.name for death in rig.deaths())
        assert ended == {"hangs-1-0": 2, "exits-1-0": 2, "segfaults-1-0": 2}
        for name in ended:
            log = rig.replicas[name].log
            assert {"hangs-1-0": "Timeout", "exits-1-0": "about to exit", "segfaults-1-0": "Segmentation"}[name] in log
