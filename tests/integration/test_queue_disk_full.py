"""A full disk refuses with a clear text and costs nothing that was accepted; with room again, everything goes on."""

import asyncio
import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from edge_agent.engine.effects import Accepted, Refused
from edge_agent.engine.events import Started
from edge_agent.engine.links import Link, center_mailbox
from edge_agent.engine.store import StoreFull
from edge_agent.queue.intake.intake import Intake, IntakeSettings
from edge_agent.queue.intake.recognition import RawSubmission, Unacceptable
from edge_agent.runner import Runner
from sync_protocol.mesh import Exchanged
from tests.support.device import Authority, Device, envelopes_in, key_of, questionnaire

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small file system"),
]
SIZE_MEGABYTES = 12


@pytest.fixture(params=["tmpfs", "ext4"])
def small_disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    if request.param == "tmpfs":
        command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MEGABYTES}m", "tmpfs", str(folder)]
    else:
        image = tmp_path / "disk.img"
        image.write_bytes(b"")
        os.truncate(image, SIZE_MEGABYTES * 1024 * 1024)
        made = subprocess.run(["mkfs.ext4", "-q", "-m", "0", str(image)], check=False, capture_output=True, text=True)
        if made.returncode:
            pytest.skip(f"cannot make an ext4 file system: {made.stderr}")
        command = ["mount", "-o", "loop", str(image), str(folder)]
    mounted = subprocess.run(command, check=False, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"cannot mount: {mounted.stderr.strip()}")
    yield folder
    # Lazily: a test that failed may still have files open there.
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Fill the file system to the brim and return the file that does it."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (65_536, 512, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue
    return ballast


def test_a_full_disk_refuses_the_submission_and_keeps_every_earlier_one(small_disk: Path) -> None:
    device = Device(small_disk / "queue", Authority()).start()
    for number in range(5):
        device.submit(str(number), os.urandom(5000).hex().encode())
    ballast = fill(small_disk)
    accepted, refused = [], 0
    for number in range(40):
        try:
            device.submit(f"full {number}", os.urandom(60_000).hex().encode())
            accepted.append(number)
        except StoreFull as fault:
            assert str(fault) == "the disk is full"
            refused += 1
    assert refused > 30
    assert [row[0] for row in device.rows("sequence")] == list(range(1, 6 + len(accepted)))
    ballast.unlink()
    device.submit("room again")
    device.restart()
    assert [row[0] for row in device.rows("sequence")] == list(range(1, 7 + len(accepted)))
    sent = device.settle_all(device.link_up())
    assert len({envelope.id for envelope in envelopes_in(sent)}) == 6 + len(accepted)
    device.stop()


class Outlet:
    """An adapter's end of a link that remembers what it was given."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.closed = False

    def send(self, token: int, data: bytes) -> None:
        self.sent.append(data)

    def follow(self, origins: frozenset[bytes], listed: frozenset[bytes]) -> None:
        """Nothing is followed here."""

    def say(self, message: Exchanged) -> None:
        """Nobody is there."""

    def close(self) -> None:
        self.closed = True


def mailbox(number: int) -> Link:
    return center_mailbox(f"link-{number}", bundles_in_flight_max=20, bundle_bytes_max=262_144, remembered=True)


def test_the_daemon_refuses_with_a_remedy_keeps_its_links_and_accepts_again_with_room(small_disk: Path) -> None:
    device = Device(small_disk / "queue", Authority()).start()
    outlet = Outlet()

    async def live() -> None:
        with ThreadPoolExecutor(max_workers=1) as thread:
            runner = Runner(device.stepper, thread, lambda: device.now)
            await runner.start(Started(None, ()))
            running = asyncio.create_task(runner.run())
            settings = IntakeSettings(small_disk, "household", 10**6, 0)
            intake = Intake(settings, runner, lambda: device.now)
            await runner.accept([(key_of("a"), questionnaire())])
            runner.link_up(mailbox(1), outlet)
            while not outlet.sent:
                await asyncio.sleep(0.01)
            ballast = fill(small_disk)
            answers = [
                (await runner.accept([(key_of(f"{n}"), questionnaire(os.urandom(90_000).hex().encode()))]))[0]
                for n in range(20)
            ]
            refusals = [answer for answer in answers if isinstance(answer, Refused)]
            assert len(refusals) > 10
            assert {one.problem for one in refusals} == {"the disk is full"}
            assert all(one.again and "free some space" in one.remedy for one in refusals)
            (nearly,) = await intake.take([RawSubmission(b'{"a":1}')], "occasion")
            assert isinstance(nearly, Unacceptable) and nearly.again and nearly.problem == "the disk is nearly full"
            assert not outlet.closed, "a full queue needs its links to drain"
            ballast.unlink()
            (answer,) = await intake.take([RawSubmission(b'{"a":1}')], "occasion")
            assert isinstance(answer, Accepted)
            running.cancel()
            await asyncio.wait({running})

    asyncio.run(live())
    assert outlet.sent
    sequences = [row[0] for row in device.rows("sequence")]
    assert sequences == list(range(1, len(sequences) + 1))
    device.stop()
