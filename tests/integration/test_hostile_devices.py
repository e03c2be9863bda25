"""An enrolled device turns hostile, at a working center: what it sends is held or refused; others do not notice."""

from __future__ import annotations

import os
import re
import sqlite3
import struct
import zlib
from collections.abc import Iterator
from contextlib import closing
from typing import Final

import pytest

from demo.field import Field
from demo.households import households
from demo.processes import wait_until
from sync_protocol.bundle import BUNDLE_HEADER, MARKER, Frame, FrameType, write_bundle
from sync_protocol.envelope import HEADER_BYTES, NO_ID
from sync_protocol.keys import RecipientPrivateKey
from sync_protocol.limits import BUNDLE_BYTES_MAX
from sync_protocol.topics import up_topic
from tests.support.account import assert_marks_are_commit_times, completeness, envelopes_at_center, stored
from tests.support.hostile_device import HostileDevice, enrol_hostile
from tests.support.small_center import SmallCenter

WAIT_SECONDS: Final = 60.0
VERSION_OFFSET: Final = 4
SUITE_OFFSET: Final = 5
CONTENT_HEADER_BYTES: Final = 20

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Field]:
    """A center on SQLite and one honest tablet."""
    settings = {"sync": {"receipt_wait_seconds": 10}}
    with Field(tmp_path_factory.mktemp("field"), 1, device_settings=settings, center_kind=SmallCenter) as made:
        made.start()
        # What comes before the consumer has subscribed is for nobody, and a hostile device does not send it again.
        consumer = made.center.consumers[1]
        consumer.wait_until(lambda: "connected to the broker" in consumer.log.read_text(), "the consumer is connected")
        yield made


@pytest.fixture(scope="module")
def hostile(field: Field, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostileDevice]:
    device = enrol_hostile(field, tmp_path_factory.mktemp("hostile"))
    yield device
    device.client.close()


@pytest.fixture(autouse=True)
def others_are_unaffected(field: Field) -> Iterator[None]:
    """Whatever the hostile device does: the consumer lives, and the honest tablet's questionnaire is committed."""
    consumer = field.center.consumers[1]
    pid = consumer.pid
    yield
    (honest,) = field.devices
    honest.submit(list(households(honest.accepted + 1, 1)))
    field.wait_until_synchronised(timeout_seconds=WAIT_SECONDS)
    assert assert_marks_are_commit_times(honest, envelopes_at_center(field.center)) == honest.accepted
    assert (consumer.is_alive, consumer.pid) == (True, pid)
    row = completeness(field.center)["tablet 1"]
    assert (row["sealed"], row["committed"]) == (honest.accepted, honest.accepted)
    assert (row["held"], row["missing"], row["forks"]) == (0, 0, 0)
    assert "Traceback" not in consumer.log_text()


def held(field: Field, reason: str) -> int:
    count: int = field.center.ask("held", "list")["counts"].get(reason, 0)
    return count


def wait_until_held(field: Field, reason: str, count: int) -> None:
    wait_until(lambda: held(field, reason) == count, f"{count} held as {reason}", timeout_seconds=WAIT_SECONDS)


def test_garbage_is_held_as_malformed_and_the_link_goes_on(field: Field, hostile: HostileDevice) -> None:
    before = held(field, "malformed")
    hostile.publish(b"noise")
    hostile.publish(os.urandom(50_000))
    hostile.publish(BUNDLE_HEADER + os.urandom(1000))
    hostile.send(b"an orderly frame around disorder")
    wait_until_held(field, "malformed", before + 4)


@pytest.mark.parametrize(
    "payload",
    [
        (BUNDLE_HEADER + MARKER * (BUNDLE_BYTES_MAX // len(MARKER)))[:BUNDLE_BYTES_MAX],
        (BUNDLE_HEADER + (MARKER + b"\x01\0\0\0" + b"\0\x03\xff\xff" + b"\0\0\0\0") * 20_000)[:BUNDLE_BYTES_MAX],
    ],
    ids=["markers", "frame headers"],
)
def test_a_whole_bundle_of_markers_is_one_held_thing(field: Field, hostile: HostileDevice, payload: bytes) -> None:
    before = held(field, "malformed")
    hostile.publish(payload)
    wait_until_held(field, "malformed", before + 1)


def test_each_kind_of_bad_envelope_is_held_with_its_reason(field: Field, hostile: HostileDevice) -> None:
    stranger = RecipientPrivateKey(os.urandom(32)).public_key
    hostile.send(hostile.seal(recipient=stranger).data)
    wait_until_held(field, "wrong_recipient", 1)
    hostile.send(hostile.sign_anew(hostile.seal(), VERSION_OFFSET, 9))
    wait_until_held(field, "unknown_version", 1)
    hostile.send(hostile.sign_anew(hostile.seal(), SUITE_OFFSET, 9))
    wait_until_held(field, "unknown_suite", 1)
    sealed = hostile.seal()
    hostile.send(hostile.sign_anew(sealed, HEADER_BYTES + 40, sealed.data[HEADER_BYTES + 40] ^ 1))
    wait_until_held(field, "undecryptable", 1)
    hostile.send(hostile.seal(b"\x01" + bytes(2047)).data, hostile.seal(hostile.content(b"[1, 2, 3]")).data)
    wait_until_held(field, "unparsable", 2)
    hostile.send(hostile.seal(hostile.content(form="no such form")).data)
    wait_until_held(field, "unknown_form", 1)
    shown = field.center.ask("held", "list", "--device", "hostile")["held"]
    assert all(row["detail"] and row["carrier"] == hostile.id.hex() for row in shown)


def test_an_envelope_in_anothers_name_is_held_and_takes_no_place_in_their_chain(
    field: Field, hostile: HostileDevice
) -> None:
    (honest,) = field.devices
    origin = bytes.fromhex(honest.status()["device"])
    before = held(field, "bad_signature")
    next_place = honest.status()["chains"][-1]["sequence"] + 1
    for sequence in (1, next_place):
        previous = NO_ID if sequence == 1 else bytes(range(32))
        hostile.send(hostile.seal(origin=origin, sequence=sequence, previous_id=previous).data)
    wait_until_held(field, "bad_signature", before + 2)


def test_an_envelope_of_a_device_that_nobody_enrolled_is_held(field: Field, hostile: HostileDevice) -> None:
    hostile.send(hostile.seal(origin=os.urandom(16), sequence=1, previous_id=NO_ID).data)
    wait_until_held(field, "unknown_origin", 1)


def test_replays_of_own_and_of_others_envelopes_change_nothing(field: Field, hostile: HostileDevice) -> None:
    (honest,) = field.devices
    honest.submit(list(households(900, 2)))
    field.wait_until_synchronised(timeout_seconds=WAIT_SECONDS)
    assert honest.process is not None
    honest.process.terminate()
    with closing(sqlite3.connect(honest.folder / "state" / "queue.db")) as queue:
        stolen = [bytes(row[0]) for row in queue.execute("SELECT data FROM envelope WHERE own = 1 ORDER BY number")]
    honest.start()
    own = hostile.seal().data
    committed = len(envelopes_at_center(field.center))
    hostile.send(own)
    wait_until(lambda: len(envelopes_at_center(field.center)) > committed, "committed", timeout_seconds=WAIT_SECONDS)
    before = envelopes_at_center(field.center)
    questionnaires, known_already = stored(field.center), duplicates(field)
    for _ in range(5):
        hostile.send(own, *stolen, own)
    hostile.publish(write_bundle([hostile.head(), hostile.head(), Frame(FrameType.ENVELOPE, own)]))
    replays = 5 * (len(stolen) + 2) + 1
    wait_until(lambda: duplicates(field) == known_already + replays, "all are known", timeout_seconds=WAIT_SECONDS)
    assert envelopes_at_center(field.center) == before
    assert stored(field.center) == questionnaires


def duplicates(field: Field) -> int:
    """How many envelopes the consumer has met again."""
    return sum(int(count) for count in re.findall(r"(\d+) known already", field.center.consumers[1].log_text()))


def test_nothing_can_be_published_below_anothers_topic_or_as_the_center(field: Field, hostile: HostileDevice) -> None:
    (honest,) = field.devices
    origin = bytes.fromhex(honest.status()["device"])
    bundle = write_bundle([Frame(FrameType.ENVELOPE, hostile.seal().data)])
    before = len(envelopes_at_center(field.center))
    for topic in (up_topic(origin), f"census/1/receipts/{origin.hex()}", "census/1/statements"):
        assert hostile.client.publish(topic, bundle) == "Not authorized"
    assert len(envelopes_at_center(field.center)) == before


def test_a_decompression_bomb_is_held(field: Field, hostile: HostileDevice) -> None:
    before = held(field, "unparsable")
    honest_content = hostile.content()
    metadata_bytes = int.from_bytes(honest_content[2:4], "big")
    metadata = honest_content[CONTENT_HEADER_BYTES : CONTENT_HEADER_BYTES + metadata_bytes]
    bomb = zlib.compress(bytes(100_000_000), level=9, wbits=-15)
    for claimed in (100, 184_320, 100_000_000):
        header = struct.pack(">BBHII8x", 1, 1, metadata_bytes, len(bomb), claimed)
        content = header + metadata + bomb
        hostile.send(hostile.seal(content + bytes(-len(content) % 1024)).data)
    wait_until_held(field, "unparsable", before + 3)
