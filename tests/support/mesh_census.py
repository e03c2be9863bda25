"""A census whose devices stand in network namespaces: a center behind a VPN that one laptop has, and tablets around it.

The demo's center and devices, with real daemons; but their commands run in this process, and the center's keys are
sealed at no cost, because a test of the mesh needs many devices and few seconds. Needs root and mosquitto.
"""

from __future__ import annotations

import contextlib
import secrets
import signal
import sqlite3
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from click.testing import CliRunner

from central_broker.configuration import Value
from demo.field import Center, CommandFailed, Device, set_toml_keys
from demo.processes import RunningProcess
from edge_agent.commands import main as edge_agent_program
from edge_agent.configuration import sample_configuration as device_sample
from tests.support.mesh_ground import Ground
from tests.support.mosquitto import find_mosquitto, why_no_mosquitto
from tests.support.namespaces import Namespace, namespace, why_no_namespaces
from tests.support.shared_data import PROJECT_FOLDER
from tests.support.small_center import SmallCenter

TUNNEL: Final = "wg0"
"""The VPN, on the laptop: a veth pair by the tunnel's name (see `namespaces.TwoRoutes`)."""
_BROKER: Final = "10.9.0.1"
_PORT, _CENTER_PORT = 8883, 8893
"""In a namespace of its own, where nobody else is."""


def why_no_mesh_census() -> str | None:
    """The reason to skip; None when such a census can be put up here."""
    return why_no_namespaces() or why_no_mosquitto()


class MeshCenter(SmallCenter):
    """The census center in a namespace; its broker is reached by the VPN."""

    def __init__(self, folder: Path, place: Namespace) -> None:
        """Made, and not started."""
        self.place = place
        chosen: dict[str, Value] = {
            "broker.names": (_BROKER, "127.0.0.1"),
            "broker.listen_address": _BROKER,
            "broker.port": _PORT,
            "broker.center_port": _CENTER_PORT,
        }
        super().__init__(folder, chosen=chosen)
        self.port = _PORT

    def start(self) -> None:
        """Broker, consumer and receipt publisher, in the namespace."""
        configuration = self.broker_folder / "mosquitto.conf"
        log = self.folder / "mosquitto.log"
        self.broker = RunningProcess(self.place.command(str(find_mosquitto()), "-c", str(configuration)), log=log)
        self.start_consumer(1, *self.place.command())
        self.start_publisher(1, *self.place.command())


class MeshDevice(Device):
    """A tablet or the laptop, enrolled, in a namespace; its mesh is on."""

    def __init__(
        self,
        folder: Path,
        name: str,
        center: Center,
        *,
        place: Namespace,
        role: str = "tablet",
        settings: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
    ) -> None:
        self.name = name
        self.folder = folder
        self.place = place
        folder.mkdir(parents=True)
        self.configuration = folder / "edge-agent.toml"
        self.configuration.write_text(device_sample())
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
                "address": _BROKER,
                "port": _PORT,
                "keepalive_seconds": 10,
                "connect_timeout_seconds": 3,
                "backoff_seconds_min": 1,
                "backoff_seconds_max": 1,
            },
            "vpn": {"interfaces": [TUNNEL]},
            "sync": {"receipt_wait_seconds": 10},
            "usb": {"mounting": "off"},
            "intake": {"drop_directory": "", "submit_socket_group": "root"},
        }
        for section, keys in settings.items():
            own.setdefault(section, {}).update(keys)
        set_toml_keys(self.configuration, own)
        self._enrol(center, role)
        self.process: RunningProcess | None = None
        self.accepted = 0

    @property
    def id(self) -> str:
        """The device's name, in hexadecimal; asked of the running daemon."""
        return str(self.status()["device"])

    def launch(self, *before: str | Path) -> RunningProcess:
        """Start the daemon without waiting; its waits are short (see `impatient_mesh_daemon`)."""
        program = ("-m", "tests.support.impatient_mesh_daemon", "--configuration", self.configuration)
        words = [*before, *self.place.command(), sys.executable, *program, "run"]
        self.process = RunningProcess(words, log=self.folder / "edge-agent.log", folder=PROJECT_FOLDER)
        return self.process

    def edge_agent(self, *arguments: str | Path) -> str:
        words = ["--configuration", str(self.configuration), *map(str, arguments)]
        ended = CliRunner().invoke(edge_agent_program, words, prog_name="edge-agent")
        if ended.exit_code:
            raise CommandFailed(f"{words} ended with {ended.exit_code}: {ended.output}") from ended.exception
        return ended.stdout

    def takes_questionnaires(self) -> bool:
        """Whether the daemon answers."""
        return self._listens()

    def counts(self) -> dict[str, int]:
        """How many envelopes are in each state."""
        counts: dict[str, int] = self.status()["envelopes"]
        return counts

    def neighbours(self) -> set[str]:
        """The names (hexadecimal) of those that are connected now."""
        return {one["device"] for one in self.status()["mesh"]["neighbours"]}

    def copies_left(self) -> list[tuple[str, int]]:
        """(origin, sequence) of every envelope whose bytes are still on disk; the daemon must have ended."""
        with closing(sqlite3.connect(self.folder / "state" / "queue.db")) as connection:
            rows = connection.execute("SELECT hex(origin), sequence FROM envelope WHERE data IS NOT NULL").fetchall()
        return [(str(origin).lower(), int(sequence)) for origin, sequence in rows]

    def log_tail(self) -> str:
        """For a test that fails."""
        log = self.folder / "edge-agent.log"
        return f"{self.name}:\n{log.read_text()[-3000:]}" if log.exists() else self.name

    def close(self) -> None:
        if self.process is not None:
            self.process.close()
        if self.runtime.is_dir():
            for left in self.runtime.iterdir():
                left.unlink()
            self.runtime.rmdir()


class MeshCensus:
    """Center, laptop and tablets; everything that is started ends with the stack."""

    def __init__(
        self,
        folder: Path,
        stack: ExitStack,
        tablets: Iterable[str],
        *,
        forms: Iterable[str],
        settings: Mapping[str, Mapping[str, Mapping[str, Any]]],
    ) -> None:
        """Made, and nothing is started; the tablets stand alone, the laptop has its VPN."""
        place = stack.enter_context(namespace("center"))
        self.ground = Ground(stack.enter_context(namespace("ground")))
        self.center = MeshCenter(folder / "center", place)
        stack.callback(self.center.close)
        for form in forms:
            self.center.ask("forms", "add", form)
        self.devices: dict[str, MeshDevice] = {}
        for name, role in [*((tablet, "tablet") for tablet in tablets), ("laptop", "collection_point")]:
            label = name.replace(" ", "")
            place_of_device = stack.enter_context(namespace(label))
            own = settings.get(name, {})
            device = MeshDevice(folder / label, name, self.center, place=place_of_device, role=role, settings=own)
            stack.callback(device.close)
            self.devices[name] = device
        stack.callback(self.end_devices)
        self._dig_tunnel(self.laptop.place, place)

    @property
    def laptop(self) -> MeshDevice:
        return self.devices["laptop"]

    @property
    def tablets(self) -> list[MeshDevice]:
        return [device for device in self.devices.values() if device is not self.laptop]

    def start(self) -> None:
        """Center and devices; returns when every device takes questionnaires."""
        self.center.start()
        for device in self.devices.values():
            device.launch()
        for device in self.devices.values():
            if device.process is None:
                raise TypeError(f"{device.name} is not started")
            device.process.wait_until(
                device.takes_questionnaires, f"{device.name} takes questionnaires", timeout_seconds=60
            )

    def vpn(self, state: str) -> None:
        """Take the laptop's VPN "down" or bring it "up"."""
        self.laptop.place.ip("link", "set", TUNNEL, state)

    def end_devices(self) -> list[int]:
        """End every daemon in good order, all at once (each takes leave of its neighbours); return statuses."""
        processes = [device.process for device in self.devices.values() if device.process is not None]
        for process in processes:
            process.signal(signal.SIGTERM)
        return [process.wait() for process in processes]

    def log_tails(self) -> str:
        return "\n".join(device.log_tail() for device in self.devices.values())

    @staticmethod
    def _dig_tunnel(laptop: Namespace, center: Namespace) -> None:
        laptop.ip("link", "add", TUNNEL, "type", "veth", "peer", "name", "far0", "netns", center.name)
        for place, interface, host in ((laptop, TUNNEL, 2), (center, "far0", 1)):
            place.ip("address", "add", f"10.9.0.{host}/24", "dev", interface)
            place.ip("link", "set", interface, "up")


@contextlib.contextmanager
def mesh_census(
    folder: Path,
    *tablets: str,
    forms: Iterable[str] = ("household",),
    settings: Mapping[str, Mapping[str, Mapping[str, Any]]] = MappingProxyType({}),
) -> Iterator[MeshCensus]:
    """A census with a laptop and these tablets, ended whole; `settings` of configuration keys by device and section."""
    with ExitStack() as stack:
        yield MeshCensus(folder, stack, tablets, forms=forms, settings=settings)
