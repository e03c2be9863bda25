"""Enrolling media on a collection point: whom the engine lets do it, and how the center hears of it."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest

from edge_agent.engine.events import LinkUp, Settled, StatementLearnt
from edge_agent.engine.links import center_mailbox
from edge_agent.engine.media import Enrolled, LeftAlone, judge_medium, news_of_medium
from edge_agent.engine.medium_enrolment import CertifiedIdentity, EnrolmentRefused, MediumWords, certify_new_medium
from sync_protocol.bundle import Frame, FrameType, read_bundle, write_bundle
from sync_protocol.identity import Role, Standing, certify_key
from sync_protocol.keys import SigningKey
from sync_protocol.limits import BUNDLE_BYTES_MAX, DELEGATED_SERIAL_MAX
from sync_protocol.medium import certify_medium, read_medium_identity
from sync_protocol.statement import MEDIUM_CERTIFICATE, Statement, Usage, parse_statement
from tests.support.device import HOUR, NOW, Authority, Device, memory_folder, seed, sends
from tests.support.district import bring, meet_by_hand

AUTHORITY = Authority()
MEDIUM = b"m" * 16
WORDS = MediumWords("0017", "A. Akhmetova", 0)


def delegation(device: Device, usage: Usage = Usage.MEDIA, serial: int = 1) -> Statement:
    return certify_key(AUTHORITY.root, public_key=device.signer.public_bytes, usage=usage, serial=serial)


def medium_by(signer: SigningKey, serial: int, medium: bytes = MEDIUM, standing: Standing = Standing.ACTIVE) -> bytes:
    return certify_medium(
        signer,
        medium=medium,
        number="0017",
        holder="A. Akhmetova",
        standing=standing,
        issued_at=NOW,
        expires_at=0,
        serial=serial,
    ).data


@pytest.fixture
def laptop() -> Iterator[Device]:
    """A collection point that may enrol media."""
    with memory_folder() as folder:
        device = Device(folder / "laptop", AUTHORITY, name="laptop", role=Role.COLLECTION_POINT).start()
        device.step(StatementLearnt(delegation(device).data))
        yield device
        device.stop()


@pytest.fixture
def tablet() -> Iterator[Device]:
    with memory_folder() as folder:
        device = Device(folder / "tablet", AUTHORITY, name="tablet").start()
        yield device
        device.stop()


def certify(device: Device, words: MediumWords = WORDS, now: int = NOW) -> CertifiedIdentity | EnrolmentRefused:
    identity = device.engine._identity
    return device.stepper.ask(lambda transaction: certify_new_medium(MEDIUM, words, transaction, identity, now))


def certified(device: Device) -> bytes:
    made = certify(device)
    assert isinstance(made, CertifiedIdentity)
    return made.data


def refused(device: Device, words: MediumWords = WORDS, now: int = NOW) -> str:
    answer = certify(device, words, now)
    assert isinstance(answer, EnrolmentRefused)
    return answer.problem


def judged(device: Device, data: bytes) -> Enrolled | LeftAlone:
    return device.stepper.ask(lambda transaction: judge_medium(data, transaction, device.engine._identity))


def news(device: Device, data: bytes) -> list[bytes]:
    return device.stepper.ask(lambda transaction: news_of_medium(data, transaction, device.engine._identity))


def put_up(device: Device, key: str = "mailbox") -> list[Statement]:
    """Connect a device to the center; return the statements that it puts up."""
    link = center_mailbox(key, bundles_in_flight_max=1, bundle_bytes_max=BUNDLE_BYTES_MAX, remembered=True)
    return statements_put_up(device, key, device.step(LinkUp(link)))


def statements_put_up(device: Device, key: str, effects: Sequence[object]) -> list[Statement]:
    found = []
    waiting = sends(effects)  # type: ignore[arg-type]  # a sequence of effects, as every step gives
    while waiting:
        send = waiting.pop(0)
        frames = read_bundle(send.data).frames
        found += [parse_statement(frame.payload) for frame in frames if frame.type is FrameType.STATEMENT]
        waiting += sends(device.step(Settled(key, send.token, True)))
    return found


def test_every_device_believes_a_medium_that_a_delegated_laptop_certified(laptop: Device, tablet: Device) -> None:
    data = certified(laptop)
    assert judged(tablet, data) == judged(laptop, data) == Enrolled(MEDIUM, "0017", "A. Akhmetova")
    certificate = read_medium_identity(data).certificate
    assert certificate.serial <= DELEGATED_SERIAL_MAX


def test_nobody_certifies_media_without_a_delegation_that_holds(laptop: Device, tablet: Device) -> None:
    assert "not delegated" in refused(tablet)
    laptop.step(StatementLearnt(delegation(laptop, Usage.NONE, serial=2).data))
    assert "not delegated" in refused(laptop)


def test_words_that_cannot_stand_are_refused(laptop: Device) -> None:
    assert "spaces" in refused(laptop, replace(WORDS, number=" 17"))
    assert "spaces" in refused(laptop, replace(WORDS, holder="A. Akhmetova "))
    assert "number" in refused(laptop, replace(WORDS, number=""))
    assert "expired" in refused(laptop, replace(WORDS, expires_at=NOW))
    assert isinstance(certify(laptop, replace(WORDS, expires_at=NOW + 1)), CertifiedIdentity)


def test_a_dead_clock_does_not_make_a_medium_of_1970(laptop: Device) -> None:
    with laptop.stepper._store.transaction() as transaction:
        transaction.put_number("signed_time", NOW)
    assert "expired" in refused(laptop, replace(WORDS, expires_at=NOW), now=5)


def test_a_number_is_given_once_as_far_as_this_device_knows(laptop: Device) -> None:
    laptop.step(StatementLearnt(medium_by(AUTHORITY.issuer, DELEGATED_SERIAL_MAX + 1, b"o" * 16)))
    assert "belongs to another medium" in refused(laptop)
    laptop.step(StatementLearnt(medium_by(AUTHORITY.issuer, DELEGATED_SERIAL_MAX + 2, b"o" * 16, Standing.LOST)))
    assert isinstance(certify(laptop), CertifiedIdentity)


def test_the_center_hears_of_a_medium_at_once_and_at_every_connection(laptop: Device) -> None:
    assert put_up(laptop) == []
    data = certified(laptop)
    certificate = read_medium_identity(data).certificate
    assert news(laptop, data) == [certificate.data]
    effects = laptop.step(StatementLearnt(certificate.data))
    assert statements_put_up(laptop, "mailbox", effects) == [certificate]
    assert news(laptop, data) == []
    assert put_up(laptop, "next") == [certificate]


def test_while_a_connection_lasts_the_center_is_told_again_as_often_as_heads_are(laptop: Device) -> None:
    laptop.step(StatementLearnt(read_medium_identity(certified(laptop)).certificate.data))
    assert len(put_up(laptop)) == 1
    laptop.now += HOUR
    assert len(statements_put_up(laptop, "mailbox", laptop.tick())) == 1


def test_what_another_laptop_enrolled_is_told_by_whoever_meets_it_and_the_centers_own_word_by_nobody(
    laptop: Device,
) -> None:
    other = SigningKey(seed("device other laptop"))
    grant = certify_key(AUTHORITY.root, public_key=other.public_bytes, usage=Usage.MEDIA, serial=1)
    theirs = medium_by(other, 1)
    own_word = medium_by(AUTHORITY.issuer, DELEGATED_SERIAL_MAX + 1, b"o" * 16)
    key = meet_by_hand(laptop, laptop)
    bring(laptop, key, grant, parse_statement(theirs), parse_statement(own_word))
    assert [statement.data for statement in put_up(laptop)] == [theirs]


def test_tablets_leave_it_to_collection_points_to_tell(tablet: Device, laptop: Device) -> None:
    data = certified(laptop)
    key = meet_by_hand(tablet, tablet)
    bring(tablet, key, delegation(laptop))
    assert news(tablet, data) == []
    bring(tablet, key, read_medium_identity(data).certificate)
    assert tablet.stepper.ask(lambda transaction: transaction.statement(MEDIUM_CERTIFICATE, MEDIUM)) is not None
    assert put_up(tablet) == []


def test_a_laptop_that_has_not_heard_of_the_delegation_learns_it_from_the_medium(laptop: Device) -> None:
    with memory_folder() as folder:
        other = Device(folder / "other", AUTHORITY, name="other laptop", role=Role.COLLECTION_POINT).start()
        data = certified(laptop)
        assert news(other, data) == [delegation(laptop).data, read_medium_identity(data).certificate.data]
        for one in news(other, data):
            other.step(StatementLearnt(one))
        assert news(other, data) == []
        assert [one.kind for one in put_up(other)] == [MEDIUM_CERTIFICATE]
        other.stop()


def test_nothing_is_learnt_of_a_medium_that_nobody_certified(laptop: Device) -> None:
    stranger = SigningKey(seed("a stranger"))
    frame = Frame(FrameType.STATEMENT, medium_by(stranger, 1))
    assert news(laptop, write_bundle([frame])) == []
    laptop.step(StatementLearnt(frame.payload))
    assert put_up(laptop) == []
