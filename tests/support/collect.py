"""Requests as ODK Collect (OkHttp) sends them, built by hand: every byte that goes over the socket is the test's."""

from __future__ import annotations

import socket
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from email.message import Message
from email.parser import BytesHeaderParser


@dataclass(frozen=True)
class HttpAnswer:
    """What came back; header names are case-insensitive."""

    status: int
    headers: Message
    body: bytes = b""


def form_data(name: str, data: bytes, *, filename: str | None = None, media_type: str | None = None) -> bytes:
    """One part without its boundary."""
    disposition = f'Content-Disposition: form-data; name="{name}"'
    if filename is not None:
        disposition += f'; filename="{filename}"'
    lines = [disposition]
    if media_type is not None:
        lines.append(f"Content-Type: {media_type}")
    lines.append(f"Content-Length: {len(data)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + data


def multipart(parts: Iterable[bytes], boundary: str) -> bytes:
    """A whole body."""
    delimiter = b"--" + boundary.encode()
    return b"".join(delimiter + b"\r\n" + part + b"\r\n" for part in parts) + delimiter + b"--\r\n"


def submission_parts(
    xml: bytes, files: Sequence[tuple[str, str, bytes]] = (), *, incomplete: bool = False
) -> list[bytes]:
    """What Collect puts into one request: the XML, the files (name, media type, data), and whether more come."""
    parts = [form_data("xml_submission_file", xml, filename="submission.xml", media_type="text/xml; charset=utf-8")]
    parts += [form_data(name, data, filename=name, media_type=media_type) for name, media_type, data in files]
    if incomplete:
        parts.append(form_data("*isIncomplete*", b"yes"))
    return parts


@dataclass
class CollectClient:
    """One form program; each request has a connection of its own."""

    port: int
    key: str
    address: str = "127.0.0.1"
    host: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    timeout_seconds: float = 30.0

    def request(
        self, method: str, path: str, body: bytes = b"", *, headers: dict[str, str] | None = None, chunks: int = 0
    ) -> HttpAnswer:
        """Send one request and read its answer; `chunks`: with chunked transfer, in pieces of so many bytes."""
        with socket.create_connection((self.address, self.port), self.timeout_seconds) as connection:
            connection.sendall(self.head(method, path, len(body), headers, chunked=chunks > 0))
            if chunks:
                for offset in range(0, len(body), chunks):
                    piece = body[offset : offset + chunks]
                    connection.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
                connection.sendall(b"0\r\n\r\n")
            else:
                connection.sendall(body)
            return read_answer(connection, method)

    def head(
        self, method: str, path: str, length: int, headers: dict[str, str] | None = None, *, chunked: bool = False
    ) -> bytes:
        """Request line and headers."""
        given = {
            "Host": self.host or f"{self.address}:{self.port}",
            "X-OpenRosa-Version": "1.0",
            "Date": "Thu, 01 Oct 2026 09:00:00 GMT",
            "User-Agent": "org.odk.collect.android/v2026.1 Dalvik/2.1.0",
            "Connection": "close",
        }
        if chunked:
            given["Transfer-Encoding"] = "chunked"
        elif method == "POST":
            given["Content-Length"] = str(length)
        lines = [f"{method} /key/{self.key}{path} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in (given | self.headers | (headers or {})).items()]
        return "\r\n".join(lines).encode() + b"\r\n\r\n"

    def submit(
        self,
        xml: bytes,
        files: Sequence[tuple[str, str, bytes]] = (),
        *,
        incomplete: bool = False,
        chunks: int = 0,
        headers: dict[str, str] | None = None,
    ) -> HttpAnswer:
        """POST one request of a submission."""
        boundary = str(uuid.uuid4())
        body = multipart(submission_parts(xml, files, incomplete=incomplete), boundary)
        content_type = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        return self.request(
            "POST", "/submission?deviceID=collect%3Aabc", body, headers=content_type | (headers or {}), chunks=chunks
        )


def read_answer(connection: socket.socket, method: str) -> HttpAnswer:
    """Read until the server ends the connection."""
    received = b""
    while piece := connection.recv(65_536):
        received += piece
    first, _, rest = received.partition(b"\r\n")
    head, _, body = rest.partition(b"\r\n\r\n")
    status = int(first.split()[1])
    message = BytesHeaderParser().parsebytes(head)
    if message.get("Transfer-Encoding", "") == "chunked" and method != "HEAD":
        body = _unchunked(body)
    return HttpAnswer(status, message, body)


def _unchunked(body: bytes) -> bytes:
    whole = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        length = int(size, 16)
        whole, body = whole + body[:length], body[length + 2 :]
    return whole
