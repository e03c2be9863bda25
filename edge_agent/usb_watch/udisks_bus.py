"""Calls to UDisks2 over D-Bus for `udisks_mounting`: one short connection per task, errors as values.

Source followed: the UDisks2 D-Bus reference (org.freedesktop.UDisks2.Manager, .Block, .Filesystem, .Drive).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from dbus_fast import AuthError, BusType, InvalidAddressError, Message, MessageType, Variant
from dbus_fast.aio import MessageBus
from dbus_fast.unpack import unpack_variants

SERVICE = "org.freedesktop.UDisks2"
MANAGER_PATH = "/org/freedesktop/UDisks2/Manager"
MANAGER = f"{SERVICE}.Manager"
BLOCK = f"{SERVICE}.Block"
FILE_SYSTEM = f"{SERVICE}.Filesystem"
DRIVE = f"{SERVICE}.Drive"
NO_DRIVE = "/"

# UDisks2 announces a device only after udev has; whoever heard of it from udev is a little early.
_APPEARED = f"type='signal',sender='{SERVICE}',interface='org.freedesktop.DBus.ObjectManager',member='InterfacesAdded'"
_TIMED_OUT = "timed out"


@dataclass(frozen=True)
class BusFailure:
    """An error that UDisks2 or the bus answered: its name ("org.freedesktop.UDisks2.Error.DeviceBusy") and text."""

    name: str
    text: str

    def is_one_of(self, *endings: str) -> bool:
        """Whether the last part of the name is one of these."""
        return self.name.rpartition(".")[2] in endings

    @property
    def is_timeout(self) -> bool:
        """Whether no answer came in time; what was asked for may still happen."""
        return self.name == _TIMED_OUT

    def __str__(self) -> str:
        return f"{self.name}: {self.text}"


@dataclass(frozen=True)
class UdisksBus:
    """A connection; each method answers with the value or a `BusFailure`."""

    bus: MessageBus
    timeout_seconds: float

    async def call(
        self, path: str, interface: str, member: str, signature: str = "", body: tuple[object, ...] = ()
    ) -> Any | BusFailure:
        """The first value of the reply (None if it has none)."""
        message = Message(SERVICE, path, interface, member, signature=signature, body=list(body))
        return await self._answer(message)

    async def property(self, path: str, interface: str, name: str) -> Any | BusFailure:
        """One property's value."""
        return await self.call(path, "org.freedesktop.DBus.Properties", "Get", "ss", (interface, name))

    async def find(self, node: str) -> str | BusFailure | None:
        """The object path of a block device; None when UDisks2 knows none of that name."""
        words: tuple[dict[str, Variant], dict[str, Variant]] = ({"path": Variant("s", node)}, {})
        found = await self.call(MANAGER_PATH, MANAGER, "ResolveDevice", "a{sv}a{sv}", words)
        if isinstance(found, BusFailure):
            return found
        return str(found[0]) if found else None

    async def wait_for(self, node: str, timeout_seconds: float, is_gone: Callable[[], bool]) -> str | BusFailure | None:
        """The same, waiting for UDisks2 to notice the device; None when it never does, or the device is gone."""
        appeared = asyncio.Event()

        def hear(message: Message) -> None:
            if message.member == "InterfacesAdded":
                appeared.set()

        self.bus.add_message_handler(hear)
        await self._answer(_to_bus("AddMatch", "s", _APPEARED))
        deadline = asyncio.get_running_loop().time() + timeout_seconds
        while True:
            appeared.clear()
            found = await self.find(node)
            remaining_seconds = deadline - asyncio.get_running_loop().time()
            if found is not None or remaining_seconds <= 0 or is_gone():
                return found
            # A device that goes away is not announced to us: hence a look every now and then.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(appeared.wait(), min(remaining_seconds, 0.5))

    async def _answer(self, message: Message) -> Any | BusFailure:
        try:
            reply = await asyncio.wait_for(self.bus.call(message), self.timeout_seconds)
        except TimeoutError:
            return BusFailure(_TIMED_OUT, f"no answer to {message.member} in {self.timeout_seconds} s")
        except (OSError, EOFError) as error:
            return BusFailure("disconnected", str(error))
        if reply is None:
            return None
        if reply.message_type is MessageType.ERROR:
            return BusFailure(reply.error_name or "unnamed", str(reply.body[0]) if reply.body else "")
        return unpack_variants(reply.body[0]) if reply.body else None


def _to_bus(member: str, signature: str, *body: object) -> Message:
    return Message(
        "org.freedesktop.DBus",
        "/org/freedesktop/DBus",
        "org.freedesktop.DBus",
        member,
        signature=signature,
        body=list(body),
    )


@contextlib.asynccontextmanager
async def connected(bus_address: str | None, timeout_seconds: float) -> AsyncIterator[UdisksBus | BusFailure]:
    """A connection to the bus at that address, None for the system bus."""
    try:
        bus = MessageBus(bus_address, BusType.SYSTEM)
        await asyncio.wait_for(bus.connect(), timeout_seconds)
    except (OSError, EOFError, AuthError, InvalidAddressError, TimeoutError) as error:
        yield BusFailure("no bus", f"no D-Bus: {error or type(error).__name__}")
        return
    try:
        yield UdisksBus(bus, timeout_seconds)
    finally:
        bus.disconnect()
