"""A stand-in for the program that shows notifications on a desktop, as the specification describes it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from dbus_fast import BusType, Message, MessageType
from dbus_fast.aio import MessageBus
from dbus_fast.unpack import unpack_variants

SERVICE = "org.freedesktop.Notifications"


@dataclass(frozen=True)
class Shown:
    """One call of Notify, and the number that it got."""

    number: int
    replaced: int
    icon: str
    summary: str
    body: str
    hints: dict[str, Any]
    expire_milliseconds: int


@dataclass
class FakeNotifications:
    """The service: `calls` are what it was told to show, `closed` what it was told to take away."""

    bus_address: str
    capabilities: tuple[str, ...] = ("body", "persistence")
    calls: list[Shown] = field(default_factory=list)
    closed: list[int] = field(default_factory=list)

    @contextlib.contextmanager
    def running(self) -> Iterator[FakeNotifications]:
        """The service on its bus, on a thread of its own."""
        started, self._stop = threading.Event(), asyncio.Event()
        thread = threading.Thread(target=lambda: asyncio.run(self._serve(started)))
        thread.start()
        assert started.wait(10)
        try:
            yield self
        finally:
            self._loop.call_soon_threadsafe(self._stop.set)
            thread.join()

    async def _serve(self, started: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        bus = await MessageBus(self.bus_address, BusType.SESSION).connect()
        bus.add_message_handler(self._answer)
        await bus.request_name(SERVICE)
        started.set()
        await self._stop.wait()
        bus.disconnect()

    def _answer(self, message: Message) -> Message | None:
        if message.message_type is not MessageType.METHOD_CALL or message.interface != SERVICE:
            return None
        match message.member, message.signature:
            case "GetCapabilities", "":
                return Message.new_method_return(message, "as", [list(self.capabilities)])
            case "Notify", "susssasa{sv}i":
                _, replaced, icon, summary, body, _, hints, expire = message.body
                number = replaced or len(self.calls) + 1
                self.calls.append(Shown(number, replaced, icon, summary, body, unpack_variants(hints), expire))
                return Message.new_method_return(message, "u", [number])
            case "CloseNotification", "u":
                self.closed.append(message.body[0])
                return Message.new_method_return(message)
        return Message.new_error(message, "org.freedesktop.DBus.Error.InvalidArgs", "no such call")
