"""Spans and marks of receipts out of rows."""

from __future__ import annotations

from itertools import pairwise

from central_broker.receipts import Chain
from central_broker.storage.batch_records import ChainLink, EnvelopeStatus
from central_broker.storage.receipt_records import ChainRow, RunEnd
from sync_protocol.envelope import NO_ID
from sync_protocol.limits import RECEIPT_MARKS_MAX
from sync_protocol.receipt import Mark, SpanStatus, read_receipt, sign_receipt
from tests.support.center import Center, LinkChain, seed


def row(link: ChainLink, at: int, status: EnvelopeStatus = EnvelopeStatus.COMMITTED) -> ChainRow:
    return ChainRow(link.epoch, link.sequence, link.id, link.previous_id, status, at)


def run_end(link: ChainLink) -> RunEnd:
    return RunEnd(link.origin, link.id, link.epoch, link.sequence)


def links(count: int, name: str = "a", epoch: int = 1) -> list[ChainLink]:
    chain = LinkChain(name, epoch)
    return [chain.link() for _ in range(count)]


def test_a_gapless_chain_is_one_span_with_a_mark_for_each_commit() -> None:
    chain = links(5)
    [span] = Chain([row(link, at) for link, at in zip(chain, (10, 10, 20, 20, 20), strict=True)]).spans()
    assert (span.epoch, span.first, span.last, span.last_id) == (1, 1, 5, chain[4].id)
    assert span.marks == (Mark(2, 10), Mark(3, 20))
    assert span.status is SpanStatus.COMMITTED


def test_a_gap_starts_a_new_span() -> None:
    chain = links(5)
    first, second = Chain([row(chain[i], 10) for i in (0, 1, 3, 4)]).spans()
    assert (first.first, first.last, second.first, second.last) == (1, 2, 4, 5)
    assert first.last_id == chain[1].id


def test_a_held_envelope_has_a_span_of_its_own() -> None:
    chain = links(3)
    spans = Chain([row(chain[0], 1), row(chain[1], 2, EnvelopeStatus.HELD), row(chain[2], 3)]).spans()
    assert [(span.first, span.last, span.status) for span in spans] == [
        (1, 1, SpanStatus.COMMITTED),
        (2, 2, SpanStatus.HELD),
        (3, 3, SpanStatus.COMMITTED),
    ]


def test_a_broken_link_is_not_passed_over() -> None:
    chain = links(3)
    stranger = ChainRow(1, 2, seed("stranger"), seed("unknown parent"), EnvelopeStatus.COMMITTED, 1)
    spans = Chain([row(chain[0], 1), stranger]).spans()
    assert [(span.first, span.last_id) for span in spans] == [(1, chain[0].id), (2, stranger.id)]


def test_an_epoch_starts_a_new_span_and_the_one_before_is_told_piece_by_piece() -> None:
    one, two = links(2), links(2, epoch=2)
    spans = Chain([row(link, 1) for link in one + two]).spans()
    assert [(span.epoch, span.first, span.last) for span in spans] == [(1, 1, 1), (1, 2, 2), (2, 1, 2)]


def test_every_branch_of_a_fork_gets_spans_that_follow_its_own_links() -> None:
    trunk = LinkChain("a")
    rows = [row(trunk.link(), 1) for _ in range(2)]
    branch = LinkChain("a")
    branch.sequence, branch.last_id = trunk.sequence, trunk.last_id
    one, other = [trunk.link() for _ in range(2)], [branch.link("other") for _ in range(3)]
    forked = sorted((row(link, 2) for link in one + other), key=lambda r: (r.sequence, r.id))
    spans = Chain(rows + forked).spans()
    assert {span.last_id for span in spans} == {one[-1].id, other[-1].id}
    assert sorted((span.first, span.last) for span in spans) in ([(1, 4), (3, 5)], [(1, 5), (3, 4)])
    assert [span.first for span in spans] == sorted(span.first for span in spans)


def test_marks_beyond_the_limit_become_coarser_from_the_oldest_on_with_the_later_time() -> None:
    chain = links(10)
    times = [5, 90, 7, 30, 40, 50, 60, 70, 80, 85]
    built = Chain([row(link, at) for link, at in zip(chain, times, strict=True)])
    [span] = built.spans(marks_max=6)
    assert span.marks[0] == Mark(5, 90)
    assert span.marks[1:] == tuple(Mark(1, at) for at in times[5:])
    assert span.last == 10


def test_coarsening_reaches_over_spans_and_never_changes_what_they_cover() -> None:
    chain = links(12)
    kept = [link for link in chain if link.sequence not in (4, 8)]
    built = Chain([row(link, link.sequence) for link in kept])
    spans = built.spans(marks_max=4)
    assert sum(len(span.marks) for span in spans) == 4
    assert [(span.first, span.last) for span in spans] == [(1, 3), (5, 7), (9, 12)]
    assert spans[0].marks == (Mark(3, 3),)


def test_a_receipt_at_the_limits_can_be_signed_and_read() -> None:
    chain = LinkChain("a")
    rows = [row(chain.link(), number) for number in range(1, RECEIPT_MARKS_MAX + 500)]
    spans = Chain(rows).spans()
    signed = sign_receipt(Center().receipt_signer, origin=chain.origin, serial=1, watermark=0, spans=spans)
    [span] = read_receipt(signed).spans
    assert (len(span.marks), span.last) == (RECEIPT_MARKS_MAX, RECEIPT_MARKS_MAX + 499)


def test_too_many_gaps_leave_out_the_newest_spans() -> None:
    rows = [ChainRow(1, 2 * i + 2, seed(str(i)), seed("no"), EnvelopeStatus.COMMITTED, 1) for i in range(20)]
    spans = Chain(rows).spans(spans_max=5)
    assert [span.first for span in spans] == [2, 4, 6, 8, 10]


def test_growing_gives_what_building_gives_and_refuses_what_comes_earlier() -> None:
    chain = links(6)
    rows = [row(link, link.sequence) for link in chain if link.sequence != 3]
    growing = Chain(rows[:2])
    assert all(growing.extend(one) for one in rows[2:])
    assert growing.spans() == Chain(rows).spans()
    assert not growing.extend(row(chain[2], 9))
    assert not growing.extend(row(chain[5], 9))
    assert growing.spans() == Chain(rows).spans()
    moved = ChainRow(1, 7, seed("x"), chain[5].id, EnvelopeStatus.DISPROVED, 9)
    assert not growing.extend(moved)


def test_the_first_link_of_a_chain_names_no_other() -> None:
    chain = links(2)
    assert chain[0].previous_id == NO_ID
    assert all(one.id == other.previous_id for one, other in pairwise(chain))


# Where carriers' runs end.


def test_a_span_ends_with_what_ended_a_carriers_run_and_its_marks_are_divided() -> None:
    chain = links(6)
    grown = Chain([row(link, at) for link, at in zip(chain, (10, 10, 10, 20, 20, 30), strict=True)])
    spans = grown.spans([run_end(chain[4]), run_end(chain[1])])
    assert [(span.first, span.last, span.last_id) for span in spans] == [
        (1, 2, chain[1].id),
        (3, 5, chain[4].id),
        (6, 6, chain[5].id),
    ]
    assert [span.marks for span in spans] == [(Mark(2, 10),), (Mark(1, 10), Mark(2, 20)), (Mark(1, 30),)]
    assert len(grown.spans()) == 1, "the chain itself goes on"


def test_a_run_that_ended_where_a_span_ends_anyway_or_with_what_is_in_no_span_changes_nothing() -> None:
    chain, other = links(3), links(4, "other branch")
    whole = Chain([row(link, 10) for link in chain])
    assert whole.spans([run_end(chain[2]), *map(run_end, other)]) == whole.spans()


def test_on_a_fork_the_span_of_the_branch_that_was_brought_ends_and_all_stay_in_order() -> None:
    trunk = links(2)
    branches = [[trunk[1]], [trunk[1]]]
    for number, branch in enumerate(branches):
        for sequence in range(3, 7):
            name = seed(f"branch {number} {sequence}")
            branch.append(ChainLink(trunk[0].origin, name, 1, sequence, branch[-1].id))
    rows = sorted([*trunk, *branches[0][1:], *branches[1][1:]], key=lambda link: (link.epoch, link.sequence, link.id))
    chain = Chain([row(link, 10) for link in rows])
    for branch in branches:
        spans = chain.spans([run_end(branch[2])])
        assert len(spans) == 3 and branch[2].id in {span.last_id for span in spans}
        assert [(span.epoch, span.first) for span in spans] == sorted((span.epoch, span.first) for span in spans)


def test_ends_of_runs_get_what_room_the_spans_leave_the_first_of_them_first() -> None:
    chain = links(9)
    rows = [row(chain[i], 10) for i in (0, 1, 2, 4, 5, 6, 7, 8)]
    ends = [run_end(chain[i]) for i in (6, 0, 1)]
    spans = Chain(rows).spans(ends, spans_max=4)
    assert [(span.first, span.last) for span in spans] == [(1, 1), (2, 3), (5, 7), (8, 9)]
    assert len(Chain(rows).spans(ends, spans_max=2)) == 2
