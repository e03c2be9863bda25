"""Keeps the sockets of ended connections open until the broker has ended them too.

Why: a bound socket that is closed while the broker still sends is forgotten by the kernel; the broker's next packet
then meets no socket, and the kernel refuses it with a reset that is bound to nothing. If the route has moved meanwhile,
that reset goes to the broker's address outside the tunnel (measured: 11 packets after one close). A socket that is
kept, with only its sending side shut, answers by its own interface or not at all.
"""

import asyncio
import contextlib
import socket

# Longer than a peer's kernel goes on sending again what is not acknowledged (tcp_retries2: about 15 minutes).
KEPT_SECONDS_MAX = 20 * 60
KEPT_SOCKETS_MAX = 64  # each is a descriptor and a few kilobytes in the kernel; beyond that the oldest goes
DISCARD_BYTES = 65536
_TCP_SYN_SENT = 2  # the first byte of struct tcp_info is the state


class PartedSockets:
    """Holds parted sockets, throws away what still arrives on them, and closes each when its end is certain.

    Belongs to the event loop that runs when it is made; close it there. Costs nothing while it is empty.
    """

    def __init__(self, kept_seconds_max: float = KEPT_SECONDS_MAX, kept_sockets_max: int = KEPT_SOCKETS_MAX) -> None:
        self._loop = asyncio.get_running_loop()
        self._kept_seconds_max = kept_seconds_max
        self._kept_sockets_max = kept_sockets_max
        self._kept: dict[socket.socket, asyncio.TimerHandle] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def part(self, parted: socket.socket) -> None:
        """Takes the socket over, connected or still connecting. Nobody else may use this descriptor afterwards."""
        parted.setblocking(False)
        while len(self._kept) >= self._kept_sockets_max:
            self._release(next(iter(self._kept)))
        self._kept[parted] = self._loop.call_later(self._kept_seconds_max, self._release, parted)
        if parted.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _TCP_SYN_SENT:
            # shutdown() would make the kernel forget it at once, and the broker's answer is perhaps on the way.
            self._loop.add_writer(parted, self._connected_or_dead, parted)
        else:
            self._shut_sending(parted)

    def close(self) -> None:
        """Closes all: for the end of the process, when nothing can be kept any longer."""
        for parted in tuple(self._kept):
            # A thread may still be connecting on a descriptor of its own, and the process would wait for it to give up.
            with contextlib.suppress(OSError):
                parted.shutdown(socket.SHUT_RDWR)
            self._release(parted)

    def _connected_or_dead(self, parted: socket.socket) -> None:
        self._loop.remove_writer(parted)
        self._shut_sending(parted)

    def _shut_sending(self, parted: socket.socket) -> None:
        try:
            parted.shutdown(socket.SHUT_WR)
        except OSError:
            self._release(parted)
        else:
            self._loop.add_reader(parted, self._discard, parted)

    def _discard(self, parted: socket.socket) -> None:
        try:
            ended = not parted.recv(DISCARD_BYTES)
        except BlockingIOError:
            return
        except OSError:
            ended = True
        if ended:
            self._release(parted)

    def _release(self, parted: socket.socket) -> None:
        timer = self._kept.pop(parted, None)
        if timer is None:
            return
        timer.cancel()
        self._loop.remove_reader(parted)
        self._loop.remove_writer(parted)
        parted.close()
