"""The catalog's writer against real stores."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from redis.asyncio import Redis

from clipper_nomad.errors import StoreError
from clipper_nomad.state.commit import Commit
from clipper_nomad.state.records import App, Model, ModelVersion, Snapshot, field_of
from clipper_nomad.state.store import Store
from tests.process.stores import StoreServer

pytestmark = pytest.mark.process

DIGITS = App(name="digits", input_type="doubles", default_output="-1.0", slo_micros=100_000)
LETTERS = App(name="letters", input_type="strings", default_output="?", slo_micros=100_000, linked_models=("m",))
CLUSTER = "test"


@asynccontextmanager
async def opened(server: StoreServer, *, create: bool = True) -> AsyncIterator[Store]:
    store = await Store.open(server.url, CLUSTER, create=create)
    try:
        yield store
    finally:
        await store.close()


def run(scenario: Callable[[Store], Awaitable[None]], server: StoreServer) -> None:
    """Run `scenario` on a store that was made anew."""

    async def main() -> None:
        async with opened(server) as store:
            await scenario(store)

    asyncio.run(main())


def put(*records: App | Model | ModelVersion, reply: str = "") -> Callable[[Snapshot], Commit]:
    return lambda _: Commit(put=records, reply=reply)


def test_a_new_store_has_an_id_and_revision_0(store_server: StoreServer) -> None:
    async def scenario(store: Store) -> None:
        catalog = await store.read()

        assert len(catalog.store_id) == 32
        assert (catalog.revision, catalog.records) == (0, [])

    run(scenario, store_server)


def test_the_store_id_is_set_once(store_server: StoreServer) -> None:
    async def scenario(store: Store) -> None:
        first = (await store.read()).store_id

        async with opened(store_server) as again:
            assert (await again.read()).store_id == first

    run(scenario, store_server)


def test_clusters_in_one_store_do_not_see_each_other(store_server: StoreServer) -> None:
    async def scenario(store: Store) -> None:
        await store.commit(put(DIGITS))

        other = await Store.open(store_server.url, "other", create=True)
        try:
            assert (await other.read()).records == []
        finally:
            await other.close()

    run(scenario, store_server)


def test_a_write_raises_the_revision_and_is_read_back(store_server: StoreServer) -> None:
    version = ModelVersion(name="m", version="1", uid="u", input_type="strings", labels=("a", "b"), sample='"x"')

    async def scenario(store: Store) -> None:
        committed = await store.commit(put(DIGITS, LETTERS, Model(name="m", current_version="1"), version, reply="ok"))

        assert (committed.revision, committed.reply) == (1, "ok")
        assert committed.fields == ("app/digits", "app/letters", "model/m", "version/m:1")
        catalog = await store.read()
        assert catalog.revision == 1
        assert catalog.apps == {"digits": DIGITS, "letters": LETTERS}
        assert catalog.current_version("m") == version

    run(scenario, store_server)


def test_a_deleted_record_is_gone(store_server: StoreServer) -> None:
    async def scenario(store: Store) -> None:
        await store.commit(put(DIGITS, LETTERS))

        await store.commit(lambda _: Commit(delete=(field_of(DIGITS),)))

        catalog = await store.read()
        assert (catalog.revision, set(catalog.apps)) == (2, {"letters"})

    run(scenario, store_server)


def test_a_write_of_nothing_keeps_the_revision(store_server: StoreServer) -> None:
    async def scenario(store: Store) -> None:
        committed = await store.commit(lambda _: Commit(reply="Success!"))

        assert (committed.revision, committed.reply) == (0, "Success!")

    run(scenario, store_server)


def test_what_a_rule_raises_reaches_the_caller_and_nothing_is_written(store_server: StoreServer) -> None:
    def refuse(_: Snapshot) -> Commit:
        raise KeyError("no such app")

    async def scenario(store: Store) -> None:
        with pytest.raises(KeyError, match="no such app"):
            await store.commit(refuse)

        assert (await store.read()).revision == 0

    run(scenario, store_server)


def test_writers_that_race_lose_no_write(store_server: StoreServer) -> None:
    """Two admins, each linking models to one app by reading it and writing it back."""

    def link(model: str) -> Callable[[Snapshot], Commit]:
        def rule(catalog: Snapshot) -> Commit:
            app = catalog.apps["digits"]
            return Commit(
                put=(
                    App(
                        name=app.name,
                        input_type=app.input_type,
                        default_output=app.default_output,
                        slo_micros=app.slo_micros,
                        linked_models=(*app.linked_models, model),
                    ),
                )
            )

        return rule

    async def scenario(store: Store) -> None:
        await store.commit(put(DIGITS))

        async with opened(store_server) as other:
            writes = [writer.commit(link(f"{who}{n}")) for n in range(20) for who, writer in [("a", store), ("b", other)]]
            await asyncio.gather(*writes)

        catalog = await store.read()
        wanted = {f"{who}{n}" for who in "ab" for n in range(20)}
        assert set(catalog.apps["digits"].linked_models) == wanted
        assert len(catalog.apps["digits"].linked_models) == 40
        assert catalog.revision == 41

    run(scenario, store_server)


def test_a_write_asked_for_twice_is_done_once_and_answers_alike(store_server: StoreServer) -> None:
    answers = iter(["first", "second"])

    async def scenario(store: Store) -> None:
        for _ in range(2):
            committed = await store.commit(lambda _: Commit(put=(DIGITS,), reply=next(answers)), request_key="k")

            assert (committed.revision, committed.fields, committed.reply) == (1, ("app/digits",), "first")
        assert (await store.read()).revision == 1

    run(scenario, store_server)


def test_a_transaction_whose_answer_was_lost_is_not_done_again(one_store_server: StoreServer) -> None:
    """The connection breaks after the store has done the EXEC and before the writer hears of it."""
    cut: list[bytes] = []

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_store, to_store = await asyncio.open_unix_connection(one_store_server.socket_path)
        with contextlib.closing(writer), contextlib.closing(to_store):
            while command := await reader.read(65536):
                to_store.write(command)
                answer = await from_store.read(65536)
                if b"EXEC" in command and b"HINCRBY" in command and not cut:
                    cut.append(answer)
                    return
                writer.write(answer)

    async def main() -> None:
        path = one_store_server.socket_path.with_name("proxy.sock")
        async with await asyncio.start_unix_server(forward, path), opened(one_store_server) as direct:
            proxied = await Store.open(f"unix://{path}", CLUSTER, create=False)
            runs = itertools.count(1)

            committed = await proxied.commit(lambda _: Commit(put=(DIGITS,), reply=f"run {next(runs)}"))

            assert len(cut) == 1
            assert (committed.revision, committed.reply) == (1, "run 1")
            assert (await direct.read()).revision == 1
            await proxied.close()

    asyncio.run(main())


def test_an_answered_write_survives_kill_9(store_server: StoreServer) -> None:
    async def scenario(store: Store) -> None:
        before = await store.read()
        for number in range(20):
            await store.commit(put(App(name=f"a{number}", input_type="bytes", default_output="", slo_micros=1)))

        store_server.kill()
        store_server.start()

        catalog = await store.read()
        assert (catalog.store_id, catalog.revision, len(catalog.apps)) == (before.store_id, 20, 20)

    run(scenario, store_server)


def test_a_store_that_is_away_is_said_to_be_and_serves_again_when_back(store_server: StoreServer) -> None:
    async def scenario(store: Store) -> None:
        store_server.kill()

        for attempt in (store.read(), store.commit(put(DIGITS)), store.roll_call(), store.accept()):
            with pytest.raises(StoreError, match="the store does not answer"):
                await attempt
        store_server.start()

        assert (await store.commit(put(DIGITS))).revision == 1

    run(scenario, store_server)


def test_a_store_that_is_not_there_cannot_be_opened(store_server: StoreServer) -> None:
    async def main(*, create: bool) -> None:
        with pytest.raises(StoreError, match="the store does not answer"):
            await Store.open(f"{store_server.url}.none", CLUSTER, create=create)

    asyncio.run(main(create=False))
    asyncio.run(main(create=True))


def test_an_address_that_is_none_is_refused_without_its_password() -> None:
    async def main() -> None:
        with pytest.raises(StoreError, match="no address of a store") as caught:
            await Store.open("http://user:secret@host/", CLUSTER, create=False)

        assert "secret" not in str(caught.value)

    asyncio.run(main())


def test_a_store_that_lost_its_data_refuses_reads_and_writes(store_server: StoreServer) -> None:
    async def scenario(store: Store) -> None:
        await store.commit(put(DIGITS))
        store_server.kill()
        store_server.wipe()
        store_server.start()

        for attempt in (store.read(), store.commit(put(LETTERS))):
            with pytest.raises(StoreError, match="holds no catalog"):
                await attempt

    run(scenario, store_server)


@pytest.mark.parametrize(
    ("key", "field", "value", "cause"),
    [
        ("catalog", "app/digits", b"{", "damaged"),
        ("catalog", "app/digits", b"\xff\xfe", "damaged"),
        ("catalog", "nothing/known", b"{}", "is no record"),
        ("catalog", "app/other", b'{"name":"digits","input_type":"b","default_output":"","slo_micros":1}', "holds the"),
        ("meta", "revision", b"many", "damaged"),
        ("meta", "schema", b"2", "knows up to 1"),
    ],
)
def test_a_damaged_catalog_is_never_served(
    one_store_server: StoreServer, key: str, field: str, value: bytes, cause: str
) -> None:
    async def scenario(store: Store) -> None:
        async with Redis.from_url(one_store_server.url) as vandal:
            await vandal.hset(f"clipper:{CLUSTER}:{key}", field, value)

        with pytest.raises(StoreError, match=cause):
            await store.read()

    run(scenario, one_store_server)


def test_a_restored_catalog_has_a_new_id_that_names_its_parent(store_server: StoreServer) -> None:
    lost = Snapshot(store_id="lost", revision=118, apps={"digits": DIGITS})

    async def scenario(store: Store) -> None:
        old = await store.read()
        await store.commit(put(LETTERS))

        committed = await store.replace(lost)

        catalog = await store.read()
        assert catalog.store_id == committed.store_id not in {"lost", old.store_id}
        assert (catalog.revision, catalog.parent_store_id, dict(catalog.apps)) == (119, "lost", {"digits": DIGITS})

    run(scenario, store_server)


def test_without_frontends_a_write_is_announced_to_nobody_at_once(store_server: StoreServer) -> None:
    async def scenario(store: Store) -> None:
        propagation = await store.announce(await store.commit(put(DIGITS)))

        assert (propagation.live, propagation.behind) == (0, ())
        assert (await store.roll_call()).reports == ()

    run(scenario, store_server)


def test_a_store_tells_whether_an_answered_write_is_on_disk(store_server: StoreServer) -> None:
    async def scenario(store: Store) -> None:
        assert await store.is_durable() is True
        async with Redis.from_url(store_server.url) as operator:
            await operator.config_set("appendfsync", "everysec")
        assert await store.is_durable() is False

    run(scenario, store_server)
