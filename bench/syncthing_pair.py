"""Syncthing, the peer of a meeting: two of it on the loopback interface, the second one given a folder of the first's.

Nothing of it leaves the machine: no discovery, relays, port mapping, reports or upgrades, and addresses of the
loopback interface only. Nothing in it waits that need not: the first has looked at its folder before the two meet,
and finds the second as soon as it may.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree

from bench.mesh_device import ADDRESS
from bench.process_figures import cpu_seconds
from bench.rows import Sample
from demo.processes import RunningProcess, accepts_connections, free_port, wait_until

_FOLDER: Final = "envelopes"
_WAIT_SECONDS: Final = 300.0
_EVENT_SECONDS: Final = 2
_OPTIONS: Final = {
    "globalAnnounceEnabled": "false",
    "localAnnounceEnabled": "false",
    "relaysEnabled": "false",
    "natEnabled": "false",
    "stunKeepaliveStartS": "0",
    "crashReportingEnabled": "false",
    "urAccepted": "-1",
    "autoUpgradeIntervalH": "0",
    "startBrowser": "false",
    "setLowPriority": "false",
    "announceLANAddresses": "false",
    "reconnectionIntervalS": "1",
    "progressUpdateIntervalS": "-1",
}


def syncthing_program() -> str | None:
    """Return where Syncthing is; None when it is not installed."""
    return shutil.which("syncthing")


def syncthing_version(program: str) -> str:
    """Return its version."""
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"v(\d[\d.]*)", said)
    return "of unknown version" if found is None else found[1]


class _Syncthing:
    """One of the two."""

    def __init__(self, program: str, home: Path) -> None:
        self.home = home
        self.files = home / _FOLDER
        self.files.mkdir(parents=True)
        self._program = program
        self._environment = {"HOME": str(home), "STNOUPGRADE": "1", "STNODEFAULTFOLDER": "1"}
        words = [program, "generate", f"--home={home}", "--no-default-folder", "--skip-port-probing"]
        subprocess.run(words, check=True, capture_output=True, env={**os.environ, **self._environment})
        self._configuration = ElementTree.parse(home / "config.xml")
        device = self._configuration.find("./device")
        key = self._configuration.find("./gui/apikey")
        if device is None or key is None or key.text is None:
            raise RuntimeError("Syncthing's configuration is not as expected")
        self.device = device.attrib["id"]
        self._key = key.text
        self._api_port = free_port()
        self.port = free_port()
        self.process: RunningProcess | None = None

    def configure(self, other: _Syncthing, *, dials: bool, suited: bool) -> None:
        """Share the folder with the other, `suited` to many files or not; who dials does not until it is told to."""
        root = self._configuration.getroot()
        self._set("./gui/address", f"{ADDRESS}:{self._api_port}")
        self._set("./options/listenAddress", f"tcp://{ADDRESS}:{self.port}")
        for name, value in _OPTIONS.items():
            self._set(f"./options/{name}", value)
        device = ElementTree.SubElement(root, "device", id=other.device, name="other", compression="metadata")
        ElementTree.SubElement(device, "address").text = f"tcp://{ADDRESS}:{other.port}" if dials else "dynamic"
        ElementTree.SubElement(device, "paused").text = "true" if dials else "false"
        attributes = {"id": _FOLDER, "path": str(self.files), "type": "sendreceive"}
        attributes |= {"rescanIntervalS": "0", "fsWatcherEnabled": "false"}
        folder = ElementTree.SubElement(root, "folder", attributes)
        for one in (self, other):
            ElementTree.SubElement(folder, "device", id=one.device)
        if suited:
            # Otherwise it lists the whole folder for every file, in case another one's name differs by case alone.
            ElementTree.SubElement(folder, "caseSensitiveFS").text = "true"
        self._configuration.write(self.home / "config.xml")

    def start(self) -> RunningProcess:
        """Start it; the caller ends it."""
        words = [self._program, "serve", f"--home={self.home}", "--no-browser", "--no-restart"]
        self.process = RunningProcess(words, log=self.home / "log", environment=self._environment)
        self.process.wait_until(lambda: accepts_connections(self._api_port), "Syncthing answers")
        return self.process

    def ask(self, path: str, *, post: bool = False, timeout_seconds: float = 30) -> Any:
        """Ask over its own interface; return the document."""
        url = f"http://{ADDRESS}:{self._api_port}/rest/{path}"
        request = urllib.request.Request(url, method="POST" if post else "GET", headers={"X-API-Key": self._key})
        with urllib.request.urlopen(request, timeout=timeout_seconds) as answer:
            said = answer.read()
        return json.loads(said) if said.strip() else None

    def has_all(self, count: int) -> bool:
        """Whether so many files are in its folder, and known to be."""
        status = self.ask(f"db/status?folder={_FOLDER}")
        at_rest = status["state"] == "idle" and status["needTotalItems"] == 0
        return bool(at_rest and status["localFiles"] == status["globalFiles"] == count)

    def events(self, since: int, *, timeout_seconds: int = _EVENT_SECONDS) -> list[dict[str, Any]]:
        """Return what has happened after an event (by number); it begins to take note when it is first asked."""
        kinds = "DeviceConnected,StateChanged"
        return list(self.ask(f"events?events={kinds}&since={since}&timeout={timeout_seconds}") or ())

    def cpu(self) -> float:
        """CPU seconds so far."""
        return 0.0 if self.process is None else cpu_seconds(self.process.pid, with_descendants=True)

    def _set(self, path: str, value: str) -> None:
        found = self._configuration.find(path)
        if found is None:
            raise RuntimeError(f"Syncthing's configuration has no {path}")
        found.text = value


def measure_syncthing(program: str, home: Path, files: Mapping[str, bytes], *, suited: bool) -> Sample:
    """Let two fresh ones meet, of whom the first has these files (by name); return how fast the second had them.

    `suited`: spread over 256 folders, and without the look for names that differ by case. Otherwise it is as installed,
    and the files are in one folder.
    """
    giver, taker = _Syncthing(program, home / "giver"), _Syncthing(program, home / "taker")
    giver.configure(taker, dials=True, suited=suited)
    taker.configure(giver, dials=False, suited=suited)
    for name, data in files.items():
        path = giver.files / (name[:2] if suited else "") / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    with ExitStack() as ends:
        for one in (giver, taker):
            ends.enter_context(one.start())
        wait_until(lambda: giver.has_all(len(files)), "the first knows its files", timeout_seconds=_WAIT_SECONDS)
        taker.events(0, timeout_seconds=0)
        before = {"giver": giver.cpu(), "taker": taker.cpu()}
        giver.ask(f"system/resume?device={taker.device}", post=True)
        seconds = _seconds(taker, len(files))
        spent = {"giver": giver.cpu() - before["giver"], "taker": taker.cpu() - before["taker"]}
    if {path.name: path.read_bytes() for path in taker.files.glob("??/*" if suited else "[!.]*")} != files:
        raise RuntimeError("the second has other files than the first")
    count = len(files)
    return Sample(count / seconds, {name: cpu / count * 1e6 for name, cpu in spent.items()})


def _seconds(taker: _Syncthing, count: int) -> float:
    """From when it is connected until it has everything, by the times of its own events."""
    since = 0
    met: datetime | None = None
    rested: datetime | None = None
    deadline = time.monotonic() + _WAIT_SECONDS
    has_all = False
    while time.monotonic() < deadline:
        # Asked once more when it has all of them: the last time that it came to rest is what counts.
        for event in taker.events(since, timeout_seconds=0 if has_all else _EVENT_SECONDS):
            since, at = event["id"], _time(event["time"])
            if event["type"] == "DeviceConnected":
                met = met or at
            elif event["data"]["to"] == "idle":
                rested = at
        if has_all and met is not None and rested is not None:
            return (rested - met).total_seconds()
        has_all = rested is not None and taker.has_all(count)
    raise RuntimeError("Syncthing did not bring everything over in time")


def _time(text: str) -> datetime:
    """Python knows no nanoseconds."""
    return datetime.fromisoformat(re.sub(r"\.(\d{6})\d*", r".\1", text)).astimezone(UTC)
