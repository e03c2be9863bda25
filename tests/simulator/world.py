"""A simulated world: who and what there is in it, and everything that can be made to happen to it.

Stories (`scenario`) and random lives (`life`) both act through this, and through nothing else.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from edge_agent.engine.settings import EngineSettings
from sync_protocol import topics
from sync_protocol.bundle import Frame, FrameType, write_bundle
from sync_protocol.content import Questionnaire, cut, encode_content
from sync_protocol.envelope import NO_ID, seal_envelope
from sync_protocol.head import sign_head
from sync_protocol.identity import Role, Standing, device_name
from sync_protocol.keys import Signer
from sync_protocol.receipt import Mark, Span, SpanStatus, sign_receipt
from tests.simulator.authority import Authority
from tests.simulator.broker import Broker
from tests.simulator.center import Center
from tests.simulator.clockwork import DAY, HOUR, MINUTE, START, Chance, Clockwork
from tests.simulator.database import Database
from tests.simulator.device import LOSSY_STEP_FAULTS, STEP_FAULTS, Device
from tests.simulator.disk import Disk, LossyHome, MakeDisk, PlainDisk
from tests.simulator.faults import Fault, Faults
from tests.simulator.keys import RealKeys, StubKeys, seed_of
from tests.simulator.neighbours import Meeting, Party
from tests.simulator.oracle import Oracle
from tests.simulator.sticks import Content, Stick, Visit
from tests.simulator.uplink import Uplink

FORM = "household"
NEW_FORM = "a form that the center does not know yet"
BOOT = MINUTE


@dataclass
class Image:
    """A copy of a device's files, and what of it may be put back."""

    device: str
    files: Any


@dataclass
class Resident:
    """A device with what belongs to it."""

    device: Device
    uplink: Uplink
    role: Role
    images: list[Image] = field(default_factory=list)
    step_fault_rate: float = 0
    written: int = 0


class World:
    """One world; use it as a context manager. Times are of `Clockwork.now`."""

    def __init__(
        self,
        seed: int,
        folder: Path,
        *,
        real_keys: bool = False,
        consumers: int = 2,
        suppressed: Collection[str] = (),
        settings: EngineSettings | None = None,
        storied: bool = False,
        list_keys: bool = False,
        make_disk: MakeDisk = PlainDisk,
    ) -> None:
        """With `list_keys`, about half of the devices have a key for lists of their own."""
        self.folder = folder
        self._make_disk = make_disk
        self.chance = Chance(seed)
        self.faults = Faults(self.chance, suppressed)
        self.clockwork = Clockwork()
        self.oracle = Oracle()
        self.residents: dict[str, Resident] = {}
        self.sticks: dict[str, Stick] = {}
        self.story: list[str] | None = [] if storied else None
        self._settings = settings
        self._list_keys = list_keys
        self._stack = ExitStack()
        self.meetings: list[Meeting] = []
        self._images = 0
        self._visits = 0
        self._streams: dict[str, Random] = {}
        stubs = None if real_keys else StubKeys()
        if stubs is not None:
            self._stack.enter_context(stubs.installed())
        self.authority = Authority(stubs or RealKeys())
        self.broker = Broker(self.clockwork, self.faults, self.stream)
        self.database = Database(folder / "center", self.clockwork, self.oracle)
        self.center = Center(
            authority=self.authority,
            database=self.database,
            broker=self.broker,
            clockwork=self.clockwork,
            oracle=self.oracle,
            faults=self.faults,
            randomness=self.stream,
            consumers=consumers,
        )
        self.center.allow_form(FORM)
        self.faults.on_strike = lambda node, fault: self.tell(node, f"*** {fault}", {})

    def __enter__(self) -> World:
        return self

    def __exit__(self, *_: object) -> None:
        for resident in self.residents.values():
            resident.device.disk.close()
        self.database.close()
        self._stack.close()

    def stream(self, name: str) -> Random:
        """Return the random stream of a node or purpose."""
        if name not in self._streams:
            self._streams[name] = self.chance.stream(name)
        return self._streams[name]

    def tell(self, node: str, what: str, fields: Mapping[str, object]) -> None:
        """Put something into the trace, and into the story if one is written."""
        self.clockwork.note(node + what)
        if self.story is not None:
            days, rest = divmod(self.clockwork.now - START, DAY)
            shown = " ".join(f"{k}={v.hex()[:8] if isinstance(v, bytes) else v}" for k, v in fields.items())
            clock = f"{rest // HOUR:02}:{rest // MINUTE % 60:02}:{rest // 1_000_000 % 60:02}"
            self.story.append(f"day {days:2} {clock}  {node:<12} {what} {shown}".rstrip())

    # Who there is.

    def add_device(self, name: str, role: Role = Role.TABLET) -> Resident:
        """Enrol a new device and start it."""
        signer = self.authority.keys.signer(name)
        self.center.enrol(signer, name, role=role)
        return self._install(name, signer, role, self._make_disk(self.folder / name))

    def _install(self, name: str, signer: Signer, role: Role, disk: Disk) -> Resident:
        identity = device_name(signer.public_bytes)
        device = Device(
            name,
            signer=signer,
            root_public_key=self.authority.root.public_bytes,
            statements=lambda: [
                *(one.data for one in self.authority.provisioned[identity]),
                self.authority.issued[identity].data,
            ],
            disk=disk,
            clockwork=self.clockwork,
            oracle=self.oracle,
            randomness=self.stream(name),
            settings=self._settings,
            list_key=self._list_key_of(name, identity),
            tell=self.tell,
        )
        resident = Resident(device, Uplink(device, self.broker, self.stream(f"uplink of {name}")), role)
        device.faults_of_step = lambda _device: self._fault_of_step(resident)
        self.residents[name] = resident
        device.start()
        return resident

    def _list_key_of(self, name: str, identity: bytes) -> bytes | None:
        if not self._list_keys or self.stream(f"list key of {name}").random() < 0.5:
            return None
        _secret, public_bytes = self.authority.keys.secret(f"list key of {identity.hex()}")
        return public_bytes

    def add_stick(self, name: str) -> Stick:
        identity = self.authority.medium_identity(seed_of(name)[:16], name)
        stick = Stick(name, identity, self.clockwork, self.oracle, self.faults)
        self.sticks[name] = stick
        return stick

    # What happens to devices.

    def submit(self, resident: Resident, *, body: bytes | None = None, form: str = FORM) -> str:
        """Let a person fill one questionnaire; return its instance id."""
        resident.written += 1
        instance_id = f"uuid:{resident.device.name}-{resident.written}"
        content = body or f'{{"household":"{instance_id}"}}'.encode()
        questionnaire = Questionnaire(form, "1", instance_id, "application/json", resident.device.clock, content)
        self.tell(resident.device.name, "fills a questionnaire", {"id": instance_id, "form": form})
        resident.device.submit(questionnaire)
        return instance_id

    def _fault_of_step(self, resident: Resident) -> Fault | None:
        faults = LOSSY_STEP_FAULTS if self._make_disk is LossyHome else STEP_FAULTS
        fault = self.faults.pick(resident.device.name, faults, resident.step_fault_rate)
        if fault is not None:
            self.faults.note(resident.device.name, fault, self.states(resident))
        return fault

    def cut_power(self, resident: Resident, *, boot_after: int = BOOT) -> None:
        self.faults.note(resident.device.name, Fault.CUT_WHEN_IDLE, self.states(resident))
        resident.device.end(power=True, restart_after=boot_after)

    def kill(self, resident: Resident) -> None:
        self.faults.note(resident.device.name, Fault.KILL, self.states(resident))
        resident.device.end(power=False)

    def fill_disk(self, resident: Resident, *, full: bool) -> None:
        if full:
            self.faults.note(resident.device.name, Fault.DISK_FULL, self.states(resident))
        resident.device.disk.fill(full=full)

    def jump_clock(self, resident: Resident, offset: int) -> None:
        """Let a device's clock be wrong by so much from now on."""
        back = offset < resident.device.clock_offset
        fault = Fault.CLOCK_BACK if back else Fault.CLOCK_JUMP
        self.faults.note(resident.device.name, fault, self.states(resident))
        resident.device.clock_offset = offset

    def take_image(self, resident: Resident) -> Image:
        """Copy a device's files for later."""
        self._images += 1
        image = Image(resident.device.name, resident.device.disk.image(f"image-{self._images}"))
        resident.images.append(image)
        return image

    def roll_back(self, resident: Resident, image: Image, *, keep_mirror: bool) -> None:
        """Put a device back to a copy of its files: of its queue alone, or of the whole tablet."""
        fault = Fault.QUEUE_ROLLED_BACK if keep_mirror else Fault.TABLET_ROLLED_BACK
        self.faults.note(resident.device.name, fault, self.states(resident))
        device = resident.device
        device.end(power=False, restart_after=None)
        self.oracle.disk_replaced(device.name, device.id, wholly=not keep_mirror)
        device.disk.replace(image.files, keep_mirror=keep_mirror)
        self.clockwork.after(BOOT, device.name, "start", device.start)

    def clone(self, resident: Resident, image: Image) -> Resident:
        """Let a second device live from a copy of the first one's files."""
        self.faults.note(resident.device.name, Fault.TABLET_CLONED, self.states(resident))
        name = f"{resident.device.name}-twin{len(self.residents)}"
        self.oracle.twins.add(resident.device.id)
        disk = self._make_disk(self.folder / name)
        disk.replace(image.files, keep_mirror=False)
        return self._install(name, resident.device.signer, resident.role, disk)

    def destroy(self, resident: Resident) -> None:
        """A device is gone with everything on it, and the authority is told."""
        self.faults.note(resident.device.name, Fault.TABLET_DESTROYED, self.states(resident))
        device = resident.device
        device.is_gone = True
        device.waiting.clear()
        device.end(power=True, restart_after=None)
        resident.uplink.shut()
        self.oracle.disk_replaced(device.name, device.id, wholly=False, destroyed=True)
        device.disk.destroy()

    def give_standing(self, resident: Resident, standing: Standing) -> None:
        """Say at the center how a device stands."""
        self.tell("operator", f"{resident.device.name} is {standing.name.lower()} now", {})
        self.center.enrol(resident.device.signer, resident.device.name, standing=standing, role=resident.role)

    def is_active(self, device: bytes) -> bool:
        return self.authority.certificate(device).standing is Standing.ACTIVE

    def deliver(self, resident: Resident, data: bytes) -> None:
        """Let bytes come in over whatever link the device has now."""
        connection = resident.uplink.connection
        if connection is not None and connection.is_up:
            resident.device.bundle_arrived(connection.key, data)

    def forged_receipt(self, resident: Resident) -> bytes:
        """Return a receipt that everything is committed long ago, signed by a key that nobody certified."""
        rows = [row for row in self.oracle.queues[resident.device.name].rows.values() if row.own]
        by_epoch = {row.epoch: row for row in sorted(rows, key=lambda row: (row.epoch, row.sequence))}
        spans = [
            Span(row.epoch, 1, row.id, SpanStatus.COMMITTED, (Mark(row.sequence, 1),)) for row in by_epoch.values()
        ]
        forger = self.authority.keys.signer("forger")
        statement = sign_receipt(
            forger, origin=resident.device.id, serial=1 << 62, watermark=self.clockwork.now, spans=spans
        )
        return write_bundle([Frame(FrameType.STATEMENT, statement.data)])

    def forged_bundle(self, resident: Resident) -> bytes:
        """Return the next envelope of a device's chain and a head beyond it, both signed by somebody else."""
        own = self.oracle.queues[resident.device.name].own
        forger = self.authority.keys.signer("forger")
        origin = resident.device.id
        epoch, sequence = max(own, default=(1, 0))
        last_id = own.get((epoch, sequence), NO_ID)
        metadata, body = next(iter(cut(Questionnaire(FORM, "1", "uuid:forged", "application/json", 0, b"{}"))))
        envelope = seal_envelope(
            encode_content(metadata, body),
            recipient=self.authority.recipient(),
            signer=forger,
            origin=origin,
            epoch=epoch,
            sequence=sequence + 1,
            previous_id=last_id,
        )
        head = sign_head(
            forger,
            origin=origin,
            epoch=epoch,
            sequence=sequence + 100,
            last_id=envelope.id,
            receipt_serial=1 << 62,
            stated_at=self.clockwork.now,
        )
        return write_bundle([Frame(FrameType.HEAD, head.data), Frame(FrameType.ENVELOPE, envelope.data)])

    def spread(self, bundle: bytes, sender: Resident) -> None:
        """Let a device give a bundle to the center, and to every other device that has a link."""
        if self.broker.is_up:
            self.broker.publish_up(sender.device.name, topics.up_topic(sender.device.id), bundle)
        for resident in self.residents.values():
            if resident is not sender:
                self.deliver(resident, bundle)

    # How they meet.

    def meet(self, one: Resident, other: Resident) -> Meeting | None:
        """Let two devices find each other; None when either is off or both are the same device twice."""
        if not one.device.is_up or not other.device.is_up or one.device.id == other.device.id:
            return None
        name = "/".join(sorted((one.device.name, other.device.name)))
        parties = (_party(one), _party(other))
        meeting = Meeting(*parties, self.clockwork, self.faults, self.stream(f"meeting {name}"))
        self.meetings = [before for before in self.meetings if before.is_up]
        self.meetings.append(meeting)
        self.tell(one.device.name, "meets", {"neighbour": other.device.name})
        meeting.begin()
        return meeting

    def plug_in(self, stick: Stick, resident: Resident) -> Visit | None:
        """Put a stick into a device; None when it is in another one, or the device is off."""
        if stick.visit is not None or not resident.device.is_up:
            return None
        self.tell(resident.device.name, "gets a stick", {"stick": stick.name, "files": stick.files})
        self._visits += 1
        visit = Visit(
            stick,
            resident.device,
            self.stream(f"stick in {resident.device.name}"),
            number=self._visits,
            reaches_center=lambda: resident.role is Role.COLLECTION_POINT and resident.uplink.is_connected,
        )
        visit.begin()
        return visit

    def twin_stick(self, stick: Stick, files: Content) -> None:
        """Swap a stick for a copy of it that was made earlier: the same identity, other files."""
        self.faults.note(stick.name, Fault.STICK_TWIN)
        stick.put_back(files)

    def give_stick_standing(self, stick: Stick, standing: Standing) -> None:
        """Say at the center how a stick stands. Whoever holds it need not know."""
        self.tell("operator", f"{stick.name} is {standing.name.lower()} now", {})
        self.faults.note(stick.name, Fault.STICK_REINSTATED if standing is Standing.ACTIVE else Fault.STICK_CALLED_IN)
        self.center.give_medium_standing(seed_of(stick.name)[:16], stick.name, standing)

    # The states that a fault may find a device in (I7).

    def states(self, resident: Resident) -> list[str]:
        device = resident.device
        connection = resident.uplink.connection
        rows = self.oracle.queues[device.name].rows.values()
        own = [row for row in rows if row.own]
        states = {
            "nothing waits": not any(row.has_data and row.status is None for row in own),
            "envelopes wait": any(row.has_data and row.status is None for row in own),
            "bundles in flight": connection is not None and connection.is_up and connection.in_flight > 0,
            "connected": connection is not None and connection.is_up,
            "marked, not purged": any(row.has_data and row.status is not None for row in own),
            "some purged": any(not row.has_data for row in own),
            "carries others'": any(row.has_data for row in rows if not row.own),
            "later epoch": any(row.epoch > 1 for row in own),
            "disk full": device.disk.is_full,
            "clock wrong": device.clock_offset != 0,
            "stick in it": any(s.visit is not None and s.visit.device is device for s in self.sticks.values()),
            "near a neighbour": any(m.is_up and device in (m.ends[0].device, m.ends[1].device) for m in self.meetings),
        }
        return [state for state, holds in states.items() if holds]

    # Time.

    def run(self, duration: int) -> None:
        self.clockwork.run(self.clockwork.now + duration)


def _party(resident: Resident) -> Party:
    return Party(
        resident.device, resident.role is Role.COLLECTION_POINT, reaches_center=lambda: resident.uplink.is_connected
    )
