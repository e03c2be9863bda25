"""TCP sockets that can speak by one interface only, whatever the routing table says.

SO_BINDTODEVICE does it, before the socket connects or listens. Linux lets a process without privileges bind a socket
that is not bound yet since 5.7. On an older kernel without CAP_NET_RAW it is refused (EPERM), and then nothing is
listened on and nothing is dialled: a socket that is not bound would answer whoever asks by the VPN. IPv6 link-local
addresses work there all the same: their scope binds the socket.
"""

from __future__ import annotations

import ipaddress
import socket
from typing import Final

BACKLOG: Final = 32


def bound_socket(interface: str, index: int, host: str) -> socket.socket:
    """A new non-blocking socket for this address's family, bound to the interface. Raises OSError."""
    made = unbound_socket(host)
    try:
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode() + b"\0")
        except PermissionError:
            # Its scope binds it in bind() and in connect().
            if made.family == socket.AF_INET or not ipaddress.ip_address(host).is_link_local or index <= 0:
                raise
    except BaseException:
        made.close()
        raise
    return made


def unbound_socket(host: str) -> socket.socket:
    """A new non-blocking socket for this address's family. Raises OSError, ValueError."""
    family = socket.AF_INET if ipaddress.ip_address(host).version == 4 else socket.AF_INET6
    return socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)


def listening_socket(interface: str, index: int, host: str, port: int) -> socket.socket:
    """A socket that listens at this address of this interface and nowhere else. Raises OSError."""
    made = bound_socket(interface, index, host)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what is left of earlier connections does not count
        if made.family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind(socket_address(host, port, index))
        made.listen(BACKLOG)
    except BaseException:
        made.close()
        raise
    return made


def socket_address(host: str, port: int, index: int) -> tuple[str, int] | tuple[str, int, int, int]:
    """What the kernel takes for this address without a scope; `index` is the interface's. Raises ValueError."""
    address = ipaddress.ip_address(host)
    if address.version == 4:
        return host, port
    return host, port, 0, index if address.is_link_local else 0
