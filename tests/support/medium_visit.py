"""Visits of real engines and queues to media in memory, without a thread: each action is done where it is yielded."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge_agent.engine.effects import Effect, Send
from edge_agent.engine.events import BundleArrived, Event, LinkDown, LinkUp, Settled
from edge_agent.engine.identity import DeviceIdentity
from edge_agent.usb_watch import actions as steps
from edge_agent.usb_watch.actions import Outcome, Visitor
from edge_agent.usb_watch.visit import perform, visit
from edge_agent.usb_watch.volume import FaultKind, Volume, VolumeFault
from sync_protocol.identity import Standing
from sync_protocol.keys import SigningKey
from sync_protocol.limits import MEDIUM_BUNDLE_BYTES_MAX
from sync_protocol.medium import MEDIUM_FILE, MEDIUM_FOLDER, certify_medium, write_medium_identity
from tests.support.device import NOW, Authority, Device
from tests.support.district import ids_in
from tests.support.memory_medium import File, MemoryMedium

MEDIUM = b"m" * 16
ROOT = Path("/medium")


def enrolled_medium(
    authority: Authority,
    *,
    name: bytes = MEDIUM,
    standing: Standing = Standing.ACTIVE,
    expires_at: int = 0,
    capacity_bytes: int = 1 << 30,
    issuer: SigningKey | None = None,
) -> MemoryMedium:
    """Return an empty stick of the authority's, or one that somebody else has signed."""
    certificate = certify_medium(
        authority.issuer if issuer is None else issuer,
        medium=name,
        number="17",
        holder="Serik Omarov",
        standing=standing,
        issued_at=NOW,
        expires_at=expires_at,
        serial=NOW,
    )
    medium = MemoryMedium(capacity_bytes=capacity_bytes)
    medium.files[(MEDIUM_FOLDER,)] = File(is_folder=True)
    identity = write_medium_identity(authority.statements[:3], certificate)
    medium.files[MEDIUM_FOLDER, MEDIUM_FILE] = File(identity)
    medium.unmount()
    return medium


def ids_on(medium: MemoryMedium) -> frozenset[bytes]:
    """Return the ids of all intact envelopes that are durable on a medium, in files that are complete by their name."""
    bundles = [data for path, data in medium.durable.items() if data and len(path) == 3 and path[-1].endswith(".CNS")]
    return ids_in(*(data for data in bundles if len(data) <= MEDIUM_BUNDLE_BYTES_MAX))


@dataclass
class Walk:
    """One device's visits; `waiting` is called where a visit waits for receipts. `step` is whatever steps the device,
    where it has other links too.
    """

    device: Device
    medium: MemoryMedium
    waiting: Callable[[], None] = lambda: None
    step: Callable[[Device, Event], list[Effect]] = Device.step
    actions: list[steps.Action[Any]] = field(default_factory=list)
    sends: deque[Send] = field(default_factory=deque)
    written: list[bytes] = field(default_factory=list)
    """What was left in the last visit, as far as the writing came back."""
    is_mounted: bool = False

    def visit(self, number: int = 1) -> Outcome:
        """Plug the medium in, and let the device do what it does."""
        self.actions.clear()
        self.sends.clear()
        self.written.clear()
        self.is_mounted = True
        self._volume = Volume(ROOT, self.device.id.hex(), self.medium)
        walk = visit(Visitor(self.device.id.hex(), f"{number:016x}", f"medium-{number}"))
        result: Any = None
        fault: VolumeFault | None = None
        while True:
            try:
                action = walk.send(result) if fault is None else walk.throw(fault)
            except StopIteration as end:
                outcome: Outcome = end.value
                return outcome
            self.actions.append(action)
            result, fault = None, None
            try:
                result = self._do(action)
            except VolumeFault as met:
                fault = met

    def _do(self, action: steps.Action[Any]) -> Any:
        match action:
            case steps.Question():
                with self._store.transaction() as transaction:
                    return action.answer(transaction, self._identity)
            case steps.Write(_, data):
                file = perform(action, self._volume)
                self.written.append(data)
                return file
            case steps.AwaitReceipts():
                return self.waiting()
            case steps.Unmount():
                self.is_mounted = False
                return self.medium.unmount()
            case steps.MountAgain():
                if self.medium.is_gone:
                    raise VolumeFault(FaultKind.GONE, "no such device")
                self.is_mounted = True
                return None
            case steps.OpenLink() | steps.Arrive() | steps.NextBundle() | steps.Settle() | steps.CloseLink():
                return self._tell_engine(action)
            case steps.PowerOff() | steps.Tell():
                return None
            case _:
                return perform(action, self._volume)

    def _tell_engine(self, action: steps.Action[Any]) -> Any:
        match action:
            case steps.OpenLink(link):
                self._collect(self.step(self.device, LinkUp(link)))
            case steps.Arrive(key, data):
                self._collect(self.step(self.device, BundleArrived(key, data)))
            case steps.Settle(key, token, taken):
                self._collect(self.step(self.device, Settled(key, token, taken)))
            case steps.CloseLink(key):
                self.sends.clear()
                self.step(self.device, LinkDown(key))
            case steps.NextBundle():
                if not self.sends:
                    return None
                send = self.sends.popleft()
                return steps.Bundle(send.token, send.data)
        return None

    def _collect(self, effects: list[Effect]) -> None:
        self.sends.extend(effect for effect in effects if isinstance(effect, Send) and "medium" in effect.link_key)

    @property
    def _store(self) -> Any:
        return self.device.store

    @property
    def _identity(self) -> DeviceIdentity:
        return DeviceIdentity(self.device.id, self.device.signer, self.device.authority.root.public_bytes)
