"""What a neighbour says of itself by multicast DNS: packets read, and everything odd refused.

Sources followed: RFC 6762 (mDNS), RFC 6763 (DNS-SD). Our own announcements hold a PTR, its SRV, TXT and all addresses
in one packet, so an answer is read by itself: nothing is remembered of half answers, and nobody is asked for the rest.
"""

import base64
import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

# Offered at the package's top, but not listed in its __all__:
from zeroconf import (  # type: ignore[attr-defined]
    DNSAddress,
    DNSIncoming,
    DNSPointer,
    DNSRecord,
    DNSService,
)

from edge_agent.mesh.oddity import Oddity

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

SERVICE_TYPE: Final = "_census-sync._tcp.local."
PACKET_BYTES_MAX: Final = 1500
"""Ours are cut at 1,460 bytes; larger ones are not ours."""
RECORDS_MAX: Final = 40
ADDRESSES_MAX: Final = 16
TTL_SECONDS: Final = 600
"""How long a neighbour that left without a word is remembered. What others write above this counts as this."""

_SERVICE_LABEL = b"_census-sync"
_NAME_BYTES: Final = 10
_NAME_FORM: Final = re.compile(r"[a-z2-7]{16}")
_TYPE_A, _TYPE_PTR, _TYPE_SRV, _TYPE_AAAA = 1, 12, 33, 28
_RESPONSE_BIT: Final = 0x80


@dataclass(frozen=True)
class Announcement:
    """A neighbour says where it is. Nothing of it is proven."""

    name: str
    port: int
    addresses: tuple[IpAddress, ...]
    ttl_seconds: int


@dataclass(frozen=True)
class Goodbye:
    """A neighbour says that it leaves."""

    name: str


def draw_name(draw: Callable[[int], bytes]) -> str:
    """A name that tells nothing: 80 bits of `draw`, 16 characters."""
    return base64.b32encode(draw(_NAME_BYTES)).decode().lower()


def concerns_us(datagram: bytes) -> bool:
    """Whether the packet names our service at all; cheap, for what a busy network is full of."""
    return _SERVICE_LABEL in datagram or _SERVICE_LABEL in datagram.lower()


def is_answer(datagram: bytes) -> bool:
    """Whether it answers or announces; otherwise it asks."""
    return len(datagram) > 2 and datagram[2] & _RESPONSE_BIT != 0


def read_answer(datagram: bytes) -> Announcement | Goodbye | Oddity:
    """What one answer packet says of one neighbour. Never raises."""
    if len(datagram) > PACKET_BYTES_MAX:
        return Oddity.TOO_LARGE
    try:
        message = DNSIncoming(datagram)
        records: list[DNSRecord] = message.answers() if message.valid else []
    except Exception:  # noqa: BLE001  # a parser of hostile bytes that is not ours: whatever it raises, it is unreadable
        return Oddity.UNREADABLE
    if not message.valid:
        return Oddity.UNREADABLE
    if len(records) > RECORDS_MAX:
        return Oddity.UNFIT
    return _read_records(records)


def _read_records(records: list[DNSRecord]) -> Announcement | Goodbye | Oddity:
    pointers = {
        record.alias.lower(): record
        for record in records
        if isinstance(record, DNSPointer) and record.type == _TYPE_PTR and record.name.lower() == SERVICE_TYPE
    }
    if len(pointers) != 1:
        return Oddity.UNFIT
    instance, pointer = next(iter(pointers.items()))
    name = instance.removesuffix("." + SERVICE_TYPE)
    if name == instance or not _NAME_FORM.fullmatch(name):
        return Oddity.UNFIT
    if pointer.ttl <= 0:
        return Goodbye(name)
    services = {
        (record.port, record.server.lower())
        for record in records
        if isinstance(record, DNSService) and record.type == _TYPE_SRV and record.name.lower() == instance
    }
    if len(services) != 1:
        return Oddity.UNFIT
    port, server = services.pop()
    raw = {
        record.address
        for record in records
        if isinstance(record, DNSAddress) and record.type in (_TYPE_A, _TYPE_AAAA) and record.name.lower() == server
    }
    if not 0 < port < 65536 or not 0 < len(raw) <= ADDRESSES_MAX or any(len(one) not in (4, 16) for one in raw):
        return Oddity.UNFIT
    addresses = tuple(sorted((ipaddress.ip_address(one) for one in raw), key=lambda one: (one.version, int(one))))
    return Announcement(name, port, addresses, min(int(pointer.ttl), TTL_SECONDS))
