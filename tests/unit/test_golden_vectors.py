"""Every golden vector through our readers: what must come out does, and every mistake gets its name."""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sync_protocol import dictionary
from sync_protocol.bundle import read_bundle
from sync_protocol.content import decode_content
from sync_protocol.counted_list import encode_counted_list, open_counted_list, read_sealed_list
from sync_protocol.device_key import decode_device_key
from sync_protocol.envelope import KIND_DEVICE_KEY, Envelope, parse_envelope
from sync_protocol.errors import ProtocolError
from sync_protocol.form import read_form
from sync_protocol.form_file import read_file
from sync_protocol.head import parse_head
from sync_protocol.identity import Trust, read_device_certificate, read_recipient_key
from sync_protocol.keys import RecipientPrivateKey, VerifyingKey
from sync_protocol.medium import read_medium_certificate, read_medium_identity
from sync_protocol.mesh import (
    BundleMessage,
    Digests,
    Hello,
    Inventory,
    Offer,
    PassedOver,
    Ping,
    Pong,
    Taken,
    Verdicts,
)
from sync_protocol.mesh_stream import MessageReader
from sync_protocol.notice import notice_number, read_number, read_token
from sync_protocol.receipt import read_receipt
from sync_protocol.records import EnrolmentRequest, Provisioning, check_request, decode_record
from sync_protocol.statement import Statement, parse_statement

Values = dict[str, Any]

VECTORS = Path(__file__).parent.parent / "vectors"
INDEX: Values = json.loads((VECTORS / "index.json").read_text(encoding="utf-8"))
TABLET = VerifyingKey(bytes.fromhex(INDEX["signers"]["tablet"]["public_key"]))
CENTER = RecipientPrivateKey(bytes.fromhex(INDEX["recipient"]["seed"]))


def _trust() -> Trust:
    trust = Trust(bytes.fromhex(INDEX["signers"]["root"]["public_key"]))
    for name in ("certificates", "receipts", "content", "media"):
        trust = trust.learn(parse_statement((VECTORS / f"valid/key_for_{name}.bin").read_bytes()))
    return trust


def _envelope_fields(envelope: Envelope) -> Values:
    return {
        "id": envelope.id.hex(),
        "version": envelope.version,
        "suite": envelope.suite,
        "kind": envelope.kind,
        "recipient": envelope.recipient.hex(),
        "origin": envelope.origin.hex(),
        "epoch": envelope.epoch,
        "sequence": envelope.sequence,
        "previous_id": envelope.previous_id.hex(),
    }


def _read_envelope(data: bytes) -> Values:
    envelope = parse_envelope(data)
    envelope.verify(TABLET)
    content = envelope.open(CENTER)
    metadata, body = decode_content(content)
    return _envelope_fields(envelope) | {
        "coding": content[1],
        "content_bytes": len(content),
        "metadata": msgspec.to_builtins(metadata),
        "body_bytes": len(body),
        "body_sha256": sha256(body).hexdigest(),
    }


def _read_unopenable(data: bytes) -> Values:
    envelope = parse_envelope(data)
    envelope.verify(TABLET)
    with pytest.raises(ProtocolError) as refusal:
        envelope.open(CENTER)
    return _envelope_fields(envelope) | {"fault": refusal.value.fault.value}


def _read_content(data: bytes) -> Values:
    metadata, body = decode_content(data)
    return {"metadata": metadata, "body": body}


def _read_head(data: bytes) -> Values:
    head = parse_head(data)
    head.verify(TABLET)
    return {
        "origin": head.origin.hex(),
        "epoch": head.epoch,
        "sequence": head.sequence,
        "last_id": head.last_id.hex(),
        "receipt_serial": head.receipt_serial,
        "stated_at": head.stated_at,
    }


def _checked(data: bytes) -> tuple[Statement, Values]:
    statement = parse_statement(data)
    _trust().check(statement)
    return statement, {
        "kind": statement.kind,
        "signer": statement.signer.hex(),
        "subject": statement.subject.hex(),
        "serial": statement.serial,
        "body_sha256": sha256(statement.body).hexdigest(),
    }


def _read_receipt(data: bytes) -> Values:
    statement, fields = _checked(data)
    receipt = read_receipt(statement)
    spans = [
        {
            "epoch": span.epoch,
            "first": span.first,
            "last": span.last,
            "last_id": span.last_id.hex(),
            "status": span.status.value,
            "marks": [[mark.count, mark.committed_at] for mark in span.marks],
        }
        for span in receipt.spans
    ]
    return fields | {"watermark": receipt.watermark, "spans": spans}


def _read_device_certificate(data: bytes) -> Values:
    statement, fields = _checked(data)
    device = read_device_certificate(statement)
    return fields | {
        "public_key": device.public_key.hex(),
        "role": device.role.value,
        "standing": device.standing.value,
        "issued_at": device.issued_at,
        "device_name": device.name,
    }


def _read_key_certificate(data: bytes) -> Values:
    statement, fields = _checked(data)
    return fields | {"usage": int(_trust().learn(statement).keys[statement.subject].usage)}


def _read_recipient_key(data: bytes) -> Values:
    statement, fields = _checked(data)
    assert read_recipient_key(statement).public_bytes == CENTER.public_key.public_bytes
    return fields


def _read_medium_certificate(data: bytes) -> Values:
    statement, fields = _checked(data)
    medium = read_medium_certificate(statement)
    return fields | {
        "number": medium.number,
        "holder": medium.holder,
        "standing": medium.standing.value,
        "issued_at": medium.issued_at,
        "expires_at": medium.expires_at,
    }


def _read_medium_identity(data: bytes) -> Values:
    identity = read_medium_identity(data)
    root = Trust(bytes.fromhex(INDEX["signers"]["root"]["public_key"]))
    identity.learn_keys(root).check(identity.certificate)
    return {
        "keys": [sha256(key.data).hexdigest() for key in identity.keys],
        "certificate": sha256(identity.certificate.data).hexdigest(),
    }


def _read_device_key(data: bytes) -> Values:
    envelope = parse_envelope(data)
    envelope.verify(TABLET)
    key = decode_device_key(envelope.open(CENTER))
    assert envelope.kind == KIND_DEVICE_KEY
    told = {"public_key": key.public_bytes.hex(), "recipient": key.name.hex()}
    return {"id": envelope.id.hex(), "origin": envelope.origin.hex(), **told}


def _read_form(data: bytes) -> Values:
    source, fields = _checked(data)
    form = read_form(source)
    return fields | {
        "form": form.form,
        "version": form.version,
        "title": form.title,
        "xform": form.xform.decode(),
        "files": {name: digest.hex() for name, digest in form.files.items()},
    }


def _read_form_file(data: bytes) -> Values:
    source, fields = _checked(data)
    file = read_file(source)
    return fields | {"form": file.form, "file_name": file.name, "content": file.content.hex()}


def _read_counted_list(data: bytes) -> Values:
    source, fields = _checked(data)
    keep_until = read_sealed_list(source).keep_until
    opened = json.loads(encode_counted_list(open_counted_list(source, CENTER)))
    return fields | {"keep_until": keep_until, "list": opened}


def _read_bundle(data: bytes) -> Values:
    contents = read_bundle(data)
    assert contents.intact
    return {"frames": [[frame.type.value, sha256(frame.payload).hexdigest()] for frame in contents.frames]}


def _read_request(data: bytes) -> Values:
    request = decode_record(data, EnrolmentRequest)
    role = check_request(request)
    return {"device": request.device.hex(), "role": role.value, "device_name": request.name}


def _read_provisioning(data: bytes) -> Values:
    record = decode_record(data, Provisioning)
    return {
        "device": record.device,
        "root_key": record.root_key,
        "recipient_key": record.recipient_key,
        "statements": [sha256(statement).hexdigest() for statement in record.statements],
    }


def _read_mesh_messages(data: bytes) -> Values:
    reader = MessageReader()
    messages: list[Values] = []
    for message in reader.feed(data):
        match message:
            case Hello(reaches_center, seconds, room_bytes, collects):
                fields = {"reaches_center": reaches_center, "collects": collects}
                messages.append({"type": 1, **fields, "last_contact_seconds": seconds, "room_bytes": room_bytes})
            case BundleMessage(number, bundle):
                messages.append({"type": 2, "number": number, "bundle_sha256": sha256(bundle).hexdigest()})
            case Taken(number, recorded, declined):
                ids = [one.hex() for one in declined]
                messages.append({"type": 3, "number": number, "recorded": recorded, "declined": ids})
            case Ping(asked):
                messages.append({"type": 4, "data": asked.hex()})
            case Pong(asked):
                messages.append({"type": 5, "data": asked.hex()})
            case Digests(digests):
                messages.append({"type": 6, "digests": [one.hex() for one in digests]})
            case Inventory(shards, items):
                shown = [
                    {"kind": one.kind, "epoch": one.epoch, "subject": one.subject.hex(), "numbers": list(one.newness)}
                    for one in items
                ]
                messages.append({"type": 7, "shards": sorted(shards), "items": shown})
            case Offer(number, envelopes):
                offered = [{"id": one.id.hex(), "bytes": one.size_bytes, "copies": one.copies} for one in envelopes]
                messages.append({"type": 8, "number": number, "envelopes": offered})
            case Verdicts(number, verdicts):
                messages.append({"type": 9, "number": number, "verdicts": [int(one) for one in verdicts]})
            case PassedOver():
                pass
    assert reader.kept_bytes == 0
    return {"messages": messages}


def _read_notice(data: bytes) -> Values:
    notice = read_token(data.decode())
    certificate = parse_statement((VECTORS / "valid/device_online.bin").read_bytes())
    _trust().check(certificate)
    notice.verify(read_device_certificate(certificate))
    return {"signer": notice.signer.hex(), "number": notice.number, "form": notice.form, "at": notice.accepted_at}


def _read_notice_number(data: bytes) -> Values:
    return {"number": read_number(data.decode())}


READERS: dict[str, Callable[[bytes], Values]] = {
    "envelope": _read_envelope,
    "envelope_unopenable": _read_unopenable,
    "content": _read_content,
    "head": _read_head,
    "statement": lambda data: _checked(data)[1],
    "receipt": _read_receipt,
    "device_certificate": _read_device_certificate,
    "key_certificate": _read_key_certificate,
    "recipient_key": _read_recipient_key,
    "medium_certificate": _read_medium_certificate,
    "medium_identity": _read_medium_identity,
    "device_key": _read_device_key,
    "counted_list": _read_counted_list,
    "form": _read_form,
    "form_file": _read_form_file,
    "bundle": _read_bundle,
    "mesh_messages": _read_mesh_messages,
    "notice": _read_notice,
    "notice_number": _read_notice_number,
    "enrolment_request": _read_request,
    "provisioning": _read_provisioning,
}


def _named(vectors: list[Values]) -> list[Any]:
    return [pytest.param(vector, id=vector["name"]) for vector in vectors]


@pytest.mark.parametrize("vector", _named(INDEX["valid"]))
def test_valid_vector_is_read_as_the_index_says(vector: Values) -> None:
    assert READERS[vector["reader"]]((VECTORS / vector["file"]).read_bytes()) == vector["expect"]


@pytest.mark.parametrize("vector", _named([one for one in INDEX["malformed"] if "fault" in one]))
def test_malformed_vector_is_refused_with_its_fault(vector: Values) -> None:
    with pytest.raises(ProtocolError) as refusal:
        READERS[vector["reader"]]((VECTORS / vector["file"]).read_bytes())
    assert refusal.value.fault == vector["fault"]


@pytest.mark.parametrize("vector", _named([one for one in INDEX["malformed"] if "fault" not in one]))
def test_damaged_bundle_yields_exactly_what_the_index_says(vector: Values) -> None:
    contents = read_bundle((VECTORS / vector["file"]).read_bytes())
    expected = vector["expect"]
    assert [[frame.type.value, sha256(frame.payload).hexdigest()] for frame in contents.frames] == expected["frames"]
    assert [[skipped.offset, skipped.length] for skipped in contents.skipped] == expected["skipped"]
    assert contents.complete == expected["complete"]
    assert not contents.intact


def test_withdrawn_key_is_no_longer_trusted() -> None:
    withdrawn = parse_statement((VECTORS / "valid/key_withdrawn.bin").read_bytes())
    late = parse_statement((VECTORS / "valid/statement_of_reserved_kind_40.bin").read_bytes())
    _trust().check(late)
    with pytest.raises(ProtocolError, match="untrusted_signer"):
        _trust().learn(withdrawn).check(late)


def test_dictionary_of_sealed_envelopes_is_kept_for_ever() -> None:
    data = (VECTORS / INDEX["dictionary"]).read_bytes()
    assert dictionary.DICTIONARIES[sha256(data).digest()[:8]] == data


@pytest.mark.parametrize("vector", INDEX["notice_numbers"])
def test_notice_number_of_a_questionnaire_is_the_one_in_the_index(vector: Values) -> None:
    assert notice_number(vector["form"], vector["instance_id"]) == vector["number"]


def test_every_file_is_in_the_index() -> None:
    listed = {vector["file"] for vector in INDEX["valid"] + INDEX["malformed"]}
    present = {
        str(path.relative_to(VECTORS)) for folder in ("valid", "malformed") for path in (VECTORS / folder).iterdir()
    }
    assert listed == present
