"""A device that lives on a lossy disk through one power cut after the other, and a ledger beside it.

What was released, step by step, is in the ledger. After a cut the next life must find all of it: `Violation` says what
is missing.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from itertools import count
from pathlib import Path
from random import Random

from edge_agent.engine.effects import Effect, Notice
from edge_agent.engine.events import Event, Started, Submitted
from edge_agent.engine.store import StoreFault
from edge_agent.queue.mirror import MIRROR_FILE_NAME
from edge_agent.queue.store import LOCK_FILE_NAME
from sync_protocol.errors import ProtocolError
from sync_protocol.limits import PART_BYTES_MAX
from tests.simulator.lossy_disk import DiskError, Habits, LossyDisk, PowerCut
from tests.simulator.lossy_ledger import Ledger, Place, Row, Violation
from tests.support.device import MINUTE, Authority, Center, Device

FOLDER = Path("/state")
"""On the lossy disk only; nothing of this name is made or needed on the machine's own."""

_MIDDLE_CALLS_BEFORE_CUT = 12
_COLUMNS = "number, id, epoch, sequence, status, committed_at, data"


class WatchedDevice(Device):
    """A device on a lossy disk that tells its ledger of every step."""

    def __init__(self, authority: Authority, disk: LossyDisk, randomness: Random) -> None:
        super().__init__(FOLDER, authority, disk=disk, randomness=randomness.random)
        self.lossy_disk = disk
        self.ledger = Ledger()
        self.may_begin_epoch = False
        """Something happened that the mirror must notice."""
        self._mirror: Place = (0, 0)
        self._epoch: Notice | None = None

    def step(self, event: Event) -> list[Effect]:
        if isinstance(event, Started):
            return self._begin(event)
        self.ledger.interrupted = event
        effects = super().step(event)
        self.ledger.release(effects, self.queue())
        return effects

    def _begin(self, event: Started) -> list[Effect]:
        self._mirror = (0, 0) if event.mirror is None else (event.mirror.epoch, event.mirror.sequence)
        effects = super().step(event)
        self._epoch = next((one for one in effects if isinstance(one, Notice) and one.event == "epoch_started"), None)
        return effects

    def stop(self) -> None:
        store, self.store = self.store, None
        if store is not None:
            store.close()

    def queue(self) -> dict[int, Row]:
        if self.store is None:
            raise TypeError("the device is not started")
        rows = self.store.connection.execute(f"SELECT {_COLUMNS} FROM envelope")
        return {n: Row(i, (epoch, sequence), *rest) for n, i, epoch, sequence, *rest in rows}

    def start_and_check(self) -> int:
        """Start on what a cut has left; return how many envelopes the interrupted step has added after all.

        Raises Violation, and StoreFault when it does not start.
        """
        try:
            self.start()
        except StoreFault:
            # The process ends.
            self.stop()
            raise
        found = self.queue()
        self._check_database()
        self.ledger.check(found)
        if self._mirror < self.ledger.farthest:
            raise Violation(f"the mirror says {self._mirror}, but {self.ledger.farthest} has left the device")
        if self._epoch is not None and not self.may_begin_epoch:
            raise Violation(f"an epoch has begun for no reason: {self._epoch.fields}")
        self.may_begin_epoch = False
        added = len(found) - len(self.ledger.rows)
        self.ledger.rows, self.ledger.interrupted = found, None
        return added

    def _check_database(self) -> None:
        if self.store is None:
            raise TypeError("the device is not started")
        for check, good in (("integrity_check", [("ok",)]), ("foreign_key_check", [])):
            told = self.store.connection.execute(f"PRAGMA {check}").fetchall()
            if told != good:
                raise Violation(f"{check}: {told[:3]}")

    def power_cut(self, randomness: Random) -> None:
        """Take the power away now, if it is not gone already, and put what survives in the disk's place."""
        after = self.lossy_disk.cut(randomness)
        self.give_up()
        self.disk = self.lossy_disk = after

    def give_up(self) -> None:
        """Let go of everything, as at a cut after which nobody looks."""
        self.lossy_disk.kill()
        self.stop()


class Life:
    """One device through many cuts, which are counted, like calls to the disk and what was reached. All choices come
    from the seed.
    """

    def __init__(self, seed: int, authority: Authority, habits: Habits | None = None) -> None:
        self.randomness = Random(seed)
        habits = replace(habits or Habits(), checkpoint_pages=self.randomness.choice((None, 8, 30)))
        self.device = WatchedDevice(authority, LossyDisk(habits), self.randomness)
        self.center = Center(self.device)
        self.cuts = self.calls = 0
        self.reached: Counter[str] = Counter()
        self._texts = count(1)
        self._submission = ("", b"")
        self._link_is_up = False
        self._image: tuple[dict[Path, bytes], dict[int, Row]] | None = None

    def live(self, cuts: int) -> None:
        """Live through so many cuts; raises Violation."""
        try:
            self._live(cuts)
        except (StoreFault, sqlite3.Error, ProtocolError) as fault:
            raise Violation(f"on a disk that works the queue does not: {fault}") from fault
        finally:
            self.device.give_up()

    def _live(self, cuts: int) -> None:
        self._open(cut_at=self.randomness.randint(1, 100) if self._happens(0.5) else None)
        while self.cuts < cuts:
            for _ in range(self.randomness.randrange(4)):
                self._act()
            if self._happens(0.2):
                self._meet_error()
            if self._happens(0.15):
                self._image = self.device.lossy_disk.image(), self.device.ledger.rows
            if self._happens(0.7):
                self._be_cut_short()
            self._die()
            if self._image is not None and self._happens(0.2):
                self._roll_back(*self._image)
            self._open(cut_at=self.randomness.randint(1, 30) if self._happens(0.3) else None)

    def _happens(self, share: float) -> bool:
        return self.randomness.random() < share

    # What it does.

    def _act(self) -> None:
        roll = self.randomness.random()
        if roll < 0.5:
            size = self.randomness.choice((10, 3_000, 12_000)) if self._happens(0.95) else PART_BYTES_MAX + 9
            self._submission = str(next(self._texts)), self.randomness.randbytes(size)
            self.device.submit(*self._submission)
        elif roll < 0.75:
            self._exchange()
        elif roll < 0.95:
            self._receive()
        else:
            self.device.stop()
            self._start()
            self.reached["orderly stop"] += 1

    def _exchange(self) -> None:
        self.device.now += MINUTE
        waiting = self.device.tick() if self._link_is_up else self.device.link_up()
        self._link_is_up = True
        for send in waiting:
            if self._happens(0.8):
                self.center.take(send.data)
            if self._happens(0.8):
                self.device.settle(send)

    def _receive(self) -> None:
        if not self._link_is_up:
            self._exchange()
        if self._happens(0.6):
            self.center.watermark = self.center.clock
        ledger = self.device.ledger
        ledger.receipt_marks, ledger.receipt_watermark = dict(self.center.commits), self.center.watermark
        self.device.receive(self.center.receipt())
        self.reached["purged"] += any(row.data is None for row in ledger.rows.values())

    # What happens to it.

    def _be_cut_short(self) -> None:
        disk = self.device.lossy_disk
        disk.cut_at(1 + int(self.randomness.expovariate(1 / _MIDDLE_CALLS_BEFORE_CUT)))
        with suppress(PowerCut):
            for _ in range(8):
                self._act()
        if disk.is_dead:
            interrupted = self.device.ledger.interrupted
            self.reached["cut while stopping" if interrupted is None else f"cut in {type(interrupted).__name__}"] += 1

    def _meet_error(self) -> None:
        """Let the disk fail for a while, and sometimes the daemon end over it."""
        device, disk = self.device, self.device.lossy_disk
        error, ends = self.randomness.choice(list(DiskError)), self._happens(0.5)
        disk.fail_at(
            1 + int(self.randomness.expovariate(1 / _MIDDLE_CALLS_BEFORE_CUT)), error, lasting=self._happens(0.5)
        )
        try:
            for _ in range(3):
                self._act()
        except StoreFault:
            self.reached[f"fault by {error.name}"] += 1
            if not isinstance(device.ledger.interrupted, Submitted):
                self._link_is_up = False
        if ends and device.store is not None:
            device.stop()
        disk.fail_at(None, error)
        if device.store is None:
            self.reached["ended on an error"] += 1
            self._start()
        else:
            device.ledger.check(device.queue())
            device.ledger.rows = device.queue()

    def _die(self) -> None:
        self.calls += self.device.lossy_disk.calls
        self.device.power_cut(self.randomness)
        self.cuts += 1

    def _roll_back(self, files: dict[Path, bytes], rows: dict[int, Row]) -> None:
        """Put the queue back to an older state; the mirror stays."""
        disk, device = self.device.lossy_disk, self.device
        names = (disk.image().keys() | files.keys()) - {FOLDER / MIRROR_FILE_NAME, FOLDER / LOCK_FILE_NAME}
        disk.put_back({path: files.get(path) for path in names})
        # What only the lost files had is beyond what a device can promise.
        device.ledger.rows, device.ledger.interrupted = rows, None
        device.ledger.was_rolled_back = device.may_begin_epoch = True
        self.reached["rolled back"] += 1

    def _open(self, *, cut_at: int | None) -> None:
        """Start, with further cuts on the way."""
        while cut_at is not None:
            self.device.lossy_disk.cut_at(cut_at)
            try:
                self._start()
            except PowerCut:
                self.reached["cut while opening"] += 1
                self._die()
                cut_at = self.randomness.randint(1, 30) if self._happens(0.4) else None
            else:
                self.device.lossy_disk.cut_at(None)
                return
        self._start()

    def _start(self) -> None:
        self._link_is_up = False
        was_submitting = isinstance(self.device.ledger.interrupted, Submitted)
        added = self.device.start_and_check()
        if was_submitting and self._happens(0.5):
            self.reached["submitted again"] += 1
            answer = self.device.submit(*self._submission)
            if answer.repeated != (added > 0):
                raise Violation(
                    f"submitted again after a cut: {added} envelopes were there, and the answer is {answer}"
                )
