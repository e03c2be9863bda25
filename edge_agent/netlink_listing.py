"""Asks the kernel for all interfaces of this machine and their addresses.

Source followed: netlink(7), rtnetlink(7), linux/if_addr.h. An answer comes in several datagrams; one that changed while
it was read is marked by the kernel and asked for again.
"""

import contextlib
import ipaddress
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from edge_agent.netlink import ANSWER_BYTES_MAX, ANSWER_WAIT_SECONDS, NetlinkError, attributes_of, route_socket

InterfaceAddress = ipaddress.IPv4Interface | ipaddress.IPv6Interface
"""An address with the network it lies in."""

TRIES_MAX: Final = 5
MESSAGES_MAX: Final = 20_000
"""More than any machine has; an answer without an end must not be read for ever."""

_HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
_LINK = struct.Struct("=BxHiII")  # ifinfomsg: family, type, index, flags, change
_ADDRESS = struct.Struct("=BBBBI")  # ifaddrmsg: family, prefix length, flags, scope, index
_NLM_F_REQUEST, _NLM_F_DUMP, _NLM_F_DUMP_INTR = 0x1, 0x300, 0x10
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_RTM_NEWLINK, _RTM_GETLINK, _RTM_NEWADDR, _RTM_GETADDR = 16, 18, 20, 22
_IFLA_IFNAME, _IFLA_EXT_MASK = 3, 29
_RTEXT_FILTER_SKIP_STATS = 8
_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS = 1, 2, 8
_IFA_F_DADFAILED, _IFA_F_TENTATIVE, _IFA_F_OPTIMISTIC = 0x08, 0x40, 0x04
_SEQUENCE: Final = 1


@dataclass(frozen=True)
class ListedInterface:
    """One interface as the kernel lists it; `running` is false while it is down or has no carrier."""

    name: str
    index: int
    running: bool
    loopback: bool
    point_to_point: bool
    multicast: bool
    addresses: tuple[InterfaceAddress, ...]
    """Those that can be used now, in numerical order: IPv4 first."""


def list_interfaces() -> tuple[ListedInterface, ...]:
    """All interfaces by their index. Raises NetlinkError, OSError. Some 200 µs."""
    filter_mask = struct.pack("=HHI", 8, _IFLA_EXT_MASK, _RTEXT_FILTER_SKIP_STATS)
    links = _dump(_RTM_GETLINK, _LINK.pack(socket.AF_UNSPEC, 0, 0, 0, 0) + filter_mask, _RTM_NEWLINK)
    addresses = _dump(_RTM_GETADDR, _ADDRESS.pack(socket.AF_UNSPEC, 0, 0, 0, 0), _RTM_NEWADDR)
    held: dict[int, list[InterfaceAddress]] = {}
    for body in addresses:
        parsed = parse_address(body)
        if parsed is not None:
            held.setdefault(parsed[0], []).append(parsed[1])
    listed = (parse_listed_interface(body, held) for body in links)
    return tuple(sorted(listed, key=lambda interface: interface.index))


def parse_listed_interface(body: bytes, addresses: dict[int, list[InterfaceAddress]]) -> ListedInterface:
    """From the body of RTM_NEWLINK and the addresses by index. Raises NetlinkError."""
    if len(body) < _LINK.size:
        raise NetlinkError(f"an interface of {len(body)} bytes is too short")
    _, _, index, flags, _ = _LINK.unpack_from(body)
    raw_name = dict(attributes_of(body[_LINK.size :])).get(_IFLA_IFNAME, b"").rstrip(b"\0")
    if not raw_name:
        raise NetlinkError(f"interface {index} without a name")
    own = sorted(set(addresses.get(index, ())), key=lambda one: (one.version, int(one.ip), one.network.prefixlen))
    return ListedInterface(
        name=os.fsdecode(raw_name),
        index=index,
        running=flags & 0x1 != 0 and flags & 0x40 != 0,  # IFF_UP, IFF_RUNNING
        loopback=flags & 0x8 != 0,
        point_to_point=flags & 0x10 != 0,
        multicast=flags & 0x1000 != 0,
        addresses=tuple(own),
    )


def parse_address(body: bytes) -> tuple[int, InterfaceAddress] | None:
    """The interface's index and the address, from the body of RTM_NEWADDR; None for one that cannot be used (yet).

    Raises NetlinkError.
    """
    if len(body) < _ADDRESS.size:
        raise NetlinkError(f"an address of {len(body)} bytes is too short")
    family, prefix_length, flags, _, index = _ADDRESS.unpack_from(body)
    if family not in (socket.AF_INET, socket.AF_INET6):
        return None
    attributes = dict(attributes_of(body[_ADDRESS.size :]))
    wide_flags = attributes.get(_IFA_FLAGS, b"")
    if len(wide_flags) == 4:
        flags = struct.unpack("=I", wide_flags)[0]
    if flags & _IFA_F_DADFAILED or (flags & _IFA_F_TENTATIVE and not flags & _IFA_F_OPTIMISTIC):
        return None  # not ours yet: the kernel still asks the network whether somebody else has it
    # On a point-to-point link IFA_ADDRESS is the far end, and IFA_LOCAL is what this machine has.
    raw = attributes.get(_IFA_LOCAL) or attributes.get(_IFA_ADDRESS)
    if raw is None or len(raw) != (4 if family == socket.AF_INET else 16) or prefix_length > len(raw) * 8:
        raise NetlinkError("an address that does not fit its family")
    if family == socket.AF_INET:
        return index, ipaddress.IPv4Interface((raw, prefix_length))
    return index, ipaddress.IPv6Interface((raw, prefix_length))


def _dump(request_type: int, body: bytes, answer_type: int) -> list[bytes]:
    for _ in range(TRIES_MAX):
        whole = _dump_once(request_type, body, answer_type)
        if whole is not None:
            return whole
    raise NetlinkError("the kernel's list changes faster than it can be read")


def _dump_once(request_type: int, body: bytes, answer_type: int) -> list[bytes] | None:
    # None when the list changed while it was read.
    found: list[bytes] = []
    interrupted = False
    with route_socket() as asking:
        asking.settimeout(ANSWER_WAIT_SECONDS)
        asking.bind((0, 0))
        flags = _NLM_F_REQUEST | _NLM_F_DUMP
        asking.sendto(_HEADER.pack(_HEADER.size + len(body), request_type, flags, _SEQUENCE, 0) + body, (0, 0))
        while True:
            try:
                datagram, _, datagram_flags, sender = asking.recvmsg(ANSWER_BYTES_MAX)
            except TimeoutError as error:
                raise NetlinkError("the kernel does not answer") from error
            if sender[0] != 0:
                raise NetlinkError(f"an answer from process {sender[0]} instead of the kernel")
            if datagram_flags & socket.MSG_TRUNC:
                raise NetlinkError("the kernel's answer is cut off")
            for kind, message_flags, message in messages_of(datagram):
                interrupted = interrupted or message_flags & _NLM_F_DUMP_INTR != 0
                if kind == _NLMSG_DONE:
                    return None if interrupted else found
                if kind == answer_type:
                    found.append(message)
            if len(found) > MESSAGES_MAX:
                raise NetlinkError(f"a list of more than {MESSAGES_MAX} entries")


def messages_of(datagram: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Type, flags and body of each message. Raises OSError for the kernel's errors, else NetlinkError."""
    offset = 0
    while offset + _HEADER.size <= len(datagram):
        length, kind, flags, _, _ = _HEADER.unpack_from(datagram, offset)
        if length < _HEADER.size or offset + length > len(datagram):
            raise NetlinkError(f"a message of {length} bytes where {len(datagram) - offset} are left")
        body = datagram[offset + _HEADER.size : offset + length]
        if kind == _NLMSG_ERROR:
            number = 0
            with contextlib.suppress(struct.error):
                number = -struct.unpack_from("=i", body)[0]
            if not 0 < number < 4096:
                raise NetlinkError(f"an answer with error number {number}")
            raise OSError(number, os.strerror(number))
        yield kind, flags, body
        offset += (length + 3) & ~3
