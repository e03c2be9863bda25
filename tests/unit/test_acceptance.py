"""What becomes of each frame that reaches the center: every outcome of acceptance."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest

from central_broker.acceptance import (
    Ignored,
    accept,
    accept_envelope,
    accept_head,
    accept_statement,
    decode_whole,
    learn_keys,
    way_of,
)
from central_broker.directory import Directory
from central_broker.messages import accept_messages, read_message
from central_broker.storage.batch_records import (
    AcceptedEnvelope,
    ArrivedHead,
    CertifiedDevice,
    HeldItem,
    HeldReason,
    PartContent,
    QuestionnaireContent,
    Route,
    Unreadable,
)
from sync_protocol.attachments import Attachment, write_attachments
from sync_protocol.bundle import Frame, FrameType, write_bundle
from sync_protocol.content import cut, encode_content
from sync_protocol.envelope import Envelope
from sync_protocol.errors import Fault
from sync_protocol.identity import Role, Standing, Trust, certify_key
from sync_protocol.keys import RecipientPrivateKey, SigningKey
from sync_protocol.limits import JSON_DEPTH_MAX, PART_BYTES_MAX
from sync_protocol.statement import Usage
from sync_protocol.way import Leg, Way, write_way
from tests.support.center import FORM, Center, SealingDevice, body_of, seed


@pytest.fixture
def center() -> Center:
    return Center()


@pytest.fixture
def device(center: Center) -> SealingDevice:
    return SealingDevice("tablet", center)


def accepted(data: bytes, directory: Directory, carrier: bytes | None = None) -> AcceptedEnvelope | HeldItem:
    return accept_envelope(data, carrier=carrier, received_at=5, directory=directory)


def content_of(device: SealingDevice, body: bytes, **changes: str) -> Any:
    """The parsed content of a body that must be accepted."""
    outcome = accepted(device.seal(body, None, **changes)[0].data, device.center.directory([device]))
    assert isinstance(outcome, AcceptedEnvelope), outcome
    assert isinstance(outcome.content, QuestionnaireContent)
    assert outcome.content.body == body
    assert outcome.content.content is not None
    return json.loads(outcome.content.content)


def held(data: bytes, directory: Directory) -> tuple[HeldReason, bool, bool]:
    """(reason, whether it has a place in a chain, whether it is receipted) of what must be held."""
    outcome = accepted(data, directory)
    assert isinstance(outcome, HeldItem)
    assert outcome.data == data
    return outcome.reason, outcome.link is not None, outcome.receiptable


def resigned(device: SealingDevice, envelope: Envelope, offset: int, value: int) -> bytes:
    """The envelope with one byte of its header changed, signed again by its own device."""
    changed = bytearray(envelope.data[:-64])
    changed[offset] = value
    return bytes(changed) + device.key.sign(b"census-sync/1 envelope\0" + bytes(changed))


def test_a_good_envelope_is_accepted_with_its_body_exact(center: Center, device: SealingDevice) -> None:
    [envelope] = device.seal(body_of(1))
    outcome = accepted(envelope.data, center.directory([device]), device.id)
    assert isinstance(outcome, AcceptedEnvelope)
    assert outcome.link.id == envelope.id
    assert (outcome.arrival.route, outcome.arrival.carrier, outcome.arrival.received_at) == (Route.VPN, device.id, 5)
    assert isinstance(outcome.content, QuestionnaireContent)
    assert outcome.content.body == body_of(1)
    assert outcome.content.content == body_of(1).decode()
    assert (outcome.content.form, outcome.content.instance_id) == (FORM, "uuid:tablet-1")


def test_another_carrier_makes_the_route_a_relay(center: Center, device: SealingDevice) -> None:
    [envelope] = device.seal(b"{}")
    outcome = accepted(envelope.data, center.directory([device]), b"c" * 16)
    assert outcome.arrival.route is Route.RELAY


def way_frame(leg: Leg, hops: int) -> Frame:
    return Frame(FrameType.WAY, write_way(Way(leg, hops)))


def came(
    carrier: bytes, frames: list[Frame], directory: Directory
) -> tuple[list[tuple[str, int | None]], dict[str, int]]:
    """(route, hops) of every envelope of one message, and what was ignored."""
    batch, ignored = accept_messages([read_message(f"census/1/up/{carrier.hex()}", write_bundle(frames), 1)], directory)
    found = sorted(batch.envelopes, key=lambda one: one.link.sequence)
    assert all(one.arrival.carrier == carrier for one in found)
    return [(one.arrival.route.value, one.arrival.hops) for one in found], dict(ignored)


def frames_of(device: SealingDevice, count: int) -> list[Frame]:
    return [Frame(FrameType.ENVELOPE, device.seal(body_of(number))[0].data) for number in range(count)]


LAPTOP = b"l" * 16


def test_a_way_holds_for_the_envelopes_after_it_up_to_the_next(center: Center, device: SealingDevice) -> None:
    one, two, three, four, five = frames_of(device, 5)
    frames = [one, way_frame(Leg.MESH, 2), two, three, way_frame(Leg.USB, 255), four, way_frame(Leg.NONE, 0), five]
    expected = [("relay", None), ("mesh", 2), ("mesh", 2), ("usb", 255), ("relay", None)]
    assert came(LAPTOP, frames, center.directory([device])) == (expected, {})


def test_a_way_holds_past_heads_and_statements_and_in_its_own_bundle_only(
    center: Center, device: SealingDevice
) -> None:
    one, two = frames_of(device, 2)
    head = Frame(FrameType.HEAD, device.head().data)
    statement = Frame(FrameType.STATEMENT, center.key_certificates()[0].data)
    directory = center.directory([device])
    topic = f"census/1/up/{LAPTOP.hex()}"
    payloads = [write_bundle([way_frame(Leg.MESH, 3), head, statement, one]), write_bundle([two])]
    batch, ignored = accept_messages([read_message(topic, payload, 1) for payload in payloads], directory)
    assert [(one.arrival.route, one.arrival.hops) for one in batch.envelopes] == [(Route.MESH, 3), (Route.RELAY, None)]
    # A head is its origin's own word, however it came; nothing is said of its way.
    assert [(one.arrival.route, one.arrival.hops) for one in batch.heads] == [(Route.RELAY, None)]
    assert not ignored


@pytest.mark.parametrize(
    ("payload", "fault"),
    [
        (b"", "truncated"),
        (b"\1\2\0", "truncated"),
        (b"\1\2\0\0\0", "trailing_bytes"),
        (b"\3\2\0\0", "bad_field"),
        (b"\1\0\0\0", "bad_field"),
        (b"\0\1\0\0", "bad_field"),
    ],
)
def test_a_malformed_way_is_told_and_costs_no_envelope_and_nothing_is_known_of_what_follows(
    center: Center, device: SealingDevice, payload: bytes, fault: str
) -> None:
    one, two, three = frames_of(device, 3)
    frames = [way_frame(Leg.MESH, 1), one, Frame(FrameType.WAY, payload), two, way_frame(Leg.USB, 2), three]
    found, ignored = came(LAPTOP, frames, center.directory([device]))
    assert found == [("mesh", 1), ("relay", None), ("usb", 2)]
    assert ignored == {f"way:{fault}": 1}


def test_what_an_origin_brings_itself_came_by_vpn_whatever_a_way_says(center: Center, device: SealingDevice) -> None:
    one, two, three = frames_of(device, 3)
    frames = [one, way_frame(Leg.NONE, 0), two, way_frame(Leg.USB, 9), three]
    assert came(device.id, frames, center.directory([device])) == ([("vpn", 0)] * 3, {})


@pytest.mark.parametrize(
    ("role", "route"),
    [(Role.TABLET, Route.VPN), (Role.COLLECTION_POINT, Route.VPN), (Role.ONLINE, Route.ONLINE)],
)
def test_what_an_online_device_brings_itself_came_online_and_what_no_other_brings(
    center: Center, device: SealingDevice, role: Role, route: Route
) -> None:
    directory = center.directory([device], role=role)
    assert came(device.id, frames_of(device, 1), directory) == ([(route.value, 0)], {})
    head = accept_head(device.head().data, carrier=device.id, received_at=5, directory=directory)
    assert isinstance(head, ArrivedHead) and head.arrival.route is route
    # What it is given by others, or others bring of it, came as it says.
    assert came(LAPTOP, [way_frame(Leg.MESH, 1), *frames_of(device, 1)], directory) == ([("mesh", 1)], {})


def test_held_envelopes_of_an_online_device_keep_their_route_when_they_are_accepted_later(
    center: Center, device: SealingDevice
) -> None:
    [envelope] = device.seal(body_of(1))
    held = accepted(envelope.data, center.directory([device], role=Role.ONLINE, forms=()), carrier=device.id)
    assert isinstance(held, HeldItem) and held.arrival.route is Route.ONLINE
    retried = accept_envelope(
        held.data,
        carrier=held.arrival.carrier,
        received_at=5,
        directory=center.directory([device], role=Role.ONLINE),
        way=way_of(held.arrival.route, held.arrival.hops),
    )
    assert isinstance(retried, AcceptedEnvelope) and retried.arrival.route is Route.ONLINE


def test_held_envelopes_tell_their_way_too(center: Center, device: SealingDevice) -> None:
    [good] = frames_of(device, 1)
    noise = Frame(FrameType.ENVELOPE, b"noise")
    payload = write_bundle([way_frame(Leg.USB, 2), good, noise])
    batch, _ = accept_messages([read_message(f"census/1/up/{LAPTOP.hex()}", payload, 1)], center.directory())
    assert [(one.reason, one.arrival.route, one.arrival.hops) for one in batch.held] == [
        (HeldReason.UNKNOWN_ORIGIN, Route.USB, 2),
        (HeldReason.MALFORMED, Route.USB, 2),
    ]


def test_a_bundle_of_which_only_ways_can_be_read_is_kept_as_it_came(center: Center, device: SealingDevice) -> None:
    [envelope] = frames_of(device, 1)
    payload = bytearray(write_bundle([way_frame(Leg.MESH, 1), envelope]))
    payload[-200] ^= 1
    message = read_message(f"census/1/up/{LAPTOP.hex()}", bytes(payload), 1)
    assert message.contents is not None
    assert [frame.type for frame in message.contents.frames] == [FrameType.WAY]
    batch, _ = accept_messages([message], center.directory([device]))
    assert [(one.reason, one.data) for one in batch.held] == [(HeldReason.MALFORMED, bytes(payload))]
    # Ways alone are nothing to keep.
    idle = read_message(f"census/1/up/{LAPTOP.hex()}", write_bundle([way_frame(Leg.MESH, 1)]), 1)
    assert not accept_messages([idle], center.directory([device]))[0].held


def test_unknown_origin_is_held_and_receipted(center: Center, device: SealingDevice) -> None:
    [envelope] = device.seal(b"{}")
    assert held(envelope.data, center.directory()) == (HeldReason.UNKNOWN_ORIGIN, True, True)


def test_bad_signature_is_held_and_never_receipted(center: Center, device: SealingDevice) -> None:
    [envelope] = device.seal(b"{}")
    forged = envelope.data[:-1] + bytes([envelope.data[-1] ^ 1])
    assert held(forged, center.directory([device])) == (HeldReason.BAD_SIGNATURE, True, False)


@pytest.mark.parametrize(
    ("standing", "reason"),
    [
        (Standing.RETURNED, HeldReason.RETURNED_ORIGIN),
        (Standing.LOST, HeldReason.LOST_ORIGIN),
        (Standing.REVOKED, HeldReason.REVOKED_ORIGIN),
    ],
)
def test_data_of_a_device_that_is_not_active_are_held(
    center: Center, device: SealingDevice, standing: Standing, reason: HeldReason
) -> None:
    [envelope] = device.seal(b"{}")
    assert held(envelope.data, center.directory([device], standing=standing)) == (reason, True, True)


def test_a_forgery_of_a_revoked_origin_is_a_bad_signature(center: Center, device: SealingDevice) -> None:
    [envelope] = device.seal(b"{}")
    forged = envelope.data[:-1] + bytes([envelope.data[-1] ^ 1])
    directory = center.directory([device], standing=Standing.REVOKED)
    assert held(forged, directory) == (HeldReason.BAD_SIGNATURE, True, False)


def test_wrong_recipient_is_held(center: Center, device: SealingDevice) -> None:
    [envelope] = device.seal(b"{}", RecipientPrivateKey(seed("another center")))
    assert held(envelope.data, center.directory([device])) == (HeldReason.WRONG_RECIPIENT, True, True)


def test_every_key_of_the_center_opens_while_keys_are_rotated(center: Center, device: SealingDevice) -> None:
    older = RecipientPrivateKey(seed("older"))
    directory = center.directory([device], secrets=[center.recipient, older])
    for recipient in (older, center.recipient):
        assert isinstance(accepted(device.seal(b"{}", recipient)[0].data, directory), AcceptedEnvelope)


@pytest.mark.parametrize(
    ("offset", "value", "reason"),
    [
        (4, 2, HeldReason.UNKNOWN_VERSION),
        (5, 9, HeldReason.UNKNOWN_SUITE),
        (6, 7, HeldReason.UNKNOWN_VERSION),
        (90, 1, HeldReason.UNPARSABLE),
        (20, 1, HeldReason.WRONG_RECIPIENT),
        (39, 1, HeldReason.UNKNOWN_ORIGIN),
        (43, 2, HeldReason.UNDECRYPTABLE),
    ],
)
def test_envelopes_of_another_make_are_held(
    center: Center, device: SealingDevice, offset: int, value: int, reason: HeldReason
) -> None:
    [envelope] = device.seal(b"{}")
    data = resigned(device, envelope, offset, value)
    assert held(data, center.directory([device])) == (reason, True, True)


def test_unknown_version_sealed_to_an_unknown_key_is_an_unknown_version(center: Center, device: SealingDevice) -> None:
    [envelope] = device.seal(b"{}", RecipientPrivateKey(seed("key of the next version")))
    assert held(resigned(device, envelope, 4, 2), center.directory([device]))[0] is HeldReason.UNKNOWN_VERSION


@pytest.mark.parametrize("data", [b"", b"noise", b"CNSE" + bytes(200), bytes(1000)])
def test_what_is_no_envelope_is_held_as_malformed_without_a_place(center: Center, data: bytes) -> None:
    assert held(data, center.directory()) == (HeldReason.MALFORMED, False, False)


def test_a_sequence_that_no_database_counts_is_malformed(center: Center, device: SealingDevice) -> None:
    [envelope] = device.seal(b"{}")
    data = envelope.data[:44] + struct.pack(">Q", 1 << 63) + bytes(31) + b"\1" + envelope.data[84:]
    assert held(data, center.directory([device])) == (HeldReason.MALFORMED, False, False)


def test_content_that_is_none_is_held_as_unparsable(center: Center, device: SealingDevice) -> None:
    envelope = device.seal_content(b"\1" + bytes(1023))
    assert held(envelope.data, center.directory([device])) == (HeldReason.UNPARSABLE, True, True)


def test_content_of_another_version_is_told_apart(center: Center, device: SealingDevice) -> None:
    envelope = device.seal_content(b"\2" + bytes(1023))
    assert held(envelope.data, center.directory([device]))[0] is HeldReason.UNKNOWN_VERSION


def test_a_body_that_is_not_the_described_one_is_unparsable(center: Center, device: SealingDevice) -> None:
    [(metadata, _)] = cut(device.questionnaire(b'{"a":1}'))
    envelope = device.seal_content(encode_content(metadata, b'{"a":2}'))
    assert held(envelope.data, center.directory([device]))[0] is HeldReason.UNPARSABLE


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"nonsense",
        b"[1]",
        b"17",
        b'{"a":NaN}',
        b'{"a":1}{"b":2}',
        b'{"a":"\xff"}',
        b'{"a":' * (JSON_DEPTH_MAX + 1) + b"1" + b"}" * (JSON_DEPTH_MAX + 1),
        b'{"a":' + b"[" * 50_000 + b"]" * 50_000 + b"}",
        b'{"a":"\\u0000","b":' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    ],
)
def test_bodies_that_are_no_json_object_are_unparsable(center: Center, device: SealingDevice, body: bytes) -> None:
    [envelope] = device.seal(body)
    assert held(envelope.data, center.directory([device])) == (HeldReason.UNPARSABLE, True, True)


def test_json_as_deep_as_allowed_is_accepted(device: SealingDevice) -> None:
    body = b'{"a":' * JSON_DEPTH_MAX + b"1" + b"}" * JSON_DEPTH_MAX
    assert content_of(device, body)
    assert content_of(device, b'{"list":[' + b"{}," * 500 + b"{}]}")


@pytest.mark.parametrize(
    ("body", "content"),
    [
        (b'{"a":"x\\u0000y"}', {"a": "x�y"}),
        (b'{"a\\u0000":1}', {"a�": 1}),
        (b'{"a":"\\ud800"}', {"a": "�"}),
        (b'{"a":"\\ud83d\\ude00 \\u0000"}', {"a": "\U0001f600 �"}),
        (
            b'{"a":1e400,"b":-1e400,"c":1e-400,"d":1e5,"e":0.10}',
            {"a": "1e400", "b": "-1e400", "c": "1e-400", "d": 1e5, "e": 0.1},
        ),
        (b'{"a":1e999999999999999999999}', {"a": "1e999999999999999999999"}),
        (b'{"a":' + b"9" * 5000 + b"}", {"a": "9" * 5000}),
        (b'{"a":0e400}', {"a": 0}),
        (b'{"a":12345678901234567890123}', {"a": 12345678901234567890123}),
        (b'\xef\xbb\xbf{"a":1}', {"a": 1}),
    ],
)
def test_what_databases_cannot_carry_is_replaced_in_the_content_only(
    device: SealingDevice, body: bytes, content: dict[str, Any]
) -> None:
    assert content_of(device, body) == content


XFORM = """<?xml version="1.0"?>
<data xmlns:orx="http://openrosa.org/xforms" id="household" version="2021">
  <start>2021-10-01</start><person><name>Әсем</name><age>33</age></person><person><name>Б</name><age>7</age></person>
  <note/><orx:meta><orx:instanceID>uuid:1</orx:instanceID></orx:meta>
</data>""".encode()


def test_xform_becomes_one_object(device: SealingDevice) -> None:
    assert content_of(device, XFORM, media_type="text/xml") == {
        "@id": "household",
        "@version": "2021",
        "start": "2021-10-01",
        "person": [{"name": "Әсем", "age": "33"}, {"name": "Б", "age": "7"}],
        "note": "",
        "meta": {"instanceID": "uuid:1"},
    }


def test_a_sealed_questionnaire_with_attachments_is_stored_exactly_and_its_files_are_listed(
    device: SealingDevice,
) -> None:
    body = write_attachments(XFORM, [Attachment("a.jpg", "image/jpeg", b"12")])
    content = content_of(device, body, media_type="multipart/form-data")
    assert [file["name"] for file in content.pop("@attachments")] == ["a.jpg"]
    assert content == content_of(device, XFORM, media_type="text/xml")


def test_damaged_attachments_are_held_not_lost(center: Center, device: SealingDevice) -> None:
    body = write_attachments(XFORM, [Attachment("a.jpg", "image/jpeg", b"12")])
    [envelope] = device.seal(body.replace(b"a.jpg", b"b.jpg"), media_type="multipart/form-data")
    assert held(envelope.data, center.directory([device])) == (HeldReason.UNPARSABLE, True, True)


@pytest.mark.parametrize(
    "body",
    [
        b"<data>",
        b"",
        b"{}",
        b'<!DOCTYPE data [<!ENTITY a "aaaa">]><data>&a;</data>',
        b'<!DOCTYPE data SYSTEM "file:///etc/passwd"><data/>',
        b"<a>" * 100 + b"</a>" * 100,
        b'<?xml version="1.0" encoding="nonsense"?><data/>',
        b"<data>\0</data>",
        b"<data>&#xD800;</data>",
    ],
)
def test_bad_xml_is_unparsable(center: Center, device: SealingDevice, body: bytes) -> None:
    [envelope] = device.seal(body, media_type="text/xml")
    assert held(envelope.data, center.directory([device])) == (HeldReason.UNPARSABLE, True, True)


def test_forms_are_known_by_version_or_as_a_whole(center: Center, device: SealingDevice) -> None:
    [envelope] = device.seal(b"{}", form_version="2")
    for forms, known in (([(FORM, "")], True), ([(FORM, "2")], True), ([(FORM, "1")], False), ([], False)):
        outcome = accepted(envelope.data, center.directory([device], forms=forms))
        assert isinstance(outcome, AcceptedEnvelope) is known
        if not known:
            assert held(envelope.data, center.directory([device], forms=forms)) == (
                HeldReason.UNKNOWN_FORM,
                True,
                True,
            )


def test_parts_of_one_questionnaire_belong_together_and_to_no_other(center: Center, device: SealingDevice) -> None:
    body = b'{"photo":"' + b"x" * (2 * PART_BYTES_MAX) + b'"}'
    directory = center.directory([device])
    outcomes = [accepted(envelope.data, directory) for envelope in device.seal(body) + device.seal(body)]
    parts = [one.content for one in outcomes if isinstance(one, AcceptedEnvelope)]
    assert all(isinstance(part, PartContent) for part in parts)
    wholes = [part.whole for part in parts if isinstance(part, PartContent)]
    assert (len(wholes), len(set(wholes[:3])), len(set(wholes))) == (6, 1, 2)
    joined = b"".join(part.body for part in parts[:3] if isinstance(part, PartContent))
    assert isinstance(parts[0], PartContent)
    assert isinstance(decode_whole(parts[0], joined), QuestionnaireContent)
    assert isinstance(decode_whole(parts[0], joined[:-1]), Unreadable)


def test_heads_count_when_they_verify_whatever_the_standing(center: Center, device: SealingDevice) -> None:
    device.seal(b"{}")
    head = device.head()
    lost = center.directory([device], standing=Standing.LOST)
    found = accept_head(head.data, carrier=device.id, received_at=5, directory=lost)
    assert isinstance(found, ArrivedHead)
    assert found.head == head
    for data, directory, fault in (
        (head.data, center.directory(), Fault.UNTRUSTED_SIGNER),
        (head.data[:-1] + bytes([head.data[-1] ^ 1]), lost, Fault.BAD_SIGNATURE),
        (b"", lost, Fault.TRUNCATED),
        (device.head((1 << 64) - 1).data, lost, Fault.BAD_FIELD),
    ):
        ignored = accept_head(data, carrier=None, received_at=5, directory=directory)
        assert isinstance(ignored, Ignored)
        assert ignored.fault is fault


def test_device_certificates_are_taken_from_the_authority_only(center: Center, device: SealingDevice) -> None:
    genuine = center.certify(device)
    found = accept_statement(genuine.data, center.directory())
    assert isinstance(found, CertifiedDevice)
    assert found.certificate.device == device.id
    impostor = Center(issuer=SigningKey(seed("impostor")))
    refused = accept_statement(impostor.certify(device).data, center.directory())
    assert isinstance(refused, Ignored)
    assert refused.fault is Fault.UNTRUSTED_SIGNER
    assert accept_statement(center.key_certificates()[0].data, center.directory()) is None


def test_medium_certificates_are_taken_from_the_authority_and_from_delegates_that_come_along(center: Center) -> None:
    directory = center.directory()
    found = accept_statement(center.certify_medium("0017").data, directory)
    assert found == center.certify_medium("0017")
    point = SigningKey(seed("collection point"))
    by_point = center.certify_medium("0018", signer=point)
    refused = accept_statement(by_point.data, directory)
    assert isinstance(refused, Ignored)
    assert refused.fault is Fault.UNTRUSTED_SIGNER
    # A collection point makes no devices, either.
    with_its_key = Center(issuer=point).certify(SealingDevice("x", center))
    delegation = certify_key(center.root, public_key=point.public_bytes, usage=Usage.MEDIA, serial=1)
    payload = write_bundle(
        [Frame(FrameType.STATEMENT, one) for one in (by_point.data, with_its_key.data, delegation.data)]
    )
    batch, ignored = accept_messages([read_message("census/1/up/" + "ab" * 16, payload, 1)], directory)
    assert (batch.media, dict(ignored)) == ([by_point], {"statement:untrusted_signer": 1})
    assert not batch.devices


def test_key_certificates_of_the_root_that_come_along_are_believed(center: Center, device: SealingDevice) -> None:
    bare = Directory(trust=Trust(center.root.public_bytes), secrets=[center.recipient], devices=[], forms=[])
    frames = tuple(Frame(FrameType.STATEMENT, one.data) for one in center.key_certificates())
    certificate = Frame(FrameType.STATEMENT, center.certify(device).data)
    assert isinstance(accept(certificate, carrier=None, received_at=1, directory=bare), Ignored)
    learned = learn_keys((Frame(FrameType.STATEMENT, b"noise"), *frames), bare)
    assert isinstance(accept(certificate, carrier=None, received_at=1, directory=learned), CertifiedDevice)
    assert learn_keys((), bare) is bare
