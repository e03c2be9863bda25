"""The golden vectors against SPEC.md alone: offsets, hashes and HPKE written out again, none of our code used.

Our code and its vectors could be wrong in the same way; this is the second opinion, and it is itself held
against what others published for X-Wing and HPKE.
"""

from __future__ import annotations

import base64
import hmac
import json
import struct
import zlib
from hashlib import sha3_256, sha256, shake_256
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

Values = dict[str, Any]

VECTORS = Path(__file__).parent.parent / "vectors"
INDEX: Values = json.loads((VECTORS / "index.json").read_text(encoding="utf-8"))
PUBLISHED: Values = json.loads((VECTORS / "published.json").read_text(encoding="utf-8"))
SIGNERS = {name: {key: bytes.fromhex(text) for key, text in one.items()} for name, one in INDEX["signers"].items()}
SEED = bytes.fromhex(INDEX["recipient"]["seed"])


def _valid(*readers: str) -> list[Any]:
    return [pytest.param(one, id=one["name"]) for one in INDEX["valid"] if one["reader"] in readers]


def _domain(name: str) -> bytes:
    return b"census-sync/1 " + name.encode() + b"\0"


def _data(vector: Values) -> bytes:
    path: str = vector["file"]
    return (VECTORS / path).read_bytes()


def _number(data: bytes) -> int:
    return int.from_bytes(data, "big")


def _verify(name: str, data: bytes, domain: str) -> None:
    public_key = Ed25519PublicKey.from_public_bytes(SIGNERS[name]["public_key"])
    public_key.verify(data[-64:], _domain(domain) + data[:-64])


# --- HPKE with X-Wing, written from RFC 9180 and the X-Wing draft ---


class _XWing:
    def __init__(self, seed: bytes) -> None:
        expanded = shake_256(seed).digest(96)
        self._lattice = MLKEM768PrivateKey.from_seed_bytes(expanded[:64])
        self._curve = X25519PrivateKey.from_private_bytes(expanded[64:])
        self._curve_public = self._curve.public_key().public_bytes_raw()
        self.public_key = self._lattice.public_key().public_bytes_raw() + self._curve_public

    def decapsulate(self, enc: bytes) -> bytes:
        assert len(enc) == 1120
        lattice = self._lattice.decapsulate(enc[:1088])
        curve = self._curve.exchange(X25519PublicKey.from_public_bytes(enc[1088:]))
        return sha3_256(lattice + curve + enc[1088:] + self._curve_public + bytes.fromhex("5c2e2f2f5e5c")).digest()


def _extract(suite: bytes, salt: bytes, label: bytes, key: bytes) -> bytes:
    return hmac.digest(salt or bytes(32), b"HPKE-v1" + suite + label + key, "sha256")


def _expand(suite: bytes, key: bytes, label: bytes, info: bytes, length: int) -> bytes:
    labelled = length.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info
    made, block, counter = b"", b"", 1
    while len(made) < length:
        block = hmac.digest(key, block + labelled + bytes((counter,)), "sha256")
        made, counter = made + block, counter + 1
    return made[:length]


def _key_schedule(aead_id: int, shared_secret: bytes, info: bytes) -> tuple[bytes, bytes]:
    """Return key (32 bytes) and base nonce (12) of base mode with KEM 0x647a and HKDF-SHA256."""
    suite = b"HPKE" + struct.pack(">HHH", 0x647A, 1, aead_id)
    context = b"\0" + _extract(suite, b"", b"psk_id_hash", b"") + _extract(suite, b"", b"info_hash", info)
    secret = _extract(suite, shared_secret, b"secret", b"")
    return _expand(suite, secret, b"key", context, 32), _expand(suite, secret, b"base_nonce", context, 12)


def test_x_wing_key_is_the_one_the_draft_published() -> None:
    published = PUBLISHED["x_wing"]
    public_key = _XWing(bytes.fromhex(published["seed"])).public_key
    assert len(public_key) == 1216
    assert public_key.startswith(bytes.fromhex(published["public_key_first"]))
    assert public_key.endswith(bytes.fromhex(published["public_key_last"]))


def test_hpke_of_this_test_gives_the_published_answers() -> None:
    published = PUBLISHED["hpke"]
    values = {
        key: bytes.fromhex(value) for key, value in published.items() if isinstance(value, str) and key != "source"
    }
    recipient = _XWing(values["skRm"])
    assert recipient.public_key == values["pkRm"]
    shared_secret = recipient.decapsulate(values["enc"])
    assert shared_secret == values["shared_secret"]
    key, nonce = _key_schedule(published["aead_id"], shared_secret, values["info"])
    assert (key, nonce) == (values["key"], values["base_nonce"])
    first = {name: bytes.fromhex(value) for name, value in published["encryption"].items()}
    assert ChaCha20Poly1305(key).decrypt(nonce, first["ct"], first["aad"]) == first["pt"]


# --- SPEC section 1 ---


@pytest.mark.parametrize("name", sorted(SIGNERS))
def test_signing_keys_and_their_names(name: str) -> None:
    key = SIGNERS[name]
    private_key = Ed25519PrivateKey.from_private_bytes(key["seed"])
    domain = _domain("device" if name in {"tablet", "point", "online"} else "signer")
    assert private_key.public_key().public_bytes_raw() == key["public_key"]
    assert sha256(domain + key["public_key"]).digest()[:16] == key["name"]


def test_recipient_key_and_its_name() -> None:
    public_key = _XWing(SEED).public_key
    assert public_key.hex() == INDEX["recipient"]["public_key"]
    assert sha256(_domain("recipient") + public_key).hexdigest()[:32] == INDEX["recipient"]["name"]


# --- SPEC section 2 ---


@pytest.mark.parametrize("vector", _valid("envelope", "envelope_unopenable"))
def test_envelope_header_id_and_signature(vector: Values) -> None:
    data, expected = _data(vector), vector["expect"]
    assert data[:4] == b"CNSE"
    assert (data[4], data[5], data[6]) == (expected["version"], expected["suite"], expected["kind"])
    assert data[8:24].hex() == expected["recipient"] == INDEX["recipient"]["name"]
    assert data[24:40].hex() == expected["origin"]
    assert data[24:40] == SIGNERS["tablet"]["name"]
    assert _number(data[40:44]) == expected["epoch"]
    assert _number(data[44:52]) == expected["sequence"]
    assert data[52:84].hex() == expected["previous_id"]
    assert len(data) == 96 + _number(data[84:88]) + 64
    assert sha256(_domain("envelope") + data[:-64]).hexdigest() == expected["id"]
    _verify("tablet", data, "envelope")


@pytest.mark.parametrize("vector", _valid("envelope"))
def test_envelope_opens_to_its_content(vector: Values) -> None:
    data, expected = _data(vector), vector["expect"]
    assert data[4:8] == b"\1\1\1\0"
    assert data[88:96] == bytes(8)
    enc, sealed = data[96 : 96 + 1120], data[96 + 1120 : -64]
    key, nonce = _key_schedule(2, _XWing(SEED).decapsulate(enc), _domain("envelope") + data[:96])
    content = AESGCM(key).decrypt(nonce, sealed, b"")
    assert len(content) == expected["content_bytes"]
    assert len(content) % 1024 == 0
    assert content[0] == 1
    assert content[1] == expected["coding"]
    metadata_bytes, coded_bytes, body_bytes = _number(content[2:4]), _number(content[4:8]), _number(content[8:12])
    assert json.loads(content[20 : 20 + metadata_bytes]) == expected["metadata"]
    coded_to = 20 + metadata_bytes + coded_bytes
    coded, padding = content[20 + metadata_bytes : coded_to], content[coded_to:]
    assert len(padding) < 1024
    assert not any(padding)
    preset = (VECTORS / "dictionary.bin").read_bytes()
    if expected["coding"] == 2:
        assert content[12:20] == sha256(preset).digest()[:8]
        body = zlib.decompressobj(-15, zdict=preset).decompress(coded)
    else:
        assert content[12:20] == bytes(8)
        body = zlib.decompressobj(-15).decompress(coded) if expected["coding"] else coded
    assert len(body) == body_bytes == expected["body_bytes"]
    assert sha256(body).hexdigest() == expected["body_sha256"]


def test_envelopes_of_the_index_make_a_chain_and_their_parts_a_questionnaire() -> None:
    chain = [one["expect"] for one in INDEX["valid"] if one["reader"] == "envelope" and one["expect"]["epoch"] == 1]
    assert [one["sequence"] for one in chain] == list(range(1, len(chain) + 1))
    assert [one["previous_id"] for one in chain] == ["0" * 64, *(one["id"] for one in chain[:-1])]
    parts = [one for one in chain if one["metadata"]["parts"] == 2]
    assert [one["metadata"]["part"] for one in parts] == [1, 2]
    assert parts[0]["body_bytes"] == 180 * 1024
    assert sum(one["body_bytes"] for one in parts) == parts[0]["metadata"]["whole_bytes"]
    assert {one["coding"] for one in chain} == {0, 1, 2}


def _opened(sealed: bytes, info: bytes) -> bytes:
    key, nonce = _key_schedule(2, _XWing(SEED).decapsulate(sealed[:1120]), info)
    return AESGCM(key).decrypt(nonce, sealed[1120:], b"")


@pytest.mark.parametrize("vector", _valid("device_key"))
def test_device_key_envelope_opens_to_a_recipient_key(vector: Values) -> None:
    data, expected = _data(vector), vector["expect"]
    assert data[4:8] == b"\1\1\2\0"
    assert data[24:40].hex() == expected["origin"]
    assert sha256(_domain("envelope") + data[:-64]).hexdigest() == expected["id"]
    _verify("tablet", data, "envelope")
    content = _opened(data[96:-64], _domain("envelope") + data[:96])
    assert len(content) == 2048
    assert (content[:4], content[1220:]) == (b"\1\0\0\0", bytes(828))
    assert content[4:1220].hex() == expected["public_key"]
    assert sha256(_domain("recipient") + content[4:1220]).hexdigest()[:32] == expected["recipient"]


# --- SPEC section 3 ---


@pytest.mark.parametrize("vector", _valid("head"))
def test_head_fields_and_signature(vector: Values) -> None:
    data, expected = _data(vector), vector["expect"]
    assert len(data) == 148
    assert data[:8] == b"CNSH\1\0\0\0"
    assert data[8:24].hex() == expected["origin"]
    assert _number(data[24:28]) == expected["epoch"]
    assert _number(data[28:36]) == expected["sequence"]
    assert data[36:68].hex() == expected["last_id"]
    assert _number(data[68:76]) == expected["receipt_serial"]
    assert _number(data[76:84]) == expected["stated_at"]
    _verify("tablet", data, "head")


# --- SPEC section 4 ---

_SIGNER_OF_KIND = {
    1: "receipts",
    2: "issuer",
    3: "root",
    4: "issuer",
    17: "issuer",
    32: "content",
    33: "content",
    34: "content",
    40: "content",
}


def _statement_body(vector: Values) -> bytes:
    """Check what every statement has and return its body."""
    data, expected = _data(vector), vector["expect"]
    assert data[:5] == b"CNSS\1"
    assert data[5] == expected["kind"]
    assert data[6:8] == bytes(2)
    signer = _SIGNER_OF_KIND.get(data[5]) or next(
        name for name in ("issuer", "media") if SIGNERS[name]["name"].hex() == expected["signer"]
    )
    assert data[8:24] == SIGNERS[signer]["name"]
    assert data[8:24].hex() == expected["signer"]
    assert data[24:40].hex() == expected["subject"]
    assert _number(data[40:48]) == expected["serial"]
    body = data[52:-64]
    assert len(body) == _number(data[48:52])
    assert sha256(body).hexdigest() == expected["body_sha256"]
    _verify(signer, data, "statement")
    return body


@pytest.mark.parametrize("vector", _valid("statement"))
def test_statement_of_reserved_kind(vector: Values) -> None:
    assert _statement_body(vector) == b"of a later version"


@pytest.mark.parametrize("vector", _valid("counted_list"))
def test_counted_list_opens_to_json(vector: Values) -> None:
    body, expected = _statement_body(vector), vector["expect"]
    assert expected["subject"] == SIGNERS["tablet"]["name"].hex()
    assert _number(body[:8]) == expected["keep_until"]
    assert body[8:24].hex() == INDEX["recipient"]["name"]
    info = _domain("list") + bytes.fromhex(expected["subject"]) + expected["serial"].to_bytes(8, "big") + body[:24]
    plaintext = _opened(body[24:], info)
    assert (len(plaintext) % 4096, plaintext[:4]) == (0, b"\1\0\0\0")
    coded_to = 12 + _number(plaintext[4:8])
    assert len(plaintext) - coded_to < 4096
    assert not any(plaintext[coded_to:])
    written = zlib.decompressobj(-15).decompress(plaintext[12:coded_to])
    assert len(written) == _number(plaintext[8:12])
    assert json.loads(written) == expected["list"]


@pytest.mark.parametrize("vector", _valid("form"))
def test_form_body(vector: Values) -> None:
    body, expected = _statement_body(vector), vector["expect"]
    at, texts = 10, []
    for offset in (0, 2, 4):
        texts.append(body[at : at + _number(body[offset : offset + 2])])
        at += len(texts[-1])
    assert [text.decode() for text in texts] == [expected["form"], expected["version"], expected["title"]]
    assert expected["subject"] == sha256(_domain("form") + texts[0]).hexdigest()[:32]
    files = {}
    for _ in range(body[6]):
        name = body[at + 33 : at + 33 + body[at]].decode()
        files[name] = body[at + 1 : at + 33].hex()
        at += 33 + body[at]
    assert (files, list(files)) == (expected["files"], sorted(files, key=str.encode))
    xform = zlib.decompressobj(-15).decompress(body[at:])
    assert (xform.decode(), len(xform)) == (expected["xform"], _number(body[7:10]))


@pytest.mark.parametrize("vector", _valid("form_file"))
def test_form_file_body(vector: Values) -> None:
    body, expected = _statement_body(vector), vector["expect"]
    form_to = 40 + _number(body[:2])
    name_to = form_to + body[2]
    form, name = body[40:form_to], body[form_to:name_to]
    assert (form.decode(), name.decode()) == (expected["form"], expected["file_name"])
    assert expected["subject"] == sha256(_domain("form file") + form + b"\0" + name).hexdigest()[:32]
    content = zlib.decompressobj(-15).decompress(body[name_to:]) if body[3] else body[name_to:]
    assert (content.hex(), len(content)) == (expected["content"], _number(body[4:8]))
    assert sha256(content).digest() == body[8:40]


@pytest.mark.parametrize("vector", _valid("key_certificate"))
def test_key_certificate_body(vector: Values) -> None:
    body = _statement_body(vector)
    assert len(body) == 36
    assert body[0] == vector["expect"]["usage"]
    assert body[1:4] == bytes(3)
    assert sha256(_domain("signer") + body[4:]).hexdigest()[:32] == vector["expect"]["subject"]


@pytest.mark.parametrize("vector", _valid("device_certificate"))
def test_device_certificate_body(vector: Values) -> None:
    body, expected = _statement_body(vector), vector["expect"]
    assert body[:32].hex() == expected["public_key"]
    assert sha256(_domain("device") + body[:32]).hexdigest()[:32] == expected["subject"]
    assert (body[32], body[33], body[34:36]) == (expected["role"], expected["standing"], bytes(2))
    assert _number(body[36:44]) == expected["issued_at"]
    assert body[45:].decode() == expected["device_name"]
    assert body[44] == len(body) - 45 <= 64


@pytest.mark.parametrize("vector", _valid("recipient_key"))
def test_recipient_key_body(vector: Values) -> None:
    assert _statement_body(vector) == _XWing(SEED).public_key
    assert vector["expect"]["subject"] == INDEX["recipient"]["name"]


@pytest.mark.parametrize("vector", _valid("medium_certificate"))
def test_medium_certificate_body(vector: Values) -> None:
    body, expected = _statement_body(vector), vector["expect"]
    assert (body[0], body[1:4]) == (expected["standing"], bytes(3))
    assert (_number(body[4:12]), _number(body[12:20])) == (expected["issued_at"], expected["expires_at"])
    holder_at = 21 + body[20]
    assert body[21:holder_at].decode() == expected["number"]
    assert body[holder_at + 1 :].decode() == expected["holder"]
    assert body[holder_at] == len(body) - holder_at - 1
    by_collection_point = expected["signer"] == SIGNERS["media"]["name"].hex()
    assert by_collection_point == (expected["serial"] < 1 << 32)


def test_medium_identity_is_a_bundle_of_the_keys_and_the_certificate() -> None:
    for vector in _valid("medium_identity"):
        (one,) = vector.values
        data, expected = _data(one), one["expect"]
        payloads, offset = [], 8
        while offset + 16 <= len(data):
            length = _number(data[offset + 8 : offset + 12])
            payloads.append(data[offset + 16 : offset + 16 + length])
            offset += 32 + length
        digests = [sha256(payload).hexdigest() for payload in payloads if payload.startswith(b"CNSS")]
        assert digests == [*expected["keys"], expected["certificate"]]
        assert data.startswith(b"CNSB\1\0\0\0")
        assert len(data) <= 65_536


def _notice_number(form: str, instance_id: str) -> str:
    hashed = sha256(_domain("notice number") + form.encode() + b"\0" + instance_id.encode()).digest()
    bare = f"{_number(hashed[:16]) % 10**18:018d}"
    return bare + f"{98 - int(bare + '00') % 97:02d}"


@pytest.mark.parametrize("vector", INDEX["notice_numbers"])
def test_notice_number(vector: Values) -> None:
    number = vector["number"].replace("-", "")
    assert number == _notice_number(vector["form"], vector["instance_id"])
    assert int(number) % 97 == 1


@pytest.mark.parametrize("vector", _valid("notice"))
def test_notice_token(vector: Values) -> None:
    text, expected = _data(vector).decode(), vector["expect"]
    data = base64.b32decode(text + "=" * (-len(text) % 8))
    form = expected["form"].encode()
    assert data[:8] == b"CNSN\1" + bytes((len(form), 0, 0))
    assert data[8:24] == SIGNERS["online"]["name"] == bytes.fromhex(expected["signer"])
    assert f"{_number(data[24:32]):018d}" == expected["number"].replace("-", "")[:18]
    assert _number(data[32:40]) == expected["at"]
    assert data[40:-64] == form
    _verify("online", data, "notice")


@pytest.mark.parametrize("vector", _valid("receipt"))
def test_receipt_body(vector: Values) -> None:
    body, expected = _statement_body(vector), vector["expect"]
    assert _number(body[:8]) == expected["watermark"]
    assert _number(body[8:10]) == len(expected["spans"])
    offset = 10
    for span in expected["spans"]:
        assert _number(body[offset : offset + 4]) == span["epoch"]
        assert _number(body[offset + 4 : offset + 12]) == span["first"]
        assert body[offset + 12 : offset + 44].hex() == span["last_id"]
        assert body[offset + 44] == span["status"]
        marks = [
            [_number(body[at : at + 4]), _number(body[at + 4 : at + 12])]
            for at in range(offset + 47, offset + 47 + 12 * _number(body[offset + 45 : offset + 47]), 12)
        ]
        assert marks == span["marks"]
        assert span["last"] == span["first"] + sum(count for count, _ in marks) - 1
        offset += 47 + 12 * len(marks)
    assert offset == len(body)


def test_last_id_of_a_receipts_span_is_the_id_of_that_envelope() -> None:
    ids = {
        (one["expect"]["epoch"], one["expect"]["sequence"]): one["expect"]["id"]
        for one in INDEX["valid"]
        if one["reader"] == "envelope"
    }
    (receipt,) = (one["expect"] for one in INDEX["valid"] if one["name"] == "receipt")
    in_chain = [span for span in receipt["spans"] if span["epoch"] == 1]
    assert len(in_chain) == 3
    for span in in_chain:
        assert ids[1, span["last"]] == span["last_id"]


# --- SPEC section 5 ---


@pytest.mark.parametrize("vector", _valid("bundle"))
def test_bundle_frames(vector: Values) -> None:
    data, expected = _data(vector), vector["expect"]["frames"]
    assert data[:8] == b"CNSB\1\0\0\0"
    offset, frames, digests = 8, [], []
    while offset < len(data):
        assert data[offset : offset + 4] == bytes.fromhex("c59a460d")
        kind, length = data[offset + 4], _number(data[offset + 8 : offset + 12])
        assert data[offset + 5 : offset + 8] == bytes(3)
        assert _number(data[offset + 12 : offset + 16]) == zlib.crc32(data[offset : offset + 12])
        payload = data[offset + 16 : offset + 16 + length]
        digest = data[offset + 16 + length : offset + 32 + length]
        assert digest == sha256(bytes((kind,)) + payload).digest()[:16]
        frames.append((kind, payload))
        digests.append(digest)
        offset += 32 + length
    end_kind, end = frames.pop()
    assert end_kind == 127
    assert end == struct.pack(">I", len(frames)) + sha256(_domain("bundle") + b"".join(digests[:-1])).digest()
    assert [[kind, sha256(payload).hexdigest()] for kind, payload in frames] == expected


# --- SPEC section 7 ---


def test_enrolment_request_signature() -> None:
    request = json.loads((VECTORS / "valid/enrolment_request.bin").read_bytes())
    key = bytes.fromhex(request["signing_key"])
    message = b"".join(
        (
            _domain("enrolment"),
            request["name"].encode() + b"\0",
            request["role"].encode() + b"\0",
            key,
            request["tls_request"].encode(),
        )
    )
    Ed25519PublicKey.from_public_bytes(key).verify(bytes.fromhex(request["signature"]), message)
    assert set(request) == {"name", "role", "signing_key", "tls_request", "signature"}


def test_provisioning_members() -> None:
    record = json.loads((VECTORS / "valid/provisioning.bin").read_bytes())
    assert set(record) == {"device", "root_key", "statements", "recipient_key", "tls_certificate", "tls_authority"}
    assert record["device"] == SIGNERS["tablet"]["name"].hex()
    assert record["root_key"] == SIGNERS["root"]["public_key"].hex()
    assert record["recipient_key"] == INDEX["recipient"]["name"]
    statements = [base64.b64decode(text, validate=True) for text in record["statements"]]
    assert [statement[5] for statement in statements] == [3, 3, 3, 4, 2, 2]


# --- SPEC section 9 ---


def _mesh_fields(kind: int, payload: bytes) -> Values:
    if kind == 1:
        assert len(payload) == 20
        seconds = _number(payload[4:12])
        return {
            "reaches_center": payload[0] & 1 == 1,
            "collects": payload[0] & 2 == 2,
            "last_contact_seconds": None if seconds == (1 << 64) - 1 else seconds,
            "room_bytes": _number(payload[12:20]),
        }
    if kind == 2:
        return {"number": _number(payload[:8]), "bundle_sha256": sha256(payload[8:]).hexdigest()}
    if kind == 3:
        ids = [payload[at : at + 32].hex() for at in range(16, len(payload), 32)]
        assert _number(payload[12:16]) == len(ids)
        return {"number": _number(payload[:8]), "recorded": payload[8] == 0, "declined": ids}
    if kind in (4, 5):
        assert len(payload) == 8
        return {"data": payload.hex()}
    if kind == 6:
        return {"digests": [payload[at : at + 8].hex() for at in range(0, 128, 8)]}
    if kind == 7:
        bits = _number(payload[:2])
        items = [payload[at : at + 40] for at in range(4, len(payload), 40)]
        return {
            "shards": [shard for shard in range(16) if bits & 1 << shard],
            "items": [
                {
                    "kind": item[0],
                    "epoch": _number(item[4:8]),
                    "subject": item[8:24].hex(),
                    "numbers": [_number(item[24:32]), _number(item[32:40])],
                }
                for item in items
            ],
        }
    if kind == 8:
        entries = [payload[at : at + 40] for at in range(8, len(payload), 40)]
        envelopes = [{"id": one[:32].hex(), "bytes": _number(one[32:36]), "copies": one[36]} for one in entries]
        return {"number": _number(payload[:8]), "envelopes": envelopes}
    return {"number": _number(payload[:8]), "verdicts": list(payload[8:])}


def test_digests_of_shards_follow_from_the_items_as_they_are_written() -> None:
    vectors = {one.values[0]["name"]: one.values[0] for one in _valid("mesh_messages")}
    inventory, digests = _data(vectors["mesh_inventory"])[8:], _data(vectors["mesh_digests_of_four_items"])[8:]
    items = sorted((inventory[at : at + 40] for at in range(4, len(inventory), 40)), key=lambda one: one[8:24] + one)
    for shard in range(16):
        written = b"".join(item for item in items if item[23] % 16 == shard)
        assert digests[8 * shard : 8 * shard + 8] == sha256(written).digest()[:8]


@pytest.mark.parametrize("vector", _valid("mesh_messages"))
def test_mesh_messages(vector: Values) -> None:
    data, messages, offset = _data(vector), [], 0
    while offset < len(data):
        kind, length = data[offset], _number(data[offset + 4 : offset + 8])
        assert length <= 262_400
        if kind <= 9:
            messages.append({"type": kind, **_mesh_fields(kind, data[offset + 8 : offset + 8 + length])})
        offset += 8 + length
    assert offset == len(data)
    assert messages == vector["expect"]["messages"]
