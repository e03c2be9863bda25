"""Commands `coverage assign`, `assignments` and `send`: lists of who is counted, for the devices that need them."""

from __future__ import annotations

from collections import defaultdict
from typing import Final

import click

from central_broker.commands.context import CenterContext, find_device, json_option, now, pass_center
from central_broker.commands.coverage_context import looked, meant
from central_broker.counted_lists import Given, NoKeyYet, give_list
from central_broker.coverage.inquiry import Coverage
from central_broker.coverage.lists import counted_list
from central_broker.storage.contract import Storage
from operations.console import EXIT_USAGE, fail, print_json, print_line, print_table
from sync_protocol.counted_list import ListTooLarge
from sync_protocol.identity import Standing
from sync_protocol.keys import Signer

_DAY_MICROSECONDS: Final = 24 * 60 * 60 * 1_000_000


@click.command(
    name="assign",
    epilog="""\b
Examples:
  central-broker coverage assign tablet-17 010640000002             one institution
  central-broker coverage assign tablet-17 010640000002 593200      and the notices of a district's households
  central-broker coverage assign tablet-17                          none any more
Then: central-broker coverage send
""",
)
@click.argument("device")
@click.argument("place", nargs=-1)
@json_option
@pass_center
def coverage_assign(center: CenterContext, device: str, place: tuple[str, ...], as_json: bool) -> None:
    """Say of which places a device is given lists: institutions by BIN or name, districts for their notices."""
    with looked(center, quiet=True) as (storage, seen):
        record = find_device(storage, device)
        places = [meant(seen.places, one) for one in place]
        without = [text for text, one in zip(place, places, strict=True) if not (one.institution or one.district)]
        if without:
            fail(f"{without[0]} is a whole oblast", "name its districts or institutions", exit_status=EXIT_USAGE)
        codes = [one.institution or one.district for one in places]
        storage.assign(record.device, codes)
    if as_json:
        print_json({"device": record.device, "name": record.name, "places": codes})
        return
    names = ", ".join(map(seen.places.name_of, codes))
    print_line(f"{record.name} is given lists of {names}." if names else f"{record.name} is given no lists any more.")


@click.command(name="assignments")
@json_option
@pass_center
def coverage_assignments(center: CenterContext, as_json: bool) -> None:
    """Which devices are given lists of which places."""
    with looked(center, quiet=as_json) as (storage, seen):
        names = {one.device: one.name for one in storage.devices()}
        assigned = [(device, names.get(device, device.hex()), place) for device, place in storage.assignments()]
    if as_json:
        print_json([{"device": device, "name": name, "place": place} for device, name, place in assigned])
        return
    rows = [(name, place, seen.places.name_of(place)) for _, name, place in assigned]
    print_table(("device", "place", "name"), rows, empty="no device is given lists: central-broker coverage assign")


@click.command(
    name="send",
    epilog="""\b
Examples:
  central-broker coverage send                   each evening, when the day's questionnaires are in
  central-broker coverage send --keep-days 5     lists that are forgotten sooner
""",
)
@click.option("--keep-days", type=click.IntRange(1, 60), default=14, show_default=True, help="When devices forget it.")
@json_option
@pass_center
def coverage_send(center: CenterContext, keep_days: int, as_json: bool) -> None:
    """Seal to each device the list of its places as they stand now; the receipt publisher sends it.

    A device can be given a list once it has told its key, with its first questionnaires or heads. Devices that were
    called in are passed over.
    """
    issuer = center.files().issuing_key()
    with looked(center, quiet=as_json) as (storage, seen):
        results = _give_all(storage, seen, issuer, now(), keep_days)
    if as_json:
        print_json([{"device": name, "result": words} for name, words in results])
        return
    print_table(("device", "list"), results, empty="no device is given lists: central-broker coverage assign")


def _give_all(storage: Storage, seen: Coverage, issuer: Signer, given_at: int, keep_days: int) -> list[tuple[str, str]]:
    places = defaultdict(list)
    for device, code in storage.assignments():
        place = seen.places.meant(code)
        if place is not None:
            places[device].append(place)
    reached = storage.coverage_state().reached
    results = []
    for record in storage.devices():
        if record.device not in places or record.standing is not Standing.ACTIVE:
            continue
        list_ = counted_list(
            storage,
            seen,
            places[record.device],
            as_of=max(1, reached),
            keep_until=given_at + keep_days * _DAY_MICROSECONDS,
        )
        try:
            result = give_list(storage, issuer, record.device, list_, given_at)
        except ListTooLarge as error:
            results.append((record.name, f"not given: {error.detail}"))
            continue
        match result:
            case Given(_, statement_bytes, _):
                people = sum(len(section.entries) for section in list_.sections)
                results.append((record.name, f"given, {people} people, {statement_bytes:,} bytes"))
            case NoKeyYet():
                results.append((record.name, "not given: it has told no key yet; it does so when it is in touch"))
    return results
