"""Stories of the way to the center and back: cuts, brokers that forget, consumers that die, databases that go back."""

from random import Random

import pytest

from sync_protocol.limits import PART_BYTES_MAX
from tests.simulator.device import STEP_FAULTS
from tests.simulator.faults import Fault
from tests.simulator.scenario import Story


def test_a_normal_day() -> None:
    with Story() as story:
        story.enrols("Aigul", "Bolat")
        story.fills("Aigul", 3)
        story.fills("Bolat", 2)
        story.opens_vpn("Aigul", "Bolat")
        story.passes(hours=1)
        story.database_has(5)
        assert (story.marked("Aigul"), story.purged("Aigul")) == (3, 0)
        story.backs_up()
        assert (story.purged("Aigul"), story.purged("Bolat")) == (3, 2)
        assert story.told("Aigul", "committed") == story.told("Aigul", "purged") == 1
        assert [(one.sealed, one.committed) for one in story.completeness("Bolat")] == [(2, 2)]
        story.ends_well()


_STAGES = {"accepting": "accepted", "sending": "sent", "marking": "committed", "purging": "purged"}


def _small_life(story: Story) -> None:
    story.enrols("Aigul")
    story.opens_vpn("Aigul")
    story.passes(minutes=1)
    story.fills("Aigul", 2)
    story.passes(hours=1)
    story.backs_up()
    story.passes(hours=1)


@pytest.mark.parametrize("fault", STEP_FAULTS, ids=lambda fault: fault.name.lower())
@pytest.mark.parametrize("stage", _STAGES)
def test_a_fault_while(stage: str, fault: Fault) -> None:
    with Story() as rehearsal:
        _small_life(rehearsal)
        step = rehearsal.step_that_told("Aigul", _STAGES[stage])
        assert step > 0
    with Story() as story:
        story.strikes("Aigul", fault, step=step)
        _small_life(story)
        assert story.world.faults.states[fault, "at all"] == 1
        story.passes(hours=12)
        story.database_has(2)
        assert (story.marked("Aigul"), story.purged("Aigul")) == (2, 2)
        story.ends_well()


def test_the_broker_acknowledges_and_forgets() -> None:
    with Story() as story:
        story.enrols("Aigul")
        story.fills("Aigul", 2)
        story.troubles_broker(forgets=1)
        story.opens_vpn("Aigul")
        story.passes(hours=5)
        story.database_has(0)
        assert story.told("Aigul", "sent") > 2
        assert story.marked("Aigul") == 0
        story.troubles_broker()
        story.passes(hours=7)
        story.database_has(2)
        assert story.marked("Aigul") == 2
        story.ends_well()


def test_a_broker_that_refuses_for_hours_keeps_no_device_awake() -> None:
    """Found by a story of torn sticks at commit aec6dcf: heads due while the far end rests woke the engine for ever."""
    with Story() as story:
        story.enrols("Aigul")
        story.fills("Aigul", 2)
        story.troubles_broker(refuses=1)
        story.opens_vpn("Aigul")
        story.passes(hours=12)
        assert story.steps("Aigul") < 12 * 60
        story.troubles_broker()
        story.passes(hours=1)
        story.database_has(2)
        story.ends_well()


def test_the_broker_crashes_with_everything_it_had() -> None:
    with Story() as story:
        story.enrols("Aigul")
        story.troubles_broker(slow=1)
        story.fills("Aigul", 2)
        story.opens_vpn("Aigul")
        story.passes(minutes=1)
        story.crashes_broker(down_for_minutes=30)
        story.troubles_broker()
        story.passes(minutes=20)
        story.database_has(0)
        story.passes(hours=1)
        story.database_has(2)
        assert story.told("Aigul", "resending") == 1
        assert story.marked("Aigul") == 2
        story.ends_well()


@pytest.mark.parametrize("stranded", [0, 1])
def test_a_consumer_dies_between_commit_and_acknowledgement(stranded: int) -> None:
    with Story() as story:
        story.enrols("Aigul")
        story.fills("Aigul", 2)
        story.troubles_center(dies_after_commit=1, stranded=stranded)
        story.opens_vpn("Aigul")
        story.passes(hours=1)
        story.database_has(2)
        assert story.world.faults.states[Fault.CONSUMER_DIES_AFTER_COMMIT, "at all"] >= 1
        assert story.marked("Aigul") == 2
        story.troubles_center()
        story.ends_well()
        story.database_has(2)


def test_a_consumer_dies_before_its_commit_and_the_message_is_lost() -> None:
    with Story() as story:
        story.enrols("Aigul")
        story.fills("Aigul", 2)
        story.troubles_center(dies_before_commit=1, stranded=1)
        story.opens_vpn("Aigul")
        story.passes(minutes=5)
        story.database_has(0)
        story.troubles_center()
        story.passes(hours=1)
        story.database_has(2)
        story.ends_well()


def test_the_answer_to_a_commit_is_lost() -> None:
    with Story() as story:
        story.enrols("Aigul")
        story.fills("Aigul", 2)
        story.troubles_center(answer_lost=1)
        story.opens_vpn("Aigul")
        story.passes(minutes=5)
        assert story.world.faults.states[Fault.COMMIT_ANSWER_LOST, "at all"] > 2
        story.troubles_center()
        story.passes(hours=1)
        story.database_has(2)
        assert story.marked("Aigul") == 2
        story.ends_well()


def test_the_receipt_publisher_dies_between_signing_and_publishing() -> None:
    with Story() as story:
        story.enrols("Aigul")
        story.fills("Aigul", 2)
        story.troubles_center(publisher_dies=1)
        story.opens_vpn("Aigul")
        story.passes(minutes=5)
        story.database_has(2)
        assert story.marked("Aigul") == 0
        story.troubles_center()
        story.passes(minutes=1)
        assert story.marked("Aigul") == 2
        story.ends_well()


def test_the_database_is_down_for_a_day() -> None:
    with Story() as story:
        story.enrols("Aigul")
        story.stops_database()
        story.fills("Aigul", 2)
        story.opens_vpn("Aigul")
        story.passes(days=1)
        assert story.told("Aigul", "sent") > 0
        assert story.marked("Aigul") == 0
        story.starts_database()
        story.passes(minutes=5)
        story.database_has(2)
        assert story.marked("Aigul") == 2
        story.ends_well()


def test_bundles_that_come_twice_and_a_month_late_change_nothing() -> None:
    with Story() as story:
        story.enrols("Aigul")
        story.troubles_broker(duplicates=1, late=1)
        story.fills("Aigul", 3)
        story.opens_vpn("Aigul")
        story.passes(hours=1)
        story.troubles_broker()
        story.backs_up()
        story.passes(days=31)
        story.database_has(3)
        assert story.purged("Aigul") == 3
        story.ends_well()


def test_the_center_is_restored_from_its_newest_backup() -> None:
    with Story() as story:
        story.enrols("Aigul")
        story.opens_vpn("Aigul")
        story.fills("Aigul", 2)
        story.passes(hours=1)
        story.backs_up()
        story.fills("Aigul", 2)
        story.passes(hours=1)
        before = [row.committed_at for row in story.own("Aigul")]
        assert (story.marked("Aigul"), story.purged("Aigul")) == (4, 2)
        story.restores()
        story.database_has(2)
        story.passes(hours=1)
        assert story.told("Aigul", "commit_withdrawn") == 1
        assert story.told("Aigul", "purged_but_unlisted") == 0
        story.database_has(4)
        after = [row.committed_at for row in story.own("Aigul")]
        assert after[:2] == before[:2]
        assert not set(after[2:]) & {None, *before}
        story.ends_well()


def test_the_center_is_restored_from_a_backup_that_was_made_but_not_recorded() -> None:
    with Story() as story:
        story.enrols("Aigul")
        story.opens_vpn("Aigul")
        story.fills("Aigul")
        story.passes(hours=1)
        story.backs_up()
        story.fills("Aigul")
        story.passes(hours=1)
        story.backs_up(recorded=False)
        story.fills("Aigul")
        story.passes(hours=1)
        assert (story.marked("Aigul"), story.purged("Aigul")) == (3, 1)
        story.restores(later=True)
        story.database_has(2)
        story.passes(hours=1)
        story.database_has(3)
        assert story.told("Aigul", "commit_withdrawn") == 1
        story.ends_well()


def test_an_older_backup_than_the_newest_loses_what_was_purged_and_the_loss_has_names() -> None:
    with Story() as story:
        story.enrols("Aigul")
        story.opens_vpn("Aigul")
        story.fills("Aigul")
        story.passes(hours=1)
        story.backs_up()
        story.fills("Aigul", 2)
        story.passes(hours=1)
        story.backs_up()
        story.fills("Aigul")
        story.passes(hours=1)
        assert (story.marked("Aigul"), story.purged("Aigul")) == (4, 3)
        story.restores(backups_ago=1)
        story.passes(hours=1)
        story.database_has(2)
        assert story.told("Aigul", "purged_but_unlisted") > 0
        assert story.missing("Aigul") == [(1, 2, 3)]
        story.ends_well()
        assert story.missing("Aigul") == [(1, 2, 3)]


def _with_photograph(parts: float) -> bytes:
    """A questionnaire that hardly gets smaller, in so many parts."""
    size = int(parts * PART_BYTES_MAX)
    return b'{"photograph":"' + Random(1).randbytes(size // 2).hex().encode() + b'"}'


def test_a_questionnaire_of_three_parts_across_a_restart_and_a_restore() -> None:
    with Story() as story:
        story.enrols("Aigul", "Bolat")
        story.opens_vpn("Aigul", "Bolat")
        story.fills("Bolat")
        story.passes(minutes=1)
        story.backs_up()
        story.strikes("Aigul", Fault.CUT_AFTER_COMMIT, step=3)
        story.fills("Aigul", body=_with_photograph(2.5))
        story.passes(hours=1)
        assert len(story.own("Aigul")) == story.marked("Aigul") == 3
        assert story.world.faults.states[Fault.CUT_AFTER_COMMIT, "envelopes wait"] == 1
        story.database_has(2)
        story.restores()
        story.database_has(1)
        story.cuts_power("Aigul")
        story.passes(hours=1)
        story.database_has(2)
        assert story.marked("Aigul") == 3
        story.ends_well()


def test_a_backup_with_the_first_part_only_is_restored() -> None:
    with Story() as story:
        story.enrols("Aigul")
        story.fills("Aigul", body=_with_photograph(1.5))
        first, second = (row.id for row in story.own("Aigul"))
        story.opens_vpn("Aigul")
        while first not in story.world.oracle.database:
            story.passes(minutes=0.001)
        assert second not in story.world.oracle.database
        story.backs_up()
        story.passes(hours=1)
        story.database_has(1)
        story.restores()
        story.database_has(0)
        story.passes(hours=1)
        story.database_has(1)
        assert story.marked("Aigul") == 2
        story.ends_well()
