"""Whose key may say what, and which key is dialled with, while the frontends' key is changed and at other times."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from clipper_nomad.protocol.keys import parse_keys
from clipper_nomad.protocol.mesh_messages import PeerHello
from clipper_nomad_frontend.channel_keys import ChannelKeys, KeyPair
from clipper_nomad_runtime.dealer import Keys
from clipper_nomad_runtime.link import Link

OLD, NEW, OTHER = b"o" * 40, b"n" * 40, b"x" * 40
PEER = PeerHello(frontend="f2", address="tcp://10.0.0.2:1", toolkit="1")


def test_keys_in_a_text_are_separated_by_white_space_and_each_counts_once() -> None:
    assert parse_keys(f"{OLD.decode()} {NEW.decode()}\n{OLD.decode()}") == (OLD, NEW)
    for wrong in ("", " \n", "short", f"{OLD.decode()} short"):
        with pytest.raises(ValueError, match="no CURVE key"):
            parse_keys(wrong)


def test_a_peer_has_the_own_key_or_one_that_frontends_have_now() -> None:
    known: list[bytes] = []
    keys = ChannelKeys(KeyPair(OLD, b"secret"), lambda: known)

    assert [keys.is_known(key) for key in (OLD, NEW, OTHER)] == [True, False, False]
    known[:] = [OLD, NEW]
    assert [keys.may_say(key, PEER) for key in (OLD, NEW, OTHER)] == [True, True, False]
    assert keys.frontends() == (OLD, NEW)
    known[:] = [NEW]
    assert [keys.is_known(key) for key in (NEW, OTHER)] == [True, False]


def test_a_dial_that_failed_is_followed_by_one_with_the_other_key(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"{OLD.decode()} {NEW.decode()}")
    keys = Keys(file, b"secret")
    link = Link("tcp://10.0.0.2:1", jitter=lambda: 0.5, dropped=Counter())

    tried = []
    for now in range(4):
        tried.append(keys.server_at(link.turn))
        link.dialled(float(now))
        link.lost(float(now))

    assert tried in ([OLD, NEW, OLD, NEW], [NEW, OLD, NEW, OLD])
    file.write_text(NEW.decode())
    assert {keys.server_at(turn) for turn in range(3)} == {NEW}
    assert Keys(OTHER, b"secret").server_at(7) == OTHER
