"""A tablet of the field in a virtual machine: the daemon as its systemd unit, and what people do to it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from sync_protocol.keys import VerifyingKey
from tests.vm.machine import GuestError, Machine
from tests.vm.stick import Stick
from tests.vm.stick_server import StickServer

Visit = dict[str, Any]
_SUBMIT, _CONTROL = "/run/edge-agent/submit.sock", "/run/edge-agent/control.sock"
_POLL_SECONDS: Final = 0.1
_UNPLUGGED_SECONDS: Final = 30.0
FAST: Final = 1 << 40


@dataclass
class Tablet:
    """See the module. `accepted` are the questionnaires that the daemon has taken over so far."""

    machine: Machine
    key: VerifyingKey
    accepted: list[bytes] = field(default_factory=list)
    main_process: int = 0
    told: dict[str, str] = field(default_factory=dict)
    """What the daemon said in the end of each visit that was seen, by the visit."""
    _plugged: dict[str, list[str]] = field(default_factory=dict)

    # Its form program, and its operator.

    def submit(self, bodies: list[bytes]) -> None:
        """Hand questionnaires over; each is accepted."""
        for body in bodies:
            request = {"request": "submit", "form": "household", "form_version": "1", "bytes": len(body)}
            (line,) = self.machine.talk(_SUBMIT, json.dumps(request).encode() + b"\n" + body)
            answer = json.loads(line)
            assert answer["ok"], answer
            self.accepted.append(body)

    def visits(self) -> list[Visit]:
        """Return the visits of the running daemon, oldest first."""
        found: list[Visit] = self._ask({"request": "media"})["visits"]
        self.told |= {visit["visit"]: visit["sentence"] for visit in found if visit["ending"]}
        return found

    def counts(self) -> dict[str, int]:
        """Return how many envelopes are in each state."""
        counts: dict[str, int] = self._ask({"request": "status"})["envelopes"]
        return counts

    def ended(self, visits: int = 1, *, seconds: float = 90) -> list[Visit]:
        """Wait until so many visits are over, and no other goes on; return them."""

        found: list[Visit] = []

        def are_over() -> bool:
            found[:] = self.visits()
            return len(found) >= visits and all(one["ending"] for one in found)

        self.wait(are_over, f"{visits} visits are over", seconds)
        return found

    def noticed(self, visits: int) -> None:
        """Wait until so many visits have begun."""
        self.wait(lambda: len(self.visits()) >= visits, f"{visits} media are noticed")

    def wait(self, is_true: Callable[[], object], what: str, seconds: float = 60) -> None:
        """Return once the answer is true."""
        deadline = time.monotonic() + seconds
        while not is_true():
            if time.monotonic() > deadline:
                raise AssertionError(f"never: {what}\n{json.dumps(self.visits(), indent=1)}\n{self.journal()}")
            time.sleep(_POLL_SECONDS)

    def events(self, name: str) -> list[dict[str, str]]:
        """Return the daemon's records of this kind since the machine started."""
        # Whoever asks for records of a moment ago has the journal write them down first.
        script = f"journalctl --sync; journalctl -b -u edge-agent -o json CENSUS_EVENT={name}"
        return [json.loads(line) for line in self.machine.run(script).splitlines()]

    def journal(self) -> str:
        """Return what the daemon told of itself, for a report."""
        return self.machine.run("journalctl -b -u edge-agent -n 60 --no-pager -o short-monotonic", check=False)

    def mounts(self) -> list[str]:
        """Return where media are mounted, as everybody sees it and as the daemon does."""
        script = "cat /proc/mounts /proc/$(systemctl show edge-agent -P MainPID)/mounts"
        lines = [line.split() for line in self.machine.run(script).splitlines()]
        return [f"{source} at {place}" for source, place, *_ in lines if source.startswith("/dev/sd")]

    def remember_daemon(self) -> None:
        """Expect the daemon that runs now, or starts now, to run to the end."""

        def answers() -> bool:
            with suppress(GuestError):
                return self._ask({"request": "media"})["ok"] is True
            return False

        self.wait(answers, "the daemon answers")
        self.main_process = self._daemon()[0]

    def assert_in_order(self) -> None:
        """The daemon runs, and is the one that ran before; nothing is left mounted; nothing was told as a mistake."""
        process, state = self._daemon()
        assert (state, process) == ("active", self.main_process), self.journal()
        self.wait(lambda: not self.mounts(), "nothing is mounted", _UNPLUGGED_SECONDS)
        mistakes = self.machine.run(
            "journalctl -b -u edge-agent -o cat CENSUS_EVENT=medium_failed CENSUS_EVENT=part_failed "
            "CENSUS_EVENT=store_fault"
        )
        assert not mistakes, mistakes

    def _daemon(self) -> tuple[int, str]:
        lines = self.machine.run("systemctl show edge-agent -P MainPID -P ActiveState").split()
        return int(lines[0]), lines[1]

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        (line,) = self.machine.talk(_CONTROL, json.dumps(request).encode() + b"\n")
        answer: dict[str, Any] = json.loads(line)
        assert answer["ok"], answer
        return answer

    # Who holds the stick.

    def plug(
        self,
        stick: Stick,
        *,
        bytes_per_second: int = FAST,
        is_read_only: bool = False,
        server: StickServer | None = None,
    ) -> None:
        """Plug a stick in. It writes at most so fast; with a `server` its electronics are that one's."""
        name, machine = stick.name, self.machine
        file: dict[str, Any] = {"driver": "file", "filename": str(stick.image)}
        if server is not None:
            file = {"driver": "nbd", "server": {"type": "unix", "path": str(server.path)}}
        node = {"driver": "raw", "node-name": f"{name}-blocks", "read-only": is_read_only, "file": file}
        machine.qmp("blockdev-add", **node)
        limits = {"bps-write": bytes_per_second}
        machine.qmp("object-add", **{"qom-type": "throttle-group", "id": f"{name}-speed", "limits": limits})
        throttle = {"driver": "throttle", "node-name": f"{name}-stick", "throttle-group": f"{name}-speed"}
        machine.qmp("blockdev-add", **throttle, file=f"{name}-blocks", **{"read-only": is_read_only})
        # Its answer to an error is to report it: by default the whole machine would wait for somebody to make room.
        device = {"driver": "usb-storage", "id": name, "bus": "usb.0", "drive": f"{name}-stick", "removable": True}
        machine.qmp("device_add", **device, serial=f"STICK-{name}", werror="report", rerror="report")
        self._plugged[name] = [f"{name}-stick", f"{name}-blocks"]

    def speed_up(self, stick: Stick) -> None:
        """Let a slow stick be fast from now on."""
        words = {"path": f"/objects/{stick.name}-speed", "property": "limits", "value": {"bps-write": FAST}}
        self.machine.qmp("qom-set", **words)

    def written_bytes(self, stick: Stick) -> int:
        """Return what has been written to a plugged stick."""
        for one in self.machine.qmp("query-blockstats"):
            if one.get("qdev", "").split("/")[3:4] == [stick.name]:
                return int(one["stats"]["wr_bytes"])
        raise GuestError(f"{stick.name} is not plugged in")

    def write_at_once(self) -> None:
        """Let the kernel write names and sizes soon, as it does when a slow stick takes half a minute for a file."""
        self.machine.run("sysctl -q -w vm.dirty_writeback_centisecs=5 vm.dirty_expire_centisecs=5")

    def wait_until_written(self, stick: Stick, more_bytes: int) -> None:
        """Wait until so much more has been written to a plugged stick than now."""
        enough = self.written_bytes(stick) + more_bytes
        self.wait(lambda: self.written_bytes(stick) >= enough, f"{more_bytes} bytes are written", 120)

    def yank(self, stick: Stick) -> None:
        """Pull a stick out, whatever it is doing. Its image then has what had reached it."""
        self.machine.unplugged(stick.name)
        # What is still on its way would take its time.
        self.speed_up(stick)
        deadline = time.monotonic() + _UNPLUGGED_SECONDS
        for node in self._plugged.pop(stick.name):
            while True:
                try:
                    self.machine.qmp("blockdev-del", **{"node-name": node})
                except GuestError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(_POLL_SECONDS)
                else:
                    break
        self.machine.qmp("object-del", id=f"{stick.name}-speed")

    def cut_power(self) -> None:
        """Switch the machine off without a warning, whatever it is doing."""
        self.machine.cut_power()
        self._plugged.clear()
