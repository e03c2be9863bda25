"""The watch over media in a running device: visits side by side, trouble of every kind, and an end at any time."""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from edge_agent.engine.effects import Effect
from edge_agent.engine.events import BundleArrived, Event
from edge_agent.engine.identity import DeviceIdentity
from edge_agent.engine.store import StoreFault
from edge_agent.usb_watch import media_watch, visiting
from edge_agent.usb_watch.block_device import BlockDevice
from edge_agent.usb_watch.media_document import media_document
from edge_agent.usb_watch.media_watch import MediaWatch, MediumState, Turn
from edge_agent.usb_watch.mounting import (
    Cleared,
    Mounted,
    Mounting,
    MountRefusal,
    MountRefused,
    PoweredOff,
    Unmounted,
    UnmountFailed,
)
from edge_agent.usb_watch.sentences import sentences_in
from edge_agent.usb_watch.visiting import Surroundings, VisitSettings
from sync_protocol.medium import MEDIUM_FILE, MEDIUM_FOLDER
from tests.support.device import Authority, memory_folder, questionnaire
from tests.support.living_device import Living, living
from tests.support.medium_visit import enrolled_medium

KEY = bytes(31)


@dataclass
class FolderDrives:
    """Mounts folders, and remembers what was mounted and switched off. `refusing` are refusals to come."""

    mounts: list[str] = field(default_factory=list)
    in_place: set[str] = field(default_factory=set)
    off: list[str] = field(default_factory=list)
    refusing: list[MountRefused | None] = field(default_factory=list)
    problem: str | None = None
    unmounting: Unmounted | UnmountFailed = field(default_factory=lambda: Unmounted(was_lazy=False))
    cleared: bool = False
    gate: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.gate.set()

    def why_unavailable(self) -> str | None:
        return self.problem

    def clear_leftovers(self) -> Cleared:
        self.cleared = True
        return Cleared((), ())

    def mount(self, device: BlockDevice, *, writable: bool) -> Mounted | MountRefused:
        self.mounts.append(f"{device.node} {'rw' if writable else 'ro'}")
        if self.refusing and (refused := self.refusing.pop(0)) is not None:
            return refused
        self.in_place.add(device.node)
        self.gate.wait(20)
        return Mounted(Path(device.node), not writable, lambda: self._unmount(device.node))

    def _unmount(self, node: str) -> Unmounted | UnmountFailed:
        self.in_place.discard(node)
        return self.unmounting

    def power_off(self, device: BlockDevice) -> PoweredOff:
        self.off.append(device.drive)
        return PoweredOff()


@dataclass
class Plugs:
    """The test's hand on the bus."""

    added: Callable[[BlockDevice], None]
    removed: Callable[[str], None]

    async def run(self) -> None:
        await asyncio.Event().wait()


@dataclass
class Scene:
    one: Living
    watch: MediaWatch
    drives: FolderDrives
    plugs: Plugs
    running: asyncio.Task[None]
    turns: list[tuple[str, Turn, str]]
    """Of each turn that was told: which visit, and what it was doing then, or how it had ended."""

    def plug(self, folder: Path) -> None:
        self.plugs.added(BlockDevice(str(folder), str(folder), "vfat", 1 << 30, is_write_protected=False))

    async def ended(self, visits: int = 1) -> list[dict[str, object]]:
        """Wait until so many visits are over; return them."""

        async def wait() -> None:
            while sum(state.outcome is not None for state in self.watch.states()) < visits:
                await asyncio.sleep(0.01)

        await asyncio.wait_for(wait(), 20)
        return media_document(self.watch.states(), sentences_in("en"))

    async def fill(self, count: int) -> None:
        for number in range(count):
            await self.one.runner.accept([(KEY + bytes([number]), questionnaire(instance_id=f"uuid:{number}"))])


@asynccontextmanager
async def scene(folder: Path, *ways: Mounting) -> AsyncIterator[Scene]:
    async with living(folder / "queue") as one:
        drives = FolderDrives()
        device = one.device
        surroundings = Surroundings(
            host=one.runner,
            queue=one.runner,
            mounting=drives,
            identity=DeviceIdentity(device.id, device.signer, device.authority.root.public_bytes),
            settings=VisitSettings(),
            reaches_center=lambda: False,
        )
        made: list[Plugs] = []

        def make(added: Callable[[BlockDevice], None], removed: Callable[[str], None]) -> Plugs:
            made.append(Plugs(added, removed))
            return made[0]

        nonces = iter(range(1, 1000))
        turns: list[tuple[str, Turn, str]] = []

        def turned(turn: Turn, state: MediumState) -> None:
            (record,) = media_document([state], sentences_in("en"))
            turns.append((str(int(state.nonce, 16)), turn, str(record["ending"] or record["stage"] or "mounting")))

        watch = MediaWatch(
            surroundings,
            make,
            nonce=lambda: f"{next(nonces):016x}",
            clock=lambda: device.now,
            on_turn=turned,
        )
        running = asyncio.create_task(watch.run([*ways, drives]))
        while not made and not running.done():
            await asyncio.sleep(0.01)
        if running.done():
            running.result()
        try:
            yield Scene(one, watch, drives, made[0], running, turns)
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running


@pytest.fixture
def folder() -> Iterator[Path]:
    with memory_folder() as folder:
        yield folder


def stick(folder: Path, name: str) -> Path:
    made = folder / name
    (made / MEDIUM_FOLDER).mkdir(parents=True)
    medium = enrolled_medium(Authority(), name=name.encode().ljust(16, b"."))
    (made / MEDIUM_FOLDER / MEDIUM_FILE).write_bytes(medium.files[MEDIUM_FOLDER, MEDIUM_FILE].data)
    return made


def run(scenario: Awaitable[None]) -> None:
    async def main() -> None:
        await asyncio.wait_for(scenario, 60)

    asyncio.run(main())


def test_two_media_at_once_each_get_everything_and_are_switched_off(folder: Path) -> None:
    async def scenario() -> None:
        async with scene(folder) as at:
            await at.fill(5)
            sticks = [stick(folder, "red"), stick(folder, "blue")]
            for one in sticks:
                at.plug(one)
            visits = await at.ended(2)
            assert [visit["ending"] for visit in visits] == ["safe", "safe"]
            assert [visit["envelopes_written"] for visit in visits] == [5, 5]
            assert sorted(at.drives.off) == sorted(map(str, sticks)) and not at.drives.in_place
            assert all(visit["present"] for visit in visits)
            assert sorted(at.drives.mounts) == sorted(f"{one} {mode}" for one in sticks for mode in ("rw", "ro"))

    run(scenario())


def test_a_medium_that_is_refused_or_not_ours_ends_no_watch(folder: Path) -> None:
    async def scenario() -> None:
        async with scene(folder) as at:
            (folder / "strange").mkdir()
            at.drives.refusing = [MountRefused(MountRefusal.DAMAGED, "bad superblock")]
            at.plug(folder / "strange")
            await at.ended(1)
            at.plug(folder / "strange")
            await at.ended(2)
            at.plug(stick(folder, "red"))
            visits = await at.ended(3)
            assert [visit["ending"] for visit in visits] == ["damaged", "left_alone", "safe"]
            assert "use another" in str(visits[0]["sentence"]) or visits[0]["sentence"]
            assert not at.drives.in_place and at.drives.off == [str(folder / "red")]

    run(scenario())


@pytest.mark.parametrize(("reason", "ending"), [(MountRefusal.VANISHED, "gone"), (MountRefusal.DAMAGED, "unreadable")])
def test_a_medium_that_cannot_be_read_back_is_never_called_safe(
    folder: Path, reason: MountRefusal, ending: str
) -> None:
    async def scenario() -> None:
        async with scene(folder) as at:
            await at.fill(1)
            at.drives.refusing = [None, MountRefused(reason, "")]
            at.plug(stick(folder, "red"))
            (visit,) = await at.ended(1)
            assert visit["ending"] == ending and not visit["safe_to_remove"] and at.drives.off == []

    run(scenario())


@pytest.mark.parametrize("unmounting", [Unmounted(was_lazy=True), UnmountFailed("busy")])
def test_a_medium_that_cannot_be_released_is_never_called_safe(
    folder: Path, unmounting: Unmounted | UnmountFailed
) -> None:
    async def scenario() -> None:
        async with scene(folder) as at:
            at.drives.unmounting = unmounting
            at.plug(stick(folder, "red"))
            (visit,) = await at.ended(1)
            assert visit["ending"] == "unreadable" and not visit["safe_to_remove"]

    run(scenario())


def test_a_medium_that_vanishes_while_it_is_visited_is_told_and_the_next_visit_completes(folder: Path) -> None:
    async def scenario() -> None:
        async with scene(folder) as at:
            await at.fill(3)
            red = stick(folder, "red")
            at.drives.gate.clear()
            at.plug(red)
            while not at.drives.in_place:
                await asyncio.sleep(0.01)
            away = red.rename(folder / "away")
            at.plugs.removed(str(red))
            at.drives.gate.set()
            (visit,) = await at.ended(1)
            assert visit["ending"] == "gone" and not visit["present"] and not at.drives.in_place
            assert visit["shown"], "somebody may be looking for it"
            shutil.move(away, red)
            at.plug(red)
            assert (await at.ended(2))[1]["envelopes_written"] == 3

    run(scenario())


@pytest.mark.parametrize("is_pulled_out", [True, False])
def test_a_medium_that_looks_empty_is_gone_when_its_device_is_and_not_enrolled_otherwise(
    folder: Path, monkeypatch: pytest.MonkeyPatch, is_pulled_out: bool
) -> None:
    async def scenario() -> None:
        async with scene(folder) as at:
            red = stick(folder, "red")
            numbers = {str(red): (8, 1)}
            monkeypatch.setattr(visiting, "device_number_of", numbers.get)
            at.drives.gate.clear()
            at.plug(red)
            while not at.drives.in_place:
                await asyncio.sleep(0.01)
            # What vfat shows of a stick that is not there any more.
            shutil.rmtree(red / MEDIUM_FOLDER)
            if is_pulled_out:
                numbers.clear()
            at.drives.gate.set()
            (visit,) = await at.ended(1)
            assert (visit["ending"], visit["safe_to_remove"]) == (
                ("gone", False) if is_pulled_out else ("left_alone", True)
            )

    run(scenario())


def test_what_is_accepted_during_a_visit_leaves_with_it_or_waits_and_the_queue_goes_on(folder: Path) -> None:
    async def scenario() -> None:
        async with scene(folder) as at:
            at.drives.gate.clear()
            at.plug(stick(folder, "red"))
            await at.fill(4)
            at.drives.gate.set()
            (visit,) = await at.ended(1)
            assert visit["envelopes_written"] == 4
            await at.one.runner.accept([(b"later".ljust(32), questionnaire(instance_id="uuid:later"))])
            assert at.one.instances() == 5

    run(scenario())


def test_every_turn_of_a_visit_is_told_once(folder: Path) -> None:
    async def scenario() -> None:
        async with scene(folder) as at:
            await at.fill(1)
            red = stick(folder, "red")
            at.plug(red)
            await at.ended(1)
            at.plugs.removed(str(red))
            at.plugs.removed(str(red))
            assert at.turns == [
                ("1", Turn.BEGAN, "mounting"),
                ("1", Turn.STAGE, "reading"),
                ("1", Turn.STAGE, "writing"),
                ("1", Turn.STAGE, "checking"),
                ("1", Turn.ENDED, "safe"),
                ("1", Turn.OUT, "safe"),
            ]
            at.watch.visit_folder(red, leaves=False)
            await at.ended(2)
            while at.turns[-1][1] is not Turn.OUT:
                await asyncio.sleep(0.01)
            assert [turn for visit, turn, _ in at.turns if visit == "2"][-2:] == [Turn.ENDED, Turn.OUT]

    run(scenario())


def test_the_end_of_the_daemon_leaves_no_mount_behind(folder: Path) -> None:
    async def scenario() -> None:
        async with scene(folder) as at:
            await at.fill(1)
            at.drives.gate.clear()
            at.plug(stick(folder, "red"))
            while not at.drives.in_place:
                await asyncio.sleep(0.01)
            at.running.cancel()
            with suppress(asyncio.CancelledError):
                await at.running
            assert at.drives.in_place, "the daemon does not wait for a medium that hangs"
            at.drives.gate.set()
            while at.drives.in_place:
                await asyncio.sleep(0.01)

    run(scenario())


def test_the_first_way_of_mounting_that_works_is_used(folder: Path) -> None:
    async def scenario() -> None:
        barred = FolderDrives(problem="there is no UDisks2")
        async with scene(folder, barred) as at:
            at.plug(stick(folder, "red"))
            await at.ended(1)
            assert at.drives.cleared and not barred.cleared and not barred.mounts

    run(scenario())


def test_a_machine_where_nothing_can_mount_is_told_once_and_asked_again_rarely(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(media_watch, "_RETRY_SECONDS", 0.01)

    async def scenario() -> None:
        async with scene(folder) as at:
            barred, late = FolderDrives(problem="there is no UDisks2"), FolderDrives(problem="no rights")
            with capture_logs() as logs:
                trying = asyncio.create_task(at.watch.run([barred, late]))
                await asyncio.sleep(0.2)
                late.problem = None
                while not late.cleared:
                    await asyncio.sleep(0.01)
                trying.cancel()
            told = [log for log in logs if log["event"] == "media_unavailable"]
            assert [log["problem"] for log in told] == ["there is no UDisks2; no rights"]
            assert not barred.cleared

    run(scenario())


def test_files_that_are_read_ahead_are_each_read_once_also_after_one_that_cannot_be_read(folder: Path) -> None:
    async def scenario() -> None:
        async with scene(folder) as at:
            red = stick(folder, "red")
            for number in range(5):
                await at.one.runner.accept([(KEY + bytes([number]), questionnaire(instance_id=f"uuid:{number}"))])
                at.plug(red)
                await at.ended(number + 1)
            files = sorted(red.rglob("*-*.CNS"))
            assert len(files) == 5
            files[2].unlink()
            files[2].symlink_to(files[1])
            at.plug(red)
            visit = (await at.ended(6))[-1]
            assert (visit["files_found"], visit["files_read"], visit["damaged"]) == (5, 4, 1)
            assert (visit["envelopes_read"], visit["envelopes_written"]) == (4, 1)
            assert visit["ending"] == "safe"

    run(scenario())


def test_a_visit_whose_last_file_could_not_be_recorded_is_not_called_safe(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with scene(folder) as at:
            red = stick(folder, "red")
            await at.fill(1)
            at.plug(red)
            assert (await at.ended())[0]["ending"] == "safe"
            stepper, engine = at.one.device.stepper, at.one.device.engine
            step = stepper.step

            def failing(event: Event, now: int) -> list[Effect]:
                if isinstance(event, BundleArrived):
                    engine.forget_step(links=True)
                    raise StoreFault("disk I/O error")
                return step(event, now)

            monkeypatch.setattr(stepper, "step", failing)
            at.plug(red)
            visit = (await at.ended(2))[-1]
            assert (visit["ending"], visit["safe_to_remove"]) == ("interrupted", False)
            assert at.drives.in_place == set(), "nothing stays mounted"
            monkeypatch.undo()
            at.plug(red)
            assert (await at.ended(3))[-1]["ending"] == "safe"

    run(scenario())


def test_what_came_of_a_visit_is_shown_for_a_while_after_the_drive_was_switched_off(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(media_watch, "_SHOWN_SECONDS", 0.2)

    async def scenario() -> None:
        async with scene(folder) as at:
            red = stick(folder, "red")
            at.plug(red)
            assert (await at.ended())[0]["shown"]
            at.plugs.removed(str(red))
            (visit,) = await at.ended()
            assert (visit["present"], visit["shown"], visit["ending"]) == (False, True, "safe")
            while (await at.ended())[0]["shown"]:
                await asyncio.sleep(0.01)

    run(scenario())
