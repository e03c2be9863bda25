"""Media at the center: what is certified, what is refused, and what a medium is given to carry."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from central_broker.authority import delegate_media, withdraw_media
from central_broker.center_files import CenterFiles
from central_broker.enrolment import Refused
from central_broker.media import (
    FIRST_SERIAL,
    MediumWords,
    change_medium,
    enrol_medium,
    is_believed,
    medium_identity,
    record_medium,
    words_of,
)
from central_broker.storage import open_storage
from central_broker.storage.batch_records import CertifiedMedium
from central_broker.storage.contract import Storage
from central_broker.storage.inquiry_records import MediumRecord
from sync_protocol.identity import Standing, Trust
from sync_protocol.keys import SigningKey
from sync_protocol.medium import certificate_in_force, certify_medium, read_medium_certificate, read_medium_identity
from tests.support.small_center import small_center

NOW = 1_700_000_000_000_000
DAY = 86_400_000_000
NAME = bytes(range(1, 17))
WORDS = MediumWords("СКО-0017", "Ахметова А. С.", Standing.ACTIVE, 0)
POINT = SigningKey(b"p" * 32)


@dataclass
class Center:
    files: CenterFiles
    storage: Storage

    def enrol(self, words: MediumWords = WORDS, medium: bytes = NAME) -> MediumRecord | Refused:
        return enrol_medium(medium, words, storage=self.storage, signer=self.files.issuing_key(), now=NOW)

    def enrolled(self, **options: Any) -> MediumRecord:
        record = self.enrol(**options)
        assert isinstance(record, MediumRecord), record
        return record

    def change(self, record: MediumRecord, **words: Any) -> MediumRecord:
        changed = change_medium(
            record,
            replace(words_of(record), **words),
            storage=self.storage,
            signer=self.files.issuing_key(),
            now=NOW,
        )
        assert isinstance(changed, MediumRecord), changed
        return changed

    def refuse(self, words: MediumWords, medium: bytes = b"\xaa" * 16) -> Refused:
        media = self.storage.media()
        refused = self.enrol(words, medium)
        assert isinstance(refused, Refused), refused
        assert self.storage.media() == media, "a refusal must change nothing"
        assert refused.remedy
        return refused

    def delegate(self, serial: int = 1, standing: Standing = Standing.ACTIVE) -> MediumRecord:
        """Let a collection point enrol a medium, of which the center hears."""
        root = self.files.root_key()
        self.files.save_authority(delegate_media(self.files.authority(), root, POINT.public_bytes, NOW))
        certificate = certify_medium(
            POINT,
            medium=NAME,
            number="7",
            holder="Иванов",
            standing=standing,
            issued_at=NOW,
            expires_at=0,
            serial=serial,
        )
        self.files.trust().check(certificate)
        self.storage.store_media([CertifiedMedium(read_medium_certificate(certificate), certificate.data)], NOW)
        record = self.storage.medium(NAME)
        assert record is not None
        return record

    def withdraw(self) -> None:
        root = self.files.root_key()
        self.files.save_authority(withdraw_media(self.files.authority(), root, POINT.public_bytes, NOW))

    def identity(self, record: MediumRecord) -> bytes:
        data = medium_identity(record, self.files.authority())
        assert isinstance(data, bytes), data
        return data


@pytest.fixture
def center(tmp_path: Path) -> Iterator[Center]:
    files = small_center(tmp_path / "center")
    storage = open_storage(files.configuration.database.url)
    yield Center(files, storage)
    storage.close()


def test_a_device_believes_what_a_medium_carries_by_its_root_key_alone(center: Center) -> None:
    record = center.enrolled()
    root = Trust(bytes.fromhex(center.files.authority().root_key))
    found = certificate_in_force(read_medium_identity(center.identity(record)), None, root)
    assert (found.medium, found.number, found.holder) == (NAME, WORDS.number, WORDS.holder)
    assert (found.standing, found.expires_at, found.serial) == (Standing.ACTIVE, 0, FIRST_SERIAL)


def test_every_word_on_a_medium_is_newer_than_the_one_before(center: Center) -> None:
    record = center.enrolled()
    old = read_medium_identity(center.identity(record))
    trust = center.files.trust()
    serials = [record.serial]
    for words in ({"standing": Standing.LOST}, {"standing": Standing.ACTIVE}, {"holder": "B"}, {"expires_at": NOW + 1}):
        record = center.change(record, **words)
        serials.append(record.serial)
        newest = read_medium_identity(center.identity(record)).certificate
        in_force = certificate_in_force(old, newest, trust)
        assert (in_force.standing, in_force.holder) == (record.standing, record.holder)
    assert serials == sorted(set(serials))
    assert (record.number, record.holder, record.expires_at) == (WORDS.number, "B", NOW + 1)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (replace(WORDS, number="2 "), "spaces"),
        (replace(WORDS, number=""), "number"),
        (replace(WORDS, number="2", holder="\tA"), "spaces"),
        (replace(WORDS, number="2", holder="A\x1b[2J"), "printable"),
        (replace(WORDS, number="2", holder="\u202eA"), "printable"),
        (replace(WORDS, number="2", holder="я" * 33), "64 bytes"),
        (replace(WORDS, number="2", expires_at=NOW), "expired"),
        (replace(WORDS, number="2", expires_at=1 << 64), "field"),
        (WORDS, "belongs to the active medium"),
    ],
)
def test_medium_that_nobody_could_use_is_refused_with_a_remedy(center: Center, words: MediumWords, told: str) -> None:
    center.enrolled()
    assert told in center.refuse(words).problem


def test_number_of_a_medium_that_is_gone_may_be_given_again(center: Center) -> None:
    gone = center.change(center.enrolled(), standing=Standing.LOST)
    again = center.enrolled(medium=b"\xaa" * 16)
    assert again.number == gone.number


def test_an_expired_medium_can_still_be_declared_lost(center: Center) -> None:
    record = center.enrolled(words=replace(WORDS, expires_at=NOW + DAY))
    late = change_medium(
        record,
        replace(words_of(record), standing=Standing.LOST),
        storage=center.storage,
        signer=center.files.issuing_key(),
        now=NOW + 2 * DAY,
    )
    assert isinstance(late, MediumRecord)
    assert late.standing is Standing.LOST


def test_the_centers_word_stands_over_a_delegates_whatever_comes_after(center: Center) -> None:
    record = center.change(center.delegate(serial=FIRST_SERIAL - 1), standing=Standing.REVOKED)
    assert record.serial > FIRST_SERIAL
    center.delegate(serial=FIRST_SERIAL - 1)
    kept = center.storage.medium(NAME)
    assert kept == record


def test_medium_of_a_withdrawn_delegate_needs_a_new_certificate(center: Center) -> None:
    record = center.delegate()
    assert is_believed(record, center.files.authority())
    center.withdraw()
    authority = center.files.authority()
    assert not is_believed(record, authority)
    refused = medium_identity(record, authority)
    assert isinstance(refused, Refused)
    assert "media renew" in refused.remedy
    adopted = center.change(record)
    root = Trust(bytes.fromhex(authority.root_key)).learn(authority.delegation_statements()[0])
    assert certificate_in_force(read_medium_identity(center.identity(adopted)), None, root).number == "7"


def test_a_medium_at_hand_comes_into_the_register_only_if_it_is_genuine_and_newer(center: Center) -> None:
    record = center.delegate()
    identity = read_medium_identity(center.identity(record))
    trust = center.files.trust()
    stranger = open_storage(f"sqlite:///{center.files.state}/other.sqlite3")
    found = record_medium(identity, trust=trust, storage=stranger, now=NOW)
    assert found == record
    stranger.close()
    lost = center.change(record, standing=Standing.LOST)
    assert record_medium(identity, trust=trust, storage=center.storage, now=NOW) == lost
    center.withdraw()
    refused = record_medium(identity, trust=center.files.trust(), storage=center.storage, now=NOW)
    assert isinstance(refused, Refused)
    assert "withdrawn" in refused.remedy


def test_medium_of_a_delegate_carries_the_delegates_key(center: Center) -> None:
    record = center.delegate()
    root = Trust(bytes.fromhex(center.files.authority().root_key))
    found = certificate_in_force(read_medium_identity(center.identity(record)), None, root)
    assert (found.number, found.serial) == ("7", 1)
