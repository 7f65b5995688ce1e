"""A replica's link to one frontend: sessions are never resumed, and a frontend that is away is dialled for ever."""

from __future__ import annotations

from collections import Counter
from math import inf

import pytest

from clipper_nomad.protocol.mesh_messages import RosterEntry, encode_roster
from clipper_nomad.protocol.wire import (
    MessageType,
    Reject,
    Welcome,
    WireError,
    encode_ask,
    encode_control,
    encode_introduction,
    encode_predict,
)
from clipper_nomad_runtime.link import DIAL_S, MAX_WAITING, WELCOME_S, Link, Roster, Stage, Way

EPOCH, SESSION = 7, 9
WELCOME = Welcome(frontend="f", toolkit="0")


def new_link(*, jitter: float = 1.0) -> tuple[Link, Counter[str]]:
    dropped: Counter[str] = Counter()
    return Link("ipc:///f", jitter=lambda: jitter, dropped=dropped), dropped


def take(link: Link, frames: list[bytes]) -> Welcome | Reject | Roster | None:
    return link.take(frames, asked=0.0, read=0.0)


def welcome(link: Link, *, epoch: int = EPOCH, session: int = SESSION) -> None:
    link.dialled(0.0)
    link.greeted(0.0)
    take(link, encode_introduction(MessageType.WELCOME, WELCOME, epoch=epoch, session=session))


def predict(batch: int, *, epoch: int = EPOCH, session: int = SESSION) -> list[bytes]:
    return encode_predict(
        epoch=epoch, session=session, batch=batch, input_type=3, item_length=0, budget_micros=1, inputs=[b""]
    )


def control(kind: MessageType, *, batch: int = 0) -> list[bytes]:
    return encode_control(kind, epoch=EPOCH, session=SESSION, batch=batch)


def batches(link: Link) -> list[int]:
    return [batch.header.batch for batch in link.batches]


def test_a_link_opens_with_the_welcome_and_takes_its_epoch_and_session() -> None:
    link, _ = new_link()
    assert link.due == -inf  # dialled at once

    link.dialled(1.0)
    assert (link.stage, link.due) == (Stage.DIALING, 1.0 + DIAL_S)
    link.greeted(2.0)
    assert (link.stage, link.due) == (Stage.GREETING, 2.0 + WELCOME_S)
    news = take(link, encode_introduction(MessageType.WELCOME, WELCOME, epoch=EPOCH, session=SESSION))

    assert news == WELCOME
    assert (link.stage, link.due, link.identity) == (Stage.OPEN, inf, (EPOCH, SESSION))


def test_only_work_of_this_very_session_is_taken() -> None:
    link, dropped = new_link()
    welcome(link)

    take(link, predict(1))
    take(link, predict(2, epoch=EPOCH + 1))
    take(link, predict(3, session=SESSION + 1))

    assert batches(link) == [1]
    assert dropped == {"stale": 2}


def test_what_waits_on_a_lost_connection_is_forgotten() -> None:
    link, _ = new_link()
    welcome(link)
    take(link, predict(1))
    take(link, predict(2))

    assert link.lost(0.0) == 2

    assert (link.stage, batches(link)) == (Stage.WAITING, [])
    welcome(link, session=SESSION + 1)
    assert link.identity == (EPOCH, SESSION + 1)


def test_it_is_dialled_later_each_time_and_for_ever() -> None:
    link, _ = new_link()
    pauses = []
    for _ in range(9):
        link.dialled(0.0)
        link.lost(100.0)
        pauses.append(round(link.due - 100.0, 3))

    assert pauses == [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0, 2.0]
    assert link.failed_dials == 9
    welcome(link)
    link.lost(0.0)
    assert (link.due, link.failed_dials) == (0.05, 1)


def test_jitter_at_most_halves_a_pause() -> None:
    link, _ = new_link(jitter=0.0)

    link.lost(0.0)

    assert link.due == 0.025


def test_a_cancelled_batch_leaves_the_queue_and_no_other() -> None:
    link, dropped = new_link()
    welcome(link)
    for batch in (1, 2, 3):
        take(link, predict(batch))

    for batch in (2, 2, 9):
        take(link, control(MessageType.CANCEL, batch=batch))

    assert batches(link) == [1, 3]
    assert dropped == {"cancelled": 1}


def test_only_asks_of_this_very_session_are_heard() -> None:
    link, dropped = new_link()
    welcome(link)

    take(link, encode_ask(epoch=EPOCH, session=SESSION + 1, waited_micros=5))
    take(link, encode_ask(epoch=EPOCH + 1, session=SESSION, waited_micros=5))
    assert (link.waits_since, link.backlog) == (None, 0)
    assert dropped == {"stale": 2}
    link.take(encode_ask(epoch=EPOCH, session=SESSION, waited_micros=500_000), asked=7.0, read=8.0)

    assert (link.waits_since, link.backlog) == (7.5, 1)
    link.lost(9.0)
    assert link.waits_since is None


def test_a_frontend_that_sends_a_replica_away_gets_what_it_asked() -> None:
    link, _ = new_link()
    welcome(link)
    take(link, predict(1))

    take(link, control(MessageType.DRAIN))

    assert (link.stage, link.is_finished) == (Stage.LEAVING, False)
    link.batches.clear()
    assert link.is_finished
    link.lost(0.0)
    assert link.stage is Stage.GONE


def test_a_replica_that_asked_for_its_release_serves_until_it_is_confirmed() -> None:
    link, _ = new_link()
    welcome(link)

    link.released()
    take(link, predict(1))
    assert (batches(link), link.is_finished) == ([1], False)
    take(link, control(MessageType.DRAINED))

    assert link.stage is Stage.LEAVING


def test_a_frontend_lost_while_it_should_release_is_not_dialled_again() -> None:
    link, _ = new_link()
    welcome(link)
    link.released()

    link.lost(0.0)

    assert (link.stage, link.due) == (Stage.GONE, inf)


@pytest.mark.parametrize(("final", "stage"), [(True, Stage.GONE), (False, Stage.WAITING)])
def test_a_refusal_ends_the_link_only_if_it_is_final(*, final: bool, stage: Stage) -> None:
    link, _ = new_link()
    link.dialled(0.0)
    link.greeted(0.0)

    reject = Reject(reason="no such version", final=final)
    assert take(link, encode_introduction(MessageType.REJECT, reject)) == reject
    link.lost(0.0)

    assert link.stage is stage
    assert link.refusal == ("no such version" if final else None)


def test_more_batches_than_any_frontend_sends_are_a_breach() -> None:
    link, _ = new_link()
    welcome(link)
    for batch in range(MAX_WAITING):
        take(link, predict(batch))

    with pytest.raises(WireError, match="wait here already"):
        take(link, predict(MAX_WAITING))


@pytest.mark.parametrize("stage", [Stage.GREETING, Stage.OPEN, Stage.LEAVING])
def test_what_cannot_come_at_a_stage_is_a_breach(stage: Stage) -> None:
    link, _ = new_link()
    welcome(link)
    link.stage = stage
    wrong = {
        Stage.GREETING: [
            predict(1),
            control(MessageType.DRAIN),
            control(MessageType.PASS),
            encode_ask(epoch=EPOCH, session=SESSION, waited_micros=1),
        ],
        Stage.OPEN: [
            control(MessageType.DRAINED),
            control(MessageType.HELLO),
            control(MessageType.RESULT),
            control(MessageType.FREE),
            encode_introduction(MessageType.WELCOME, WELCOME, epoch=EPOCH, session=SESSION),
        ],
        Stage.LEAVING: [control(MessageType.HELLO)],
    }

    for frames in wrong[stage]:
        with pytest.raises(WireError, match="cannot come"):
            take(link, frames)
    assert link.stage is stage


def test_a_roster_is_news_and_goes_with_the_connection() -> None:
    link, _ = new_link()
    welcome(link)
    entries = (RosterEntry("f", "ipc:///f"), RosterEntry("g", "ipc:///g"))

    news = take(link, encode_roster(entries, epoch=EPOCH, session=SESSION))

    assert news == entries
    link.lost(0.0)
    assert not link.roster
    assert link.frontend == "f"


@pytest.mark.parametrize("is_welcome", [True, False])
def test_a_link_in_search_of_frontends_is_dialled_once(*, is_welcome: bool) -> None:
    link = Link("ipc:///f", jitter=lambda: 1.0, dropped=Counter(), way=Way.PROXY)
    if is_welcome:
        welcome(link)

    link.lost(0.0)

    assert link.stage is Stage.GONE


def test_a_link_that_waits_long_can_be_hastened() -> None:
    link, _ = new_link()
    link.longest_pause_s = 30.0
    for _ in range(12):
        link.lost(0.0)
    assert link.due == 30.0

    link.hasten(1.0)

    assert link.due == 1.05
    welcome(link)
    link.hasten(2.0)
    assert (link.stage, link.due) == (Stage.OPEN, inf)
