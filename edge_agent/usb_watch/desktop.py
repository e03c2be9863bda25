"""Shows notices of visits on the desktop of whoever is logged in: one notification for each visit, kept up to date.

Runs in that person's session (`edge-agent notify`), never in the daemon. A bus of a session lets in nobody but its
user, so that the daemon could not get there, and need not be allowed to.

Source followed: Desktop Notifications Specification 1.2 (org.freedesktop.Notifications). Servers differ in what they
heed: some close nothing by themselves, so that what should go after a while is also taken away by us.
"""

from __future__ import annotations

import asyncio
import html
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
from dbus_fast import AuthError, BusType, InvalidAddressError, Message, MessageType, Variant
from dbus_fast.aio import MessageBus

from edge_agent.usb_watch.notices import NOTICE_BYTES_MAX, Notice
from edge_agent.usb_watch.signs import Word

_SERVICE: Final = "org.freedesktop.Notifications"
_PATH: Final = "/org/freedesktop/Notifications"
_APPLICATION: Final = "Census"
_MARKUP: Final = "body-markup"
_NEVER: Final = 0
_NEW: Final = 0
_ANSWER_SECONDS: Final = 25.0

_NORMAL: Final = 1
_CRITICAL: Final = 2


class DesktopFault(Exception):
    """Nothing can be shown; the text says why."""


@dataclass(frozen=True)
class _Manner:
    """How a word is shown. `seconds` is None for what stays until it is replaced, or until somebody closes it."""

    icon: str
    urgency: int
    seconds: float | None = None
    is_resident: bool = False


_MANNERS: Final = {
    Word.WORKING: _Manner("drive-removable-media", _NORMAL, is_resident=True),
    Word.SAFE: _Manner("media-eject", _NORMAL, seconds=60.0),
    Word.FAILED: _Manner("dialog-error", _CRITICAL, is_resident=True),
}


async def notices_from(path: Path) -> AsyncIterator[Notice]:
    """Yield what the daemon tells at this socket, until it ends. Raises OSError when nobody can be heard there."""
    reader, writer = await asyncio.open_unix_connection(str(path), limit=NOTICE_BYTES_MAX)
    try:
        while (line := await reader.readline()).endswith(b"\n"):
            yield msgspec.json.decode(line, type=Notice)
    except (msgspec.DecodeError, ValueError) as error:
        raise OSError(f"what came is no notice: {error}") from error
    finally:
        writer.close()


class Desktop:
    """A connection to the session's bus; `seconds` may shorten how long a good end is shown."""

    def __init__(self, bus_address: str | None = None, *, seconds: float | None = None) -> None:
        self._bus_address = bus_address
        self._seconds = seconds
        self._shown: dict[str, int] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._knows_markup = False

    async def __aenter__(self) -> Desktop:
        """Connect; raises DesktopFault."""
        try:
            self._bus = MessageBus(self._bus_address, BusType.SESSION)
            await asyncio.wait_for(self._bus.connect(), _ANSWER_SECONDS)
        except (OSError, EOFError, AuthError, InvalidAddressError, TimeoutError) as error:
            raise DesktopFault(f"there is no session bus: {error or type(error).__name__}") from error
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._closing:
            task.cancel()
        self._bus.disconnect()

    async def show(self, notice: Notice) -> None:
        """Show it in the place of what was shown of the same visit. Raises DesktopFault."""
        if not self._shown:
            capabilities = await self._call("GetCapabilities")
            self._knows_markup = _MARKUP in capabilities
        manner = _MANNERS[notice.word]
        seconds = manner.seconds if self._seconds is None or manner.seconds is None else self._seconds
        replaced = self._shown.get(notice.visit, _NEW)
        hints = {
            "urgency": Variant("y", manner.urgency),
            "resident": Variant("b", manner.is_resident),
            "category": Variant("s", "device"),
        }
        sentence = html.escape(notice.sentence, quote=False) if self._knows_markup else notice.sentence
        body = [_APPLICATION, replaced, manner.icon, f"USB {notice.medium}", sentence, [], hints]
        body.append(_NEVER if seconds is None else round(seconds * 1000))
        number: int = await self._call("Notify", "susssasa{sv}i", body)
        if notice.word is Word.WORKING:
            self._shown[notice.visit] = number
            return
        self._shown.pop(notice.visit, None)
        if seconds is not None:
            task = asyncio.create_task(self._close_after(seconds, number))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def forget(self) -> None:
        """Take away what is shown of visits that go on: nobody tells any more how they stand. Raises DesktopFault."""
        while self._shown:
            await self._close(self._shown.popitem()[1])

    async def wait_until_gone(self) -> None:
        """Return when the session's bus is gone."""
        try:
            await self._bus.wait_for_disconnect()  # type: ignore[no-untyped-call]  # dbus-fast has left it untyped
        except (OSError, EOFError):
            return

    async def _close_after(self, seconds: float, number: int) -> None:
        await asyncio.sleep(seconds)
        try:
            await self._close(number)
        except DesktopFault:
            return  # whoever shows it has gone, and it with him

    async def _close(self, number: int) -> None:
        await self._call("CloseNotification", "u", [number])

    async def _call(self, member: str, signature: str = "", body: list[Any] | None = None) -> Any:
        message = Message(_SERVICE, _PATH, _SERVICE, member, signature=signature, body=body or [])
        try:
            reply = await asyncio.wait_for(self._bus.call(message), _ANSWER_SECONDS)
        except (TimeoutError, OSError, EOFError) as error:
            raise DesktopFault(f"{member} is not answered: {error or type(error).__name__}") from error
        if reply is None:
            raise DesktopFault(f"{member} is not answered")
        if reply.message_type is MessageType.ERROR:
            if reply.error_name == "org.freedesktop.DBus.Error.ServiceUnknown":
                raise DesktopFault("no program on this desktop shows notifications")
            raise DesktopFault(f"{member}: {reply.body[0] if reply.body else reply.error_name}")
        return reply.body[0] if reply.body else None
