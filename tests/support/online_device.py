"""A device that takes questionnaires in for the census web site, and one of the site's servers."""

from __future__ import annotations

import http.client
import json
import secrets
import ssl
import uuid
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from tests.support.certificates import Material, TestAuthority
from tests.support.collect import multipart, submission_parts
from tests.support.openrosa_device import OpenRosaDevice
from tests.support.processes import accepts_connections, free_port

FORM = "household"


@dataclass(frozen=True)
class Handed:
    """What came back."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class WebSite:
    """One server of the site; each request has a connection of its own."""

    port: int
    authority: Path | None
    token: str

    def request(self, method: str, path: str, body: Any = b"", *, headers: Mapping[str, str] | None = None) -> Handed:
        """Send one request; `body` may be an iterable, which is sent chunked. Raises OSError unless all of the answer
        comes.
        """
        given = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        with closing(self._connection()) as connection:
            connection.request(method, path, body, given | dict(headers or {}))
            try:
                answer = connection.getresponse()
                return Handed(answer.status, answer.headers, answer.read())
            except (http.client.BadStatusLine, http.client.IncompleteRead) as cut:
                raise ConnectionResetError("the answer was cut short") from cut

    def hand_in(self, document: Any, **headers: str) -> Handed:
        """POST a questionnaire as JSON; bytes are sent as they are."""
        body = document if isinstance(document, bytes) else json.dumps(document, ensure_ascii=False).encode()
        return self.request("POST", "/questionnaires", body, headers={"Content-Type": "application/json"} | headers)

    def submit(self, xml: bytes, files: tuple[tuple[str, str, bytes], ...] = (), *, incomplete: bool = False) -> Handed:
        """POST one as form programs do."""
        body = multipart(submission_parts(xml, files, incomplete=incomplete), "b")
        headers = {"Content-Type": "multipart/form-data; boundary=b", "X-OpenRosa-Version": "1.0"}
        return self.request("POST", "/submission", body, headers=headers)

    def _connection(self) -> http.client.HTTPConnection:
        if self.authority is None:
            return http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        context = ssl.create_default_context(cafile=str(self.authority))
        return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=30, context=context)


class OnlineDevice(OpenRosaDevice):
    """Nobody listens where its broker should be, so that everything stays in the queue. Its OpenRosa endpoint is on."""

    def __init__(self, folder: Path, authority: TestAuthority, *, lines: Mapping[str, str] | None = None) -> None:
        folder.mkdir(parents=True)
        self.site_authority = TestAuthority(folder / "site authority", "census web site")
        self.material: Material = self.site_authority.issue("web", address="127.0.0.1")
        self.material.key.chmod(0o600)
        self.tokens_file = folder / "tokens"
        self.token = secrets.token_hex(32)
        self.put_tokens(self.token)
        super().__init__(folder, authority, lines=dict(lines or {}) | {"online": self._lines()})

    def _lines(self) -> str:
        self.online_port = free_port()
        return (
            f'enabled = true\nport = {self.online_port}\ntokens_file = "{self.tokens_file}"\n'
            f'tls_certificate = "{self.material.certificate}"\ntls_key = "{self.material.key}"'
        )

    def put_tokens(self, *tokens: str) -> None:
        """Have exactly these in force from now on."""
        passing = self.tokens_file.with_suffix(".new")
        digests = [sha256(token.encode()).hexdigest() for token in tokens]
        passing.write_text("# of tests\n" + "".join(f"{one}  web {n}\n" for n, one in enumerate(digests)))
        passing.chmod(0o600)
        passing.replace(self.tokens_file)

    def open_for_site(self) -> WebSite:
        """Start the daemon and return a server of the site."""
        self.start()
        self.process.wait_until(lambda: accepts_connections(self.online_port), "the endpoint listens")
        return self.site()

    def site(self, token: str | None = None) -> WebSite:
        return WebSite(self.online_port, self.site_authority.certificate_file, self.token if token is None else token)


@contextmanager
def online_device(folder: Path, *, role: str = "online") -> Iterator[OnlineDevice]:
    """Enrolled; its daemon is not started."""
    with OnlineDevice(folder / "device", TestAuthority(folder / "authority")) as device:
        device.enrol("web 1", role)
        yield device


def new_instance() -> str:
    return f"uuid:{uuid.uuid4()}"


def questionnaire(instance_id: str, answers: Any = None, **members: Any) -> dict[str, Any]:
    """A small one, as the site writes it."""
    said = {"a": 1} if answers is None else answers
    return {"form": FORM, "version": "3", "instance_id": instance_id, "answers": said} | members
