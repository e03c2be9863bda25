"""What can be odd about a local network, in words for the journal. Stands alone: nothing here imports a library."""

from enum import Enum


class Oddity(Enum):
    """What is wrong with something heard. None of it stops discovery; each is worth one line an interface."""

    UNREADABLE = "unreadable"
    TOO_LARGE = "too_large"
    UNFIT = "unfit"
    OFF_LINK = "off_link"
    UNREACHABLE_ADDRESS = "unreachable_address"
    TOO_MANY_NEIGHBOURS = "too_many_neighbours"
    TOO_MUCH_TRAFFIC = "too_much_traffic"
    INTERFACE_FAILED = "interface_failed"
    FORBIDDEN = "forbidden"

    def __str__(self) -> str:
        return _SENTENCES[self]


_SENTENCES = {
    Oddity.UNREADABLE: "somebody sends broken announcements",
    Oddity.TOO_LARGE: "somebody sends announcements larger than any of ours",
    Oddity.UNFIT: "somebody announces what no device of the census announces",
    Oddity.OFF_LINK: "an announcement came from outside the local network",
    Oddity.UNREACHABLE_ADDRESS: "somebody announces an address outside the local network",
    Oddity.TOO_MANY_NEIGHBOURS: "more neighbours are announced than this device remembers",
    Oddity.TOO_MUCH_TRAFFIC: "there are more announcements than this device reads",
    Oddity.INTERFACE_FAILED: "neighbours cannot be looked for on it now; it is tried again",
    Oddity.FORBIDDEN: "this machine's firewall does not let announcements out: open UDP port 5353 on it",
}
