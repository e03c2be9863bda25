"""TLS between neighbours (SPEC.md §9): both sides prove themselves by certificates of the same authority.

Neither knows beforehand who the other is; the name is read from the certificate after the handshake. Not responsible
for whether that device is still welcome.
"""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass
from typing import Final

from edge_agent.tls import TlsMaterial, load_material

APPLICATION_PROTOCOL: Final = "census-mesh/1"
_DEVICE_NAME: Final = re.compile("[0-9a-f]{32}")


class NotADeviceError(Exception):
    """The far end proved to be something of the authority's, but no device that speaks the mesh's protocol."""


@dataclass(frozen=True)
class PeerTls:
    """The two sides of a connection; a device takes either."""

    server: ssl.SSLContext
    client: ssl.SSLContext


def peer_tls(material: TlsMaterial) -> PeerTls:
    """Return contexts for both sides: TLS 1.3 only, certificates required, dates not looked at.

    Raises TlsMaterialError.
    """
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.num_tickets = 0  # connections are few and long; a session to be resumed would only be kept for nothing
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False  # an address says nothing of who is there: `device_of` does
    for context in (server, client):
        context.verify_mode = ssl.CERT_REQUIRED
        context.set_alpn_protocols([APPLICATION_PROTOCOL])
        load_material(context, material)
    return PeerTls(server, client)


def device_of(connection: ssl.SSLObject | ssl.SSLSocket) -> bytes:
    """Return the name (16 bytes) of the device at the far end; raises NotADeviceError.

    It is the certificate's common name and its only alternative name, 32 hexadecimal digits: a broker or a program of
    the center has a certificate of the same authority, and is none.
    """
    if connection.selected_alpn_protocol() != APPLICATION_PROTOCOL:
        raise NotADeviceError(f"the far end does not speak {APPLICATION_PROTOCOL}")
    certificate = connection.getpeercert()
    if not certificate:
        raise NotADeviceError("the far end showed no certificate")
    subject = [field for group in certificate.get("subject", ()) for field in group]
    common_names = [field[1] for field in subject if field[0] == "commonName"]
    alternatives = list(certificate.get("subjectAltName", ()))
    if len(common_names) != 1 or _DEVICE_NAME.fullmatch(str(common_names[0])) is None:
        raise NotADeviceError("the certificate's common name is not a device's")
    name = str(common_names[0])
    if alternatives != [("DNS", name)]:
        raise NotADeviceError("the certificate's common name is not its only alternative name")
    return bytes.fromhex(name)
