"""Visits to media: what is read, left, tidied up and said, on media that are good, full, read-only, hostile."""

import errno
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path

import pytest

from edge_agent.usb_watch import visit as visit_module
from edge_agent.usb_watch import volume as volume_module
from edge_agent.usb_watch.actions import Ending, MountAgain, PowerOff, Unmount
from sync_protocol.bundle import Frame, FrameType, write_bundle
from sync_protocol.identity import Role, Standing
from sync_protocol.keys import SigningKey
from sync_protocol.medium import MEDIUM_FILE, MEDIUM_FOLDER, certify_medium
from sync_protocol.statement import RECEIPT
from tests.support.center import seed
from tests.support.device import DAY, NOW, Authority, Device, envelopes_in, memory_folder
from tests.support.district import District, carried, data_of, fill, foreign_receipt
from tests.support.medium_visit import MEDIUM, Walk, enrolled_medium, ids_on
from tests.support.memory_medium import File, MemoryMedium

AUTHORITY = Authority()


@pytest.fixture
def folder() -> Iterator[Path]:
    with memory_folder() as folder:
        yield folder


@pytest.fixture
def tablet(folder: Path) -> Iterator[Device]:
    device = Device(folder / "tablet", AUTHORITY, name="tablet").start()
    yield device
    device.stop()


@pytest.fixture
def laptop(folder: Path) -> Iterator[Device]:
    device = Device(folder / "laptop", AUTHORITY, name="laptop", role=Role.COLLECTION_POINT).start()
    yield device
    device.stop()


def test_a_tablet_leaves_everything_that_no_receipt_lists_and_checks_it(tablet: Device) -> None:
    fill(tablet, 40, 500)
    medium = enrolled_medium(AUTHORITY)
    walk = Walk(tablet, medium)
    outcome = walk.visit()
    assert outcome.ending is Ending.SAFE and outcome.medium is not None and outcome.medium.number == "17"
    assert ids_on(medium) == set(tablet.envelope_ids())
    assert outcome.progress.envelopes_written == 40
    assert outcome.progress.files_checked == outcome.progress.files_written > 0
    assert [type(action) for action in walk.actions if isinstance(action, Unmount | MountAgain | PowerOff)] == [
        Unmount,
        MountAgain,
        Unmount,
        PowerOff,
    ]
    assert not walk.is_mounted


def test_a_second_visit_leaves_only_what_is_new(tablet: Device) -> None:
    fill(tablet, 5)
    medium = enrolled_medium(AUTHORITY)
    Walk(tablet, medium).visit(1)
    fill(tablet, 2)
    outcome = Walk(tablet, medium).visit(2)
    assert outcome.ending is Ending.SAFE and outcome.progress.envelopes_written == 2
    assert ids_on(medium) == set(tablet.envelope_ids())


def test_a_medium_brings_a_tablets_envelopes_to_the_center_and_the_receipt_back_and_is_empty_again(
    tablet: Device, laptop: Device
) -> None:
    district = District(tablet, laptop)
    fill(tablet, 7)
    medium = enrolled_medium(AUTHORITY)
    assert Walk(tablet, medium).visit(1).ending is Ending.SAFE
    district.mailbox(laptop)

    def receipts_come() -> None:
        district.run()
        district.census.back_up()
        district.publish(tablet.id)

    outcome = Walk(laptop, medium, waiting=receipts_come, step=district.step).visit(2)
    assert outcome.ending is Ending.SAFE and outcome.progress.envelopes_read == 7
    assert len(district.census.centers[tablet.id].questionnaires()) == 7
    outcome = Walk(tablet, medium).visit(3)
    assert outcome.ending is Ending.SAFE
    assert len(tablet.rows("id", "own = 1 AND data IS NULL")) == 7, "marked and purged by the receipt on the stick"
    assert ids_on(medium) == frozenset(), "nothing of it is needed on the stick any more"
    assert carried(laptop) == 0


def test_files_of_another_device_are_never_touched(tablet: Device, laptop: Device) -> None:
    fill(laptop, 3)
    medium = enrolled_medium(AUTHORITY)
    Walk(laptop, medium).visit(1)
    others = {path: file.data for path, file in medium.files.items() if laptop.id.hex() in path}
    fill(tablet, 3)
    for number in (2, 3):
        Walk(tablet, medium).visit(number)
    assert {path: file.data for path, file in medium.files.items() if laptop.id.hex() in path} == others


@pytest.mark.parametrize("case", ["no identity", "garbage", "another authority", "revoked", "expired"])
def test_a_medium_that_is_not_ours_is_left_as_it_is(tablet: Device, case: str) -> None:
    fill(tablet, 2)
    medium = enrolled_medium(
        AUTHORITY,
        standing=Standing.LOST if case == "revoked" else Standing.ACTIVE,
        expires_at=5 if case == "expired" else 0,
        issuer=SigningKey(seed("a stranger")) if case == "another authority" else None,
    )
    identity = medium.files[MEDIUM_FOLDER, "MEDIUM.CNS"]
    if case == "no identity":
        del medium.files[MEDIUM_FOLDER, "MEDIUM.CNS"]
    elif case == "garbage":
        identity.data = b"garbage" * 100
    elif case == "expired":
        tablet.link_up()
        tablet.receive(foreign_receipt(tablet, serial=1))
    medium.unmount()
    before = dict(medium.durable)
    walk = Walk(tablet, medium)
    outcome = walk.visit()
    assert outcome.ending is Ending.LEFT_ALONE and outcome.detail
    assert medium.durable == before and not walk.is_mounted


def test_a_medium_that_was_called_in_meanwhile_is_left_alone_whatever_it_says_of_itself(tablet: Device) -> None:
    fill(tablet, 2)
    medium = enrolled_medium(AUTHORITY)
    lost = certify_medium(
        AUTHORITY.issuer,
        medium=MEDIUM,
        number="17",
        holder="Serik Omarov",
        standing=Standing.LOST,
        issued_at=NOW + 1,
        expires_at=0,
        serial=NOW + 1,
    )
    tablet.link_up()
    tablet.receive(lost)
    outcome = Walk(tablet, medium).visit()
    assert (outcome.ending, outcome.detail) == (Ending.LEFT_ALONE, "it was called in")
    assert ids_on(medium) == frozenset()


def test_a_medium_with_more_envelopes_than_are_kept_in_mind_is_read_and_costs_no_more_memory(
    tablet: Device, laptop: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tablet, 30, 3000)
    medium = enrolled_medium(AUTHORITY)
    assert Walk(tablet, medium).visit(1).progress.files_written > 1
    monkeypatch.setattr(visit_module, "ENVELOPES_MAX", 12)
    outcome = Walk(laptop, medium).visit(2)
    assert outcome.ending is Ending.SAFE and "kept in mind" in outcome.detail
    assert carried(laptop) == 30
    before = {path for path in medium.files if tablet.id.hex() in path}
    assert Walk(tablet, medium).visit(3).ending is Ending.SAFE
    assert before <= medium.files.keys(), "what was not looked at is not taken away"
    assert ids_on(medium) == set(tablet.envelope_ids())


def test_a_full_medium_gets_receipts_first_then_what_fits_and_the_rest_later(tablet: Device, laptop: Device) -> None:
    fill(tablet, 120, 3000)
    medium = enrolled_medium(AUTHORITY, capacity_bytes=512 * 1024)
    outcome = Walk(tablet, medium).visit(1)
    assert outcome.ending is Ending.FULL
    assert 0 < len(ids_on(medium)) < 120
    assert Walk(laptop, medium).visit(2).ending in (Ending.SAFE, Ending.FULL)
    assert carried(laptop) == len(ids_on(medium) & set(tablet.envelope_ids()))


def test_a_full_medium_is_cleared_of_what_was_receipted_to_make_room(tablet: Device) -> None:
    fill(tablet, 40, 3000)
    medium = enrolled_medium(AUTHORITY, capacity_bytes=480 * 1024)
    Walk(tablet, medium).visit(1)
    assert len(ids_on(medium)) == 40
    district = District(tablet)
    mailbox = district.mailbox(tablet)
    district.run()
    district.part(mailbox)
    fill(tablet, 30, 3000)
    outcome = Walk(tablet, medium).visit(2)
    assert outcome.ending is Ending.SAFE and outcome.progress.files_removed > 0
    assert ids_on(medium) == set(tablet.envelope_ids()[40:])


def test_a_read_only_medium_is_read_and_nothing_is_said_to_be_left(tablet: Device, laptop: Device) -> None:
    fill(tablet, 3)
    fill(laptop, 2)
    medium = enrolled_medium(AUTHORITY)
    Walk(tablet, medium).visit(1)
    medium.is_read_only = True
    outcome = Walk(laptop, medium).visit(2)
    assert outcome.ending is Ending.READ_ONLY and outcome.progress.envelopes_written == 0
    assert carried(laptop) == 3
    other = enrolled_medium(AUTHORITY)
    assert Walk(laptop, other).visit(3).progress.envelopes_written == 2


def test_damaged_files_are_salvaged_and_named(tablet: Device, laptop: Device) -> None:
    fill(tablet, 6, 300)
    medium = enrolled_medium(AUTHORITY)
    Walk(tablet, medium).visit(1)
    [path] = [path for path in medium.files if len(path) == 3]
    data = bytearray(medium.files[path].data)
    data[len(data) // 2] ^= 0xFF
    medium.files[path].data = bytes(data)
    outcome = Walk(laptop, medium).visit(2)
    assert [file.name for file in outcome.progress.damaged] == [path[-1]]
    assert carried(laptop) == 5
    assert Walk(tablet, medium).visit(3).progress.envelopes_written == 1, "what is not there any more is left anew"


def test_what_matches_no_pattern_is_counted_and_left_alone(tablet: Device) -> None:
    fill(tablet, 1)
    medium = enrolled_medium(AUTHORITY)
    strange = {
        ("holiday.jpg",): File(b"x"),
        (MEDIUM_FOLDER, "README"): File(b"x"),
        (MEDIUM_FOLDER, "f" * 32): File(is_folder=True),
        (MEDIUM_FOLDER, "f" * 32, "0" * 16 + "-00000.CNS.exe"): File(b"x"),
        (MEDIUM_FOLDER, "f" * 32, "0" * 16 + "-00000.CNS"): File(is_folder=True),
        (MEDIUM_FOLDER, "e" * 32): File(b"no folder"),
    }
    medium.files.update(strange)
    outcome = Walk(tablet, medium).visit()
    assert outcome.ending is Ending.SAFE
    assert outcome.progress.foreign_names == 2 and len(outcome.progress.damaged) == 1
    assert all(medium.files[path] is file for path, file in strange.items())


def test_own_envelopes_that_the_queue_does_not_know_stay_on_the_medium_and_begin_an_epoch(tablet: Device) -> None:
    fill(tablet, 3)
    medium = enrolled_medium(AUTHORITY)
    Walk(tablet, medium).visit(1)
    before = ids_on(medium)
    tablet.stop()
    for path in tablet.directory.iterdir():
        path.unlink()
    tablet.start()
    fill(tablet, 2, 30)
    outcome = Walk(tablet, medium).visit(2)
    assert outcome.ending is Ending.SAFE
    assert ids_on(medium) > before, "they may be the only copies"
    assert tablet.notices("epoch_started")


def test_a_forged_file_in_ones_own_folder_changes_nothing(tablet: Device, laptop: Device) -> None:
    fill(tablet, 2)
    fill(laptop, 2)
    medium = enrolled_medium(AUTHORITY)
    home = (MEDIUM_FOLDER, tablet.id.hex())
    medium.files[home] = File(is_folder=True)
    [forged, _] = [bytearray(frame.payload) for frame in data_of(laptop, 1, 2)]
    forged[-1] ^= 1
    medium.files[*home, "0" * 16 + "-00000.CNS"] = File(write_bundle([Frame(FrameType.ENVELOPE, bytes(forged))]))
    outcome = Walk(tablet, medium).visit()
    assert outcome.ending is Ending.SAFE
    assert set(tablet.envelope_ids()) <= ids_on(medium)
    assert envelopes_in([]) == [] and outcome.medium is not None and outcome.medium.medium == MEDIUM


def test_a_medium_that_has_not_got_what_it_took_is_never_called_safe(tablet: Device) -> None:
    fill(tablet, 3)
    medium = enrolled_medium(AUTHORITY)
    medium.forgets = (MEDIUM_FOLDER, tablet.id.hex())
    walk = Walk(tablet, medium)
    outcome = walk.visit(1)
    assert outcome.ending is Ending.UNREADABLE and "as it was written" in outcome.detail
    assert not walk.is_mounted
    assert Walk(tablet, enrolled_medium(AUTHORITY)).visit(2).progress.envelopes_written == 3
    medium.forgets = None
    assert Walk(tablet, medium).visit(3).progress.envelopes_written == 3


def seen_as_left(device: Device, medium: MemoryMedium, number: int) -> bool | None:
    outcome = Walk(device, medium).visit(number)
    assert outcome.ending is Ending.SAFE
    return outcome.progress.is_as_left


def test_a_medium_is_known_by_what_was_left_on_it_and_a_copy_or_an_older_state_is_told(tablet: Device) -> None:
    fill(tablet, 2)
    medium = enrolled_medium(AUTHORITY)
    assert seen_as_left(tablet, medium, 1) is None, "never met before"
    assert seen_as_left(tablet, medium, 2) is True
    copy = deepcopy(medium)
    fill(tablet, 1)
    assert seen_as_left(tablet, medium, 3) is True
    assert seen_as_left(tablet, copy, 4) is False
    assert ids_on(copy) == set(tablet.envelope_ids()), "it is served all the same"
    assert seen_as_left(tablet, copy, 5) is True
    assert seen_as_left(tablet, medium, 6) is False, "there are two of them"


def test_what_receipts_had_taken_away_is_no_change_and_files_that_somebody_deleted_are(tablet: Device) -> None:
    district = District(tablet)
    fill(tablet, 2)
    medium = enrolled_medium(AUTHORITY)
    assert seen_as_left(tablet, medium, 1) is None
    district.mailbox(tablet)
    district.run()
    district.publish(tablet.id)
    assert seen_as_left(tablet, medium, 2) is True
    fill(tablet, 1)
    assert seen_as_left(tablet, medium, 3) is True
    names = [path for path in medium.files if len(path) == 3]
    assert names
    for path in names:
        del medium.files[path], medium.durable[path]
    assert seen_as_left(tablet, medium, 4) is False


def test_after_a_visit_that_was_cut_short_nothing_is_claimed(tablet: Device) -> None:
    fill(tablet, 2)
    medium = enrolled_medium(AUTHORITY)
    assert seen_as_left(tablet, medium, 1) is None
    fill(tablet, 2)
    medium.calls, medium.trouble_at = 0, 30
    assert not Walk(tablet, medium).visit(2).ending.is_safe
    medium.pull()
    assert seen_as_left(tablet, medium, 3) is None
    assert seen_as_left(tablet, medium, 4) is True


def test_nothing_is_claimed_of_a_medium_that_has_more_than_is_looked_at(
    tablet: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tablet, 2)
    medium = enrolled_medium(AUTHORITY)
    assert seen_as_left(tablet, medium, 1) is None
    monkeypatch.setattr(volume_module, "ENTRIES_MAX", 3)
    assert seen_as_left(tablet, medium, 2) is None
    monkeypatch.undo()
    assert seen_as_left(tablet, medium, 3) is None


def test_a_medium_that_has_no_end_is_read_up_to_a_bound_and_served_own_files_first(
    tablet: Device, laptop: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(laptop, 8, 3000)
    fill(tablet, 3)
    medium = enrolled_medium(AUTHORITY)
    assert Walk(tablet, medium).visit(1).ending is Ending.SAFE
    assert Walk(laptop, medium).visit(2).ending is Ending.SAFE
    monkeypatch.setattr(visit_module, "READ_BYTES_MAX", 1000)
    outcome = Walk(tablet, medium).visit(3)
    assert (outcome.ending, outcome.progress.files_read) == (Ending.SAFE, 1)
    assert "more on it" in outcome.detail
    assert outcome.progress.envelopes_written == 0, "its own were found, and are not left again"


def test_what_lies_on_a_medium_that_was_called_in_is_taken_over_and_the_medium_stays_as_it_is(
    tablet: Device, laptop: Device
) -> None:
    fill(tablet, 2)
    medium = enrolled_medium(AUTHORITY)
    assert Walk(tablet, medium).visit(1).ending is Ending.SAFE
    lost = enrolled_medium(AUTHORITY, standing=Standing.LOST)
    medium.files[MEDIUM_FOLDER, MEDIUM_FILE] = lost.files[MEDIUM_FOLDER, MEDIUM_FILE]
    medium.unmount()
    fill(laptop, 1)
    before = dict(medium.durable)
    outcome = Walk(laptop, medium).visit(2)
    assert (outcome.ending, outcome.progress.envelopes_read) == (Ending.LEFT_ALONE, 2)
    assert carried(laptop) == 2
    assert medium.durable == before


def test_own_files_are_found_among_names_without_end(tablet: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tablet, 3)
    medium = enrolled_medium(AUTHORITY)
    assert Walk(tablet, medium).visit(1).ending is Ending.SAFE
    for number in range(100):
        medium.files[MEDIUM_FOLDER, f"{number:032x}"] = File(is_folder=True)
    monkeypatch.setattr(volume_module, "ENTRIES_MAX", 50)
    outcome = Walk(tablet, medium).visit(2)
    assert (outcome.ending, outcome.progress.envelopes_read, outcome.progress.envelopes_written) == (Ending.SAFE, 3, 0)


@pytest.mark.parametrize("by_link", [False, True])
def test_a_medium_that_is_called_in_while_it_is_visited_is_not_written_to(
    tablet: Device, laptop: Device, by_link: bool
) -> None:
    fill(tablet, 2)
    medium = enrolled_medium(AUTHORITY)
    assert Walk(tablet, medium).visit(1).ending is Ending.SAFE
    fill(laptop, 2)
    lost = certify_medium(
        AUTHORITY.issuer,
        medium=MEDIUM,
        number="17",
        holder="Serik Omarov",
        standing=Standing.LOST,
        issued_at=NOW + 1,
        expires_at=0,
        serial=NOW + 1,
    )
    laptop.link_up()
    if not by_link:
        frames = [Frame(FrameType.STATEMENT, lost.data)]
        (folder,) = [path for path in medium.files if len(path) == 2 and path[-1] != MEDIUM_FILE]
        medium.files[*folder, f"{7:016x}-00000.CNS"] = File(write_bundle(frames))
        medium.unmount()
    before = dict(medium.durable)

    def word_comes() -> None:
        if by_link:
            laptop.receive(lost)

    outcome = Walk(laptop, medium, waiting=word_comes).visit(2)
    assert (outcome.ending, outcome.detail) == (Ending.LEFT_ALONE, "it was called in")
    assert outcome.progress.envelopes_read == 2 and carried(laptop) == 2, "what was read was taken over"
    assert medium.durable == before


@pytest.mark.parametrize(("bad", "ending"), [(20, Ending.SAFE), (21, Ending.UNREADABLE)])
def test_a_medium_that_fails_file_after_file_is_given_up(tablet: Device, bad: int, ending: Ending) -> None:
    medium = enrolled_medium(AUTHORITY)
    medium.files[MEDIUM_FOLDER, "0" * 32] = File(is_folder=True)
    names = [f"ff{number:014x}-00000.CNS" for number in range(bad)]
    for name in names:
        medium.files[MEDIUM_FOLDER, "0" * 32, name] = File(b"x")
    read = medium.read

    def failing(descriptor: int, size: int) -> bytes:
        if medium.opened_path(descriptor)[-1] in names:
            raise OSError(errno.EIO, "Input/output error")
        return read(descriptor, size)

    medium.read = failing  # type: ignore[method-assign]  # a medium of which some places are worn
    outcome = Walk(tablet, medium).visit(1)
    assert (outcome.ending, len(outcome.progress.damaged)) == (ending, 20)


def test_any_number_of_things_that_are_no_files_ends_no_visit(tablet: Device) -> None:
    fill(tablet, 1)
    medium = enrolled_medium(AUTHORITY)
    medium.files[MEDIUM_FOLDER, "0" * 32] = File(is_folder=True)
    for number in range(50):
        medium.files[MEDIUM_FOLDER, "0" * 32, f"{number:016x}-00000.CNS"] = File(is_folder=True)
    outcome = Walk(tablet, medium).visit(1)
    assert (outcome.ending, len(outcome.progress.damaged)) == (Ending.SAFE, 50)


def test_a_stick_with_month_old_receipts_takes_no_mark_back_and_carries_the_newest_on(
    tablet: Device, laptop: Device
) -> None:
    district = District(tablet, laptop)
    fill(tablet, 4)
    medium, old = enrolled_medium(AUTHORITY), enrolled_medium(AUTHORITY, name=b"o" * 16)
    district.mailbox(laptop)

    def receipts_come() -> None:
        district.run()
        district.publish(tablet.id)

    for number, stick in enumerate((medium, old)):
        assert Walk(tablet, stick).visit(10 * number + 1).ending is Ending.SAFE
        assert Walk(laptop, stick, receipts_come, step=district.step).visit(10 * number + 2).ending is Ending.SAFE
        fill(tablet, 2)
    district.census.back_up()
    assert Walk(laptop, medium, receipts_come, step=district.step).visit(21).ending is Ending.SAFE
    assert Walk(tablet, medium).visit(22).ending is Ending.SAFE
    before = [tablet.rows("id, status, committed_at, data IS NULL", "own = 1")]
    newest = tablet.stepper.ask(lambda queue: queue.statement(RECEIPT, tablet.id))
    tablet.now += 30 * DAY
    outcome = Walk(tablet, old).visit(23)
    assert outcome.ending is Ending.SAFE
    assert [tablet.rows("id, status, committed_at, data IS NULL", "own = 1")] == before
    assert tablet.stepper.ask(lambda queue: queue.statement(RECEIPT, tablet.id)) == newest
    assert newest is not None
    assert any(newest in data for data in old.durable.values() if data), "whoever reads it next hears of the newest"
