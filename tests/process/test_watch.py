"""Frontends that follow the catalog in real stores: acks, roll calls, outages."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis.asyncio import Redis

from clipper_nomad.state.commit import Commit
from clipper_nomad.state.messages import Ack, Presence, RollCall, decode_order, encode_ack
from clipper_nomad.state.records import App, Snapshot
from clipper_nomad.state.store import Store
from clipper_nomad.state.watch import watch_catalog
from tests.process.stores import StoreServer
from tests.waiting import LOOK_EVERY_S, until

pytestmark = pytest.mark.process

CLUSTER = "test"


class Follower:
    """A frontend's catalog, in its shortest form: keep what is served unless the same store has something newer."""

    def __init__(self, frontend_id: str) -> None:
        self.id = frontend_id
        self.served = Snapshot(store_id="", revision=0)
        self.conflict = False
        self.seen: list[tuple[str, int]] = []
        self.breaks = False

    def accept(self, catalog: Snapshot, forced: bool) -> int:  # noqa: FBT001  # the form that watch_catalog calls
        if self.breaks:
            self.breaks = False
            raise RuntimeError("a bug in accept")
        self.seen.append((catalog.store_id, catalog.revision))
        fits = catalog.store_id and self.served.store_id in {"", catalog.store_id, catalog.parent_store_id}
        self.conflict = not (forced or (fits and catalog.revision >= self.served.revision))
        if not self.conflict:
            self.served = catalog
        return self.served.revision

    def report(self) -> Mapping[str, Any]:
        return {"frontend": self.id, "store_id": self.served.store_id, "conflict": self.conflict}


@asynccontextmanager
async def following(
    server: StoreServer,
    frontend_id: str = "f1",
    *,
    compare_s: float = 60.0,
    heard: Callable[[Presence], bool] | None = None,
    is_present: Callable[[], bool] = lambda: True,
) -> AsyncIterator[Follower]:
    follower = Follower(frontend_id)
    task = asyncio.create_task(
        watch_catalog(
            server.url,
            CLUSTER,
            accept=follower.accept,
            report=follower.report,
            frontend_id=frontend_id,
            address=f"ipc:///{frontend_id}",
            heard=heard,
            is_present=is_present,
            compare_s=compare_s,
        )
    )
    try:
        yield follower
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def connected(store: Store, count: int = 1) -> None:
    """Return when `count` frontends answer a roll call."""
    while len((await store.roll_call(0.2)).reports) < count:  # noqa: ASYNC110  # the store is asked, by us
        await asyncio.sleep(LOOK_EVERY_S)


def run(scenario: Callable[[Store], Awaitable[None]], server: StoreServer) -> None:
    async def main() -> None:
        store = await Store.open(server.url, CLUSTER, create=True)
        try:
            await asyncio.wait_for(scenario(store), 30)
        finally:
            await store.close()

    asyncio.run(main())


def app(name: str) -> App:
    return App(name=name, input_type="doubles", default_output="-1.0", slo_micros=100_000)


def put(*names: str) -> Callable[[Snapshot], Commit]:
    return lambda _: Commit(put=tuple(map(app, names)))


def test_an_announced_write_is_served_by_every_frontend(store_server: StoreServer) -> None:
    async def scenario(store: Store) -> None:
        async with following(store_server, "f1") as one, following(store_server, "f2") as two:
            await connected(store, 2)
            for number in range(1, 11):
                propagation = await store.announce(await store.commit(put(f"a{number}")))

                assert (propagation.live, propagation.behind) == (2, ())
                assert one.served.revision == two.served.revision == number
                assert f"a{number}" in two.served.apps

    run(scenario, store_server)


def test_a_frontend_has_the_catalog_from_its_start(store_server: StoreServer) -> None:
    async def scenario(store: Store) -> None:
        await store.commit(put("digits"))

        async with following(store_server) as follower:
            await until(lambda: follower.served.revision == 1, "the frontend serves revision 1")

    run(scenario, store_server)


def test_a_frontend_in_conflict_is_named_at_once(store_server: StoreServer) -> None:
    async def scenario(store: Store) -> None:
        async with following(store_server) as follower:
            follower.served = Snapshot(store_id="another", revision=118)
            await connected(store)

            propagation = await store.announce(await store.commit(put("digits")), timeout_s=30)

            assert (propagation.live, propagation.behind) == (1, ("f1",))
            assert follower.served.revision == 118
            assert (await store.roll_call()).in_conflict == ("f1",)

    run(scenario, store_server)


def test_a_person_can_say_that_this_store_counts(store_server: StoreServer) -> None:
    async def scenario(store: Store) -> None:
        async with following(store_server) as follower:
            follower.served = Snapshot(store_id="another", revision=118)
            await connected(store)

            propagation = await store.accept(timeout_s=30)

            assert (propagation.live, propagation.behind) == (1, ())
            assert follower.served == await store.read()

    run(scenario, store_server)


def test_a_silent_frontend_is_named_from_what_it_said_before(one_store_server: StoreServer) -> None:
    async def scenario(store: Store) -> None:
        async with (
            following(one_store_server, "lively"),
            Redis.from_url(one_store_server.url) as stopped,
            stopped.pubsub(ignore_subscribe_messages=True) as orders,
        ):
            await connected(store)
            await orders.subscribe(f"clipper:{CLUSTER}:changes")

            async def answer_a_roll_call() -> None:
                while True:
                    message = await orders.get_message(timeout=5)
                    match decode_order(message["data"]) if message else None:
                        case RollCall(id=id_):
                            ack = Ack(frontend="stopped", store_id="s", revision=0, conflict=False, roll_call=id_)
                            await stopped.publish(f"clipper:{CLUSTER}:acks", encode_ack(ack))
                            return

            nameless = await store.announce(await store.commit(put("one")), timeout_s=0.2)
            roll, _ = await asyncio.gather(store.roll_call(5), answer_a_roll_call())
            named = await store.announce(await store.commit(put("two")), timeout_s=0.2)

            assert (nameless.live, nameless.behind) == (2, ("unnamed",))
            assert (roll.live, len(roll.reports)) == (2, 2)
            assert (named.live, named.behind) == (2, ("stopped",))

    run(scenario, one_store_server)


def test_the_roll_is_the_report_of_every_frontend(store_server: StoreServer) -> None:
    async def scenario(store: Store) -> None:
        async with following(store_server, "f1"), following(store_server, "f2"):
            await connected(store, 2)

            roll = await store.roll_call()

            assert roll.live == 2
            assert {report["frontend"] for report in roll.reports} == {"f1", "f2"}
            assert roll.in_conflict == ()

    run(scenario, store_server)


def test_a_frontend_serves_on_while_the_store_is_away_and_catches_up_when_it_is_back(
    store_server: StoreServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "clipper_nomad.state.watch")

    async def scenario(store: Store) -> None:
        async with following(store_server) as follower:
            await connected(store)
            await store.announce(await store.commit(put("before")))

            store_server.kill()
            await until(lambda: "store away, serving on" in caplog.messages, "the outage is noticed")
            assert follower.served.revision == 1
            store_server.start()
            await store.announce(await store.commit(put("after")), timeout_s=0.1)
            await until(lambda: follower.served.revision == 2, "the frontend catches up", within_s=3.0)
            await until(lambda: len(caplog.messages) == 2, "the store's return is logged")

            assert caplog.messages == ["store away, serving on", "store back"]

    run(scenario, store_server)


def test_an_outage_is_logged_once_however_long_it_is(
    one_store_server: StoreServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, "clipper_nomad.state.watch")
    monkeypatch.setattr("clipper_nomad.state.watch.LONGEST_BACKOFF_S", 0.01)
    attempts: list[float] = []

    def jitter(low: float, high: float) -> float:
        attempts.append(low)
        return high

    monkeypatch.setattr("clipper_nomad.state.watch.random.uniform", jitter)

    async def scenario(store: Store) -> None:
        async with following(one_store_server):
            await connected(store)
            one_store_server.kill()
            await until(lambda: len(attempts) > 10, "ten tries to reach the store")

        assert caplog.messages == ["store away, serving on"]

    run(scenario, one_store_server)


def test_a_frontend_that_starts_before_the_store_follows_it_later(store_server: StoreServer) -> None:
    async def scenario(store: Store) -> None:
        store_server.kill()
        async with following(store_server) as follower:
            store_server.start()
            await store.announce(await store.commit(put("digits")), timeout_s=0.1)

            await until(lambda: follower.served.revision == 1, "the frontend serves revision 1", within_s=3.0)

    run(scenario, store_server)


def test_a_stopped_store_is_noticed_and_followed_again(
    one_store_server: StoreServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clipper_nomad.state.layout.COMMAND_TIMEOUT_S", 0.2)
    caplog.set_level(logging.INFO, "clipper_nomad.state.watch")

    async def scenario(store: Store) -> None:
        async with following(one_store_server, compare_s=0.1) as follower:
            await connected(store)
            one_store_server.pause()
            await until(lambda: "store away, serving on" in caplog.messages, "the stopped store is noticed")
            one_store_server.resume()
            await until(lambda: "store back" in caplog.messages, "the store is followed again")
            await store.announce(await store.commit(put("digits")))

            assert follower.served.revision == 1

    run(scenario, one_store_server)


def test_a_change_that_nobody_announced_is_found_by_comparing(store_server: StoreServer) -> None:
    async def scenario(store: Store) -> None:
        async with following(store_server, compare_s=0.05) as follower:
            await connected(store)
            await store.commit(put("digits"))

            await until(lambda: follower.served.revision == 1, "the change is found")

    run(scenario, store_server)


def test_an_emptied_store_is_handed_on_as_one_without_an_id(store_server: StoreServer) -> None:
    async def scenario(store: Store) -> None:
        await store.commit(put("digits"))
        async with following(store_server) as follower:
            await connected(store)
            store_server.kill()
            store_server.wipe()
            store_server.start()

            await until(lambda: follower.conflict, "the conflict is seen")
            assert follower.seen[-1] == ("", 0)
            assert "digits" in follower.served.apps
            await until(lambda: follower.conflict, "the conflict is seen")
            assert (await store.roll_call()).in_conflict == ("f1",)

    run(scenario, store_server)


def test_a_restored_store_is_followed_without_being_asked(store_server: StoreServer) -> None:
    async def scenario(store: Store) -> None:
        await store.commit(put("digits"))
        async with following(store_server) as follower:
            await connected(store)
            lost = follower.served
            store_server.kill()
            store_server.wipe()
            store_server.start()
            await until(lambda: follower.conflict, "the conflict is seen")

            propagation = await store.announce(await store.replace(lost))

            assert (propagation.live, propagation.behind, follower.conflict) == (1, (), False)
            assert (follower.served.revision, set(follower.served.apps)) == (2, {"digits"})

    run(scenario, store_server)


def test_a_damaged_catalog_is_a_conflict_and_what_was_served_stays(
    one_store_server: StoreServer, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(store: Store) -> None:
        await store.commit(put("digits"))
        async with (
            following(one_store_server, compare_s=0.05) as follower,
            Redis.from_url(one_store_server.url) as vandal,
        ):
            await connected(store)
            await vandal.hset(f"clipper:{CLUSTER}:catalog", "app/digits", "{")
            await vandal.hincrby(f"clipper:{CLUSTER}:meta", "revision", 1)
            await until(lambda: ("", 0) in follower.seen, "the damage is seen")

            assert set(follower.served.apps) == {"digits"}
            assert (await store.roll_call()).in_conflict == ("f1",)

        assert caplog.messages.count("catalog in the store cannot be read, serving on") == 1

    run(scenario, one_store_server)


def test_a_bug_in_the_frontend_does_not_end_the_watch(
    one_store_server: StoreServer, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(store: Store) -> None:
        async with following(one_store_server) as follower:
            await connected(store)
            follower.breaks = True
            await store.announce(await store.commit(put("digits")))

            assert follower.served.revision == 1
        assert "catalog not taken" in caplog.messages

    run(scenario, one_store_server)


def test_messages_that_nobody_knows_are_passed_over(one_store_server: StoreServer) -> None:
    async def scenario(store: Store) -> None:
        async with following(one_store_server) as follower, Redis.from_url(one_store_server.url) as stranger:
            await connected(store)
            for text in (b"", b"\xff", b"[]", b'{"revision":"x","fields":[]}', b"[" * 100_000, b'{"news":1}'):
                await stranger.publish(f"clipper:{CLUSTER}:changes", text)
                await stranger.publish(f"clipper:{CLUSTER}:acks", text)
            propagation = await store.announce(await store.commit(put("digits")))

            assert (propagation.behind, follower.served.revision) == ((), 1)

    run(scenario, one_store_server)


def test_revisions_arrive_in_order_while_two_writers_race(store_server: StoreServer) -> None:
    async def scenario(store: Store) -> None:
        other = await Store.open(store_server.url, CLUSTER, create=True)

        async def write(writer: Store, name: str) -> None:
            for number in range(15):
                await writer.announce(await writer.commit(put(f"{name}{number}")))

        try:
            async with following(store_server) as follower:
                await connected(store)
                await asyncio.gather(write(store, "a"), write(other, "b"))

                revisions = [revision for _, revision in follower.seen]
                assert revisions == sorted(revisions)
                assert (follower.served.revision, len(follower.served.apps)) == (30, 30)
        finally:
            await other.close()

    run(scenario, store_server)


# ---- presence


class Ears:
    """What one frontend hears of the others."""

    def __init__(self) -> None:
        self.heard: list[Presence] = []

    def __call__(self, presence: Presence) -> bool:
        is_news = presence not in self.heard
        self.heard.append(presence)
        return is_news


def test_a_new_frontend_hears_of_the_others_at_once_and_they_of_it(one_store_server: StoreServer) -> None:
    async def scenario(store: Store) -> None:
        one, other = Ears(), Ears()
        async with following(one_store_server, "f1", heard=one):
            await connected(store, 1)
            async with following(one_store_server, "f2", heard=other):
                await until(lambda: one.heard and other.heard, "each has heard the other", within_s=2)

        assert set(one.heard) == {Presence(frontend="f2", address="ipc:///f2")}
        assert set(other.heard) == {Presence(frontend="f1", address="ipc:///f1")}

    run(scenario, one_store_server)


def test_a_frontend_that_leaves_is_heard_no_more_though_it_still_listens(one_store_server: StoreServer) -> None:
    """What it said while it drained brought it back to the rosters of the others."""

    async def scenario(store: Store) -> None:
        one, leaving = Ears(), Ears()
        async with (
            following(one_store_server, "leaving", heard=leaving, is_present=lambda: False, compare_s=0.05),
            following(one_store_server, "f1", heard=one, compare_s=0.05),
        ):
            await connected(store, 2)
            await until(lambda: len(leaving.heard) > 5, "it listens")

        assert not one.heard

    run(scenario, one_store_server)
