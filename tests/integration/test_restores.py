"""Databases, queues and tablets put back to what they were: nothing lost of what anybody still has, nothing doubled."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest

from demo.field import Device, Field, set_toml_keys
from demo.households import households
from demo.processes import wait_until
from demo.run import wait_until_purged
from demo.tcp_relay import TcpRelay
from sync_protocol.bundle import Frame, FrameType, write_bundle
from sync_protocol.identity import Standing
from sync_protocol.topics import up_topic
from tests.support.account import (
    assert_complete,
    assert_gapless,
    assert_marks_are_commit_times,
    digests,
    envelopes_at_center,
    stored,
)
from tests.support.center_broker import TryingClient, strict_context
from tests.support.enrolling_device import EnrollingDevice
from tests.support.postgresql import PostgresqlCluster
from tests.support.small_center import SmallCenter

WAIT_SECONDS: Final = 90.0
NEVER_SECONDS: Final = 2 * 86_400
SETTINGS: Final = {"sync": {"receipt_wait_seconds": 10}}

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def field(tmp_path: Path) -> Iterator[Field]:
    """A center on SQLite and two tablets."""
    with Field(tmp_path, 2, device_settings=SETTINGS, center_kind=SmallCenter) as made:
        made.start()
        yield made


@pytest.fixture
def lone(tmp_path: Path) -> Iterator[Field]:
    """A center on SQLite and one tablet."""
    with Field(tmp_path, 1, device_settings=SETTINGS, center_kind=SmallCenter) as made:
        made.start()
        yield made


class Supply:
    """Questionnaires that are all different; remembers what it gave."""

    def __init__(self) -> None:
        self._bodies = households(11, 10_000)
        self.given: list[bytes] = []

    def submit(self, device: Device, count: int) -> list[bytes]:
        bodies = [next(self._bodies) for _ in range(count)]
        device.submit(bodies)
        self.given += bodies
        return bodies


def synchronise(field: Field) -> None:
    field.wait_until_synchronised(timeout_seconds=WAIT_SECONDS)


def assert_exactly_once(field: Field, bodies: list[bytes]) -> None:
    assert stored(field.center) == digests(bodies)
    known = envelopes_at_center(field.center)
    for device in field.devices:
        assert_marks_are_commit_times(device, known)
    assert_complete(field.center)


def put_back(copy: Path, state: Path, *, only: str = "*") -> None:
    """Replace files of a stopped tablet's state by those of an older copy; with "*", all of them."""
    for path in state.glob(only):
        path.unlink()
    for path in copy.glob(only):
        shutil.copy2(path, state / path.name)


def stop(device: Device) -> None:
    assert device.process is not None
    assert device.process.terminate() == 0


def heal(device: Device) -> None:
    device.relay.heal()
    wait_until(
        lambda: device.status()["link"]["connected"], f"{device.name} is connected", timeout_seconds=WAIT_SECONDS
    )


def everything_is_marked(device: Device) -> None:
    """Wait for the sync marks of all that the tablet has, also of what it sealed before it was put back."""

    def all_marked() -> bool:
        return all(row["committed_at"] for row in device.envelopes())

    wait_until(all_marked, "everything is marked", timeout_seconds=WAIT_SECONDS)


def epochs(device: Device) -> list[tuple[int, int]]:
    return [(chain["epoch"], chain["sequence"]) for chain in device.status()["chains"]]


def test_what_a_restored_census_database_no_longer_has_is_sent_again_by_who_still_holds_it(field: Field) -> None:
    center, supply = field.center, Supply()
    for device in field.devices:
        supply.submit(device, 8)
    synchronise(field)
    backup = Path(center.ask("backup", "run")["file"])
    wait_until_purged(field)
    for device in field.devices:
        supply.submit(device, 7)
    synchronise(field)
    before = {(one.origin, one.sequence): one for one in envelopes_at_center(center)}
    # Marked, but behind no backup yet: the tablets keep them.
    assert [device.status()["envelopes"]["synchronised"] for device in field.devices] == [7, 7]
    for process in (*center.consumers.values(), *center.publishers.values()):
        process.kill9()
    database = Path(center.database_url.removeprefix("sqlite:///"))
    for path in database.parent.glob(f"{database.name}*"):
        path.unlink()
    shutil.copy2(backup, database)
    assert sum(stored(center).values()) == 16
    center.start_consumer()
    center.start_publisher()
    for device in field.devices:
        # Tablets state their heads, with the newest receipt they have, whenever their link comes up.
        device.relay.cut()
        heal(device)
    wait_until(lambda: sum(stored(center).values()) == 30, "all are back", timeout_seconds=WAIT_SECONDS)

    def marked_anew() -> bool:
        synchronise(field)
        marks = {(row["id"], row["committed_at"]) for device in field.devices for row in device.envelopes()}
        return marks == {(one.id.hex(), one.committed_at) for one in envelopes_at_center(center)}

    wait_until(marked_anew, "sync marks are the new commit times", timeout_seconds=WAIT_SECONDS)
    assert_exactly_once(field, supply.given)
    after = {(one.origin, one.sequence): one for one in envelopes_at_center(center)}
    assert {place: one.id for place, one in after.items()} == {place: one.id for place, one in before.items()}
    changed = {place for place, one in after.items() if one.committed_at != before[place].committed_at}
    assert {sequence for _, sequence in changed} == set(range(9, 16))
    assert "commit_withdrawn" in "".join(device.process.log_text() for device in field.devices if device.process)
    center.back_up()
    wait_until_purged(field)
    assert_exactly_once(field, supply.given)


@pytest.mark.parametrize("what", ["queue.db*", "*"], ids=["queue", "queue and mirror"])
def test_a_tablet_with_an_older_queue_begins_the_next_epoch(lone: Field, tmp_path: Path, what: str) -> None:
    (device,), supply = lone.devices, Supply()
    state, copy = device.folder / "state", tmp_path / "copy"
    supply.submit(device, 5)
    synchronise(lone)
    stop(device)
    shutil.copytree(state, copy)
    device.start()
    supply.submit(device, 4)
    synchronise(lone)
    device.relay.cut()
    lost = supply.submit(device, 2)
    stop(device)
    put_back(copy, state, only=what)
    device.start()
    heal(device)
    wait_until(lambda: len(epochs(device)) == 2, "the next epoch has begun", timeout_seconds=WAIT_SECONDS)
    supply.submit(device, 6)
    everything_is_marked(device)
    assert epochs(device) == [(1, 5), (2, 6)]
    # What was only in the queue that is gone, nobody has; everything else is there once.
    kept = [body for body in supply.given if body not in lost]
    assert stored(lone.center) == digests(kept)
    known = envelopes_at_center(lone.center)
    assert_marks_are_commit_times(device, known)
    assert [(one.epoch, one.sequence) for one in known] == [
        *((1, sequence) for sequence in range(1, 10)),
        *((2, sequence) for sequence in range(1, 7)),
    ]
    assert_gapless(known)
    assert [row["forks"] for row in lone.center.ask("completeness")["devices"]] == [0, 0]


def test_an_older_queue_that_goes_on_without_a_link_raises_the_fork_alarm_and_both_contents_are_kept(
    lone: Field, tmp_path: Path
) -> None:
    (device,), supply = lone.devices, Supply()
    state, copy = device.folder / "state", tmp_path / "copy"
    supply.submit(device, 3)
    synchronise(lone)
    stop(device)
    shutil.copytree(state, copy)
    device.start()
    supply.submit(device, 4)
    synchronise(lone)
    stop(device)
    put_back(copy, state)
    device.relay.cut()
    device.start()
    # Nothing tells the tablet, mirror and all, that it was put back; it seals sequences that are taken.
    supply.submit(device, 2)
    assert epochs(device) == [(1, 5)]
    heal(device)
    wait_until(lambda: len(epochs(device)) == 2, "the next epoch has begun", timeout_seconds=WAIT_SECONDS)
    supply.submit(device, 1)
    everything_is_marked(device)
    wait_until(lambda: stored(lone.center) == digests(supply.given), "all contents", timeout_seconds=WAIT_SECONDS)
    places = [(one.epoch, one.sequence) for one in envelopes_at_center(lone.center)]
    assert sorted(places) == [*((1, sequence) for sequence in (1, 2, 3, 4, 4, 5, 5, 6, 7)), (2, 1)]
    newest = {row["epoch"]: row for row in lone.center.ask("completeness")["devices"]}
    assert (newest[1]["forks"], newest[2]["forks"]) == (2, 0)
    log = lone.center.consumers[1].log_text()
    assert log.count("ALARM: device") == 2


def test_a_cloned_tablet_raises_the_fork_alarm_and_what_both_collected_is_kept(lone: Field) -> None:
    (device,), supply = lone.devices, Supply()
    supply.submit(device, 3)
    synchronise(lone)
    stop(device)
    clone = clone_of(device, lone)
    try:
        device.start()
        supply.submit(device, 3)
        synchronise(lone)
        stop(device)
        clone.relay.cut()
        clone.start()
        supply.submit(clone, 3)
        heal(clone)
        wait_until(lambda: len(epochs(clone)) == 2, "the clone has noticed", timeout_seconds=WAIT_SECONDS)
        supply.submit(clone, 2)
        wait_until(lambda: sum(stored(lone.center).values()) == 11, "the clone's are in", timeout_seconds=WAIT_SECONDS)
        stop(clone)
        # The first one again: the clone has begun an epoch that it knows nothing of.
        device.start()
        heal(device)
        wait_until(lambda: len(epochs(device)) == 2, "the first has noticed", timeout_seconds=WAIT_SECONDS)
        supply.submit(device, 2)
        everything_is_marked(device)
    finally:
        clone.close()
    assert stored(lone.center) == digests(supply.given)
    rows = {row["epoch"]: row for row in lone.center.ask("completeness")["devices"]}
    assert {epoch: row["forks"] for epoch, row in rows.items()} == {1: 3, 2: 0, 3: 0}
    assert "ALARM: device" in lone.center.consumers[1].log_text()


def clone_of(device: Device, field: Field) -> Device:
    """A copy of a stopped tablet's whole folder, with a link and sockets of its own."""
    folder = device.folder.with_name("clone")
    shutil.copytree(device.folder, folder)
    clone = object.__new__(Device)
    clone.name, clone.folder, clone.accepted, clone.process = "clone", folder, 0, None
    clone.relay = TcpRelay(("127.0.0.1", field.center.port)).start()
    clone.runtime = device.runtime.with_name(f"{device.runtime.name}-clone")
    clone.configuration = folder / device.configuration.name
    own: dict[str, dict[str, Any]] = {
        "device": {
            "provisioning_directory": str(folder / "provisioning"),
            "state_directory": str(folder / "state"),
            "runtime_directory": str(clone.runtime),
        },
        "broker": {"port": clone.relay.port},
        "intake": {"drop_directory": str(folder / "drop")},
    }
    set_toml_keys(clone.configuration, own)
    return clone


def test_late_data_of_devices_no_longer_active_are_held_and_committed_when_people_say_so(
    field: Field, tmp_path: Path
) -> None:
    center, supply = field.center, Supply()
    lost, revoked = field.devices
    for device in field.devices:
        supply.submit(device, 2)
    synchronise(field)
    for device, standing in ((lost, Standing.LOST), (revoked, Standing.REVOKED)):
        device.relay.cut()
        supply.submit(device, 3)
        center.ask("devices", "standing", device.name, standing.name.lower())
    # Revoked devices are not let in; what they sealed comes by another carrier.
    stop(revoked)
    bundle = queue_bundle(revoked)
    restart_broker(field)
    carrier = EnrollingDevice("another tablet")
    publish_as(field, carrier, bundle, tmp_path)
    heal(lost)
    wait_until(lambda: lost.status()["envelopes"]["held"] == 3, "receipted as held", timeout_seconds=WAIT_SECONDS)
    counts = {"lost_origin": 3, "revoked_origin": 3}
    wait_until(lambda: center.ask("held", "list")["counts"] == counts, "all are held", timeout_seconds=WAIT_SECONDS)
    assert sum(stored(center).values()) == 4
    center.back_up()
    for device in field.devices:
        center.ask("devices", "standing", device.name, "active")
        retried = center.ask("held", "retry", "--device", device.name)
        assert (retried["committed"], retried["held"]) == (3, 0)
    restart_broker(field)
    revoked.start()
    heal(revoked)
    synchronise(field)
    wait_until(lambda: lost.status()["envelopes"]["held"] == 0, "marked as committed", timeout_seconds=WAIT_SECONDS)
    assert_exactly_once(field, supply.given)


def restart_broker(field: Field) -> None:
    """Let the broker read its list of revocations; it forgets every session with it."""
    assert field.center.broker is not None
    field.center.broker.terminate()
    field.center.start_broker()


def queue_bundle(device: Device) -> bytes:
    """What a stopped tablet has not been receipted for, as another carrier would hand it on."""
    with closing(sqlite3.connect(device.folder / "state" / "queue.db")) as queue:
        rows = queue.execute("SELECT data FROM envelope WHERE status IS NULL ORDER BY number").fetchall()
    return write_bundle([Frame(FrameType.ENVELOPE, bytes(data)) for (data,) in rows])


def publish_as(field: Field, carrier: EnrollingDevice, bundle: bytes, folder: Path) -> None:
    client = connected_client(field, carrier, folder)
    # As devices do: while the consumer has not come back to the restarted broker, a bundle is for nobody.
    wait_until(
        lambda: client.publish(up_topic(carrier.device), bundle) == "Success",
        "the broker has somebody to give the bundle to",
        timeout_seconds=WAIT_SECONDS,
    )
    client.close()


def connected_client(field: Field, device: EnrollingDevice, folder: Path) -> TryingClient:
    """Enrol a device that the test itself is, and connect it."""
    from sync_protocol.records import Provisioning, decode_record

    request = device.write_request(folder / f"{device.name}.json")
    answered = field.center.ask("enrol", request)
    provisioning = decode_record(Path(answered["provisioning"]).read_bytes(), Provisioning)
    context = strict_context(*device.write_tls_files(folder / device.name, provisioning))
    client = TryingClient(context, device.device.hex())
    assert client.connect(field.center.port) == "Success"
    return client


def test_while_the_database_is_down_questionnaires_are_accepted_and_wait_unacknowledged(
    tmp_path: Path, running_postgresql: PostgresqlCluster, postgresql_dsn: str
) -> None:
    # A tablet that does not send again by itself in this test's time: what the consumer had acknowledged before its
    # commit, and lost, would be missing at the end.
    settings = {"sync": {"receipt_wait_seconds": NEVER_SECONDS}}
    with Field(tmp_path, 1, database_url=postgresql_dsn, device_settings=settings, center_kind=SmallCenter) as field:
        field.start()
        (device,), supply, center = field.devices, Supply(), field.center
        supply.submit(device, 3)
        synchronise(field)
        running_postgresql.stop()
        supply.submit(device, 9)
        wait_until(lambda: device.status()["envelopes"]["sent"] == 9, "all are sent", timeout_seconds=WAIT_SECONDS)
        consumer = center.consumers[1]
        consumer.wait_until(
            lambda: consumer.log_text().count("the database cannot be asked") > 1, "it waits", timeout_seconds=30
        )
        consumer.kill9()
        running_postgresql.start()
        center.start_consumer()
        synchronise(field)
        assert_exactly_once(field, supply.given)
