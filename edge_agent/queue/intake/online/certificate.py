"""The certificate with which the endpoint serves: loaded, and loaded anew when the files are others."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path


class TlsFilesError(OSError):
    """The files hold no certificate and key that go together."""


@dataclass(frozen=True)
class TlsFiles:
    """PEM: the certificate with what leads to its authority, and its key without a passphrase."""

    certificate: Path
    key: Path

    def state(self) -> tuple[int, ...]:
        """Return what changes when one of the files does; raises OSError."""
        found = [path.stat() for path in (self.certificate, self.key)]
        return tuple(part for one in found for part in (one.st_ino, one.st_size, one.st_mtime_ns))

    def load_into(self, context: ssl.SSLContext) -> None:
        """Serve with them from the next handshake on; raises OSError, and the context stays as it was."""
        _load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), self)
        _load(context, self)

    def context(self) -> ssl.SSLContext:
        """Return what a listener serves with: TLS 1.2 or newer. Raises OSError."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        _load(context, self)
        return context


def _load(context: ssl.SSLContext, files: TlsFiles) -> None:
    try:
        # With a passphrase the library would ask at the terminal; here it is given a wrong one and refuses.
        context.load_cert_chain(files.certificate, files.key, password="")
    except ssl.SSLError as error:
        reason = error.reason or "no PEM"
        problem = (
            f"{files.certificate} and {files.key} are not a certificate and its key without a passphrase: {reason}"
        )
        raise TlsFilesError(problem) from None
