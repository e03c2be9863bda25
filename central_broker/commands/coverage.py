"""Commands `coverage`: who was listed, who was counted and how, who is missing, and who perhaps was counted twice."""

from __future__ import annotations

import getpass

import click

from central_broker.backup import as_time
from central_broker.commands.context import CenterContext, json_option, now, pass_center
from central_broker.commands.coverage_context import looked, meant
from central_broker.commands.coverage_lists import coverage_assign, coverage_assignments, coverage_send
from central_broker.commands.coverage_shown import (
    GROUNDS,
    NUMBERS,
    decision_document,
    entry_row,
    flagged_document,
    flagged_row,
    key_names,
    key_words,
    line_document,
    numbers,
    pair_document,
    standing_document,
    standing_row,
    stands,
    visit_document,
    visit_row,
)
from central_broker.coverage.inquiry import people_of
from central_broker.coverage.matching import Verdict
from central_broker.coverage.report import By, sum_of
from central_broker.storage.coverage_records import Decision
from operations.console import EXIT_USAGE, fail, print_json, print_line, print_table


@click.group(
    invoke_without_command=True,
    epilog="""\b
Examples:
  central-broker coverage                                 by oblast
  central-broker coverage --by institution --within 59    the institutions of one oblast
  central-broker coverage people 010640000002             everybody of one institution
  central-broker coverage pairs                           who was counted twice, and what waits for a decision
  central-broker coverage settle 1f09c3a2b4 same --reason "asked the institution, one person"
\b
counted = interview + online + proxy = listed - missing + not listed + in households. Everybody stands in one line and
under one channel: of several entries, the person's own words go before a proxy's, then the first committed counts.
""",
)
@click.option("--by", type=click.Choice([one.value for one in By]), default=By.OBLAST.value, show_default=True)
@click.option("--within", metavar="PLACE", help="Only one oblast, district or institution: its code, BIN or name.")
@json_option
@click.pass_context
def coverage(context: click.Context, by: str, within: str | None, as_json: bool) -> None:
    """How complete the census is: people listed, counted by each channel, missing, not listed, counted twice.

    Who shall be counted in institutions is known from their lists of stage 1 (form census_institution). Who is who is
    told by IIN, and otherwise by name, birth date and institution (docs/coverage.md).
    """
    if context.invoked_subcommand is not None:
        return
    with looked(context.ensure_object(CenterContext), quiet=as_json) as (_, seen):
        place = None if within is None else meant(seen.places, within)
        lines = seen.table(By(by), place)
    if as_json:
        print_json([line_document(By(by), key, line, seen.places) for key, line in lines.items()])
        return
    rows = [(*key_words(key, seen.places), *numbers(line)) for key, line in lines.items()]
    if len(rows) > 1:
        rows.append(("all", *[""] * (len(key_names(By(by))) - 1), *numbers(sum_of(lines.values()))))
    heads = tuple(one.replace("_", " ") for one in NUMBERS)
    print_table((*key_names(By(by)), *heads), rows, empty="nobody was listed or counted yet")
    waiting = sum(pair.waits for pair in seen.pairs)
    if waiting:
        pairs = "1 pair waits" if waiting == 1 else f"{waiting} pairs wait"
        print_line(f"{pairs} for a decision: central-broker coverage pairs")


@coverage.command(name="people")
@click.argument("institution")
@click.option("--missing", is_flag=True, help="Only who is listed and not counted.")
@json_option
@pass_center
def coverage_people(center: CenterContext, institution: str, missing: bool, as_json: bool) -> None:
    """Everybody of an institution (its BIN, or its name as in the table): listed or not, counted when and how."""
    with looked(center, quiet=as_json) as (storage, seen):
        place = meant(seen.places, institution)
        people = [one for one in people_of(storage, seen, place) if not (missing and one.counted)]
    if as_json:
        print_json([standing_document(one) for one in people])
        return
    columns = ("name", "birth date", "room", "listed", "counted", "on", "by", "remarks")
    print_table(columns, [standing_row(one) for one in people], empty="nobody")


@coverage.command(name="pairs")
@click.option("--waiting", is_flag=True, help="Only those that wait for a decision.")
@click.option("--all", "everything", is_flag=True, help="Also settled ones, and those of a listed and a counted entry.")
@json_option
@pass_center
def coverage_pairs(center: CenterContext, waiting: bool, everything: bool, as_json: bool) -> None:
    """Entries that look like one person counted twice, and whatever else waits for a decision, with the evidence.

    Those on certain grounds count as one person already; a decision can part them, or say that somebody has looked.
    """
    with looked(center, quiet=as_json) as (_, seen):
        pairs = [
            one
            for one in seen.pairs
            if one.waits or (not waiting and (everything or (one.is_twice and one.verdict is None)))
        ]
    if as_json:
        print_json([pair_document(one) for one in pairs])
        return
    if not pairs:
        print_line("No pair waits for a decision." if waiting else "Nobody was counted twice.")
    for pair in pairs:
        print_line(f"{pair.key}  {GROUNDS[pair.ground]}: {stands(pair)}")
        columns = ("as", "name", "birth date", "IIN", "place", "by", "on", "interviewer")
        print_table(columns, [entry_row(one, seen.places) for one in (pair.one, pair.other)])


@coverage.command(
    name="settle",
    epilog="""\b
Examples:
  central-broker coverage settle 1f09c3a2b4 same --reason "one wrong digit in the IIN; asked the institution"
  central-broker coverage settle 1f09c3a2b4 different --reason "twins"
""",
)
@click.argument("pair")
@click.argument("verdict", type=click.Choice([one.value for one in Verdict]))
@click.option("--reason", required=True, help="Why; it is kept with the decision.")
@click.option("--by", "decided_by", help="Who decides.  [the user of this machine]")
@json_option
@pass_center
def coverage_settle(
    center: CenterContext, *, pair: str, verdict: str, reason: str, decided_by: str | None, as_json: bool
) -> None:
    """Decide whether a pair of `coverage pairs` is one person. Nothing is deleted, and a later decision may differ."""
    with looked(center, quiet=True) as (storage, seen):
        found = [one for one in seen.pairs if one.key == pair]
        if not found:
            fail(f"there is no pair {pair}", "central-broker coverage pairs --all shows them", exit_status=EXIT_USAGE)
        if not reason.strip():
            fail("a decision needs a reason", "say it with --reason", exit_status=EXIT_USAGE)
        who = decided_by or getpass.getuser()
        decision = Decision(found[0].couple, Verdict(verdict), reason.strip(), who, now())
        storage.record_decision(decision)
    if as_json:
        print_json(decision_document(decision))
        return
    print_line(f"{pair}: {'one person' if verdict == Verdict.SAME else 'two people'}, decided by {who}.")


@coverage.command(name="decisions")
@json_option
@pass_center
def coverage_decisions(center: CenterContext, as_json: bool) -> None:
    """Everything that was decided, oldest first; of several about one pair the last counts."""
    with center.storage() as storage:
        decided = storage.decisions()
    if as_json:
        print_json([decision_document(one) for one in decided])
        return
    rows = [(one.key, one.verdict.value, one.decided_by, as_time(one.decided_at), one.reason) for one in decided]
    print_table(("pair", "verdict", "by", "at", "reason"), rows, empty="nothing was decided yet")


@coverage.command(name="notices")
@click.option("--all", "everything", is_flag=True, help="Also those that were given.")
@json_option
@pass_center
def coverage_notices(center: CenterContext, everything: bool, as_json: bool) -> None:
    """Households that said they were counted online, with a notice that was never given.

    Their questionnaire may still be under way; otherwise they were not counted.
    """
    with looked(center, quiet=as_json) as (storage, _):
        claims = [(visit, given) for visit, given in storage.coverage_claims() if everything or not given]
    if as_json:
        print_json([{**visit_document(one), "notice": one.claimed_notice, "was_given": given} for one, given in claims])
        return
    rows = [(*visit_row(one), one.claimed_notice, "given" if given else "never given") for one, given in claims]
    columns = ("envelope", "form", "channel", "day", "is", "interviewer", "notice", "was")
    print_table(columns, rows, empty="every notice that was shown to an interviewer was given")


@coverage.command(name="flagged")
@json_option
@pass_center
def coverage_flagged(center: CenterContext, as_json: bool) -> None:
    """What is outside the rules of the census, though accepted.

    Questionnaires that are early, late or without a day; people born after the critical moment, or with an IIN that
    cannot be one.
    """
    with looked(center, quiet=as_json) as (storage, _):
        visits, people = storage.coverage_untimely(), storage.coverage_flagged_people()
    if as_json:
        print_json(
            {
                "questionnaires": [visit_document(one) for one in visits],
                "people": [flagged_document(one) for one in people],
            }
        )
        return
    columns = ("envelope", "form", "channel", "day", "is", "interviewer")
    print_table(columns, [visit_row(one) for one in visits], empty="every questionnaire is inside its window")
    columns = ("envelope", "person", "name", "born", "interviewer", "is flagged for")
    print_table(columns, [flagged_row(one) for one in people], empty="no person is flagged")


for _command in (coverage_assign, coverage_assignments, coverage_send):
    coverage.add_command(_command)
