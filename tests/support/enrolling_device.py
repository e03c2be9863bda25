"""The device's side of enrolment for tests of the center: keys, a certificate signing request, the signed request."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from sync_protocol.identity import Role, device_name
from sync_protocol.keys import SigningKey
from sync_protocol.records import EnrolmentRequest, Provisioning, encode_record, sign_request


def new_p256() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def make_tls_request(key: ec.EllipticCurvePrivateKey, common_name: str = "whatever the device says") -> str:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, SHA256())
    return request.public_bytes(Encoding.PEM).decode()


@dataclass
class EnrollingDevice:
    """A device that has made its keys and not yet been enrolled."""

    name: str
    signing_key: SigningKey = field(default_factory=lambda: SigningKey(os.urandom(32)))
    tls_key: ec.EllipticCurvePrivateKey = field(default_factory=new_p256)

    @property
    def device(self) -> bytes:
        return device_name(self.signing_key.public_bytes)

    def request(self, role: Role = Role.TABLET) -> EnrolmentRequest:
        return sign_request(self.signing_key, name=self.name, role=role, tls_request=make_tls_request(self.tls_key))

    def write_request(self, path: Path) -> Path:
        path.write_bytes(encode_record(self.request()))
        return path

    def write_tls_files(self, directory: Path, provisioning: Provisioning) -> tuple[Path, Path, Path]:
        """Authority, certificate and key files, as the edge keeps them."""
        directory.mkdir(parents=True, exist_ok=True)
        authority, certificate, key = (directory / name for name in ("authority.pem", "tls.pem", "tls.key"))
        authority.write_text(provisioning.tls_authority)
        certificate.write_text(provisioning.tls_certificate)
        key.write_bytes(self.tls_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return authority, certificate, key
