"""Who took own envelopes over, and what is held for whom, as people see it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_agent.control import connection_query
from edge_agent.engine.links import LinkShape
from edge_agent.queue import inspection
from edge_agent.queue.inspection import Query
from edge_agent.queue.store import QueueStore
from sync_protocol.envelope import parse_envelope
from sync_protocol.identity import Standing
from sync_protocol.medium import certify_medium
from sync_protocol.statement import parse_statement
from tests.support.device import HOUR, NOW, SECOND, Authority, Device

MEDIUM = b"m" * 16


@pytest.fixture
def authority() -> Authority:
    return Authority()


@pytest.fixture
def device(tmp_path: Path, authority: Authority) -> Iterator[Device]:
    (tmp_path / "own").mkdir()
    one = Device(tmp_path / "own", authority).start()
    yield one
    one.stop()


def query_of(device: Device) -> Query:
    assert isinstance(device.store, QueueStore)
    return connection_query(device.store.connection)


def certify_stick(authority: Authority, device: Device) -> None:
    statement = certify_medium(
        authority.issuer,
        medium=MEDIUM,
        number="0017",
        holder="S. Omarov",
        standing=Standing.ACTIVE,
        issued_at=NOW,
        expires_at=0,
        serial=NOW,
    )
    put(device, statement.data)


def put(device: Device, *statements: bytes) -> None:
    assert device.store is not None
    with device.store.transaction() as transaction:
        for data in statements:
            transaction.put_statement(parse_statement(data))


def handed(device: Device) -> list[dict[str, Any]]:
    return inspection.handovers(query_of(device))


def test_what_a_medium_took_is_shown_with_its_number_and_time_until_the_receipt(
    device: Device, authority: Authority
) -> None:
    device.submit("1")
    device.submit("2")
    assert handed(device) == []
    waiting = device.link_up(shape=LinkShape.DEAD_DROP, far_end=MEDIUM)
    assert waiting
    assert handed(device) == [], "it is not taken yet"
    device.now += SECOND
    device.settle_all(waiting)
    (one,) = handed(device)
    assert one == {"carrier": MEDIUM.hex(), "envelopes": 2, "last_at": NOW + SECOND, "name": None, "role": None}
    certify_stick(authority, device)
    (one,) = handed(device)
    assert (one["name"], one["role"]) == ("0017", "medium")


def test_neither_the_center_nor_who_declined_nor_a_broken_link_took_anything(device: Device) -> None:
    device.submit("1")
    device.settle_all(device.link_up())
    assert handed(device) == [], "the broker's word is no handover"
    for send in device.link_up(shape=LinkShape.DEAD_DROP, far_end=b"r" * 16):
        device.settle(send, taken=False)
    device.link_up(shape=LinkShape.DEAD_DROP, far_end=b"b" * 16)
    device.link_down()
    assert handed(device) == []


def test_a_neighbour_that_took_own_envelopes_is_named_by_its_certificate(
    device: Device, authority: Authority, tmp_path: Path
) -> None:
    device.submit("1")
    laptop = Device(tmp_path, authority, name="laptop 3")
    put(device, laptop.certificate.data)
    assert device.store is not None
    with device.store.transaction() as transaction:
        numbers = [one.number for one in transaction.due(laptop.id, NOW, bytes_max=1_000_000)]
        transaction.note_sent(laptop.id, numbers, now=NOW, next_at=NOW + HOUR)
        transaction.note_answered(laptop.id, numbers, now=NOW + 5, next_at=NOW + 24 * HOUR, kept=True)
    (one,) = handed(device)
    assert (one["name"], one["role"], one["last_at"]) == ("laptop 3", "tablet", NOW + 5)


def foreign(authority: Authority, tmp_path: Path, name: str, envelopes: int) -> tuple[Device, list[bytes]]:
    folder = tmp_path / name
    folder.mkdir()
    origin = Device(folder, authority, name=name).start()
    for number in range(envelopes):
        origin.submit(str(number))
    assert isinstance(origin.store, QueueStore)
    data = [bytes(row[0]) for row in origin.store.connection.execute("SELECT data FROM envelope ORDER BY sequence")]
    origin.stop()
    return origin, data


def test_custody_is_counted_by_origin_and_the_largest_comes_first(
    device: Device, authority: Authority, tmp_path: Path
) -> None:
    device.submit("own")
    few, few_data = foreign(authority, tmp_path, "tablet 2", 1)
    many, many_data = foreign(authority, tmp_path, "tablet 3", 3)
    assert device.store is not None
    with device.store.transaction() as transaction:
        for data in (*few_data, *many_data):
            transaction.add_envelope(parse_envelope(data), own=False, carrier=few.id, now=NOW)
    put(device, many.certificate.data)
    held = inspection.custody(query_of(device))
    assert (held["origins"], held["envelopes"]) == (2, 4)
    assert held["bytes"] == sum(map(len, (*few_data, *many_data)))
    assert [(one["origin"], one["name"], one["envelopes"]) for one in held["largest"]] == [
        (many.id.hex(), "tablet 3", 3),
        (few.id.hex(), None, 1),
    ]


def test_a_certificate_of_a_later_release_hides_nothing_else(device: Device, authority: Authority) -> None:
    device.submit("1")
    certify_stick(authority, device)
    assert isinstance(device.store, QueueStore)
    device.settle_all(device.link_up(shape=LinkShape.DEAD_DROP, far_end=MEDIUM))
    device.store.connection.execute("UPDATE statement SET data = x'00' WHERE subject = ?", (MEDIUM,))
    (one,) = handed(device)
    assert (one["envelopes"], one["name"]) == (1, None)
