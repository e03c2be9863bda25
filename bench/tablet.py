"""One tablet's daemon as a real process, from its own configuration file; the VPN is the loopback interface."""

from __future__ import annotations

import json
import secrets
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from bench.center import BenchCenter, BenchDevice
from bench.questionnaires import FORM, FORM_VERSION
from bench.ready_process import ReadyProcess
from demo.processes import RunningProcess
from edge_agent.queue.intake.local_protocol import CONTROL_SOCKET_NAME, SUBMIT_SOCKET_NAME, LocalClient, connected
from edge_agent.queue.intake.submit_socket import SUBMIT
from sync_protocol.content import Questionnaire

_PROGRAM: Final = Path(sys.executable).parent / "edge-agent"


class Tablet:
    """A context manager that ends the daemon. `port` is the broker's, or a relay's; form programs submit by HTTP only
    where `openrosa_port` is given.
    """

    def __init__(self, folder: Path, device: BenchDevice, port: int, *, openrosa_port: int | None = None) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        # Socket paths are short by law of the kernel.
        self._runtime = Path(tempfile.mkdtemp(prefix=f"census-{secrets.token_hex(2)}-"))
        self._configuration = folder / "edge-agent.toml"
        self._write_configuration(device, port, openrosa_port)
        self.process: RunningProcess | None = None

    def start(self) -> None:
        """Start the daemon and wait until it takes questionnaires."""
        # An empty value means: compiled modules may be kept, as an installation has them.
        environment = {"EDGE_AGENT_CONFIGURATION": str(self._configuration), "PYTHONDONTWRITEBYTECODE": ""}
        self.process = RunningProcess([_PROGRAM, "run"], log=self._folder / "edge-agent.log", environment=environment)
        self.process.wait_until(self._listens, "the daemon takes questionnaires")

    def wait_until_connected(self) -> None:
        """Wait for the log to say so: asking the daemon would make it work."""
        if self.process is None:
            raise RuntimeError("the daemon is not started")
        self.process.wait_for_log("connected to the broker")

    @property
    def pid(self) -> int:
        """The daemon's process id; raises RuntimeError when it was not started."""
        if self.process is None:
            raise RuntimeError("the daemon is not started")
        return self.process.pid

    @contextmanager
    def submit_socket(self) -> Iterator[LocalClient]:
        """Connect as a form program does."""
        with connected(self._runtime / SUBMIT_SOCKET_NAME) as client:
            yield client

    def status(self) -> dict[str, Any]:
        """The daemon's status document."""
        with connected(self._runtime / CONTROL_SOCKET_NAME) as client:
            return client.ask({"request": "status"})

    def waiting(self) -> int:
        """How many envelopes have no receipt yet."""
        envelopes = self.status()["envelopes"]
        return int(envelopes["waiting"]) + int(envelopes["sent"])

    def close(self) -> None:
        """End the daemon."""
        if self.process is not None:
            self.process.close()
        for left in self._runtime.iterdir():
            left.unlink()
        self._runtime.rmdir()

    def __enter__(self) -> Tablet:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _listens(self) -> bool:
        try:
            with connected(self._runtime / CONTROL_SOCKET_NAME), connected(self._runtime / SUBMIT_SOCKET_NAME):
                return True
        except OSError:
            return False

    def _write_configuration(self, device: BenchDevice, port: int, openrosa_port: int | None) -> None:
        state = self._folder / "state"
        sections: dict[str, dict[str, object]] = {
            "device": {
                "provisioning_directory": str(device.folder),
                "state_directory": str(state),
                "runtime_directory": str(self._runtime),
                "operator_group": "root",
                "counted_lists": False,  # what is counted here is questionnaires
            },
            # A cut link is part of what is measured here; waiting before the next try is not.
            "broker": {"address": "127.0.0.1", "port": port, "backoff_seconds_min": 1, "backoff_seconds_max": 2},
            "vpn": {"interfaces": ["lo"]},
            "mesh": {"duty": "off"},
            "intake": {"drop_directory": str(self._folder / "drop"), "submit_socket_group": "root"},
        }
        if openrosa_port is not None:
            sections["intake"] |= {"openrosa": True, "openrosa_port": openrosa_port}
        lines = []
        for section, keys in sections.items():
            # A JSON text, number or list of texts is TOML too.
            lines += [f"[{section}]", *(f"{name} = {json.dumps(value)}" for name, value in keys.items())]
        self._configuration.write_text("\n".join(lines) + "\n")


def submit_request(questionnaire: Questionnaire) -> dict[str, Any]:
    """What a form program sends before the body."""
    return {
        "request": SUBMIT,
        "form": FORM,
        "form_version": FORM_VERSION,
        "instance_id": questionnaire.instance_id,
    }


def submit(tablet: Tablet, questionnaires: Sequence[Questionnaire]) -> None:
    """Hand over questionnaires as a form program does, one after the other."""
    with tablet.submit_socket() as client:
        for one in questionnaires:
            answer = client.ask(submit_request(one), one.body)
            if not answer["ok"]:
                raise RuntimeError(f"the daemon refused a questionnaire: {answer}")


def start_center_process(role: str, center: BenchCenter, url: str, folder: Path) -> ReadyProcess:
    """Start a consumer ("consumer") or a receipt publisher ("receipts") that works at once; the caller ends it."""
    arguments: list[str | Path] = [role, center.folder, "0"]
    process = ReadyProcess("bench.center_process", arguments, folder / f"{role}.log", database=url)
    try:
        process.wait_for("ready")
        process.go()
    except BaseException:
        process.close()
        raise
    return process
