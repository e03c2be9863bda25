"""Tells programs on this machine how visits stand, over a socket of their own: the desktop's `edge-agent notify`.

A system service has no way onto anybody's desktop: a session's bus lets in nobody but its user. So the desktop's own
program comes to us. It connects, asks nothing, and gets one line of JSON (`Notice`) for each visit that goes on, and
then one whenever a visit begins, goes to its next stage or ends.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Final

import msgspec

from edge_agent.usb_watch.media_watch import MediumState, Turn
from edge_agent.usb_watch.sentences import Sentence
from edge_agent.usb_watch.signs import Word, word_for
from operations.journal import get_logger

log = get_logger()

NOTICES_SOCKET_NAME: Final = "notices.sock"
NOTICE_BYTES_MAX: Final = 16 * 1024
_LISTENERS_MAX: Final = 16
_WAITING_BYTES_MAX: Final = 64 * 1024
"""Of a program that does not read; then it is cut off."""


class Notice(msgspec.Struct, frozen=True):
    """How one visit stands; `medium` is the number that is written on it, or the node while that is not known."""

    visit: str
    medium: str
    word: Word
    sentence: str


class Notices:
    """See the module, and `signs.Sign`. `listen` makes the socket, and raises OSError when it cannot."""

    def __init__(self, listen: Callable[[], socket.socket], sentence: Sentence) -> None:
        self._listen = listen
        self._sentence = sentence
        self._going_on: dict[str, bytes] = {}
        self._listeners: set[asyncio.StreamWriter] = set()

    def tell(self, turn: Turn, state: MediumState) -> None:
        """See `Sign`."""
        if turn is Turn.OUT:
            return
        notice = Notice(state.nonce, state.number or state.node, word_for(state), self._sentence(state))
        line = msgspec.json.encode(notice) + b"\n"
        if turn is Turn.ENDED:
            self._going_on.pop(state.nonce, None)
        else:
            self._going_on[state.nonce] = line
        for writer in list(self._listeners):
            self._send(writer, line)

    async def run(self) -> None:
        """Serve until cancelled. Raises OSError when the socket cannot be made."""
        with self._listen() as listening:
            server = await asyncio.start_unix_server(self._serve, sock=listening, limit=NOTICE_BYTES_MAX)
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                server.close()
                for writer in self._listeners:
                    writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._listeners) >= _LISTENERS_MAX:
            writer.close()
            return
        self._listeners.add(writer)
        for line in self._going_on.values():
            self._send(writer, line)
        try:
            # Nothing is asked here: what comes is thrown away, and its end is the listener's.
            while await reader.read(NOTICE_BYTES_MAX):
                pass
        except OSError as error:
            log.debug("notices_listener_lost", problem=str(error))
        finally:
            self._listeners.discard(writer)
            writer.close()

    def _send(self, writer: asyncio.StreamWriter, line: bytes) -> None:
        if writer.transport.get_write_buffer_size() > _WAITING_BYTES_MAX:
            self._listeners.discard(writer)
            writer.transport.abort()
        elif not writer.is_closing():
            writer.write(line)
