"""Which catalog a frontend serves, and what its mirror saves it from."""

from __future__ import annotations

import contextlib
import json
import logging
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipper_nomad.state.records import App, ModelVersion, Snapshot, from_mirror, to_mirror
from clipper_nomad_frontend.catalog import Catalog, replaces

APP = App(name="digits", input_type="doubles", default_output="-1.0", slo_micros=20_000, linked_models=("m",))
VERSION = ModelVersion(name="m", version="1", uid="u", input_type="doubles", labels=("a", "b"))


def snapshot(revision: int, store: str = "mine", *, parent: str | None = None) -> Snapshot:
    return Snapshot(
        store_id=store, revision=revision, parent_store_id=parent, apps={"digits": APP}, versions={"m:1": VERSION}
    )


class Frontend:
    """A catalog, and what it was told to serve."""

    def __init__(self, mirror: Path | None) -> None:
        self.applied: list[Snapshot] = []
        self.catalog = Catalog(mirror, self.applied.append)

    def accept(self, *snapshots: Snapshot) -> int:
        return [self.catalog.accept(each) for each in snapshots][-1]


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    return tmp_path / "mirror.json"


# ---- which replaces which


@pytest.mark.parametrize(
    ("new", "served", "expected"),
    [
        (snapshot(0), None, True),
        (snapshot(0, ""), None, False),
        (snapshot(9, ""), snapshot(7), False),
        (snapshot(8), snapshot(7), True),
        (snapshot(7), snapshot(7), False),
        (snapshot(6), snapshot(7), False),
        (snapshot(8, "other"), snapshot(7), False),
        (snapshot(7, "restored", parent="mine"), snapshot(7), True),
        (snapshot(9, "restored", parent="mine"), snapshot(7), True),
        (snapshot(6, "restored", parent="mine"), snapshot(7), False),
        (snapshot(9, "restored", parent="other"), snapshot(7), False),
    ],
)
def test_a_catalog_is_replaced_by_a_newer_one_of_its_store_or_of_one_restored_from_it(
    new: Snapshot, served: Snapshot | None, *, expected: bool
) -> None:
    assert replaces(new, served) is expected


def test_the_first_catalog_is_served() -> None:
    frontend = Frontend(None)

    assert frontend.accept(snapshot(3)) == 3
    assert frontend.applied == [snapshot(3)]
    assert frontend.catalog.conflict is None


def test_a_store_that_nobody_set_up_is_no_catalog_to_serve() -> None:
    frontend = Frontend(None)

    assert frontend.accept(snapshot(0, "")) == -1
    assert not frontend.applied
    assert frontend.catalog.conflict is None


def test_a_newer_revision_is_served() -> None:
    frontend = Frontend(None)

    assert frontend.accept(snapshot(3), snapshot(4)) == 4
    assert frontend.applied == [snapshot(3), snapshot(4)]


def test_the_revision_that_is_served_already_is_not_applied_again() -> None:
    frontend = Frontend(None)

    assert frontend.accept(snapshot(3), snapshot(3)) == 3
    assert frontend.applied == [snapshot(3)]


@pytest.mark.parametrize("stranger", [snapshot(0, "empty"), snapshot(2), snapshot(99, "other")])
def test_a_store_that_came_back_with_something_else_wipes_nothing(
    stranger: Snapshot, caplog: pytest.LogCaptureFixture
) -> None:
    frontend = Frontend(None)

    revision = frontend.accept(snapshot(3), stranger, stranger)

    assert revision == 3
    assert frontend.applied == [snapshot(3)]
    assert frontend.catalog.conflict is not None
    assert stranger.store_id in frontend.catalog.conflict
    assert [record.message for record in caplog.records] == ["catalog conflict: serving what was served before"]


def test_a_conflict_ends_when_the_own_store_is_back(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    frontend = Frontend(None)
    frontend.accept(snapshot(3), snapshot(0, "empty"))

    frontend.accept(snapshot(3))

    assert frontend.catalog.conflict is None
    assert caplog.records[-1].message == "catalog conflict is over"


def test_a_conflict_ends_when_the_own_store_has_news() -> None:
    frontend = Frontend(None)

    assert frontend.accept(snapshot(3), snapshot(0, "empty"), snapshot(4)) == 4
    assert frontend.catalog.conflict is None


def test_a_restored_store_ends_the_conflict() -> None:
    frontend = Frontend(None)

    frontend.accept(snapshot(3), snapshot(0, "empty"), snapshot(3, "restored", parent="mine"))

    assert frontend.catalog.conflict is None
    assert frontend.applied[-1].store_id == "restored"


@pytest.mark.parametrize("wanted", [snapshot(0, "empty"), snapshot(1)])
def test_an_operator_may_force_any_catalog(wanted: Snapshot, mirror: Path) -> None:
    frontend = Frontend(mirror)
    frontend.accept(snapshot(3), wanted)

    assert frontend.catalog.accept(wanted, forced=True) == wanted.revision
    assert frontend.applied[-1] == wanted
    assert frontend.catalog.conflict is None
    assert from_mirror(mirror.read_bytes()).store_id == wanted.store_id


# ---- the mirror


def test_a_frontend_starts_from_what_another_start_served(mirror: Path) -> None:
    Frontend(mirror).accept(snapshot(3))

    later = Frontend(mirror)

    assert later.catalog.start_from_mirror()
    assert later.applied == [snapshot(3)]
    assert later.accept(snapshot(0, "empty")) == 3
    assert later.catalog.conflict is not None


def test_the_mirror_is_the_newest_that_was_served(mirror: Path) -> None:
    frontend = Frontend(mirror)

    frontend.accept(snapshot(3), snapshot(4), snapshot(0, "empty"))

    assert from_mirror(mirror.read_bytes()).revision == 4
    assert frontend.catalog.mirror_bytes() == mirror.read_bytes()
    assert [path.name for path in mirror.parent.iterdir()] == ["mirror.json"]


def test_mirrors_side_by_side_do_not_share_their_unfinished_file(tmp_path: Path) -> None:
    one, other = Frontend(tmp_path / "mirror.1"), Frontend(tmp_path / "mirror.2")
    (tmp_path / "mirror.new").mkdir()  # what is in the way of others is in nobody's way here

    one.accept(snapshot(3))
    other.accept(snapshot(4))

    assert from_mirror((tmp_path / "mirror.1").read_bytes()).revision == 3
    assert from_mirror((tmp_path / "mirror.2").read_bytes()).revision == 4


def test_without_a_mirror_nothing_is_served_at_first(mirror: Path) -> None:
    for frontend in (Frontend(None), Frontend(mirror)):
        assert not frontend.catalog.start_from_mirror()
        assert not frontend.applied
        assert frontend.catalog.served is None
        assert frontend.catalog.mirror_bytes() is None


DAMAGES = {
    "empty": b"",
    "no JSON": b"\x00\xff",
    "no object": b"[]",
    "another object": b'{"a":1}',
    "no checksum": b'{"body":"{}"}',
    "body is no text": b'{"body":5,"sha256":""}',
    "deep": b"[" * 100_000,
}


@pytest.mark.parametrize("raw", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_mirror_is_said_and_passed_over(raw: bytes, mirror: Path, caplog: pytest.LogCaptureFixture) -> None:
    mirror.write_bytes(raw)
    frontend = Frontend(mirror)

    assert not frontend.catalog.start_from_mirror()
    assert not frontend.applied
    assert "cannot be read" in caplog.text
    assert frontend.accept(snapshot(3)) == 3
    assert from_mirror(mirror.read_bytes()).revision == 3


def test_a_mirror_of_something_unreadable_is_passed_over(tmp_path: Path) -> None:
    assert not Frontend(tmp_path).catalog.start_from_mirror()  # a folder


def test_a_body_whose_checksum_is_right_must_still_be_a_catalog(mirror: Path) -> None:
    damaged = json.loads(to_mirror(snapshot(3)))
    damaged["body"] = damaged["body"].replace('"revision"', '"revisions"')

    mirror.write_text(json.dumps(damaged))

    assert not Frontend(mirror).catalog.start_from_mirror()


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_no_damage_is_ever_served(data: st.DataObject) -> None:
    whole = to_mirror(snapshot(3))
    cut = data.draw(st.integers(0, len(whole) - 1))
    flipped = bytearray(whole)
    flipped[cut] ^= 1 << data.draw(st.integers(0, 7))

    for damaged in (whole[:cut], bytes(flipped)):
        with contextlib.suppress(ValueError):
            assert from_mirror(damaged) == snapshot(3)  # a flipped bit in what means nothing


def test_a_mirror_that_cannot_be_written_is_said_and_predictions_go_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    frontend = Frontend(tmp_path / "no such folder" / "mirror.json")

    assert frontend.accept(snapshot(3)) == 3
    assert "cannot be written" in caplog.text
    assert frontend.applied == [snapshot(3)]


# ---- a peer's catalog


def confirmed(revision: int = 7, store: str = "mine") -> Frontend:
    frontend = Frontend(None)
    frontend.accept(snapshot(revision, store))
    return frontend


def from_old_mirror(mirror: Path, revision: int = 7, store: str = "mine") -> Frontend:
    mirror.write_bytes(to_mirror(snapshot(revision, store)))
    frontend = Frontend(mirror)
    assert frontend.catalog.start_from_mirror()
    return frontend


def take(frontend: Frontend, offered: Snapshot, *, is_confirmed: bool = True) -> int | None:
    frontend.catalog.take_from_peer(to_mirror(offered), "peer", is_confirmed=is_confirmed)
    return frontend.catalog.served.revision if frontend.catalog.served else None


@pytest.mark.parametrize("is_confirmed", [False, True])
def test_a_frontend_without_a_catalog_takes_a_peer_s_and_mirrors_it(mirror: Path, *, is_confirmed: bool) -> None:
    frontend = Frontend(mirror)

    assert frontend.catalog.wants("mine", 7, is_confirmed=is_confirmed)
    assert take(frontend, snapshot(7), is_confirmed=is_confirmed) == 7
    assert from_mirror(mirror.read_bytes()) == snapshot(7)
    assert frontend.catalog.is_confirmed is is_confirmed


@pytest.mark.parametrize(("revision", "expected"), [(6, False), (7, False), (8, True)])
def test_of_the_same_store_a_newer_catalog_is_taken(revision: int, *, expected: bool) -> None:
    frontend = confirmed()

    assert frontend.catalog.wants("mine", revision, is_confirmed=True) is expected
    assert take(frontend, snapshot(revision)) == max(7, revision)


def test_what_a_store_confirmed_gives_way_to_no_other_store_s_whatever_a_peer_says() -> None:
    frontend = confirmed()

    assert not frontend.catalog.wants("other", 99, is_confirmed=True)
    assert take(frontend, snapshot(99, "other")) == 7


def test_a_mirror_gives_way_to_what_a_peer_s_store_confirmed(mirror: Path) -> None:
    frontend = from_old_mirror(mirror)

    assert take(frontend, snapshot(2, "other")) == 2
    assert from_mirror(mirror.read_bytes()).store_id == "other"


def test_two_frontends_with_old_mirrors_do_not_swap_them(tmp_path: Path) -> None:
    """Each took the other's, and both took theirs for confirmed."""
    one = from_old_mirror(tmp_path / "one", store="one")
    other = from_old_mirror(tmp_path / "other", store="other")

    take(one, snapshot(7, "other"), is_confirmed=False)
    take(other, snapshot(7, "one"), is_confirmed=False)

    assert one.catalog.served == snapshot(7, "one")
    assert other.catalog.served == snapshot(7, "other")


def test_a_store_that_lost_its_data_does_not_wipe_what_a_mirror_holds_by_way_of_a_peer(mirror: Path) -> None:
    """A new frontend had taken what the wiped store held; it handed that on to those who served from their mirrors."""
    frontend = from_old_mirror(mirror)
    frontend.accept(snapshot(1, "wiped"))

    assert take(frontend, snapshot(1, "wiped")) == 7
    assert frontend.catalog.conflict is not None


@pytest.mark.parametrize("is_confirmed", [False, True])
def test_an_empty_store_s_catalog_is_wanted_by_nobody(mirror: Path, *, is_confirmed: bool) -> None:
    for frontend in (Frontend(None), confirmed(), from_old_mirror(mirror)):
        assert not frontend.catalog.wants("", 0, is_confirmed=is_confirmed)


def test_a_peer_s_catalog_does_not_hide_that_the_store_says_otherwise() -> None:
    frontend = confirmed()
    frontend.accept(snapshot(1, "wiped"))

    assert take(frontend, snapshot(8)) == 8
    assert frontend.catalog.conflict is not None


def test_a_store_confirms_what_came_from_a_peer() -> None:
    frontend = Frontend(None)
    take(frontend, snapshot(7), is_confirmed=False)

    frontend.accept(snapshot(7))

    assert frontend.catalog.is_confirmed


@given(
    st.one_of(st.binary(max_size=200), st.sampled_from([b"[]", b"{}", b"null", b'{"body": 1, "sha256": 2}', b"[" * 10_000]))
)
@settings(max_examples=50)
def test_noise_from_a_peer_is_no_catalog(noise: bytes) -> None:
    frontend = confirmed()

    frontend.catalog.take_from_peer(noise, "peer", is_confirmed=True)

    assert frontend.catalog.served == snapshot(7)
