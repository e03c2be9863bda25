"""What every TLS connection of a device has in common, whoever is at the far end."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_NO_CHECK_TIME: Final = 0x200000  # OpenSSL's X509_V_FLAG_NO_CHECK_TIME, which Python's ssl does not name


class TlsMaterialError(Exception):
    """A certificate or key file cannot be used; the text names the file."""


@dataclass(frozen=True)
class TlsMaterial:
    """PEM files: the authority's certificates, this device's certificate, and its key."""

    authority: Path
    certificate: Path
    key: Path


def load_material(context: ssl.SSLContext, material: TlsMaterial) -> None:
    """Make a context TLS 1.3 only, with the far end proven by the authority and this device by its certificate.

    Dates of certificates are not looked at: a tablet's clock may say 1970. Raises TlsMaterialError.
    """
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_3
    context.verify_flags |= ssl.VerifyFlags(_NO_CHECK_TIME)
    try:
        context.load_verify_locations(cafile=material.authority)
    except (OSError, ssl.SSLError) as error:
        problem = f"{material.authority} cannot be used as the authority's certificate: {error}"
        raise TlsMaterialError(problem) from error
    try:
        context.load_cert_chain(material.certificate, material.key)
    except (OSError, ssl.SSLError) as error:
        files = f"{material.certificate} and {material.key}"
        problem = f"{files} cannot be used as this device's certificate and key: {error}"
        raise TlsMaterialError(problem) from error
