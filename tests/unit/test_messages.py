"""What goes over the store's two channels."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from clipper_nomad.state.messages import (
    AcceptStore,
    Ack,
    Change,
    Order,
    Presence,
    RollCall,
    decode_ack,
    decode_order,
    decode_presence,
    encode_ack,
    encode_order,
    encode_presence,
)

ORDERS = st.one_of(
    st.builds(Change, revision=st.integers(0, 2**63), fields=st.lists(st.text()).map(tuple)),
    st.builds(RollCall, id=st.text()),
    st.builds(AcceptStore, store_id=st.text()),
)
ACKS = st.builds(Ack, frontend=st.text(), store_id=st.text(), revision=st.integers(0, 2**63), conflict=st.booleans())


@given(ORDERS)
def test_an_order_arrives_as_it_was_sent(order: Order) -> None:
    assert decode_order(encode_order(order)) == order


@given(ACKS)
def test_an_ack_arrives_as_it_was_sent(ack: Ack) -> None:
    assert decode_ack(encode_ack(ack)) == ack


@given(st.text(), st.text())
def test_a_presence_arrives_as_it_was_sent(frontend: str, address: str) -> None:
    presence = Presence(frontend=frontend, address=address)

    assert decode_presence(encode_presence(presence)) == presence


def test_a_roll_call_s_answer_carries_the_report() -> None:
    ack = Ack(frontend="f", store_id="s", revision=3, conflict=True, roll_call="r", report={"pid": 7})

    assert decode_ack(encode_ack(ack)) == ack


@given(st.one_of(st.binary(), st.text(), st.just("[" * 100_000), st.just("[1,2]"), st.just('{"revision":true}')))
def test_noise_is_no_message(raw: bytes | str) -> None:
    assert decode_order(raw) is None
    assert decode_ack(raw) is None
    assert decode_presence(raw) is None
