"""The TLS certificates by the strictest reader at hand: real handshakes with VERIFY_X509_STRICT on."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from central_broker.tls_authority import (
    TlsIssuer,
    create_tls_authority,
    issue_client_certificate,
    issue_server_certificate,
    issuer_from,
    key_to_der,
    key_to_pem,
    make_revocation_list,
    new_tls_key,
    read_certificate_request,
    to_pem,
)
from tests.support.enrolling_device import make_tls_request, new_p256

DEVICE = "ab" * 16


def _context(folder: Path, *, server: bool, issuer: TlsIssuer, root: bytes, name: str) -> ssl.SSLContext:
    key = new_tls_key()
    if server:
        leaf = issue_server_certificate(issuer, key.public_key(), ["127.0.0.1", "broker.census.example", "fd00::1"])
    else:
        leaf = issue_client_certificate(issuer, key.public_key(), name)
    chain, key_file, roots = folder / f"{name}.pem", folder / f"{name}.key", folder / f"{name}.roots"
    chain.write_bytes(to_pem(leaf, issuer.certificate))
    key_file.write_bytes(key_to_pem(key))
    roots.write_bytes(root)
    purpose = ssl.Purpose.CLIENT_AUTH if server else ssl.Purpose.SERVER_AUTH
    context = ssl.create_default_context(purpose, cafile=str(roots))
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.load_cert_chain(chain, key_file)
    return context


def _handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> dict[str, object]:
    """Both ends in memory; returns the client's certificate as the server saw it."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    one = server.wrap_bio(to_server, to_client, server_side=True)
    other = client.wrap_bio(to_client, to_server, server_hostname=name)
    waiting = [other, one]
    for _ in range(10):
        for end in tuple(waiting):
            try:
                end.do_handshake()
                waiting.remove(end)
            except ssl.SSLWantReadError:
                pass
    assert not waiting
    seen = one.getpeercert()
    assert seen is not None
    return dict(seen)


@pytest.mark.parametrize("name", ["127.0.0.1", "broker.census.example", "fd00::1"])
def test_broker_and_device_accept_each_other_strictly(tmp_path: Path, name: str) -> None:
    tls = create_tls_authority()
    root = to_pem(tls.root.certificate)
    server = _context(tmp_path, server=True, issuer=tls.issuing, root=root, name="broker")
    client = _context(tmp_path, server=False, issuer=tls.issuing, root=root, name=DEVICE)
    seen = _handshake(server, client, name)
    assert seen["subject"] == ((("commonName", DEVICE),),)
    assert seen["notBefore"] == "Jan  1 00:00:00 1970 GMT"


def test_two_devices_accept_each_other_in_the_mesh(tmp_path: Path) -> None:
    tls = create_tls_authority()
    root = to_pem(tls.root.certificate)
    one = _context(tmp_path, server=False, issuer=tls.issuing, root=root, name=DEVICE)
    serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(tmp_path / f"{DEVICE}.roots"))
    serving.verify_mode = ssl.CERT_REQUIRED
    serving.load_cert_chain(tmp_path / f"{DEVICE}.pem", tmp_path / f"{DEVICE}.key")
    assert _handshake(serving, one, DEVICE)["subject"] == ((("commonName", DEVICE),),)


def test_another_authoritys_device_and_another_name_are_refused(tmp_path: Path) -> None:
    tls, foreign = create_tls_authority(), create_tls_authority()
    root = to_pem(tls.root.certificate)
    server = _context(tmp_path, server=True, issuer=tls.issuing, root=root, name="broker")
    stranger = _context(tmp_path, server=False, issuer=foreign.issuing, root=root, name=DEVICE)
    with pytest.raises(ssl.SSLError):
        _handshake(server, stranger, "127.0.0.1")
    device = _context(tmp_path, server=False, issuer=tls.issuing, root=root, name="cd" * 16)
    with pytest.raises(ssl.SSLError):
        _handshake(server, device, "10.9.9.9")


def test_a_centers_client_cannot_serve_as_the_broker(tmp_path: Path) -> None:
    tls = create_tls_authority()
    usage = issue_client_certificate(tls.center, new_tls_key().public_key(), "center-consumer").extensions
    assert list(usage.get_extension_for_class(x509.ExtendedKeyUsage).value) == [x509.OID_CLIENT_AUTH]


def test_the_revocation_list_names_the_revoked_and_is_signed_by_the_issuer() -> None:
    tls = create_tls_authority()
    leaf = issue_client_certificate(tls.issuing, new_tls_key().public_key(), DEVICE)
    revoked = make_revocation_list(tls.issuing, [leaf.serial_number, leaf.serial_number], number=3)
    assert revoked.is_signature_valid(tls.issuing.certificate.public_key())  # type: ignore[arg-type]  # P-256 here
    assert [entry.serial_number for entry in revoked] == [leaf.serial_number]


def test_an_authority_is_put_together_only_with_its_own_key() -> None:
    tls = create_tls_authority()
    pem = to_pem(tls.issuing.certificate)
    assert issuer_from(pem, key_to_der(tls.issuing.key)).certificate == tls.issuing.certificate
    with pytest.raises(ValueError, match="does not belong"):
        issuer_from(pem, key_to_der(tls.root.key))


def _request(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> str:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, SHA256())
    return request.public_bytes(Encoding.PEM).decode()


def test_a_p256_request_is_read() -> None:
    key = new_p256()
    assert read_certificate_request(make_tls_request(key)) == key.public_key()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
        "é" * 100,
        _request(ec.generate_private_key(ec.SECP384R1())),
        _request(rsa.generate_private_key(65537, 2048)),
    ],
    ids=["empty", "garbage", "no ASCII", "P-384", "RSA"],
)
def test_other_requests_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="TLS request"):
        read_certificate_request(text)


def test_a_request_with_another_key_put_in_is_refused() -> None:
    one = x509.load_pem_x509_csr(make_tls_request(new_p256()).encode()).public_bytes(Encoding.DER)
    point = new_p256().public_key().public_numbers()
    own = x509.load_der_x509_csr(one).public_key()
    assert isinstance(own, ec.EllipticCurvePublicKey)
    numbers = own.public_numbers()
    forged = one.replace(
        numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big"),
        point.x.to_bytes(32, "big") + point.y.to_bytes(32, "big"),
    )
    assert forged != one
    pem = x509.load_der_x509_csr(forged).public_bytes(Encoding.PEM).decode()
    with pytest.raises(ValueError, match="not signed with its own key"):
        read_certificate_request(pem)


def test_no_name_makes_no_server_certificate() -> None:
    tls = create_tls_authority()
    with pytest.raises(ValueError, match="at least one"):
        issue_server_certificate(tls.issuing, new_tls_key().public_key(), [])
