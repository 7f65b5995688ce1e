"""Inputs that ended a replica are refused for a while."""

from __future__ import annotations

import pytest

from clipper_nomad_frontend import poison as poison_module
from clipper_nomad_frontend.poison import REFUSED_FOR_S, PoisonList


def test_nothing_is_poison_at_first() -> None:
    poison = PoisonList()

    assert not poison
    assert not poison.refuses(b"a", 1, 0.0)


def test_a_poison_is_refused_for_ten_minutes() -> None:
    poison = PoisonList()

    poison.add(b"a", 1, 100.0)

    assert REFUSED_FOR_S == 600.0
    assert poison.refuses(b"a", 1, 100.0)
    assert poison.refuses(b"a", 1, 699.9)
    assert poison
    assert not poison.refuses(b"a", 1, 700.0)
    assert not poison  # forgotten: the look-up costs nothing again


@pytest.mark.parametrize(("data", "length"), [(b"b", 1), (b"", 1), (b"a", 2), (b"a\0", 1)])
def test_other_bytes_or_another_shape_are_another_input(data: bytes, length: int) -> None:
    poison = PoisonList()

    poison.add(b"a", 1, 0.0)

    assert not poison.refuses(data, length, 1.0)


def test_a_poison_that_strikes_again_is_refused_anew() -> None:
    poison = PoisonList()
    poison.add(b"a", 1, 0.0)

    poison.add(b"a", 1, 500.0)

    assert poison.refuses(b"a", 1, 1000.0)


def test_when_too_many_are_known_the_oldest_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(poison_module, "MOST_REMEMBERED", 3)
    poison = PoisonList()
    for data in (b"a", b"b", b"c", b"a"):  # `a` is the newest at last
        poison.add(data, 1, 0.0)

    poison.add(b"d", 1, 0.0)

    assert [data for data in (b"a", b"b", b"c", b"d") if poison.refuses(data, 1, 1.0)] == [b"a", b"c", b"d"]
