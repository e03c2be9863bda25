"""What is flooded to every device stays within one message and tells the most urgent first."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace

from central_broker.authority import KeyState, create_authority, delegate_media, withdraw_media
from central_broker.media import FIRST_SERIAL, MediumWords
from central_broker.statement_flood import statement_bundle
from central_broker.storage.inquiry_records import DeviceRecord, MediumRecord
from sync_protocol.bundle import read_bundle
from sync_protocol.identity import Role, Standing, certify_device, device_name, read_device_certificate
from sync_protocol.keys import SigningKey
from sync_protocol.limits import BUNDLE_BYTES_MAX
from sync_protocol.medium import certify_medium
from sync_protocol.statement import parse_statement

ISSUER = SigningKey(bytes(32))


def _record(number: int, standing: Standing, serial: int, role: Role = Role.TABLET) -> DeviceRecord:
    key = SigningKey(number.to_bytes(32, "big")).public_bytes
    statement = certify_device(
        ISSUER,
        public_key=key,
        role=role,
        standing=standing,
        issued_at=number,
        name="x" * 64,
        serial=serial,
    )
    return DeviceRecord(
        device_name(key), "x" * 64, role, standing, key, number, serial, statement.data, 0, None, None, None
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


def test_every_device_is_told_of_online_devices_before_the_many_that_were_returned() -> None:
    online = [_record(5_000, Standing.ACTIVE, 1, Role.ONLINE), _record(5_001, Standing.RETURNED, 2, Role.ONLINE)]
    told = _told([*(_record(number, Standing.RETURNED, 2) for number in range(1, 2_000)), *online])
    assert told[:2] == [(5_001, Standing.RETURNED), (5_000, Standing.ACTIVE)]


def _medium(number: int, standing: Standing, serial: int) -> MediumRecord:
    one = MediumWords(str(number), "x" * 64, standing, 0)
    name = number.to_bytes(16, "big")
    statement = certify_medium(
        ISSUER,
        medium=name,
        number=one.number,
        holder=one.holder,
        standing=standing,
        issued_at=number,
        expires_at=0,
        serial=serial,
    )
    return MediumRecord(name, one.number, one.holder, standing, number, 0, serial, statement.data, 0)


def _kinds(bundle: bytes) -> list[tuple[int, int]]:
    """What follows the center's three keys: kind, and the number of a medium or 0."""
    assert len(bundle) <= BUNDLE_BYTES_MAX
    statements = [parse_statement(frame.payload) for frame in read_bundle(bundle).frames][3:]
    return [(one.kind, int.from_bytes(one.subject, "big") if one.kind == 5 else 0) for one in statements]


def test_only_media_with_news_are_told_of() -> None:
    keys, _ = create_authority(os.urandom, 1)
    media = [
        _medium(1, Standing.ACTIVE, FIRST_SERIAL),
        _medium(2, Standing.ACTIVE, 3),  # by a collection point: the medium brings it along
        _medium(3, Standing.ACTIVE, FIRST_SERIAL + 1),
        _medium(4, Standing.RETURNED, 2),
        _medium(5, Standing.LOST, FIRST_SERIAL + 1),
        _medium(6, Standing.REVOKED, FIRST_SERIAL + 1),
    ]
    assert _kinds(statement_bundle(keys.statements(), [], media)) == [(5, 6), (5, 5), (5, 4), (5, 3)]


def test_what_takes_trust_away_is_never_crowded_out() -> None:
    authority, secrets = create_authority(os.urandom, 1)
    root = SigningKey(secrets[0].seed)
    for number in range(1300):
        authority = delegate_media(authority, root, SigningKey(number.to_bytes(32, "big")).public_bytes, 1)
    authority = withdraw_media(authority, root, SigningKey(bytes(32)).public_bytes, 2)
    template = _record(1, Standing.RETURNED, 2)
    returned = [replace(template, issued_at=number) for number in range(21_000)]
    told = _kinds(
        statement_bundle(
            authority.statements(),
            [_record(5, Standing.REVOKED, 2), *returned],
            [_medium(7, Standing.REVOKED, FIRST_SERIAL + 1)],
            authority.delegation_statements(),
        )
    )
    assert told[-2:] == [(5, 7), (2, 0)]
    assert len(told) > 1000
    withdrawn = next(one for one in authority.delegations if one.state is KeyState.WITHDRAWN)
    assert told[0] == (3, 0)
    bundle = statement_bundle(authority.statements(), returned, [], authority.delegation_statements())
    assert withdrawn.statement in [frame.payload for frame in read_bundle(bundle).frames]


def test_delegation_comes_before_what_it_certified() -> None:
    authority, secrets = create_authority(os.urandom, 1)
    point = SigningKey(bytes(range(32)))
    authority = delegate_media(authority, SigningKey(secrets[0].seed), point.public_bytes, 1)
    told = statement_bundle(
        authority.statements(),
        [],
        [_medium(1, Standing.REVOKED, 2)],
        authority.delegation_statements(),
    )
    assert _kinds(told) == [(3, 0), (5, 1)]


def test_a_whole_census_of_returned_tablets_still_fits_and_no_revoked_one_is_left_out() -> None:
    template = _record(1, Standing.RETURNED, 2)
    returned = [replace(template, issued_at=number) for number in range(21_000)]
    revoked = [_record(5, Standing.REVOKED, 2), _record(6, Standing.REVOKED, 2)]
    told = _told([*returned, *revoked])
    assert told[:2] == [(6, Standing.REVOKED), (5, Standing.REVOKED)]
    assert len(told) > 500
