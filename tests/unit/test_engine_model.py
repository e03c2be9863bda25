"""Random lives of a device and its center: clocks jump, links break, files roll back, receipts come twice or late.

Whatever happened, once everything works again the center has every accepted questionnaire exactly once, and the
device never gave one place of its chain to two envelopes, nor purged what the center could lose.
"""

import shutil
from contextlib import ExitStack
from dataclasses import dataclass

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from edge_agent.engine.effects import Send
from edge_agent.queue.mirror import MIRROR_FILE_NAME
from sync_protocol.bundle import Frame, FrameType
from sync_protocol.limits import PART_BYTES_MAX
from sync_protocol.statement import Statement
from tests.support.device import DAY, HOUR, MINUTE, NOW, Authority, Center, Device, envelopes_in, memory_folder

AUTHORITY = Authority()
CLOCKS = st.sampled_from([5_000_000, NOW - DAY, NOW, NOW + DAY, NOW + 11 * 365 * DAY])


@dataclass(frozen=True)
class Copy:
    """A copy of the device's files, and what had been accepted when it was made."""

    name: str
    accepted: frozenset[str]


class Lives(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.stack = ExitStack()
        self.folder = self.stack.enter_context(memory_folder())
        self.device = Device(self.folder / "queue", AUTHORITY).start()
        self.center = Center(self.device)
        self.backup = self.center.back_up()
        self.is_up = False
        self.wire: list[Send] = []
        self.mail: list[Statement] = []
        self.accepted: set[str] = set()
        self.excused: set[str] = set()
        self.copies: list[Copy] = []
        self.given: dict[tuple[int, int], bytes] = {}
        self.rolled_back_wholly = False
        self.submitted = 0

    def teardown(self) -> None:
        try:
            if hasattr(self, "device"):
                self.heal()
        finally:
            if hasattr(self, "device"):
                self.device.stop()
                self.stack.close()

    def out(self, waiting: list[Send]) -> None:
        """Note what leaves the device: here a sequence given twice would show."""
        for envelope in envelopes_in(waiting):
            before = self.given.setdefault((envelope.epoch, envelope.sequence), envelope.id)
            assert before == envelope.id or self.rolled_back_wholly, "one place of the chain for two envelopes"
        self.wire += waiting

    def up(self, *, remembered: bool) -> None:
        self.is_up = True
        self.out(self.device.link_up(window=3, bytes_max=16_384, remembered=remembered))

    # The field.

    @rule(large=st.booleans())
    def submit_one(self, large: bool) -> None:
        self.submit(large=large)

    def submit(self, *, large: bool) -> None:
        self.submitted += 1
        text = str(self.submitted)
        body = text.encode() * (PART_BYTES_MAX // len(text) + 1) if large else text.encode()
        self.device.submit(text, body)
        self.accepted.add(f"uuid:{text}")

    @rule(clock=CLOCKS)
    def set_clock(self, clock: int) -> None:
        self.device.now = clock

    @rule(microseconds=st.sampled_from([0, MINUTE, HOUR, 7 * HOUR]))
    def pass_time(self, microseconds: int) -> None:
        self.out(self.device.tick(microseconds))

    # The way.

    @precondition(lambda self: not self.is_up)
    @rule(remembered=st.booleans())
    def come_up(self, remembered: bool) -> None:
        self.up(remembered=remembered)

    @precondition(lambda self: self.is_up)
    @rule()
    def go_down(self) -> None:
        self.device.link_down()
        self.is_up = False

    @precondition(lambda self: self.wire)
    @rule(data=st.data(), arrives=st.booleans(), answer=st.sampled_from([True, False, None]), again=st.booleans())
    def carry(self, data: st.DataObject, arrives: bool, answer: bool | None, again: bool) -> None:
        send = self.wire.pop(data.draw(st.integers(0, len(self.wire) - 1)))
        if arrives:
            self.center.take(send.data)
        if again:
            self.wire.append(send)
        if answer is not None:
            self.out(self.device.settle(send, taken=answer))

    @rule(answers=st.booleans())
    def exchange(self, answers: bool) -> None:
        self.work_well(answers=answers)

    def work_well(self, *, answers: bool) -> None:
        """Let one whole exchange succeed, with or without the receipt: deep states are made of these."""
        if not self.is_up:
            self.up(remembered=True)
        self.out(self.device.tick())
        while self.wire:
            send = self.wire.pop(0)
            self.center.take(send.data)
            self.out(self.device.settle(send))
        if answers:
            self.mail.append(self.center.receipt())
            self.out([one for one in self.device.receive(self.mail[-1]) if isinstance(one, Send)])

    # The center.

    @rule()
    def sign_receipt(self) -> None:
        self.mail.append(self.center.receipt())

    @precondition(lambda self: self.is_up and self.mail)
    @rule(data=st.data())
    def bring_receipt(self, data: st.DataObject) -> None:
        effects = self.device.receive(data.draw(st.sampled_from(self.mail)))
        self.out([effect for effect in effects if isinstance(effect, Send)])

    @rule()
    def back_up(self) -> None:
        self.backup = self.center.back_up()

    @rule()
    def restore(self) -> None:
        self.center = self.center.restored(self.backup)

    @precondition(lambda self: self.is_up and self.center.envelopes)
    @rule(data=st.data())
    def bring_own_envelope_back(self, data: st.DataObject) -> None:
        envelope = data.draw(st.sampled_from(sorted(self.center.envelopes.values(), key=lambda one: one.id)))
        effects = self.device.receive(Frame(FrameType.ENVELOPE, envelope.data))
        self.out([effect for effect in effects if isinstance(effect, Send)])

    # The tablet.

    @rule(without_mirror=st.booleans())
    def restart(self, without_mirror: bool) -> None:
        """End and start the process; its files are copied on the way, to be rolled back to later."""
        self.stop()
        copy = Copy(f"copy-{len(self.copies)}", frozenset(self.accepted))
        shutil.copytree(self.device.directory, self.folder / copy.name)
        self.copies.append(copy)
        if without_mirror:
            (self.device.directory / MIRROR_FILE_NAME).unlink()
        self.device.start()

    @precondition(lambda self: self.copies)
    @rule(data=st.data(), wholly=st.sampled_from([False, False, False, True]), goes_on=st.booleans())
    def roll_back(self, data: st.DataObject, wholly: bool, goes_on: bool) -> None:
        copy = data.draw(st.sampled_from(self.copies))
        self.stop()
        mirror = (self.device.directory / MIRROR_FILE_NAME).read_bytes()
        shutil.rmtree(self.device.directory)
        shutil.copytree(self.folder / copy.name, self.device.directory)
        if wholly:
            self.rolled_back_wholly = True
        else:
            (self.device.directory / MIRROR_FILE_NAME).write_bytes(mirror)
        # What only the lost files had is beyond what a device can promise. It may have reached the center, though.
        self.excused |= self.accepted - copy.accepted
        self.accepted = set(copy.accepted)
        self.device.start()
        if goes_on:
            self.submit(large=False)
            self.work_well(answers=False)

    def stop(self) -> None:
        self.device.stop()
        self.is_up = False

    # What must hold.

    @invariant()
    def purged_envelopes_are_in_the_backup(self) -> None:
        if hasattr(self, "device"):
            purged = {row[0] for row in self.device.rows("id", "own = 1 AND data IS NULL")}
            assert purged <= self.backup.envelopes.keys()

    def heal(self) -> None:
        """Let everything work for a while; then the accounts must balance."""
        for _ in range(12):
            if self.is_up:
                self.device.link_down()
            self.device.now += DAY
            self.up(remembered=True)
            waiting, self.wire = self.wire, []
            while waiting:
                send = waiting.pop(0)
                self.center.take(send.data)
                waiting += self.device.settle(send)
            self.device.receive(self.center.receipt())
        arrived = self.center.questionnaires()
        assert len(arrived) == len(set(arrived)), "a questionnaire is in the database twice"
        missing = self.accepted - set(arrived)
        assert not missing, "an accepted questionnaire never arrived"
        assert set(arrived) <= self.accepted | self.excused
        if not self.rolled_back_wholly and not self.excused:
            self.backup = self.center.back_up()
            self.device.receive(self.center.receipt())
            assert self.device.rows("number", "own = 1 AND data IS NOT NULL") == []


TestLives = Lives.TestCase
TestLives.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
