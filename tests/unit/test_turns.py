"""Which of the frontends on one socket takes the next connection."""

from __future__ import annotations

import pytest

from clipper_nomad.container_manager import MOST_FRONTENDS as MOST_STARTED
from clipper_nomad_frontend.turns import MOST_AT_ONCE, MOST_FRONTENDS, Turns


@pytest.mark.parametrize(
    ("own", "others", "is_ours"),
    [
        (1000, [], True),
        (0, [0], True),
        (0, [5, 9], True),
        (5, [5], True),
        (6, [5], False),
        (6, [9, 5], False),
        (18, [16], True),
        (19, [16], False),
    ],
)
def test_whoever_has_the_fewest_takes_it_give_or_take_an_eighth(*, own: int, others: list[int], is_ours: bool) -> None:
    assert Turns().is_ours(own, others) is is_ours


def waits(turns: Turns, connections: int, *, in_vain: bool) -> int:
    """How often it waits while it takes so many, being always ahead of the others."""
    waited = 0
    for _ in range(connections):
        while not turns.is_ours(9, [0]):
            turns.waited(in_vain=in_vain)
            waited += 1
            if not in_vain:
                return waited  # they took it
    return waited


def test_it_waits_once_for_each_that_the_others_take() -> None:
    turns = Turns()

    assert [waits(turns, 1, in_vain=False) for _ in range(5)] == [1] * 5


def test_behind_a_peer_that_takes_none_it_waits_ever_less() -> None:
    turns = Turns()

    assert waits(turns, 63, in_vain=True) == 6  # 1 + 2 + 4 + 8 + 16 + 32
    assert waits(turns, 10 * MOST_AT_ONCE, in_vain=True) == 10


def test_a_peer_that_takes_one_again_is_waited_for_again() -> None:
    turns = Turns()
    waits(turns, 100, in_vain=True)

    turns.waited(in_vain=False)

    assert waits(turns, 3, in_vain=True) == 2


def test_as_many_frontends_can_share_a_socket_as_local_mode_starts() -> None:
    assert MOST_FRONTENDS == MOST_STARTED
