"""Envelopes and heads: sealing, opening, and what makes a link of a chain."""

from __future__ import annotations

import pytest

from sync_protocol.envelope import NO_ID, parse_envelope, seal_envelope
from sync_protocol.errors import Fault, ProtocolError
from sync_protocol.head import parse_head, sign_head
from sync_protocol.keys import RecipientPrivateKey, RecipientPublicKey, SigningKey
from tests.support import protocol_examples as examples


def test_sealing_the_same_content_twice_gives_two_envelopes_that_open_alike() -> None:
    one, other = examples.envelope(), examples.envelope()
    assert one.id != other.id
    assert one.open(examples.CENTER) == other.open(examples.CENTER)


def test_parsing_the_bytes_of_a_sealed_envelope_gives_it_back() -> None:
    sealed = examples.envelope(sequence=(1 << 64) - 1, previous_id=bytes(range(32)))
    assert parse_envelope(sealed.data) == sealed
    assert sealed.recipient == examples.CENTER.name
    assert sealed.origin == examples.ORIGIN


def test_another_center_cannot_open_and_another_device_did_not_sign() -> None:
    sealed = examples.envelope()
    with pytest.raises(ProtocolError) as refusal:
        sealed.open(RecipientPrivateKey(bytes(32)))
    assert refusal.value.fault is Fault.WRONG_RECIPIENT
    with pytest.raises(ProtocolError) as refusal:
        sealed.verify(examples.trust().keys[next(iter(examples.trust().keys))].verifier)
    assert refusal.value.fault is Fault.BAD_SIGNATURE


@pytest.mark.parametrize(
    "wrong",
    [
        {"epoch": 0},
        {"epoch": 1 << 32},
        {"sequence": 0},
        {"sequence": -1},
        {"sequence": 1 << 64, "previous_id": b"\1" * 32},
        {"sequence": 2},
        {"previous_id": b"\1" * 32},
        {"previous_id": b"\1" * 31, "sequence": 2},
        {"previous_id": b"\1" * 33, "sequence": 2},
        {"origin": b"short"},
        {"origin": bytes(17)},
        {"content": bytes(190 * 1024)},
    ],
)
def test_what_would_be_no_link_is_not_sealed(wrong: dict[str, object]) -> None:
    fields: dict[str, object] = {"content": b"", "origin": examples.ORIGIN, "epoch": 1, "sequence": 1}
    fields |= {"previous_id": NO_ID, "recipient": examples.CENTER.public_key, "signer": examples.TABLET}
    with pytest.raises(ProtocolError):
        seal_envelope(**(fields | wrong))  # type: ignore[arg-type]  # a table of single wrong arguments


def test_head_states_an_empty_chain_and_a_long_one() -> None:
    for sequence in (0, 1, (1 << 64) - 1):
        head = examples.head(sequence)
        head.verify(examples.TABLET_VERIFIER)
        assert parse_head(head.data) == head
        assert head.sequence == sequence


@pytest.mark.parametrize(("clock", "stated"), [(-1, 0), (-(10**30), 0), (0, 0), (10**30, (1 << 64) - 1)])
def test_head_is_signed_whatever_the_clock_says(clock: int, stated: int) -> None:
    head = sign_head(
        examples.TABLET,
        origin=examples.ORIGIN,
        epoch=1,
        sequence=0,
        last_id=NO_ID,
        receipt_serial=0,
        stated_at=clock,
    )
    assert head.stated_at == stated


def test_newer_head_is_told_by_sequence_then_receipt_never_by_clock() -> None:
    def head(sequence: int, receipt_serial: int, stated_at: int) -> tuple[int, int]:
        last_id = bytes(range(32))
        return sign_head(
            examples.TABLET,
            origin=examples.ORIGIN,
            epoch=1,
            sequence=sequence,
            last_id=last_id,
            receipt_serial=receipt_serial,
            stated_at=stated_at,
        ).order

    assert head(5, 1, 0) > head(4, 9, 10**15)
    assert head(5, 2, 0) > head(5, 1, 10**15)


@pytest.mark.parametrize(
    "wrong", [{"sequence": 1}, {"last_id": b"\1" * 32}, {"epoch": 0}, {"origin": b""}, {"receipt_serial": -1}]
)
def test_head_that_no_reader_would_accept_is_not_signed(wrong: dict[str, object]) -> None:
    fields: dict[str, object] = {"origin": examples.ORIGIN, "epoch": 1, "sequence": 0, "last_id": NO_ID}
    fields |= {"receipt_serial": 0, "stated_at": 0}
    with pytest.raises(ProtocolError):
        sign_head(examples.TABLET, **(fields | wrong))  # type: ignore[arg-type]  # a table of wrong arguments


@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_key_of_another_length_is_refused(length: int) -> None:
    for make in (SigningKey, RecipientPrivateKey, RecipientPublicKey):
        with pytest.raises(ProtocolError) as refusal:
            make(bytes(length))
        assert refusal.value.fault is Fault.BAD_FIELD
