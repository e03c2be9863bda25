"""A center and its devices for measuring: real authority, real enrolment, a real mosquitto with the product's own
configuration. Databases come and go; the keys stay.
"""

from __future__ import annotations

import getpass
import secrets
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.questionnaires import FORM
from central_broker.broker_configuration import write_broker_files
from central_broker.broker_link import BrokerSettings
from central_broker.center_files import CenterFiles, create_center
from central_broker.configuration import load_configuration, sample_configuration
from central_broker.enrolment import Enrolled, Issuers, Refused, enrol, revocation_list
from central_broker.seed_protection import PassphraseSources
from central_broker.storage import open_storage
from central_broker.storage.batch_records import CertifiedDevice
from demo.processes import RunningProcess, accepts_connections, free_port
from edge_agent import enrolment, provisioning
from sync_protocol import statement
from sync_protocol.identity import Role, read_device_certificate
from sync_protocol.records import encode_record
from sync_protocol.statement import parse_statement

_SCRYPT_COST_LOG2: Final = 12
"""Keys of a benchmark need no protection; opening them shall not take seconds."""
_PASSPHRASE: Final = "nothing here is secret"


def now() -> int:
    """Microseconds since 1970 UTC."""
    return time.time_ns() // 1_000


def open_files(folder: Path) -> CenterFiles:
    """The files of the center in a folder, for its processes."""
    sources = PassphraseSources({}, prompt=lambda: _PASSPHRASE)
    return CenterFiles(load_configuration(folder), sources, scrypt_cost_log2=_SCRYPT_COST_LOG2)


def broker_settings(files: CenterFiles, purpose: str, client_id: str) -> BrokerSettings:
    """How the center's own processes connect; `purpose` is consumer or receipts."""
    configuration = files.configuration
    broker = configuration.broker
    return BrokerSettings(broker.center_address, broker.center_port, client_id, center_tls(files, purpose))


def center_tls(files: CenterFiles, purpose: str) -> ssl.SSLContext:
    """The TLS that they use."""
    tls = files.configuration.tls
    consumer = purpose == "consumer"
    context = ssl.create_default_context(cafile=str(tls.authority))
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(
        tls.consumer_certificate if consumer else tls.receipts_certificate,
        tls.consumer_key if consumer else tls.receipts_key,
    )
    return context


@dataclass(frozen=True)
class BenchDevice:
    """An enrolled device: its provisioning folder is as on a tablet."""

    folder: Path
    provisioned: provisioning.ProvisionedDevice

    @property
    def name(self) -> bytes:
        """The 16-byte name."""
        return self.provisioned.identity.device


class BenchCenter:
    """The center in a folder; a context manager that ends its broker."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._broker: RunningProcess | None = None
        folder.mkdir(parents=True)
        chosen: dict[str, int | str | tuple[str, ...]] = {
            "broker.port": free_port(),
            "broker.center_port": free_port(),
            "broker.user": getpass.getuser(),
            # A run takes seconds: with the default of a second it would measure the wait for the last receipt.
            "receipts.interval_milliseconds": 100,
            "consumer.group": secrets.token_hex(8),
        }
        (folder / "center.toml").write_text(sample_configuration(folder, chosen))
        self.files = open_files(folder)
        create_center(self.files, now())
        self._issuers = Issuers(self.files.issuing_key(), self.files.tls_issuing())
        self._register = open_storage(f"sqlite:///{folder / 'register.sqlite3'}")
        self.port = self.files.configuration.broker.port
        self._write_broker()

    def enrol(self, folder: Path, name: str, role: Role = Role.TABLET) -> BenchDevice:
        """Make a device's keys in its folder, enrol it, and install the answer there."""
        request = enrolment.make_request(folder, name=name, role=role)
        enrolled = enrol(request, files=self.files, storage=self._register, issuers=self._issuers, now=now())
        match enrolled:
            case Refused(problem):
                raise RuntimeError(problem)
            case Enrolled(provisioning=answer):
                enrolment.install(folder, encode_record(answer))
        return BenchDevice(folder, provisioning.load(folder))

    def prepare_database(self, url: str, devices: Sequence[BenchDevice]) -> None:
        """Make the census database ready: its tables, the devices, the form."""
        storage = open_storage(url)
        try:
            for device in devices:
                certificates = [
                    parsed
                    for parsed in map(parse_statement, device.provisioned.statements)
                    if parsed.kind == statement.DEVICE_CERTIFICATE
                ]
                storage.store_devices(
                    [CertifiedDevice(read_device_certificate(parsed), parsed.data) for parsed in certificates], now()
                )
            storage.allow_form(FORM)
        finally:
            storage.close()

    def start_broker(self) -> RunningProcess:
        """Start mosquitto, after ending the one that runs: it remembers nothing of before."""
        self.stop_broker()
        words = ["mosquitto", "-c", str(self.files.configuration.directories.broker / "mosquitto.conf")]
        self._broker = RunningProcess(words, log=self.folder / "mosquitto.log")
        center_port = self.files.configuration.broker.center_port
        self._broker.wait_until(
            lambda: accepts_connections(self.port) and accepts_connections(center_port), "the broker listens"
        )
        return self._broker

    def stop_broker(self) -> None:
        """End mosquitto, if it runs."""
        if self._broker is not None:
            self._broker.close()
            self._broker = None

    def close(self) -> None:
        """End everything."""
        self.stop_broker()
        self._register.close()

    def __enter__(self) -> BenchCenter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write_broker(self) -> None:
        files = self.files
        write_broker_files(
            files.configuration.directories.broker,
            files.configuration.broker,
            issuer=self._issuers.tls,
            root=files.certificate("root").read_bytes(),
            center_authority=files.certificate("center").read_bytes(),
            revocation_list=revocation_list(files, self._register, self._issuers.tls),
        )
