"""Stories of tablets: wrong clocks, full disks, rolled back, cloned, destroyed, stolen; of keys, forms and receipts."""

import pytest

from central_broker.storage.batch_records import HeldReason
from sync_protocol.identity import Standing
from tests.simulator.clockwork import SECOND
from tests.simulator.faults import Fault
from tests.simulator.scenario import Story

_YEAR = 365


def test_a_queue_put_back_under_its_mirror_begins_the_next_epoch() -> None:
    with Story() as story:
        story.enrols("Aigul")
        story.opens_vpn("Aigul")
        story.fills("Aigul")
        story.passes(hours=1)
        story.images("Aigul")
        story.fills("Aigul", 2)
        story.passes(hours=1)
        story.rolls_back_queue("Aigul")
        assert story.told("Aigul", "epoch_started") == 1
        story.fills("Aigul")
        story.passes(hours=1)
        story.database_has(4)
        assert [(row.epoch, row.sequence) for row in story.own("Aigul")] == [(1, 1), (2, 1)]
        assert story.forks() == []
        story.ends_well()


def test_a_queue_put_back_before_anything_was_sent_loses_what_it_had_and_the_place_stays_empty() -> None:
    with Story() as story:
        story.enrols("Aigul")
        story.fills("Aigul")
        story.images("Aigul")
        story.fills("Aigul", 2)
        story.rolls_back_queue("Aigul")
        assert story.told("Aigul", "epoch_started") == 1
        story.fills("Aigul")
        story.opens_vpn("Aigul")
        story.passes(hours=1)
        assert [(row.epoch, row.sequence) for row in story.own("Aigul")] == [(1, 1), (2, 1)]
        story.database_has(2)
        story.ends_well()
        assert story.world.oracle.counts["lost with every carrier, declared"] == 2


def test_a_whole_tablet_put_back_learns_from_the_center_and_begins_the_next_epoch() -> None:
    with Story() as story:
        story.enrols("Aigul")
        story.opens_vpn("Aigul")
        story.fills("Aigul")
        story.passes(hours=1)
        story.images("Aigul")
        story.fills("Aigul", 2)
        story.passes(hours=1)
        story.rolls_back("Aigul")
        story.passes(hours=1)
        assert story.told("Aigul", "epoch_started") == 1
        story.fills("Aigul")
        story.passes(hours=1)
        story.database_has(4)
        assert story.own("Aigul")[-1].epoch == 2
        assert story.forks() == []
        story.ends_well()


def test_a_whole_tablet_put_back_and_used_before_it_could_learn_forks_and_both_branches_are_kept() -> None:
    with Story() as story:
        story.enrols("Aigul")
        story.images("Aigul")
        story.fills("Aigul", 2)
        story.opens_vpn("Aigul")
        story.passes(hours=1)
        story.shuts_vpn("Aigul")
        story.rolls_back("Aigul")
        story.fills("Aigul")
        story.opens_vpn("Aigul")
        story.passes(hours=1)
        story.database_has(3)
        assert [(fork.epoch, fork.sequence, len(fork.ids)) for fork in story.forks()] == [(1, 1, 2)]
        assert story.told("Aigul", "epoch_started") == 1
        story.ends_well()


def test_a_clone_both_branches_are_in_the_database_and_the_fork_is_told() -> None:
    with Story() as story:
        story.enrols("Aigul")
        story.images("Aigul")
        story.clones("Aigul", "Twin")
        story.fills("Aigul", 2)
        story.fills("Twin", 2)
        story.opens_vpn("Aigul")
        story.passes(hours=1)
        assert story.forks() == []
        story.shuts_vpn("Aigul")
        story.opens_vpn("Twin")
        story.passes(hours=1)
        story.database_has(4)
        assert [(fork.epoch, fork.sequence, len(fork.ids)) for fork in story.forks()] == [(1, 1, 2), (1, 2, 2)]
        assert len(story.world.oracle.told_forks) == 2
        assert story.told("Twin", "chain_forked") > 0
        assert story.told("Twin", "epoch_started") == 1
        story.ends_well()


def test_a_destroyed_tablet_whose_head_had_arrived_is_named_by_what_it_lacks() -> None:
    with Story() as story:
        story.enrols("Aigul")
        story.troubles_broker(sends_lost=1)
        story.fills("Aigul", 40)
        story.opens_vpn("Aigul")
        while not story.world.oracle.questionnaires:
            story.passes(minutes=0.001)
        story.destroys("Aigul")
        story.passes(hours=1)
        (chain,) = story.completeness("Aigul")
        assert (chain.sealed, chain.committed) == (40, chain.highest)
        assert 0 < chain.committed < 40
        story.ends_well()
        assert story.missing("Aigul") == [(1, chain.committed + 1, 40)]
        assert story.world.oracle.counts["lost with every carrier, declared"] == 40 - chain.committed


def test_a_destroyed_tablet_that_had_met_a_neighbour_loses_nothing() -> None:
    with Story() as story:
        story.enrols("Aigul", "Dana")
        story.fills("Aigul", 3)
        story.meet("Aigul", "Dana")
        story.destroys("Aigul")
        assert len(story.carried("Dana")) == 3
        story.opens_vpn("Dana")
        story.passes(hours=1)
        story.database_has(3)
        story.backs_up()
        story.passes(hours=1)
        assert story.carried("Dana") == []
        story.ends_well()
        assert story.missing("Aigul") == []


def test_a_stolen_tablets_late_data_are_held_and_committed_when_it_is_reinstated() -> None:
    with Story() as story:
        story.enrols("Aigul")
        story.fills("Aigul", 2)
        story.gives_standing("Aigul", Standing.LOST)
        story.opens_vpn("Aigul")
        story.passes(hours=1)
        story.database_has(0)
        assert story.held() == {HeldReason.LOST_ORIGIN: 2}
        assert story.told("Aigul", "held") == 1
        story.backs_up()
        assert story.purged("Aigul") == 0
        story.gives_standing("Aigul", Standing.ACTIVE)
        story.retries_held()
        story.passes(hours=1)
        story.database_has(2)
        assert not story.held()
        assert story.told("Aigul", "committed") == 1
        story.ends_well()


def test_a_revoked_tablets_data_stay_held_and_its_replacement_works() -> None:
    with Story() as story:
        story.enrols("Aigul")
        story.fills("Aigul", 2)
        story.gives_standing("Aigul", Standing.REVOKED)
        story.enrols("Aigul's new one")
        story.fills("Aigul's new one")
        story.opens_vpn("Aigul", "Aigul's new one")
        story.passes(hours=1)
        story.database_has(1)
        assert story.held() == {HeldReason.REVOKED_ORIGIN: 2}
        story.ends_well()
        story.database_has(1)
        assert story.purged("Aigul") == 0
        assert story.purged("Aigul's new one") == 1


def test_an_unknown_form_is_held_until_it_is_allowed_and_retried() -> None:
    with Story() as story:
        story.enrols("Aigul")
        story.opens_vpn("Aigul")
        story.fills("Aigul", unknown_form=True)
        story.fills("Aigul")
        story.passes(hours=1)
        story.database_has(1)
        assert story.held() == {HeldReason.UNKNOWN_FORM: 1}
        assert story.told("Aigul", "held") == 1
        story.allows_new_form()
        story.retries_held()
        story.passes(minutes=5)
        story.database_has(2)
        assert not story.held()
        assert story.marked("Aigul") == 2
        story.ends_well()


def test_the_recipient_key_changes_while_bundles_are_in_the_air() -> None:
    with Story() as story:
        story.enrols("Aigul")
        story.troubles_broker(slow=1)
        story.fills("Aigul", 2)
        story.opens_vpn("Aigul")
        story.passes(minutes=1)
        story.rotates_recipient_key()
        story.fills("Aigul")
        story.troubles_broker()
        story.passes(hours=12)
        story.fills("Aigul")
        story.passes(hours=1)
        story.database_has(4)
        assert not story.held()
        assert len({row.id for row in story.own("Aigul")}) == 4
        story.ends_well()


def test_the_receipt_key_changes_while_receipts_are_in_the_air() -> None:
    with Story() as story:
        story.enrols("Aigul")
        story.opens_vpn("Aigul")
        story.passes(minutes=1)
        story.fills("Aigul", 2)
        story.troubles_broker(slow=1)
        while not story.world.oracle.database:
            story.passes(minutes=1)
        story.passes(minutes=1)
        assert story.marked("Aigul") == 0
        story.rotates_receipt_key()
        story.troubles_broker()
        story.fills("Aigul")
        story.passes(hours=5)
        assert story.marked("Aigul") == 3
        assert story.told("Aigul", "arrival_refused") == 0
        story.ends_well()


@pytest.mark.parametrize("days", [-56 * _YEAR, 11 * _YEAR], ids=["1970", "2037"])
def test_a_tablet_with_a_dead_clock_works(days: int) -> None:
    with Story() as story:
        story.enrols("Aigul", "Bolat")
        story.sets_clock("Aigul", days=days)
        story.fills("Aigul", 2)
        story.fills("Bolat")
        story.opens_vpn("Aigul", "Bolat")
        story.passes(hours=1)
        story.database_has(3)
        assert story.marked("Aigul") == 2
        story.backs_up()
        assert story.purged("Aigul") == 2
        story.ends_well()


@pytest.mark.parametrize("jump", [-11 * _YEAR, 11 * _YEAR])
def test_a_clock_that_jumps_in_the_middle_of_waiting_keeps_nothing_waiting(jump: int) -> None:
    with Story() as story:
        story.enrols("Aigul")
        story.troubles_broker(forgets=1)
        story.fills("Aigul", 2)
        story.opens_vpn("Aigul")
        story.passes(minutes=2)
        assert story.told("Aigul", "sent") == 1
        story.sets_clock("Aigul", days=jump)
        story.troubles_broker()
        story.passes(hours=7)
        story.database_has(2)
        story.ends_well()


def test_a_full_disk_refuses_loses_nothing_and_drains_when_it_is_freed() -> None:
    with Story() as story:
        story.enrols("Aigul")
        story.fills("Aigul", 2)
        story.fills_disk("Aigul")
        story.fills("Aigul", 3)
        assert len(story.own("Aigul")) == 2
        assert len(story.world.residents["Aigul"].device.waiting) == 3
        refusals = [line for line in story.world.story or () if "store_fault" in line]
        assert [line.split("problem=")[1] for line in refusals] == ["the disk is full"] * 3
        story.passes(hours=1)
        story.frees_disk("Aigul")
        story.opens_vpn("Aigul")
        story.passes(hours=1)
        assert len(story.own("Aigul")) == story.marked("Aigul") == 5
        story.database_has(5)
        story.ends_well()


def test_a_disk_that_fills_up_while_receipts_come_forgets_no_mark() -> None:
    with Story() as story:
        story.enrols("Aigul")
        story.fills("Aigul", 2)
        story.opens_vpn("Aigul")
        story.passes(minutes=0.03)
        story.fills_disk("Aigul")
        story.passes(hours=2)
        story.frees_disk("Aigul")
        story.passes(hours=2)
        assert story.marked("Aigul") == 2
        story.ends_well()


def test_stale_foreign_and_forged_receipts_change_nothing() -> None:
    with Story() as story:
        story.enrols("Aigul", "Bolat")
        story.opens_vpn("Aigul", "Bolat")
        story.fills("Bolat", 5)
        story.passes(hours=1)
        story.backs_up()
        story.fills("Aigul")
        story.passes(hours=1)
        story.troubles_center(dies_before_commit=1, stranded=1)
        story.fills("Aigul", 2)
        story.passes(minutes=1)
        before = story.own("Aigul")
        assert [row.status is not None for row in before] == [True, False, False]
        story.gets_receipt_again("Aigul", of="Bolat", number=-1)
        story.gets_receipt_again("Aigul", of="Aigul")
        story.gets_forged_receipt("Aigul")
        assert story.own("Aigul") == before
        assert story.told("Aigul", "arrival_refused") == 1
        story.troubles_center()
        story.ends_well()


def test_what_is_forged_in_a_tablets_name_takes_no_place_in_its_chain() -> None:
    with Story() as story:
        story.enrols("Aigul", "Bolat", "Dana")
        story.fills("Aigul", 2)
        story.opens_vpn("Aigul", "Bolat", "Dana")
        story.passes(hours=1)
        story.forges("Aigul", sender="Bolat")
        story.passes(hours=1)
        assert story.held() == {HeldReason.BAD_SIGNATURE: 1}
        assert story.missing("Aigul") == []
        assert story.carried("Dana") == []
        assert story.told("Dana", "arrival_refused") == 2
        assert story.told("Aigul", "epoch_started") == 0, "its own chain does not go on elsewhere"
        story.fills("Aigul")
        story.passes(hours=1)
        assert story.marked("Aigul") == 3
        story.ends_well()


def test_an_older_receipt_after_a_newer_one_takes_no_mark_back() -> None:
    with Story() as story:
        story.enrols("Aigul")
        story.opens_vpn("Aigul")
        for _ in range(3):
            story.fills("Aigul")
            story.passes(hours=1)
        assert story.marked("Aigul") == 3
        story.gets_receipt_again("Aigul", of="Aigul")
        assert story.marked("Aigul") == 3
        assert story.told("Aigul", "statement_stale") == 1
        assert story.told("Aigul", "commit_withdrawn") == 0
        story.ends_well()


def test_a_mirror_that_cannot_be_synced_keeps_envelopes_at_home() -> None:
    with Story() as story:
        story.enrols("Aigul")
        story.fills("Aigul", 2)
        for step in range(1, 4):
            story.strikes("Aigul", Fault.MIRROR_UNSYNCED, step=step)
        story.opens_vpn("Aigul")
        story.world.run(5 * SECOND)
        story.database_has(0)
        story.passes(hours=1)
        story.database_has(2)
        story.ends_well()
