"""Notices: mistakes of copying are caught, and nobody but an online device makes one that is believed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_protocol.errors import Fault, ProtocolError
from sync_protocol.identity import DeviceCertificate, Role, Standing, device_name
from sync_protocol.keys import SigningKey
from sync_protocol.notice import (
    TOKEN_CHARACTERS_MAX,
    Notice,
    notice_number,
    read_number,
    read_token,
    sign_notice,
)

FORM, INSTANCE = "census_household", "uuid:0f5cf0b2-6f0a-4d0b-9f3e-2d8a9a6f1c11"
AT = 1_633_000_000_000_000
KEY, OTHER = SigningKey(bytes(32)), SigningKey(b"o" * 32)
QR_ALPHANUMERIC = set("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:")


def certificate_of(key: SigningKey, role: Role = Role.ONLINE) -> DeviceCertificate:
    public_key = key.public_bytes
    return DeviceCertificate(device_name(public_key), public_key, role, Standing.ACTIVE, AT, "web 1", 1)


def made(form: str = FORM, key: SigningKey = KEY) -> Notice:
    device = device_name(key.public_bytes)
    return sign_notice(key, device=device, form=form, instance_id=INSTANCE, accepted_at=AT)


def numbers() -> Iterator[str]:
    """Enough of them that nearly every pair of digits occurs at every place."""
    for serial in range(400):
        yield notice_number(FORM, f"uuid:{serial}").replace("-", "")


def refused(text: str) -> bool:
    try:
        read_number(text)
    except ProtocolError:
        return True
    return False


def test_every_single_wrong_digit_of_a_number_is_caught() -> None:
    for number in numbers():
        for place, right in enumerate(number):
            for wrong in set("0123456789") - {right}:
                assert refused(number[:place] + wrong + number[place + 1 :])


def test_every_exchange_of_neighbours_in_a_number_is_caught() -> None:
    pairs = set()
    for number in numbers():
        for place in range(len(number) - 1):
            one, other = number[place], number[place + 1]
            if one != other:
                pairs.add((place, one, other))
                assert refused(number[:place] + other + one + number[place + 2 :])
    assert len(pairs) > 19 * 80


def test_a_number_fits_the_question_of_the_census_form_and_is_read_however_it_is_grouped() -> None:
    number = notice_number(FORM, INSTANCE)
    assert len(number) == 24 and set(number) <= set("0123456789-")
    for written in (number, number.replace("-", ""), f"  {number.replace('-', ' ')} \n", number.replace("-", " - ")):
        assert read_number(written) == number


def test_a_number_depends_on_form_and_instance_and_on_where_one_ends_and_the_other_begins() -> None:
    found = {notice_number(*one) for one in (("a", "bc"), ("ab", "c"), ("a", "bd"), ("", "abc"))}
    assert len(found) == 4


def test_a_token_is_what_a_small_qr_code_holds_and_says_what_was_signed() -> None:
    notice = made()
    assert set(notice.token) <= QR_ALPHANUMERIC and len(notice.token) < 200
    read = read_token(f" {notice.token[:50].lower()}\n{notice.token[50:]} ")
    read.verify(certificate_of(KEY))
    assert (read.number, read.form, read.accepted_at) == (notice_number(FORM, INSTANCE), FORM, AT)
    assert read.signer == device_name(KEY.public_bytes)


def test_the_longest_form_has_a_token_within_the_limit_and_a_longer_one_none() -> None:
    assert len(made("ә" * 32).token) == TOKEN_CHARACTERS_MAX <= 300
    with pytest.raises(ProtocolError, match="1 to 64 bytes"):
        made("ә" * 32 + "f")


@given(place=st.integers(0, len(made().data) - 1), bit=st.integers(0, 7))
def test_a_token_with_one_bit_changed_is_never_believed(place: int, bit: int) -> None:
    data = bytearray(made().data)
    data[place] ^= 1 << bit
    with pytest.raises(ProtocolError):
        read_token(replace(made(), data=bytes(data)).token).verify(certificate_of(KEY))


@given(st.text(max_size=400))
def test_no_text_makes_the_readers_do_anything_but_refuse(text: str) -> None:
    for reader in (read_number, read_token):
        with pytest.raises(ProtocolError):
            reader(text)


def test_a_token_cut_anywhere_is_refused() -> None:
    token = made().token
    for length in range(len(token)):
        with pytest.raises(ProtocolError):
            read_token(token[:length])


@pytest.mark.parametrize("role", [Role.TABLET, Role.COLLECTION_POINT])
def test_a_device_of_another_role_signs_nothing_that_is_believed(role: Role) -> None:
    with pytest.raises(ProtocolError) as refusal:
        made().verify(certificate_of(KEY, role))
    assert refusal.value.fault is Fault.UNTRUSTED_SIGNER


def test_another_devices_certificate_vouches_for_nothing() -> None:
    forged = sign_notice(OTHER, device=device_name(KEY.public_bytes), form=FORM, instance_id=INSTANCE, accepted_at=AT)
    for certificate, fault in ((certificate_of(KEY), Fault.BAD_SIGNATURE), (certificate_of(OTHER), "untrusted_signer")):
        with pytest.raises(ProtocolError) as refusal:
            forged.verify(certificate)
        assert refusal.value.fault == fault
