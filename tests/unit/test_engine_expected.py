"""Of whom an envelope is asked that several neighbours offer: of one at a time, and of nobody for long who does not
bring it.
"""

from collections.abc import Iterator

import pytest

from edge_agent.engine.events import LinkDown, LinkUp
from sync_protocol.mesh import Offer, Offered, Verdict, Verdicts
from tests.support.device import MINUTE, SECOND, Authority, Device, memory_folder
from tests.support.district import bring, data_of, fill
from tests.support.spoken_to import link_to, said, verdict_on

AUTHORITY = Authority()


@pytest.fixture
def tablets() -> Iterator[list[Device]]:
    with memory_folder() as folder:
        made = [Device(folder / name, AUTHORITY, name=name).start() for name in "abcd"]
        yield made
        for device in made:
            device.stop()


def test_the_same_envelope_is_asked_of_one_neighbour_at_a_time(tablets: list[Device]) -> None:
    a, b, c, *_ = tablets
    fill(a, 1)
    offer = Offer(1, (Offered(a.envelope_ids()[0], 3_000, 0),))
    first, second = link_to(a.id, key="first"), link_to(c.id, key="second")
    for link in (first, second):
        b.step(LinkUp(link))
    assert [one.message for one in said(b, first, offer)] == [Verdicts(1, (Verdict.WANTED,))]
    assert [one.message for one in said(b, second, offer)] == [Verdicts(1, (Verdict.LATER,))]
    assert [one.message for one in said(b, first, offer)] == [Verdicts(1, (Verdict.WANTED,))], "it has to come from it"
    b.step(LinkDown(first.key))
    assert [one.message for one in said(b, second, offer)] == [Verdicts(1, (Verdict.WANTED,))]
    b.now += 5 * MINUTE
    b.step(LinkUp(first))
    assert [one.message for one in said(b, first, offer)] == [Verdicts(1, (Verdict.WANTED,))], "it never came"


def test_who_offers_the_same_again_and_again_and_brings_nothing_keeps_nobody_else_waiting(
    tablets: list[Device],
) -> None:
    a, b, c, *_ = tablets
    fill(a, 1)
    offer = Offer(1, (Offered(a.envelope_ids()[0], 3_000, 0),))
    liar, honest = link_to(c.id, key="liar"), link_to(a.id, key="honest")
    for link in (liar, honest):
        b.step(LinkUp(link))
    for _ in range(5):
        assert [one.message for one in said(b, liar, offer)] == [Verdicts(1, (Verdict.WANTED,))]
        b.now += 30 * SECOND
    assert [one.message for one in said(b, honest, offer)] == [Verdicts(1, (Verdict.WANTED,))]


def test_a_neighbour_that_brings_nothing_for_some_seconds_is_waited_for_no_more(tablets: list[Device]) -> None:
    """It may have walked out of reach: its link ends much later, and whoever else is here may soon leave, too."""
    a, b, c, *_ = tablets
    fill(a, 1)
    wanted = a.envelope_ids()[0]
    gone, here = link_to(c.id, key="gone"), link_to(a.id, key="here")
    for link in (gone, here):
        b.step(LinkUp(link))
    assert verdict_on(b, gone, wanted) == (Verdict.WANTED,)
    b.now += 14 * SECOND
    assert verdict_on(b, here, wanted) == (Verdict.LATER,)
    b.now += 2 * SECOND
    assert verdict_on(b, here, wanted) == (Verdict.WANTED,)


def test_after_a_step_that_was_not_recorded_nobody_is_waited_for(tablets: list[Device]) -> None:
    """All links are closed then, and whoever comes first brings."""
    a, b, c, *_ = tablets
    fill(a, 1)
    wanted = a.envelope_ids()[0]
    before, after = link_to(c.id, key="before"), link_to(a.id, key="after")
    b.step(LinkUp(before))
    assert verdict_on(b, before, wanted) == (Verdict.WANTED,)
    b.engine.forget_step(links=True)
    b.step(LinkUp(after))
    assert verdict_on(b, after, wanted) == (Verdict.WANTED,)


def test_a_neighbour_that_goes_on_bringing_is_waited_for_though_it_has_much_to_bring(tablets: list[Device]) -> None:
    a, b, c, *_ = tablets
    fill(a, 6)
    ids = a.envelope_ids()
    slow, other = link_to(c.id, key="slow"), link_to(a.id, key="other")
    for link in (slow, other):
        b.step(LinkUp(link))
    bring(b, slow.key, a.certificate)
    assert set(verdict_on(b, slow, *ids)) == {Verdict.WANTED}
    for number in range(5):
        b.now += 14 * SECOND
        bring(b, slow.key, *data_of(a, number + 1))
        b.now += 2 * SECOND
        assert verdict_on(b, other, ids[5]) == (Verdict.LATER,), "16 seconds after it was asked for, and more"
    b.now += 45 * SECOND
    assert verdict_on(b, other, ids[5]) == (Verdict.WANTED,)


def test_who_brings_something_now_and_then_keeps_the_rest_no_longer_than_two_minutes(tablets: list[Device]) -> None:
    a, b, c, *_ = tablets
    fill(a, 12)
    ids = a.envelope_ids()
    slow, other = link_to(c.id, key="slow"), link_to(a.id, key="other")
    for link in (slow, other):
        b.step(LinkUp(link))
    bring(b, slow.key, a.certificate)
    verdict_on(b, slow, *ids)
    for number in range(11):
        b.now += 10 * SECOND
        bring(b, slow.key, *data_of(a, number + 1))
    assert verdict_on(b, other, ids[11]) == (Verdict.LATER,)
    b.now += 10 * SECOND
    assert verdict_on(b, other, ids[11]) == (Verdict.WANTED,)


def test_two_liars_taking_turns_keep_nobody_else_waiting(tablets: list[Device]) -> None:
    a, b, c, d, *_ = tablets
    fill(a, 1)
    wanted = a.envelope_ids()[0]
    liars, honest = (link_to(c.id, key="liar"), link_to(d.id, key="another")), link_to(a.id, key="honest")
    for link in (*liars, honest):
        b.step(LinkUp(link))
    for turn in range(9):
        b.now += 16 * SECOND
        assert verdict_on(b, liars[turn % 2], wanted) == (Verdict.WANTED,)
    assert verdict_on(b, honest, wanted) == (Verdict.WANTED,)
