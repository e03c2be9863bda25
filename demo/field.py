"""A whole census in one folder: authority, broker, center and devices, all of them real processes of this project.

The demo and the integration tests drive it. Devices reach the broker through a relay each, which can be cut.
"""

from __future__ import annotations

import getpass
import json
import os
import secrets
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import unquote, urlsplit

from demo.processes import RunningProcess, accepts_connections, free_port, wait_until
from demo.tcp_relay import TcpRelay
from edge_agent.queue.intake.local_protocol import CONTROL_SOCKET_NAME, SUBMIT_SOCKET_NAME, LocalClient, connected
from edge_agent.queue.intake.submit_socket import SUBMIT

_PROGRAMS: Final = Path(sys.executable).parent
_START_SECONDS: Final = 60


class CommandFailed(Exception):
    """A command of ours ended with an error; the message has what it said."""


def command(*arguments: str | Path, environment: dict[str, str] | None = None) -> str:
    """Run one of our programs to its end and return what it printed; raises CommandFailed."""
    words = [str(_PROGRAMS / arguments[0]), *map(str, arguments[1:])]
    ended = subprocess.run(
        words, capture_output=True, text=True, check=False, env={**os.environ, **(environment or {})}
    )
    if ended.returncode:
        raise CommandFailed(f"{' '.join(words)}\nended with status {ended.returncode}\n{ended.stdout}{ended.stderr}")
    return ended.stdout


class Center:
    """The census center: its folder, and the processes that run from it."""

    def __init__(self, folder: Path, *, database_url: str | None = None) -> None:
        self.folder = folder
        self.database_url = database_url or f"sqlite:///{folder / 'state' / 'census.sqlite3'}"
        self.port = free_port()
        folder.mkdir(parents=True)
        passphrase = folder / "passphrase"
        passphrase.write_text(secrets.token_hex(16) + "\n")
        passphrase.chmod(0o600)
        self._environment = {"CENSUS_CENTER": str(folder), "CENSUS_PASSPHRASE_FILE": str(passphrase)}
        url, password = _without_password(self.database_url)
        if password:
            self._environment["PGPASSWORD"] = password
        self._make(url)
        set_toml_keys(folder / "center.toml", {"receipts": {"interval_milliseconds": 100}})
        self._run("broker")
        self.broker_folder = folder / "broker"
        self.broker: RunningProcess | None = None
        self.consumers: dict[int, RunningProcess] = {}
        self.publishers: dict[int, RunningProcess] = {}

    def ask(self, *arguments: str | Path) -> Any:
        """Run a command of `central-broker` with --json and return the document."""
        return json.loads(self._run(*arguments, "--json"))

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Ask the census database itself, past our own code."""
        if self.database_url.startswith("sqlite:///"):
            with closing(sqlite3.connect(self.database_url.removeprefix("sqlite:///"))) as connection:
                return connection.execute(sql).fetchall()
        import psycopg

        with psycopg.connect(self.database_url) as connected:
            return connected.execute(sql.encode()).fetchall()

    def start_broker(self) -> None:
        """Start mosquitto from the configuration that `central-broker broker` wrote."""
        program = "/usr/sbin/mosquitto"
        log = self.folder / "mosquitto.log"
        self.broker = RunningProcess([program, "-c", self.broker_folder / "mosquitto.conf"], log=log)
        self.broker.wait_until(lambda: accepts_connections(self.port), "the broker accepts connections")

    def start_consumer(self, number: int = 1, *before: str | Path) -> None:
        """Start one consumer process, without waiting; `before` are words to run it under."""
        log = self.folder / f"consumer-{number}.log"
        self.consumers[number] = self._start("consume", "--instance", str(number), log=log, before=before)

    def start_publisher(self, number: int = 1, *before: str | Path) -> None:
        """Start one receipt publisher, without waiting; `before` are words to run it under."""
        log = self.folder / f"receipts-{number}.log"
        self.publishers[number] = self._start("receipts", "--instance", str(number), log=log, before=before)

    def back_up(self) -> None:
        """Back the census database up, which moves the watermark; on PostgreSQL, tell that the site has done so."""
        if self.database_url.startswith("sqlite:///"):
            self.ask("backup", "run")
        else:
            self.ask("backup", "record", self.ask("backup", "mark")["clock"])

    def close(self) -> None:
        """End everything."""
        for process in (*self.consumers.values(), *self.publishers.values(), self.broker):
            if process is not None:
                process.close()

    def _make(self, database_url: str) -> None:
        """Make the configuration and the keys, in the folder; the passphrase is there."""
        ports = ("--port", str(self.port), "--center-port", str(free_port()))
        user = getpass.getuser()
        self._run("init", "--address", "127.0.0.1", *ports, "--database", database_url, "--broker-user", user)

    def _start(self, *arguments: str, log: Path, before: Sequence[str | Path]) -> RunningProcess:
        words = [*before, _PROGRAMS / "central-broker", *arguments]
        return RunningProcess(words, log=log, environment=self._environment)

    def _run(self, *arguments: str | Path) -> str:
        return command("central-broker", *arguments, environment=self._environment)


def _without_password(url: str) -> tuple[str, str]:
    """Split a password off a database URL: the center's configuration does not take one."""
    parts = urlsplit(url)
    if parts.password is None:
        return url, ""
    place = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=f"{parts.username}@{place}").geturl(), unquote(parts.password)


def set_toml_keys(path: Path, settings: dict[str, dict[str, Any]]) -> None:
    """Set keys in a sample configuration, where each stands once, perhaps commented out."""
    lines = path.read_text().splitlines()
    section = ""
    written: list[str] = []
    for line in lines:
        if line.startswith("["):
            section = line.strip("[]")
        name = line.lstrip("#").partition("=")[0].strip()
        value = settings.get(section, {}).get(name)
        if value is None or "=" not in line or line.startswith("# "):
            written.append(line)
        else:
            written.append(f"{name} = {json.dumps(value)}")
    path.write_text("\n".join(written) + "\n")


class Device:
    """One tablet, or collection point: its folder, its daemon, its link."""

    def __init__(
        self, folder: Path, name: str, center: Center, *, settings: dict[str, dict[str, Any]], role: str = "tablet"
    ) -> None:
        self.name = name
        self.folder = folder
        folder.mkdir(parents=True)
        self.relay = TcpRelay(("127.0.0.1", center.port))
        self.relay.start()
        self.configuration = folder / "edge-agent.toml"
        self.configuration.write_text(command("edge-agent", "sample-configuration"))
        # Socket paths are short by law of the kernel; deep test folders are not.
        self.runtime = Path("/tmp") / f"census-{secrets.token_hex(4)}"
        own: dict[str, dict[str, Any]] = {
            "device": {
                "provisioning_directory": str(folder / "provisioning"),
                "state_directory": str(folder / "state"),
                "runtime_directory": str(self.runtime),
                "operator_group": "root",
                "counted_lists": False,  # what is counted here is questionnaires
            },
            "broker": {
                "address": "127.0.0.1",
                "port": self.relay.port,
                "backoff_seconds_min": 1,
                "backoff_seconds_max": 2,
            },
            "vpn": {"interfaces": ["lo"]},
            "usb": {"mounting": "off"},
            "mesh": {"duty": "off"},
            "intake": {"drop_directory": str(folder / "drop"), "submit_socket_group": "root"},
        }
        for section, keys in settings.items():
            own.setdefault(section, {}).update(keys)
        set_toml_keys(self.configuration, own)
        self._enrol(center, role)
        self.process: RunningProcess | None = None
        self.accepted = 0

    def launch(self, *before: str | Path) -> RunningProcess:
        """Start the daemon without waiting; `before` are words to run it under, as `env` is."""
        environment = {"EDGE_AGENT_CONFIGURATION": str(self.configuration)}
        log = self.folder / "edge-agent.log"
        words = [*before, _PROGRAMS / "edge-agent", "run"]
        self.process = RunningProcess(words, log=log, environment=environment)
        return self.process

    def start(self) -> None:
        """Start the daemon and wait until it takes questionnaires."""
        self.launch().wait_until(self._listens, f"{self.name} takes questionnaires", timeout_seconds=_START_SECONDS)

    def submit(self, bodies: Sequence[bytes], *, form: str = "", keys: Sequence[str] | None = None) -> None:
        """Hand over questionnaires as a form program does; returns when all are accepted. Raises OSError,
        CommandFailed.
        """
        with connected(self.runtime / SUBMIT_SOCKET_NAME) as client:
            for number, body in enumerate(bodies):
                key = {"key": keys[number]} if keys is not None else {}
                client.send({"request": SUBMIT, "form": form, **key}, body)
            for _ in bodies:
                self._count(client)

    def status(self) -> dict[str, Any]:
        """Return the daemon's status document; raises OSError while it does not run."""
        with connected(self.runtime / CONTROL_SOCKET_NAME) as client:
            return client.ask({"request": "status"})

    def envelopes(self) -> list[dict[str, Any]]:
        """Return everything in the queue, purged envelopes included."""
        with connected(self.runtime / CONTROL_SOCKET_NAME) as client:
            rows: list[dict[str, Any]] = client.ask({"request": "queue-list"})["rows"]
        return rows

    def edge_agent(self, *arguments: str | Path) -> str:
        """Run a command of `edge-agent` with this device's configuration."""
        return command("edge-agent", "--configuration", self.configuration, *arguments)

    def close(self) -> None:
        """End the daemon and the link."""
        if self.process is not None:
            self.process.close()
        self.relay.close()
        if self.runtime.is_dir():
            for left in self.runtime.iterdir():
                left.unlink()
            self.runtime.rmdir()

    def _count(self, client: LocalClient) -> None:
        answer = client.receive()
        if not answer["ok"]:
            raise CommandFailed(f"{self.name} refused a questionnaire: {answer['problem']}")
        self.accepted += not answer["repeated"]

    def _listens(self) -> bool:
        try:
            with connected(self.runtime / CONTROL_SOCKET_NAME):
                return True
        except OSError:
            return False

    def _enrol(self, center: Center, role: str) -> None:
        self.edge_agent("enrol", "request", "--name", self.name, "--role", role)
        provisioning = self.folder / "provisioning.json"
        meant = ["--online"] if role == "online" else []
        center.ask("enrol", self.folder / "provisioning" / "request.json", "--out", provisioning, *meant)
        self.edge_agent("enrol", "install", provisioning)


@dataclass
class Field:
    """Center and devices together; a context manager that ends them all."""

    folder: Path
    device_count: int = 3
    database_url: str | None = None
    forms: Sequence[str] = ("household",)
    device_settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    center_kind: type[Center] = Center

    def __enter__(self) -> Self:
        self.center = self.center_kind(self.folder / "center", database_url=self.database_url)
        self.devices: list[Device] = []
        try:
            for form in self.forms:
                self.center.ask("forms", "add", form)
            for number in range(1, self.device_count + 1):
                name = f"tablet {number}"
                folder = self.folder / f"tablet-{number}"
                self.devices.append(Device(folder, name, self.center, settings=self.device_settings))
            self.center.start_broker()
        except BaseException:
            self.close()
            raise
        return self

    def start(self) -> None:
        """Start one consumer, one receipt publisher, and every device."""
        self.center.start_consumer()
        self.center.start_publisher()
        for device in self.devices:
            device.start()

    def wait_until_synchronised(self, *, timeout_seconds: float) -> None:
        """Wait until no device has an envelope without a sync mark."""
        for device in self.devices:

            def everything_marked(device: Device = device) -> bool:
                counts: dict[str, int] = device.status()["envelopes"]
                return counts["waiting"] + counts["sent"] == 0

            wait_until(everything_marked, f"{device.name} is synchronised", timeout_seconds=timeout_seconds)

    def close(self) -> None:
        """End everything that was started."""
        for device in self.devices:
            device.close()
        self.center.close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
