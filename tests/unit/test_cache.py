"""The prediction cache: equal inputs alone are found, its bytes are bounded, and what goes is what nobody asked for."""

from __future__ import annotations

import itertools
import random
import tracemalloc
from collections import OrderedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from clipper_nomad_frontend.cache import ENTRY_BYTES, PredictionCache, Shelf

ROOM = 20 * ENTRY_BYTES


class Colliding(bytes):
    """Bytes that all have one hash: an attacker's inputs, or those of a weak hash."""

    def __hash__(self) -> int:
        return 1


def test_an_input_finds_its_output_and_no_other() -> None:
    shelf = PredictionCache(ROOM).shelf()

    shelf.put(b"a", b"1")

    assert shelf.get(b"a") == b"1"
    assert shelf.get(b"b") is None


@given(st.lists(st.binary(max_size=4), unique=True, min_size=1, max_size=8), st.data())
def test_inputs_whose_hashes_collide_are_told_apart(inputs: list[bytes], data: st.DataObject) -> None:
    shelf = PredictionCache(ROOM).shelf()
    kept = data.draw(st.sets(st.sampled_from(inputs)))
    for item in kept:
        shelf.put(Colliding(item), b"output of " + item)

    for item in inputs:
        assert shelf.get(Colliding(item)) == (b"output of " + item if item in kept else None)


def test_versions_do_not_see_each_other_s_outputs() -> None:
    cache = PredictionCache(ROOM)
    one, other = cache.shelf(), cache.shelf()

    one.put(b"a", b"1")
    other.put(b"a", b"2")

    assert (one.get(b"a"), other.get(b"a")) == (b"1", b"2")


def test_an_output_that_is_there_stays() -> None:
    cache = PredictionCache(ROOM)
    shelf = cache.shelf()

    shelf.put(b"a", b"1")
    shelf.put(b"a", b"2")

    assert (shelf.get(b"a"), cache.count) == (b"1", 1)


def test_an_output_larger_than_the_cache_is_not_kept_and_takes_nothing_else_away() -> None:
    cache = PredictionCache(ROOM)
    shelf = cache.shelf()
    shelf.put(b"a", b"1")

    shelf.put(b"b", bytes(ROOM))

    assert shelf.get(b"b") is None
    assert shelf.get(b"a") == b"1"


def test_inputs_count_as_much_as_outputs() -> None:
    cache = PredictionCache(ROOM)

    cache.shelf().put(bytes(100), bytes(10))

    assert cache.bytes_held == 110 + ENTRY_BYTES


def test_what_was_asked_for_again_outlives_what_came_after_it() -> None:
    cache = PredictionCache(3 * (ENTRY_BYTES + 2))
    shelf = cache.shelf()
    for item in (b"a", b"b", b"c"):
        shelf.put(item, b"1")
    shelf.get(b"a")

    for item in (b"d", b"e", b"f"):
        shelf.put(item, b"1")

    assert [item for item in (b"a", b"b", b"c", b"d", b"e", b"f") if shelf.get(item)] == [b"a", b"e", b"f"]
    assert cache.evicted == 3


def test_one_that_all_ask_for_again_still_gives_way_in_the_end() -> None:
    cache = PredictionCache(3 * (ENTRY_BYTES + 2))
    shelf = cache.shelf()
    for item in (b"a", b"b", b"c"):
        shelf.put(item, b"1")
        shelf.get(item)

    shelf.put(b"d", b"1")

    assert shelf.get(b"d") == b"1"
    assert cache.count == 3


def test_a_version_s_outputs_go_with_it_and_their_memory_piece_by_piece() -> None:
    cache = PredictionCache(ROOM)
    gone, stays = cache.shelf(), cache.shelf()
    for number in range(5):
        gone.put(b"%d" % number, b"1")
    stays.put(b"a", b"1")

    gone.close()

    assert all(gone.get(b"%d" % number) is None for number in range(5))
    assert cache.sweep(3)
    assert cache.count == 3
    assert not cache.sweep(3)
    assert (cache.count, cache.bytes_held) == (1, ENTRY_BYTES + 2)
    assert stays.get(b"a") == b"1"


def test_nothing_is_kept_of_a_version_that_is_gone() -> None:
    cache = PredictionCache(ROOM)
    shelf = cache.shelf()
    shelf.close()
    shelf.close()

    shelf.put(b"a", b"1")

    assert (shelf.get(b"a"), cache.count, cache.bytes_held) == (None, 0, 0)


def least_recently_used_hits(trace: list[bytes], entries: int) -> int:
    kept: OrderedDict[bytes, None] = OrderedDict()
    hits = 0
    for item in trace:
        if item in kept:
            hits += 1
            kept.move_to_end(item)
            continue
        if len(kept) == entries:
            kept.popitem(last=False)
        kept[item] = None
    return hits


def test_among_inputs_of_uneven_popularity_more_are_found_than_with_the_least_recently_used() -> None:
    chance = random.Random(1)
    weights = [*itertools.accumulate(1 / (rank + 1) for rank in range(5000))]
    trace = [b"%8d" % number for number in chance.choices(range(5000), cum_weights=weights, k=40_000)]
    shelf = PredictionCache(200 * (8 + 1 + ENTRY_BYTES)).shelf()

    hits = 0
    for item in trace:
        if shelf.get(item) is None:
            shelf.put(item, b"1")
        else:
            hits += 1

    assert hits > 1.1 * least_recently_used_hits(trace, 200)


@pytest.mark.parametrize(("input_bytes", "output_bytes"), [(8, 3), (80, 18), (1000, 1000)])
def test_the_memory_that_it_takes_is_no_more_than_it_says(input_bytes: int, output_bytes: int) -> None:
    chance = random.Random(1)
    most = 2 * 1024 * 1024
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        cache = PredictionCache(most)
        shelf = cache.shelf()
        while not cache.evicted:
            shelf.put(chance.randbytes(input_bytes), b"%0*d" % (output_bytes, cache.count))
            if cache.count > 500:  # a dict of few entries may be larger than they are
                now, _ = tracemalloc.get_traced_memory()
                assert now - before <= cache.bytes_held <= most
    finally:
        tracemalloc.stop()


class CacheMachine(RuleBasedStateMachine):
    """Against a model: what was put last and first, at which version. A hit is right, and the bytes are the sum."""

    shelves = Bundle("shelves")

    def __init__(self) -> None:
        super().__init__()
        self.cache = PredictionCache(ROOM)
        self.put_at: dict[Shelf, dict[bytes, set[bytes]]] = {}
        self.held: dict[Shelf, set[bytes]] = {}

    @rule(target=shelves)
    def add_version(self) -> Shelf:
        shelf = self.cache.shelf()
        self.put_at[shelf] = {}
        return shelf

    @rule(shelf=shelves, data=st.binary(max_size=2), output=st.binary(max_size=2 * ENTRY_BYTES))
    def put(self, shelf: Shelf, data: bytes, output: bytes) -> None:
        held_before = shelf.get(data)
        shelf.put(data, output)
        self.put_at[shelf].setdefault(data, set()).add(output)
        expected = output if held_before is None and len(data) + len(output) + ENTRY_BYTES <= ROOM else held_before
        assert shelf.get(data) == expected  # what was put just now is there: the newest goes last

    @rule(shelf=shelves, data=st.binary(max_size=2))
    def get(self, shelf: Shelf, data: bytes) -> None:
        found = shelf.get(data)
        assert found is None or found in self.put_at[shelf].get(data, set())

    @rule(shelf=consumes(shelves))
    def close(self, shelf: Shelf) -> None:
        items = list(self.put_at.pop(shelf))
        shelf.close()
        assert all(shelf.get(item) is None for item in items)

    @rule(most=st.integers(0, 10))
    def sweep(self, most: int) -> None:
        count = self.cache.count
        self.cache.sweep(most)
        assert count - self.cache.count <= most

    @invariant()
    def bytes_are_bounded(self) -> None:
        assert self.cache.bytes_held <= ROOM

    def teardown(self) -> None:
        while self.cache.sweep(100):
            pass
        found = [
            (data, output)
            for shelf, items in self.put_at.items()
            for data in items
            if (output := shelf.get(data)) is not None
        ]
        assert self.cache.count == len(found) == sum(map(len, self.put_at))
        assert self.cache.bytes_held == sum(len(data) + len(output) + ENTRY_BYTES for data, output in found)


TestCache = CacheMachine.TestCase
