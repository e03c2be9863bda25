"""A real mosquitto with mutual TLS for tests: certificates made on the spot, its own folder and a free port."""

import contextlib
import datetime
import ipaddress
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

START_SECONDS_MAX = 20.0


@dataclass(frozen=True)
class Material:
    """One certificate with its key, and the authority's certificate, as files."""

    authority: Path
    certificate: Path
    key: Path


class TestAuthority:
    """Issues certificates into a folder."""

    __test__ = False

    def __init__(self, folder: Path, name: str = "test authority") -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate_file = folder / "authority.pem"
        usage = x509.KeyUsage(
            digital_signature=True,
            key_cert_sign=True,
            crl_sign=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            encipher_only=False,
            decipher_only=False,
        )
        builder = (
            self._builder(self._name, self._key.public_key(), days_valid=30)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(usage, critical=True)
        )
        certificate = builder.sign(self._key, hashes.SHA256())
        self.certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def issue(self, name: str, *, address: str | None = None, days_valid: int = 30) -> Material:
        """A certificate for a device, or for a broker at an address; a negative number of days has passed already."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        usage = ExtendedKeyUsageOID.CLIENT_AUTH if address is None else ExtendedKeyUsageOID.SERVER_AUTH
        builder = (
            self._builder(subject, key.public_key(), days_valid)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        )
        if address is not None:
            names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
            builder = builder.add_extension(names, critical=False)
        certificate_file, key_file = self._folder / f"{name}.pem", self._folder / f"{name}.key"
        certificate = builder.sign(self._key, hashes.SHA256())
        certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return Material(self.certificate_file, certificate_file, key_file)

    def _builder(
        self, subject: x509.Name, public_key: ec.EllipticCurvePublicKey, days_valid: int
    ) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=60))
            .not_valid_after(now + datetime.timedelta(days=days_valid))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )


def why_no_mosquitto() -> str | None:
    """The reason to skip; None when mosquitto is installed."""
    return None if shutil.which("mosquitto") else "mosquitto is not installed"


def free_port(address: str = "127.0.0.1") -> int:
    """A port that is free now."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def mosquitto(
    folder: Path, material: Material, *, address: str, port: int, command_prefix: Sequence[str] = ()
) -> Iterator[subprocess.Popen[bytes]]:
    """A running broker; `command_prefix` may start it inside a namespace. Ended by its own pid."""
    folder.mkdir(parents=True, exist_ok=True)
    configuration = folder / "mosquitto.conf"
    configuration.write_text(
        f"listener {port} {address}\n"
        f"cafile {material.authority}\ncertfile {material.certificate}\nkeyfile {material.key}\n"
        "require_certificate true\nuse_identity_as_username true\ntls_version tlsv1.3\n"
        f"persistence false\nallow_anonymous false\nlog_dest file {folder / 'log'}\nlog_type all\n"
        + ("user root\n" if os.geteuid() == 0 else "")  # it would drop to a user who cannot read the test's folder
    )
    process = subprocess.Popen([*command_prefix, "mosquitto", "-c", str(configuration)])
    try:
        _wait_until_listening(process, folder / "log")
        yield process
    finally:
        process.kill()
        process.wait()


def _wait_until_listening(process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + START_SECONDS_MAX
    while not (log.exists() and "running" in log.read_text()):
        if process.poll() is not None or time.monotonic() > until:
            raise RuntimeError(f"mosquitto did not start: {log.read_text() if log.exists() else 'no log'}")
        time.sleep(0.02)
