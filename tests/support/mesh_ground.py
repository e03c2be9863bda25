"""Where devices of a mesh stand: networks as bridges in one namespace, and cables to them that are cut and joined.

A cut takes the carrier from the device, as leaving an access point does; who else is on the network notices nothing.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from itertools import count

from tests.support.namespaces import Namespace


@dataclass
class Cable:
    """One interface of a device, and the port in the ground that it leads to."""

    place: Namespace
    interface: str
    port: str
    is_joined: bool = False
    network: str = ""


class Ground:
    """The networks; a device has a cable for each that it stands in at once."""

    def __init__(self, place: Namespace) -> None:
        self._place = place
        self._ports = count(1)
        self._networks: set[str] = set()

    def cable(self, place: Namespace, interface: str) -> Cable:
        """A cable, not joined to any network; the device has an IPv6 address by it, ready at once."""
        port = f"port{next(self._ports)}"
        # The kernel would first listen for a second whether another has the address.
        self._set(place, "net.ipv6.conf.default.accept_dad=0")
        self._place.ip("link", "add", port, "type", "veth", "peer", "name", interface, "netns", place.name)
        place.ip("link", "set", interface, "up")
        return Cable(place, interface, port)

    def join(self, cable: Cable, network: str) -> None:
        """Bring a cable into a network, out of the one where it was."""
        if network not in self._networks:
            self._place.ip("link", "add", network, "type", "bridge", "mcast_snooping", "0")
            self._place.ip("link", "set", network, "up")
            self._networks.add(network)
        self._place.ip("link", "set", cable.port, "master", network, "up")
        cable.network, cable.is_joined = network, True

    def cut(self, cable: Cable) -> None:
        """Take the carrier away."""
        self._place.ip("link", "set", cable.port, "down")
        cable.is_joined = False

    @staticmethod
    def _set(place: Namespace, setting: str) -> None:
        subprocess.run(place.command("sysctl", "-qw", setting), check=True, capture_output=True)
