"""X.509 for the broker's TLS: a root, an issuing authority for devices and broker, one for the center's own clients.

The center's clients have an authority of their own, because they speak to a listener of their own, where a client names
itself: a device's certificate must not open that one (see `central_broker.broker_configuration`).

All keys are P-256. Certificates carry what RFC 5280 and Python's VERIFY_X509_STRICT ask for: basic constraints, key
usage, subject and authority key identifiers, subject alternative names. Their validity begins in 1970 and ends in 2049:
a tablet whose battery died checks the broker's certificate by a clock that says anything. What ends a certificate is
the revocation list, which for the same reason never goes stale.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

VALID_FROM: Final = datetime(1970, 1, 1, tzinfo=UTC)
VALID_UNTIL: Final = datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC)
"""The last moment that X.509 writes with two digits for the year, which every reader of certificates can take."""
ISSUE_TIME: Final = datetime(2020, 1, 1, tzinfo=UTC)
"""The revocation list's thisUpdate: before any clock the broker may have, so that the list always is in force."""
CONSUMER_NAME: Final = "center-consumer"
PUBLISHER_NAME: Final = "center-receipts"


@dataclass(frozen=True)
class TlsIssuer:
    """A certificate authority with its private key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


@dataclass(frozen=True)
class TlsAuthority:
    """What `init` makes: `issuing` is certified by `root`; `center` is a root of its own."""

    root: TlsIssuer
    issuing: TlsIssuer
    center: TlsIssuer


def create_tls_authority() -> TlsAuthority:
    """Make the three authorities."""
    root_key, issuing_key, center_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
    root = _certify_authority("census root", root_key.public_key(), None, root_key, path_length=1)
    issuing = _certify_authority("census devices", issuing_key.public_key(), root, root_key, path_length=0)
    center = _certify_authority("census center", center_key.public_key(), None, center_key, path_length=0)
    return TlsAuthority(TlsIssuer(root, root_key), TlsIssuer(issuing, issuing_key), TlsIssuer(center, center_key))


def issue_server_certificate(
    issuer: TlsIssuer, public_key: ec.EllipticCurvePublicKey, names: Sequence[str]
) -> x509.Certificate:
    """Certify the broker for the IP addresses and DNS names by which it is reached; raises ValueError for none."""
    if not names:
        raise ValueError("the broker's certificate needs at least one address or name")
    alternatives = x509.SubjectAlternativeName([_general_name(name) for name in names])
    builder = _leaf(issuer, public_key, "census-broker", ExtendedKeyUsageOID.SERVER_AUTH)
    return builder.add_extension(alternatives, critical=False).sign(issuer.key, SHA256())


def issue_client_certificate(
    issuer: TlsIssuer, public_key: ec.EllipticCurvePublicKey, common_name: str
) -> x509.Certificate:
    """Certify a client; the broker takes its user name from the common name.

    A device also serves its neighbours in the mesh, with this same certificate.
    """
    usages = [ExtendedKeyUsageOID.CLIENT_AUTH]
    if common_name not in (CONSUMER_NAME, PUBLISHER_NAME):
        usages.append(ExtendedKeyUsageOID.SERVER_AUTH)
    builder = _leaf(issuer, public_key, common_name, *usages)
    alternative = x509.SubjectAlternativeName([x509.DNSName(common_name)])
    return builder.add_extension(alternative, critical=False).sign(issuer.key, SHA256())


def make_revocation_list(issuer: TlsIssuer, serials: Iterable[int], *, number: int) -> x509.CertificateRevocationList:
    """Sign the list of revoked certificates; `number` grows with every list."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(ISSUE_TIME)
        .next_update(VALID_UNTIL)
        .add_extension(x509.CRLNumber(number), critical=False)
        .add_extension(_authority_identifier(issuer.certificate), critical=False)
    )
    for serial in sorted(set(serials)):
        revoked = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(ISSUE_TIME).build()
        builder = builder.add_revoked_certificate(revoked)
    return builder.sign(issuer.key, SHA256())


def read_certificate_request(text: str) -> ec.EllipticCurvePublicKey:
    """Return the P-256 key of a PEM certificate signing request that signed itself; raises ValueError otherwise.

    Its subject and extensions are ignored: the center decides what it certifies.
    """
    try:
        request = x509.load_pem_x509_csr(text.encode())
        key = request.public_key()
        genuine = request.is_signature_valid
    except Exception as error:  # noqa: BLE001  # the parser meets hostile bytes, and has many ways to say no
        raise ValueError(f"the TLS request cannot be read: {type(error).__name__}") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ValueError("the TLS request's key is not a P-256 key")  # noqa: TRY004  # of bytes, not of an argument
    if not genuine:
        raise ValueError("the TLS request was not signed with its own key")
    return key


def new_tls_key() -> ec.EllipticCurvePrivateKey:
    """Make a P-256 key, for the broker and for the center's clients."""
    return ec.generate_private_key(ec.SECP256R1())


def key_to_der(key: ec.EllipticCurvePrivateKey) -> bytes:
    """PKCS #8, unencrypted: to be sealed by the caller."""
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


def key_to_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """PKCS #8, unencrypted, as TLS libraries read it from a 0600 file."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def issuer_from(certificate_pem: bytes, key_der: bytes) -> TlsIssuer:
    """Put an authority together again; raises ValueError when the key is not the certificate's."""
    certificate = x509.load_pem_x509_certificate(certificate_pem)
    key = load_der_private_key(key_der, None)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise ValueError("the key does not belong to this authority's certificate")
    return TlsIssuer(certificate, key)


def to_pem(*documents: x509.Certificate | x509.CertificateRevocationList) -> bytes:
    """One after the other, as chains are written: leaf first."""
    return b"".join(document.public_bytes(Encoding.PEM) for document in documents)


def _certify_authority(
    name: str,
    public_key: ec.EllipticCurvePublicKey,
    issuer: x509.Certificate | None,
    issuer_key: ec.EllipticCurvePrivateKey,
    *,
    path_length: int,
) -> x509.Certificate:
    subject = _name(name)
    authority = (
        x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
        if issuer is None
        else _authority_identifier(issuer)
    )
    usage = _key_usage(digital_signature=False, authority=True)
    return (
        _base(public_key, subject, subject if issuer is None else issuer.subject)
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(authority, critical=False)
        .sign(issuer_key, SHA256())
    )


def _leaf(
    issuer: TlsIssuer, public_key: ec.EllipticCurvePublicKey, common_name: str, *usages: x509.ObjectIdentifier
) -> x509.CertificateBuilder:
    return (
        _base(public_key, _name(common_name), issuer.certificate.subject)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(digital_signature=True, authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(_authority_identifier(issuer.certificate), critical=False)
    )


def _base(public_key: ec.EllipticCurvePublicKey, subject: x509.Name, issuer: x509.Name) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(VALID_FROM)
        .not_valid_after(VALID_UNTIL)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _authority_identifier(certificate: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    identifier = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)


def _key_usage(*, digital_signature: bool, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
