"""An enrolled device that does not keep to the protocol: it seals, signs and publishes whatever the test wants."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from demo.field import Field
from sync_protocol import domains
from sync_protocol.bundle import Frame, FrameType, write_bundle
from sync_protocol.content import Questionnaire, cut, encode_content
from sync_protocol.envelope import NO_ID, Envelope, parse_envelope, seal_envelope
from sync_protocol.head import sign_head
from sync_protocol.identity import read_recipient_key
from sync_protocol.keys import SIGNATURE_BYTES, RecipientPublicKey
from sync_protocol.records import Provisioning, decode_record
from sync_protocol.statement import RECIPIENT_KEY, parse_statement
from sync_protocol.topics import up_topic
from tests.support.center_broker import TryingClient, strict_context
from tests.support.enrolling_device import EnrollingDevice


@dataclass
class HostileDevice:
    """Enrolled and connected; `sealed` is its chain so far."""

    enrolled: EnrollingDevice
    recipient: RecipientPublicKey
    client: TryingClient
    sealed: list[Envelope] = field(default_factory=list)

    @property
    def id(self) -> bytes:
        """Its name in the protocol."""
        return self.enrolled.device

    def content(self, body: bytes = b'{"persons": []}', *, form: str = "household") -> bytes:
        """The plaintext of a questionnaire as it should be."""
        number = len(self.sealed) + 1
        questionnaire = Questionnaire(form, "1", f"uuid:hostile-{number}", "application/json", 1, body)
        ((metadata, part),) = cut(questionnaire)
        return encode_content(metadata, part)

    def seal(self, content: bytes | None = None, **changes: Any) -> Envelope:
        """The next envelope of the chain, or, with changes (origin, recipient, sequence …), one that is not."""
        last = self.sealed[-1].id if self.sealed else NO_ID
        link = {"origin": self.id, "epoch": 1, "sequence": len(self.sealed) + 1, "previous_id": last}
        sealing = {"recipient": self.recipient, "signer": self.enrolled.signing_key, **link, **changes}
        envelope = seal_envelope(self.content() if content is None else content, **sealing)
        if sealing["origin"] == self.id:
            self.sealed.append(envelope)
        return envelope

    def sign_anew(self, envelope: Envelope, offset: int, value: int) -> bytes:
        """The newest envelope with one byte of header or ciphertext changed, and a signature that fits."""
        changed = bytearray(envelope.data[:-SIGNATURE_BYTES])
        changed[offset] = value
        signature = self.enrolled.signing_key.sign(domains.ENVELOPE + bytes(changed))
        self.sealed[-1] = parse_envelope(bytes(changed) + signature)
        return self.sealed[-1].data

    def head(self) -> Frame:
        """A true head of the chain."""
        last = self.sealed[-1]
        return Frame(
            FrameType.HEAD,
            sign_head(
                self.enrolled.signing_key,
                origin=self.id,
                epoch=1,
                sequence=last.sequence,
                last_id=last.id,
                receipt_serial=0,
                stated_at=1,
            ).data,
        )

    def publish(self, payload: bytes) -> None:
        """Publish these bytes as a bundle; the broker must take them."""
        answer = self.client.publish(up_topic(self.id), payload)
        if answer != "Success":
            raise AssertionError(f"the broker answered {answer}")

    def send(self, *envelopes: bytes) -> None:
        """Publish an orderly bundle of whatever these bytes are."""
        self.publish(write_bundle(Frame(FrameType.ENVELOPE, data) for data in envelopes))


def enrol_hostile(made: Field, folder: Path) -> HostileDevice:
    """Enrol one at this field's center, and connect it."""
    device = EnrollingDevice("hostile")
    answered = made.center.ask("enrol", device.write_request(folder / "hostile.json"))
    provisioning = decode_record(Path(answered["provisioning"]).read_bytes(), Provisioning)
    statements = [parse_statement(data) for data in provisioning.statements]
    (recipient,) = [read_recipient_key(one) for one in statements if one.kind == RECIPIENT_KEY]
    client = TryingClient(
        strict_context(*device.write_tls_files(folder / "hostile", provisioning)), device.device.hex()
    )
    answer = client.connect(made.center.port)
    if answer != "Success":
        raise AssertionError(f"the broker answered {answer}")
    return HostileDevice(device, recipient, client)
