"""Which frontends are alive: by their own word, by links, by hearsay, and never by the store's silence."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipper_nomad.protocol.mesh_messages import MAX_NAME, MAX_ROSTER, Known, RosterEntry
from clipper_nomad_frontend.roster import FORGOTTEN_AFTER_S, Roster

OWN = RosterEntry("me", "ipc:///me")
A = RosterEntry("a", "ipc:///a")
ELSEWHERE = RosterEntry("a", "ipc:///elsewhere")


def roster(*heard: RosterEntry, at: float = 0.0) -> Roster:
    made = Roster(OWN)
    for entry in heard:
        made.heard(entry, at)
    return made


def test_who_spoke_is_in_the_roster_and_raises_its_version_once() -> None:
    known = roster(A)
    version = known.version

    known.heard(A, 5.0)

    assert known.entries == (OWN, A)
    assert known.version == version


def test_nobody_is_removed_while_a_link_stands_however_long_the_store_is_silent() -> None:
    known = roster(A)
    known.linked("a", 1.0)

    for second in range(1000):
        known.forget(float(second))

    assert "a" in known


def test_a_link_that_stands_again_raises_the_version_so_that_replicas_hear_of_it() -> None:
    known = roster(A)
    known.linked("a", 1.0)
    version = known.version

    known.linked("a", 2.0)  # a second one beside it
    known.unlinked("a", 3.0)
    assert known.version == version

    known.linked("a", 4.0)
    assert known.version == version + 1


def test_an_entry_leaves_when_nobody_had_a_link_for_30_s() -> None:
    known = roster(A)
    known.linked("a", 1.0)
    known.unlinked("a", 100.0)

    known.forget(100.0 + FORGOTTEN_AFTER_S - 0.1)
    assert "a" in known

    known.forget(100.0 + FORGOTTEN_AFTER_S + 0.1)
    assert "a" not in known


def test_a_peer_s_link_keeps_an_entry_that_we_have_no_link_to() -> None:
    known = roster(A)
    for second in range(100):
        known.told(Known(A, 0.0), float(second))
        known.forget(float(second))

    assert "a" in known


def test_a_goodbye_removes_at_once_and_hearsay_does_not_bring_back() -> None:
    known = roster(A)
    known.goodbye("a", 10.0)

    for second in range(10, 40):
        known.told(Known(A, 0.0), float(second))
        assert "a" not in known

    known.heard(A, 41.0)
    assert "a" in known


def test_old_hearsay_brings_nobody_back() -> None:
    known = roster()
    known.told(Known(A, FORGOTTEN_AFTER_S), 100.0)

    assert "a" not in known


def test_two_frontends_do_not_keep_a_third_alive_by_telling_each_other() -> None:
    one, other = roster(A), roster(A)

    for second in range(60):
        now = float(second)
        for teller, listener in ((one, other), (other, one)):
            for known in teller.known(now):
                listener.told(known, now + 0.005)
        one.forget(now)
        other.forget(now)

    assert "a" not in one
    assert "a" not in other


def test_where_a_frontend_is_it_says_itself() -> None:
    known = roster(A)

    known.told(Known(ELSEWHERE, 0.0), 1.0)
    assert known.others == (A,)

    known.heard(ELSEWHERE, 2.0)
    assert known.others == (ELSEWHERE,)


def test_of_two_hearsays_the_newer_stands() -> None:
    known = roster()
    known.told(Known(A, 5.0), 10.0)
    known.told(Known(ELSEWHERE, 8.0), 10.0)
    assert known.others == (A,)

    known.told(Known(ELSEWHERE, 1.0), 10.0)
    assert known.others == (ELSEWHERE,)


def test_nobody_tells_us_who_we_are() -> None:
    known = roster()
    known.heard(RosterEntry("me", "ipc:///other"), 0.0)
    known.told(Known(RosterEntry("me", "ipc:///other"), 0.0), 0.0)

    assert known.entries == (OWN,)


@pytest.mark.parametrize(
    "entry",
    [
        RosterEntry("", "ipc:///x"),
        RosterEntry("x" * (MAX_NAME + 1), "ipc:///x"),
        RosterEntry("\ud800", "ipc:///x"),
        RosterEntry("x", "http://x"),
    ],
    ids=["no name", "a long name", "half a surrogate pair", "no address of ours"],
)
def test_who_could_not_be_passed_on_is_not_taken_in(entry: RosterEntry) -> None:
    """Every peer would refuse the whole roster with it, and drop its link."""
    assert roster(entry).others == ()


def test_a_roster_has_an_end() -> None:
    known = roster(*(RosterEntry(f"f{number}", "") for number in range(2 * MAX_ROSTER)))

    assert len(known.entries) == MAX_ROSTER


NAMES = st.sampled_from(["a", "b", "c", "me"])
EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["heard", "told", "linked", "unlinked", "goodbye", "forget"]),
        NAMES,
        st.floats(0, 40),
        st.floats(0, 20),
    ),
    max_size=40,
)


@given(EVENTS)
def test_whatever_happens_the_version_tells_of_every_change(events: list[tuple[str, str, float, float]]) -> None:
    known, now = roster(), 0.0
    for what, name, age, passed in events:
        now += passed
        before, version = known.entries, known.version
        entry = RosterEntry(name, f"ipc:///{name}")
        match what:
            case "heard":
                known.heard(entry, now)
            case "told":
                known.told(Known(entry, age), now)
            case "linked":
                known.linked(name, now)
            case "unlinked":
                known.unlinked(name, now)
            case "goodbye":
                known.goodbye(name, now)
            case _:
                known.forget(now)

        if known.entries == before and what != "linked":  # a link that stands again is told too
            assert known.version == version
        elif known.entries != before:
            assert known.version > version
        assert known.entries[0] == OWN
        assert {each.entry for each in known.known(now)} == set(known.others)
        assert all(0 <= each.unlinked_s < 1e9 for each in known.known(now))
