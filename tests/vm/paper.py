"""What the center would sign and open, done on the host with the project's own code: identities of sticks, receipts,
and the proof that what lies on a stick is what the tablet accepted.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Final

from sync_protocol.bundle import Frame, FrameType, read_bundle, write_bundle
from sync_protocol.content import decode_content
from sync_protocol.envelope import Envelope, parse_envelope
from sync_protocol.identity import Role, Standing, certify_key, device_name
from sync_protocol.keys import VerifyingKey
from sync_protocol.limits import MEDIUM_BUNDLE_BYTES_MAX
from sync_protocol.medium import MEDIUM_FILE, MEDIUM_FOLDER, certify_medium, write_medium_identity
from sync_protocol.receipt import Mark, Span, SpanStatus, sign_receipt
from sync_protocol.records import EnrolmentRequest, decode_record
from sync_protocol.statement import Usage
from tests.support.certificates import TestAuthority
from tests.support.edge_device import EdgeDevice
from tests.support.protocol_examples import CENTER, ISSUER, RECEIPTS, ROOT, TIME, key_certificate
from tests.vm.stick import Content, Stick

IDENTITY: Final = f"{MEDIUM_FOLDER}/{MEDIUM_FILE}"
_COMPLETE: Final = re.compile(rf"{MEDIUM_FOLDER}/([0-9a-f]{{32}})/[0-9a-f]{{16}}-[0-9]{{5}}\.CNS")
BACKED_UP: Final = TIME + 1_000_000
"""A backup watermark after which everything committed is safe."""
LAPTOP_FOLDER: Final = sha256(b"a laptop").hexdigest()[:32]


def enrolled(number: str) -> Content:
    """Return what makes a stick one of the Department's."""
    certificate = certify_medium(
        ISSUER,
        medium=sha256(f"stick {number}".encode()).digest()[:16],
        number=number,
        holder="S. Omarov",
        standing=Standing.ACTIVE,
        issued_at=TIME,
        expires_at=0,
        serial=TIME,
    )
    return {IDENTITY: write_medium_identity([key_certificate()], certificate)}


def delegation_file(key: VerifyingKey) -> Content:
    """Return the root's word that a device may enrol media, as another laptop leaves it on a stick."""
    granted = certify_key(ROOT, public_key=key.public_bytes, usage=Usage.MEDIA, serial=1)
    data = write_bundle([Frame(FrameType.STATEMENT, granted.data)])
    return {f"{MEDIUM_FOLDER}/{LAPTOP_FOLDER}/{0:016x}-00000.CNS": data}


def provisioning(folder: Path, name: str, role: Role = Role.TABLET) -> Path:
    """Enrol a device by its own commands; return its folder of keys and certificates."""
    with EdgeDevice(folder, TestAuthority(folder / "authority"), 8883) as device:
        return device.enrol(name, role.name.lower()).provisioning_directory


def key_of(provisioning_folder: Path) -> VerifyingKey:
    """Return the key by which a device's envelopes are verified."""
    request = decode_record((provisioning_folder / "request.json").read_bytes(), EnrolmentRequest)
    return VerifyingKey(request.public_key)


def questionnaires(name: str, count: int, body_bytes: int) -> list[bytes]:
    """Return so many, always the same for the same name, that no compression makes much smaller."""
    noise = Random(f"questionnaires of {name}")
    answers = [b64encode(noise.randbytes(body_bytes * 3 // 4)).decode() for _ in range(count)]
    return [f'{{"household":"{name} {number}","answers":"{one}"}}'.encode() for number, one in enumerate(answers)]


def bundles_on(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return the files that are complete by their names."""
    return {path: data for path, data in files.items() if _COMPLETE.fullmatch(path)}


def envelopes_on(stick: Stick, key: VerifyingKey) -> dict[int, Envelope]:
    """Return a device's envelopes on a stick by their sequence: each complete file is whole, all of it genuine."""
    origin = device_name(key.public_bytes)
    found: dict[int, Envelope] = {}
    for path, data in bundles_on(stick.files()).items():
        contents = read_bundle(data, MEDIUM_BUNDLE_BYTES_MAX)
        assert contents.intact, f"{path} is damaged"
        for frame in contents.frames:
            if frame.type is FrameType.ENVELOPE:
                envelope = parse_envelope(frame.payload)
                if envelope.origin == origin:
                    envelope.verify(key)
                    found[envelope.sequence] = envelope
    return found


def opened(envelopes: Iterable[Envelope]) -> list[bytes]:
    """Open envelopes as the center does; return the questionnaires that are whole, sorted."""
    parts: dict[str, dict[int, bytes]] = defaultdict(dict)
    whole: dict[str, int] = {}
    for envelope in envelopes:
        metadata, part = decode_content(envelope.open(CENTER))
        name = metadata.instance_id + metadata.whole_digest
        parts[name][metadata.part] = part
        whole[name] = metadata.parts
    complete = [found for name, found in parts.items() if len(found) == whole[name]]
    return sorted(b"".join(found[number] for number in sorted(found)) for found in complete)


def receipt_file(envelopes: Sequence[Envelope], *, serial: int = 1, watermark: int = BACKED_UP) -> Content:
    """Return the center's receipt for one device's envelopes, a run of its chain, as a laptop leaves it on a stick."""
    ordered = sorted(envelopes, key=lambda one: one.sequence)
    span = Span(1, ordered[0].sequence, ordered[-1].id, SpanStatus.COMMITTED, (Mark(len(ordered), TIME),))
    origin = ordered[0].origin
    receipt = sign_receipt(RECEIPTS, origin=origin, serial=serial, watermark=watermark, spans=(span,))
    data = write_bundle([Frame(FrameType.STATEMENT, receipt.data)])
    return {f"{MEDIUM_FOLDER}/{LAPTOP_FOLDER}/{serial:016x}-00000.CNS": data}
