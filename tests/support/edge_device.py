"""A device for tests: enrolled by its own commands with a center of the test's making, and its daemon as a process."""

from __future__ import annotations

import grp
import json
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from click.testing import CliRunner, Result
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from edge_agent.commands import main
from sync_protocol.identity import Role, Standing, certify_device, publish_recipient_key
from sync_protocol.records import EnrolmentRequest, Provisioning, check_request, decode_record, encode_record
from sync_protocol.statement import Usage
from tests.support.certificates import TestAuthority
from tests.support.processes import RunningProcess, wait_until
from tests.support.protocol_examples import CENTER, ISSUER, RECEIPTS, ROOT, TIME, key_certificate


class EdgeDevice:
    """One device in `folder`; a context manager that ends its daemon and removes its sockets."""

    def __init__(
        self,
        folder: Path,
        authority: TestAuthority,
        port: int,
        *,
        lines: Mapping[str, str] | None = None,
        counted_lists: bool = False,
    ) -> None:
        """`lines` are further lines of the configuration, by section; the VPN is the loopback interface. Without lines
        for it there is no mesh. With `counted_lists` the first envelope is the device's key: tests count envelopes.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.state_directory = folder / "state"
        self.state_directory.mkdir(exist_ok=True)
        self.provisioning_directory = folder / "provisioning"
        self.drop_directory = folder / "drop"
        # A socket's path has at most 107 bytes; pytest's folders are deep.
        self.runtime_directory = Path(tempfile.mkdtemp(prefix="edge-"))
        self.configuration = folder / "edge-agent.toml"
        self.log = folder / "daemon.log"
        self._authority = authority
        self._process: RunningProcess | None = None
        self.notices: socket.socket | None = None
        self.write_configuration(port, lines or {}, counted_lists=counted_lists)

    def write_configuration(self, port: int, lines: Mapping[str, str], *, counted_lists: bool = False) -> None:
        group = grp.getgrgid(os.getgid()).gr_name
        sections = {
            "device": f'provisioning_directory = "{self.provisioning_directory}"\n'
            f'state_directory = "{self.state_directory}"\nruntime_directory = "{self.runtime_directory}"\n'
            f'operator_group = "{group}"\ncounted_lists = {str(counted_lists).lower()}',
            "broker": f'address = "127.0.0.1"\nport = {port}\nbackoff_seconds_min = 1\nbackoff_seconds_max = 1',
            "vpn": 'interfaces = ["lo"]',
            "intake": f'drop_directory = "{self.drop_directory}"\nsubmit_socket_group = "{group}"',
            "usb": 'mounting = "off"',
            "storage": "free_bytes_min = 1000000",
            "log": 'style = "text"',
        }
        if "mesh" not in lines:
            sections["mesh"] = 'duty = "off"'  # tests run beside each other, and are no neighbours
        for section, text in lines.items():
            sections[section] = f"{sections.get(section, '')}\n{text}"
        written = "\n".join(f"[{section}]\n{text}" for section, text in sections.items())
        self.configuration.write_text(written + "\n")

    @property
    def name(self) -> bytes:
        """The device's name, by its request."""
        return self.request().device

    def request(self) -> EnrolmentRequest:
        return decode_record((self.provisioning_directory / "request.json").read_bytes(), EnrolmentRequest)

    def enrol(self, name: str = "tablet 17", role: str = "tablet") -> Self:
        """The whole enrolment, by the device's own commands."""
        self.succeed("enrol", "request", "--name", name, "--role", role)
        answer = self.folder / "answer.json"
        answer.write_bytes(encode_record(self.provisioning()))
        self.succeed("enrol", "install", str(answer))
        return self

    def provisioning(self) -> Provisioning:
        """The center's answer to the device's request."""
        request = self.request()
        role: Role = check_request(request)
        public_key = x509.load_pem_x509_csr(request.tls_request.encode()).public_key()
        if not isinstance(public_key, ec.EllipticCurvePublicKey):
            raise TypeError("the TLS request is of another kind of key")
        certificate = certify_device(
            ISSUER,
            public_key=request.public_key,
            role=role,
            standing=Standing.ACTIVE,
            issued_at=TIME,
            name=request.name,
            serial=1,
        )
        recipient = publish_recipient_key(ISSUER, public_key=CENTER.public_key.public_bytes, serial=1)
        keys = (key_certificate(), key_certificate(RECEIPTS, Usage.RECEIPTS))
        return Provisioning(
            device=request.device.hex(),
            root_key=ROOT.public_bytes.hex(),
            statements=[statement.data for statement in (*keys, certificate, recipient)],
            recipient_key=CENTER.public_key.name.hex(),
            tls_certificate=self._authority.certify(request.device.hex(), public_key).decode(),
            tls_authority=self._authority.certificate_file.read_text(),
        )

    # Commands, in this process: the same code without its start-up.

    def run(self, *words: str) -> Result:
        return CliRunner().invoke(main, ["--configuration", str(self.configuration), *words], prog_name="edge-agent")

    def succeed(self, *words: str) -> str:
        result = self.run(*words)
        if result.exit_code != 0:
            raise AssertionError(f"{words} ended with {result.exit_code}: {result.output}") from result.exception
        return result.stdout

    def document(self, *words: str) -> Any:
        """What a command says with --json, whatever its exit status."""
        return json.loads(self.run(*words, "--json").stdout)

    def submit(self, *bodies: str) -> Any:
        """Submit JSON questionnaires and return the command's answer."""
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        for number, body in enumerate(bodies):
            (folder / f"{number:04}.json").write_text(body)
        return self.document("submit", "--form", "household", str(folder))

    def counts(self) -> dict[str, int]:
        counts: dict[str, int] = self.document("status")["envelopes"]
        return counts

    def wait_for_counts(self, **expected: int) -> None:
        """Wait until the queue has so many envelopes in each of these states."""
        wait_until(
            lambda: {state: self.counts()[state] for state in expected} == expected,
            f"the queue has {expected}",
            evidence=lambda: f"{self.counts()}\n{self.log.read_text()[-3000:]}",
        )

    # The daemon.

    @property
    def process(self) -> RunningProcess:
        if self._process is None:
            raise RuntimeError("the daemon is not started")
        return self._process

    def listen_for_notices(self) -> socket.socket:
        """Stand for systemd: from the next start on, the daemon tells this socket how it is."""
        self.notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notices.bind(str(self.runtime_directory / "notify"))
        self.notices.settimeout(20)
        return self.notices

    def start(
        self, *, program: Sequence[str] = ("-m", "edge_agent"), prefix: Sequence[str] = (), wait: bool = True
    ) -> RunningProcess:
        """Start the daemon and wait until it answers."""
        environment = {"PYTHONUNBUFFERED": "1"}
        if self.notices is not None:
            environment |= {"NOTIFY_SOCKET": str(self.runtime_directory / "notify"), "WATCHDOG_USEC": "400000"}
        words = [*prefix, sys.executable, *program, "--configuration", str(self.configuration), "run"]
        self._process = RunningProcess(words, log=self.log, environment=environment)
        if wait:
            # Its answer, not its log: a daemon that was killed has left lines and sockets of its own.
            self._process.wait_until(self._answers, "the daemon answers")
        return self._process

    def _answers(self) -> bool:
        result = self.run("status", "--json")
        return result.exit_code in (0, 3) and bool(json.loads(result.stdout)["running"])

    def logged(self, event: str) -> list[str]:
        """The lines of the daemon's log that tell of an event."""
        return [line for line in self.log.read_text().splitlines() if f"] {event}: " in line]

    def wait_for_event(self, event: str, times: int = 1) -> list[str]:
        self.process.wait_until(lambda: len(self.logged(event)) >= times, f"{times} × {event} in the log")
        return self.logged(event)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.close()
        if self.notices is not None:
            self.notices.close()
        shutil.rmtree(self.runtime_directory)
