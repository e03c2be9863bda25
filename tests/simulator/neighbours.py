"""Neighbours: two devices that meet, each with the other as a duplex link; what they say arrives in order, or never.

Not responsible for how they find each other, nor for what the connection under it does (edge_agent.mesh has tests).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from edge_agent.engine.contact import contact_age
from edge_agent.engine.links import Link, LinkShape
from edge_agent.engine.store import StoreFault
from sync_protocol.limits import BUNDLE_BYTES_MAX
from sync_protocol.mesh import Exchanged
from tests.simulator.clockwork import SECOND, Clockwork
from tests.simulator.device import Device
from tests.simulator.faults import Fault, Faults


@dataclass(frozen=True)
class Party:
    """Who meets, and what it says of itself in its hello."""

    device: Device
    collects: bool
    reaches_center: Callable[[], bool]


class Meeting:
    """Two devices near each other; each has the other as a duplex link."""

    def __init__(self, one: Party, other: Party, clockwork: Clockwork, faults: Faults, randomness: Random) -> None:
        self.clockwork = clockwork
        self.faults = faults
        self.randomness = randomness
        self.is_up = True
        self.ends = (_End(self, one), _End(self, other))
        self.ends[0].far, self.ends[1].far = self.ends[1], self.ends[0]
        self.in_flight = 0

    def begin(self) -> None:
        links = [end.link() for end in self.ends]
        for end, link in zip(self.ends, links, strict=True):
            if link is None:
                self.end()
                return
            end.device.link_up(link, end)

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

    def __init__(self, meeting: Meeting, party: Party) -> None:
        self._meeting = meeting
        self._party = party
        self.device = party.device
        self.key = party.device.link_key("near")
        self._arrives_at = 0

    def link(self) -> Link | None:
        """Return the far end as it says hello; None when its queue cannot be asked."""
        far = self.far._party  # the other end is of this class
        try:
            age = far.device.ask(lambda queue: contact_age(queue, far.device.clock))
        except StoreFault:
            return None
        return Link(
            key=self.key,
            shape=LinkShape.DUPLEX,
            far_end=far.device.id,
            reaches_center=far.reaches_center(),
            bundles_in_flight_max=2,
            bundle_bytes_max=BUNDLE_BYTES_MAX,
            contact_age=age,
            collects=far.collects,
        )

    def go_down(self) -> None:
        self._meeting.clockwork.after(0, self.device.name, "neighbour gone", lambda: self.device.link_down(self.key))

    def send(self, token: int, data: bytes) -> None:
        self._travel("to neighbour", lambda: self._arrive(token, data))

    def say(self, message: Exchanged) -> None:
        self._travel("says to neighbour", lambda: self.far.device.said(self.far.key, message))

    def _travel(self, what: str, arrive: Callable[[], None]) -> None:
        """Let something arrive after everything that left before it, unless they have parted by then."""
        meeting = self._meeting
        meeting.in_flight += 1
        delay = SECOND // 100 + int(meeting.randomness.random() * SECOND // 5)
        self._arrives_at = max(self._arrives_at, meeting.clockwork.now + delay)

        def arrived() -> None:
            meeting.in_flight -= 1
            if meeting.is_up:
                arrive()

        meeting.clockwork.at(self._arrives_at, self.device.name, what, arrived)

    def _arrive(self, token: int, data: bytes) -> None:
        declined = self.far.device.handed_over(self.far.key, data)
        if self._meeting.is_up and declined is not None:
            self._meeting.clockwork.after(
                SECOND // 50, self.device.name, "neighbour took it", lambda: self._settle(token, declined)
            )

    def _settle(self, token: int, declined: tuple[bytes, ...]) -> None:
        if self._meeting.is_up:
            self.device.settled(self.key, token, taken=True, declined=declined)

    def follow(self, origins: frozenset[bytes], listed: frozenset[bytes]) -> None:
        """Neighbours pass on what they have."""

    def close(self) -> None:
        self._meeting.end()

    def dropped(self) -> None:
        self._meeting.end()
