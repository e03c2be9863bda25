"""Each step of the queue, cut and broken at each of its calls to the disk."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from random import Random

import pytest

from edge_agent.engine.store import StoreFault, StoreFull
from tests.simulator.lossy_disk import DiskError, Habits, LossyDisk, PowerCut
from tests.simulator.lossy_life import WatchedDevice
from tests.support.device import Authority, Center

# SQLite overlooks some errors when it closes a file; apsw then tells the interpreter of them.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

AUTHORITY = Authority()


class Scene:
    """A device with three envelopes, two of them with the center, and a fourth state to come."""

    def __init__(self, *, checkpoint_pages: int | None = None, advice_is_taken: bool = True) -> None:
        self.randomness = Random(1)
        habits = Habits(checkpoint_pages=checkpoint_pages, advice_is_taken=advice_is_taken)
        self.device = WatchedDevice(AUTHORITY, LossyDisk(habits), self.randomness)
        self.device.start()
        self.center = Center(self.device)
        for text in ("a", "b"):
            self.device.submit(text, bytes(3_000))
        for send in self.device.link_up():
            self.center.take(send.data)
            self.device.settle(send)
        self.device.submit("c")

    def submit(self) -> None:
        self.device.submit("d", self.randomness.randbytes(5_000))

    def send(self) -> None:
        self.device.link_up()

    def take_receipt_and_purge(self) -> None:
        self.center.watermark = self.center.clock
        self.device.ledger.receipt_marks = dict(self.center.commits)
        self.device.ledger.receipt_watermark = self.center.watermark
        self.device.receive(self.center.receipt())

    def stop(self) -> None:
        self.device.stop()


ACTIONS: list[Callable[[Scene], None]] = [Scene.submit, Scene.send, Scene.take_receipt_and_purge, Scene.stop]
each_action = pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action.__name__)


@each_action
def test_a_step_cut_at_any_call_is_there_whole_or_not_at_all(action: Callable[[Scene], None]) -> None:
    for number in range(1, 1000):
        scene = Scene(checkpoint_pages=None if action is Scene.stop else 12)
        device = scene.device
        device.lossy_disk.cut_at(number)
        try:
            action(scene)
        except PowerCut:
            pass
        else:
            assert number > 5
            device.give_up()
            return
        for _ in range(4):
            next_life = WatchedDevice(AUTHORITY, device.lossy_disk.cut(scene.randomness), scene.randomness)
            next_life.ledger = replace(device.ledger)
            next_life.start_and_check()
            next_life.submit("more")
            next_life.give_up()
        device.give_up()


@dataclass(frozen=True)
class Case:
    """An error at one call of an action, and what the device does then."""

    number: int
    error: DiskError
    lasting: bool
    goes_on: bool


def cases() -> Iterator[Case]:
    for number in range(1, 1000):
        for error in DiskError:
            for lasting in (False, True):
                yield Case(number, error, lasting, goes_on=(number + lasting) % 2 == 0)


@each_action
def test_an_error_at_any_call_is_one_clear_fault_and_costs_nothing_that_was_promised(
    action: Callable[[Scene], None],
) -> None:
    seen = Counter[str]()
    for case in cases():
        scene = Scene(checkpoint_pages=None if action is Scene.stop else 12)
        met = meet_error(scene, action, case, seen)
        scene.device.give_up()
        if not met and case.error is DiskError.BROKEN:
            assert case.number > 5
            break
    if action is not Scene.stop:
        assert seen["fault"] and seen["full"]


def meet_error(scene: Scene, action: Callable[[Scene], None], case: Case, seen: Counter[str]) -> bool:
    """Play one case; return whether there was a call to fail."""
    device, disk = scene.device, scene.device.lossy_disk
    before = device.queue()
    disk.fail_at(case.number, case.error, lasting=case.lasting)
    try:
        action(scene)
    except StoreFull as fault:
        assert case.error is DiskError.FULL and str(fault) == "the disk is full"
        seen["full"] += 1
    except StoreFault as fault:
        assert "cannot be used" in str(fault) or "cannot write the head mirror" in str(fault)
        seen["fault"] += 1
    else:
        before = {}
        seen["nothing"] += 1
    met = disk.errors_met > 0
    disk.fail_at(None, case.error)
    if before and action is Scene.submit:
        assert device.queue() == before, "nothing remains of what was refused"
    if action is Scene.stop:
        device.store = None
    elif case.goes_on:
        device.submit("after")
        device.link_up()
    device.power_cut(scene.randomness)
    device.start_and_check()
    device.submit("later")
    return met


def new() -> WatchedDevice:
    return WatchedDevice(AUTHORITY, LossyDisk(Habits(advice_is_taken=False)), Random(1))


def cut() -> WatchedDevice:
    scene = Scene(advice_is_taken=False)
    scene.device.power_cut(scene.randomness)
    return scene.device


def stopped() -> WatchedDevice:
    scene = Scene(advice_is_taken=False)
    scene.device.stop()
    return scene.device


@pytest.mark.parametrize(("make", "draws"), [(new, 1), (cut, 3), (stopped, 3)])
def test_what_is_accepted_after_a_start_that_the_disk_spoiled_survives_a_cut(
    make: Callable[[], WatchedDevice], draws: int
) -> None:
    """The log that such a start leaves looks whole in memory, and syncs of it succeed; the disk may not have it."""
    for number in range(1, 1000):
        for error in DiskError:
            for draw in range(draws):
                device = make()
                device.lossy_disk.fail_at(number, error, lasting=True)
                try:
                    device.start()
                except StoreFault:
                    device.stop()
                met = device.lossy_disk.errors_met
                device.lossy_disk.fail_at(None, error)
                device.stop()
                device.start_and_check()
                device.submit("accepted on a disk that works")
                device.power_cut(Random(draw))
                device.start_and_check()
                device.give_up()
        if not met:
            assert number > 5
            return


def test_a_mirror_that_was_not_settled_is_not_trusted_by_the_next_process() -> None:
    for seed in range(20):
        scene = Scene()
        device, disk = scene.device, scene.device.lossy_disk
        device.submit("more")
        disk.fail_at(1, DiskError.BROKEN, lasting=True)
        with pytest.raises(StoreFault, match="head mirror"):
            device.mirror.settle()
        device.stop()
        disk.fail_at(None, DiskError.BROKEN)
        device.start_and_check()
        device.link_up()
        device.power_cut(Random(seed))
        device.start_and_check()
        device.give_up()
