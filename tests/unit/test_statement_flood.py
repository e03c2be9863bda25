"""What is flooded to every device stays within one message and tells the most urgent first."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace

from central_broker.authority import create_authority
from central_broker.statement_flood import statement_bundle
from central_broker.storage.contract import DeviceRecord
from sync_protocol.bundle import read_bundle
from sync_protocol.identity import Role, Standing, certify_device, device_name, read_device_certificate
from sync_protocol.keys import SigningKey
from sync_protocol.limits import BUNDLE_BYTES_MAX
from sync_protocol.statement import parse_statement

ISSUER = SigningKey(bytes(32))


def _record(number: int, standing: Standing, serial: int) -> DeviceRecord:
    key = SigningKey(number.to_bytes(32, "big")).public_bytes
    statement = certify_device(
        ISSUER,
        public_key=key,
        role=Role.TABLET,
        standing=standing,
        issued_at=number,
        name="x" * 64,
        serial=serial,
    )
    return DeviceRecord(
        device_name(key), "x" * 64, Role.TABLET, standing, key, number, serial, statement.data, 0, None, None, None
    )


def _told(records: Iterable[DeviceRecord]) -> list[tuple[int, Standing]]:
    keys, _ = create_authority(os.urandom, 1)
    bundle = statement_bundle(keys.statements(), records)
    assert len(bundle) <= BUNDLE_BYTES_MAX
    contents = read_bundle(bundle)
    assert contents.intact
    statements = [parse_statement(frame.payload) for frame in contents.frames]
    assert [one.data for one in statements[:3]] == [one.data for one in keys.statements()]
    certificates = [read_device_certificate(one) for one in statements[3:]]
    return [(one.issued_at, one.standing) for one in certificates]


def test_only_devices_with_news_are_told_of() -> None:
    records = [_record(1, Standing.ACTIVE, 1), _record(2, Standing.RETURNED, 2), _record(3, Standing.ACTIVE, 3)]
    assert _told(records) == [(3, Standing.ACTIVE), (2, Standing.RETURNED)]


def test_a_whole_census_of_returned_tablets_still_fits_and_no_revoked_one_is_left_out() -> None:
    template = _record(1, Standing.RETURNED, 2)
    returned = [replace(template, issued_at=number) for number in range(21_000)]
    revoked = [_record(5, Standing.REVOKED, 2), _record(6, Standing.REVOKED, 2)]
    told = _told([*returned, *revoked])
    assert told[:2] == [(6, Standing.REVOKED), (5, Standing.REVOKED)]
    assert len(told) > 500
