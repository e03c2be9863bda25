"""Asks the kernel by which interface an address is reached, and hears that something about routing changed.

Source followed: netlink(7), rtnetlink(7), linux/rtnetlink.h. pyroute2 would bring a megabyte of code and its own event
loop for one query, a look at interfaces (netlink_listing.py) and one subscription whose messages are not even read;
this is less.
"""

import errno
import ipaddress
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

ANSWER_WAIT_SECONDS = 2.0  # the kernel answers before send() returns; waiting at all means that something is broken
ANSWER_BYTES_MAX = 65536

_HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
_ROUTE = struct.Struct("=BBBBBBBBI")  # rtmsg: family, dst_len, src_len, tos, table, protocol, scope, type, flags
_LINK = struct.Struct("=BxHiII")  # ifinfomsg: family, type, index, flags, change
_ATTRIBUTE = struct.Struct("=HH")  # rtattr: length, type

_NLM_F_REQUEST = 1
_NLMSG_ERROR = 2
_RTM_NEWLINK, _RTM_GETLINK = 16, 18
_RTM_NEWROUTE, _RTM_GETROUTE = 24, 26
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PREFSRC, _RTA_VIA, _RTA_IP_PROTO, _RTA_DPORT = 1, 4, 5, 7, 18, 27, 29
_IFLA_IFNAME, _IFLA_EXT_MASK = 3, 29
_RTEXT_FILTER_SKIP_STATS = 8
_RTN_UNICAST, _RTN_LOCAL = 1, 2
_IFF_UP, _IFF_RUNNING = 0x1, 0x40
_ERROR_NUMBER_END = 4096  # the kernel's MAX_ERRNO, plus one
_ATTRIBUTE_TYPE_MASK = 0x3FFF  # the two high bits are flags

INTERFACE_GROUPS = 0x1 | 0x10 | 0x100
"""Multicast groups about interfaces: links, IPv4 addresses, IPv6 addresses."""
ROUTING_GROUPS = INTERFACE_GROUPS | 0x40 | 0x80 | 0x400 | (1 << 18) | (1 << 31)
"""Those, and IPv4 routes and rules, IPv6 routes and rules, nexthop objects."""

# The kernel's ways to say that there is no route: none found, unreachable, prohibit, blackhole, protocol is off.
_NO_ROUTE_ERRORS = frozenset(
    {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EACCES, errno.EINVAL, errno.ENETDOWN, errno.EAFNOSUPPORT}
)


class NetlinkError(Exception):
    """The kernel's answer is missing, broken, or an error that does not mean "no route"."""


@dataclass(frozen=True)
class Route:
    """The way the kernel would take: the interface's index, and the local address it would put on packets.

    `by_gateway`: the address is not on the interface's own network; a router passes the packets on.
    """

    interface_index: int
    source: str | None
    by_gateway: bool = False


@dataclass(frozen=True)
class Interface:
    """One interface now: `running` is false while it is down or has no carrier."""

    name: str
    index: int
    running: bool


def route_to(address: IpAddress, tcp_port: int | None = None) -> Route | None:
    """The route that an unbound TCP socket of this user would get; None when there is none. Raises NetlinkError.

    With the port, rules of policy routing that look at it (`ip rule … ipproto tcp dport`) are followed as well.
    """
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    body = _ROUTE.pack(family, address.max_prefixlen, 0, 0, 0, 0, 0, 0, 0) + _attribute(_RTA_DST, address.packed)
    if tcp_port is not None:
        body += _attribute(_RTA_IP_PROTO, bytes([socket.IPPROTO_TCP]))
        body += _attribute(_RTA_DPORT, struct.pack("!H", tcp_port))
    try:
        answer = _ask(_RTM_GETROUTE, body, _RTM_NEWROUTE)
    except OSError as error:
        if error.errno in _NO_ROUTE_ERRORS:
            return None
        raise NetlinkError(f"the kernel does not say how {address} is reached: {error.strerror}") from error
    return parse_route(answer)


def interface_at(index: int) -> Interface | None:
    """The interface with this index; None when it is gone. Raises NetlinkError."""
    body = _LINK.pack(socket.AF_UNSPEC, 0, index, 0, 0)
    body += _attribute(_IFLA_EXT_MASK, struct.pack("=I", _RTEXT_FILTER_SKIP_STATS))
    try:
        answer = _ask(_RTM_GETLINK, body, _RTM_NEWLINK)
    except OSError as error:
        if error.errno in (errno.ENODEV, errno.EINVAL):
            return None
        raise NetlinkError(f"the kernel does not describe interface {index}: {error.strerror}") from error
    return parse_interface(answer)


def parse_route(body: bytes) -> Route | None:
    """From the body of RTM_NEWROUTE; None for a route that goes nowhere. Raises NetlinkError."""
    if len(body) < _ROUTE.size:
        raise NetlinkError(f"a route of {len(body)} bytes is too short")
    if _ROUTE.unpack_from(body)[7] not in (_RTN_UNICAST, _RTN_LOCAL):
        return None  # unreachable, prohibit, blackhole, throw, multicast …
    attributes = dict(attributes_of(body[_ROUTE.size :]))
    output = attributes.get(_RTA_OIF)
    if output is None or len(output) != 4:
        raise NetlinkError("a route without its interface")
    source = attributes.get(_RTA_PREFSRC)
    readable = source is not None and len(source) in (4, 16)
    return Route(
        struct.unpack("=I", output)[0],
        str(ipaddress.ip_address(source)) if source and readable else None,
        by_gateway=_RTA_GATEWAY in attributes or _RTA_VIA in attributes,
    )


def parse_interface(body: bytes) -> Interface:
    """From the body of RTM_NEWLINK. Raises NetlinkError."""
    if len(body) < _LINK.size:
        raise NetlinkError(f"an interface of {len(body)} bytes is too short")
    _, _, index, flags, _ = _LINK.unpack_from(body)
    raw_name = dict(attributes_of(body[_LINK.size :])).get(_IFLA_IFNAME, b"").rstrip(b"\0")
    if not raw_name:
        raise NetlinkError(f"interface {index} without a name")
    return Interface(os.fsdecode(raw_name), index, flags & _IFF_UP != 0 and flags & _IFF_RUNNING != 0)


def attributes_of(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and payload of each attribute. Raises NetlinkError where a length does not fit."""
    offset = 0
    while offset + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < _ATTRIBUTE.size or offset + length > len(data):
            raise NetlinkError(f"an attribute of {length} bytes where {len(data) - offset} are left")
        yield kind & _ATTRIBUTE_TYPE_MASK, data[offset + _ATTRIBUTE.size : offset + length]
        offset += (length + 3) & ~3


def body_of_answer(datagram: bytes, sequence: int, expected_type: int) -> bytes:
    """The body of the message that answers this request. Raises OSError for the kernel's errors, else NetlinkError."""
    offset = 0
    while offset + _HEADER.size <= len(datagram):
        length, kind, _, answered, _ = _HEADER.unpack_from(datagram, offset)
        if length < _HEADER.size or offset + length > len(datagram):
            raise NetlinkError(f"a message of {length} bytes where {len(datagram) - offset} are left")
        body = datagram[offset + _HEADER.size : offset + length]
        if answered == sequence and kind == _NLMSG_ERROR:
            if len(body) < 4:
                raise NetlinkError("an error without its number")
            number = -struct.unpack_from("=i", body)[0]
            if not 0 < number < _ERROR_NUMBER_END:
                raise NetlinkError(f"an answer with error number {number}")  # 0: acknowledged, and nothing said
            raise OSError(number, os.strerror(number))
        if answered == sequence and kind == expected_type:
            return body
        offset += (length + 3) & ~3
    raise NetlinkError("the kernel's answer holds no message of the expected kind")


def _ask(request_type: int, body: bytes, answer_type: int) -> bytes:
    # A socket for each question: no answer to an earlier one can be waiting in it, and it costs 20 µs.
    sequence = 1
    with route_socket() as asking:
        asking.settimeout(ANSWER_WAIT_SECONDS)
        asking.bind((0, 0))
        header = _HEADER.pack(_HEADER.size + len(body), request_type, _NLM_F_REQUEST, sequence, 0)
        try:
            asking.sendto(header + body, (0, 0))
            datagram, _, flags, sender = asking.recvmsg(ANSWER_BYTES_MAX)
        except TimeoutError as error:
            raise NetlinkError("the kernel does not answer") from error
    if sender[0] != 0:
        raise NetlinkError(f"an answer from process {sender[0]} instead of the kernel")
    if flags & socket.MSG_TRUNC:
        raise NetlinkError("the kernel's answer is cut off")
    return body_of_answer(datagram, sequence, answer_type)


def _attribute(kind: int, payload: bytes) -> bytes:
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(payload), kind) + payload + b"\0" * (-len(payload) % 4)


def route_socket() -> socket.socket:
    """A new socket to the kernel's routing. Raises OSError."""
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)


class ChangeSocket:
    """Becomes readable when a link, an address, a route or a rule changed. Says only that, never what."""

    def __init__(self, groups: int = ROUTING_GROUPS) -> None:
        self._socket = route_socket()
        try:
            self._socket.setblocking(False)
            self._socket.bind((0, groups))
        except OSError:
            self._socket.close()
            raise

    def fileno(self) -> int:
        """For the event loop."""
        return self._socket.fileno()

    def drain(self) -> bool:
        """Throws away what waits; True when there was anything. An overrun counts: events were lost, so some were."""
        changed = False
        while True:
            try:
                datagram = self._socket.recv(ANSWER_BYTES_MAX)
            except BlockingIOError:
                return changed
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise NetlinkError(f"the kernel's notices cannot be read: {error.strerror}") from error
                changed = True
            else:
                changed = changed or bool(datagram)

    def close(self) -> None:
        """Ends the subscription."""
        self._socket.close()
