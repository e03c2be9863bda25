"""Neighbours: two devices that meet, each with the other as a duplex link.

Generic on purpose: bundles over a wire. What the mesh adds (discovery, custody on record) joins the simulator with it.
"""

from __future__ import annotations

from random import Random

from edge_agent.engine.links import Link, LinkShape
from sync_protocol.limits import BUNDLE_BYTES_MAX
from tests.simulator.clockwork import SECOND, Clockwork
from tests.simulator.device import Device
from tests.simulator.faults import Fault, Faults


class Meeting:
    """Two devices near each other; each has the other as a duplex link."""

    def __init__(self, one: Device, other: Device, clockwork: Clockwork, faults: Faults, randomness: Random) -> None:
        self.clockwork = clockwork
        self.faults = faults
        self.randomness = randomness
        self.is_up = True
        self.ends = (_End(self, one), _End(self, other))
        self.ends[0].far, self.ends[1].far = self.ends[1], self.ends[0]
        self.in_flight = 0

    def begin(self) -> None:
        for end in self.ends:
            end.come_up()

    def end(self) -> None:
        """Part; what is on the way is lost."""
        if not self.is_up:
            return
        if self.in_flight:
            self.faults.note(self.ends[0].device.name, Fault.PARTITION)
        self.is_up = False
        for end in self.ends:
            end.go_down()


class _End:
    """One side of a meeting; its outlet in the sense of `device.Outlet`."""

    far: _End

    def __init__(self, meeting: Meeting, device: Device) -> None:
        self._meeting = meeting
        self.device = device
        self.key = device.link_key("near")
        self._arrives_at = 0

    def come_up(self) -> None:
        link = Link(
            key=self.key,
            shape=LinkShape.DUPLEX,
            far_end=self.far.device.id,
            reaches_center=False,
            bundles_in_flight_max=2,
            bundle_bytes_max=BUNDLE_BYTES_MAX,
        )
        self.device.link_up(link, self)

    def go_down(self) -> None:
        self._meeting.clockwork.after(0, self.device.name, "neighbour gone", lambda: self.device.link_down(self.key))

    def send(self, token: int, data: bytes) -> None:
        meeting = self._meeting
        meeting.in_flight += 1
        delay = SECOND // 100 + int(meeting.randomness.random() * SECOND // 5)
        self._arrives_at = max(self._arrives_at, meeting.clockwork.now + delay)
        meeting.clockwork.at(self._arrives_at, self.device.name, "to neighbour", lambda: self._arrive(token, data))

    def _arrive(self, token: int, data: bytes) -> None:
        self._meeting.in_flight -= 1
        if not self._meeting.is_up:
            return
        recorded = self.far.device.bundle_arrived(self.far.key, data)
        if self._meeting.is_up and recorded:
            self._meeting.clockwork.after(
                SECOND // 50, self.device.name, "neighbour took it", lambda: self._settle(token)
            )

    def _settle(self, token: int) -> None:
        if self._meeting.is_up:
            self.device.settled(self.key, token, taken=True)

    def follow(self, origins: frozenset[bytes]) -> None:
        """Neighbours pass on what they have."""

    def close(self) -> None:
        self._meeting.end()

    def dropped(self) -> None:
        self._meeting.end()
