"""A center from nothing to a tablet's receipt, by its commands alone, as real processes on a real broker."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import socket
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from sync_protocol.bundle import Frame, FrameType, read_bundle, write_bundle
from sync_protocol.content import Questionnaire, cut, encode_content
from sync_protocol.envelope import NO_ID, seal_envelope
from sync_protocol.head import sign_head
from sync_protocol.identity import Standing, Trust, read_device_certificate, read_recipient_key
from sync_protocol.receipt import Receipt, read_receipt
from sync_protocol.records import Provisioning, decode_record
from sync_protocol.statement import RECEIPT, parse_statement
from sync_protocol.topics import STATEMENTS, receipts_topic, up_topic
from sync_protocol.way import Leg, Way, write_way
from tests.support.center_broker import TryingClient, strict_context
from tests.support.center_commands import CenterCommands
from tests.support.enrolling_device import EnrollingDevice
from tests.support.mosquitto import Mosquitto, why_no_mosquitto
from tests.support.processes import free_port, wait_until

pytestmark = pytest.mark.skipif(why_no_mosquitto() is not None, reason=str(why_no_mosquitto()))
START_SECONDS_MAX = 30.0


@dataclass
class Installed:
    commands: CenterCommands
    port: int
    center_port: int
    folder: Path

    def broker(self) -> Mosquitto:
        """The broker that `central-broker broker` wrote; the center's listener is the last that it opens."""
        folder = self.commands.folder / "broker"
        return Mosquitto(folder, configuration=folder / "mosquitto.conf", port=self.center_port)

    def enrol(self, device: EnrollingDevice, *options: str) -> Provisioning:
        request = device.write_request(self.folder / f"{device.device.hex()}.json")
        result = self.commands.json("enrol", request, *options)
        return decode_record(Path(result["provisioning"]).read_bytes(), Provisioning)


@pytest.fixture
def installed(tmp_path: Path) -> Installed:
    """Made by the command itself, its keys sealed at full cost."""
    commands = CenterCommands(tmp_path / "center")
    port, center_port = free_port(), free_port()
    commands.run(
        *("--passphrase-file", commands.passphrase, "init", "--address", "127.0.0.1"),
        *("--port", str(port), "--center-port", str(center_port), "--broker-user", getpass.getuser()),
    )
    return Installed(commands, port, center_port, tmp_path)


@pytest.fixture
def small(tmp_path: Path) -> Installed:
    """For what is not about how a center's keys are made and kept."""
    commands = CenterCommands(tmp_path / "center")
    port, center_port = free_port(), free_port()
    commands.make_small(port, center_port)
    return Installed(commands, port, center_port, tmp_path)


def _sealed_bundle(device: EnrollingDevice, provisioning: Provisioning, count: int) -> bytes:
    statements = [parse_statement(data) for data in provisioning.statements]
    recipient = next(
        key
        for key in (read_recipient_key(one) for one in statements if one.kind == 4)
        if key.name.hex() == provisioning.recipient_key
    )
    frames, last_id = [], NO_ID
    for sequence in range(1, count + 1):
        questionnaire = Questionnaire(
            form="household",
            form_version="1",
            instance_id=f"uuid:{device.name}-{sequence}",
            media_type="application/json",
            created_at=1,
            body=b'{"persons": %d}' % sequence,
        )
        ((metadata, part),) = cut(questionnaire)
        envelope = seal_envelope(
            encode_content(metadata, part),
            recipient=recipient,
            signer=device.signing_key,
            origin=device.device,
            epoch=1,
            sequence=sequence,
            previous_id=last_id,
        )
        last_id = envelope.id
        frames.append(Frame(FrameType.ENVELOPE, envelope.data))
    head = sign_head(
        device.signing_key,
        origin=device.device,
        epoch=1,
        sequence=count,
        last_id=last_id,
        receipt_serial=0,
        stated_at=1,
    )
    return write_bundle([Frame(FrameType.HEAD, head.data), *frames])


def _next_receipt(client: TryingClient, trust: Trust) -> Receipt:
    """The next receipt, believed only by what the device was provisioned with."""
    while True:
        topic, payload = client.next_message()
        for frame in read_bundle(payload).frames:
            statement = parse_statement(frame.payload)
            if topic.startswith("census/1/receipts/") and statement.kind == RECEIPT:
                trust.check(statement)
                return read_receipt(statement)


def _trust(provisioning: Provisioning) -> Trust:
    trust = Trust(bytes.fromhex(provisioning.root_key))
    for statement in map(parse_statement, provisioning.statements):
        trust = trust.learn(statement) if statement.kind == 3 else trust
    return trust


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """The socket where systemd would listen."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(START_SECONDS_MAX)
        yield listening


def test_from_an_empty_folder_to_a_backed_up_receipt(installed: Installed, manager: socket.socket) -> None:
    commands = installed.commands
    device = EnrollingDevice("tablet 17")
    provisioning = installed.enrol(device)
    commands.run("broker")
    commands.run("forms", "add", "household")
    context = strict_context(*device.write_tls_files(installed.folder / "device", provisioning))
    client = TryingClient(context, device.device.hex())
    with (
        installed.broker(),
        commands.service("consume", "--processes", "2", notify=installed.folder / "notify"),
        commands.service("receipts"),
    ):
        assert manager.recv(1000).startswith(b"READY=1\nSTATUS=2 consumers")
        assert client.connect(installed.port) == "Success"
        client.subscribe(receipts_topic(device.device))
        log = commands.folder / "consume.log"
        wait_until(lambda: log.read_text().count("connected to the broker") == 2, "both consumers are connected")
        client.publish(up_topic(device.device), _sealed_bundle(device, provisioning, 3))
        receipt = _next_receipt(client, _trust(provisioning))
        assert [(span.first, span.last) for span in receipt.spans] == [(1, 3)]
        assert receipt.watermark == 0
        shown = commands.json("completeness")["devices"]
        assert [(one["name"], one["sealed"], one["committed"], one["missing"]) for one in shown] == [
            ("tablet 17", 3, 3, 0)
        ]
        backup = commands.json("backup", "run")
        assert backup["origins_told"] == 1
        assert _next_receipt(client, _trust(provisioning)).watermark == backup["reached"]
        client.close()
    copy = sqlite3.connect(backup["file"])
    assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    copy.close()
    assert commands.json("backup", "status")["watermark"] == backup["reached"]
    listed = commands.json("devices", "list")
    assert [(one["name"], one["standing"], one["last_route"]) for one in listed] == [("tablet 17", "active", "vpn")]
    assert "tablet 17" in commands.run("completeness")


def test_a_revoked_device_is_shut_out_and_everyone_is_told(small: Installed) -> None:
    commands = small.commands
    revoked, other = EnrollingDevice("stolen"), EnrollingDevice("other")
    commands.run("broker")
    given = {device.device: small.enrol(device) for device in (revoked, other)}
    result = commands.json("devices", "standing", "stolen", "revoked")
    assert (result["changed"], result["reload_broker"]) == (True, True)
    with small.broker(), commands.service("receipts"):
        folder = small.folder / "devices"
        thief = TryingClient(strict_context(*revoked.write_tls_files(folder / "1", given[revoked.device])), "x")
        with contextlib.suppress(OSError):
            assert thief.connect(small.port) != "Success"
        client = TryingClient(strict_context(*other.write_tls_files(folder / "2", given[other.device])), "y")
        assert client.connect(small.port) == "Success"
        client.subscribe(STATEMENTS)
        topic, payload = client.next_message()
        client.close()
    assert topic == STATEMENTS
    statements = [parse_statement(frame.payload) for frame in read_bundle(payload).frames]
    trust = _trust(given[other.device])
    for statement in statements:
        trust.check(statement)
    told = [read_device_certificate(one) for one in statements if one.kind == 2]
    assert [(one.device, one.standing) for one in told] == [(revoked.device, Standing.REVOKED)]


def test_services_need_only_the_secrets_of_their_own_folder(installed: Installed) -> None:
    secrets = installed.commands.folder / "secrets"
    installed.commands.run("broker")
    shutil.move(secrets / "authority", installed.folder / "offline")
    with installed.broker():
        shutil.move(secrets / "receipts", installed.folder / "elsewhere")
        with installed.commands.service("consume"):
            log = installed.commands.folder / "consume.log"
            wait_until(lambda: "connected to the broker" in log.read_text(), "the service is connected")
        shutil.move(installed.folder / "elsewhere", secrets / "receipts")
        shutil.move(secrets / "consumer", installed.folder / "elsewhere")
        with installed.commands.service("receipts"):
            log = installed.commands.folder / "receipts.log"
            wait_until(lambda: "connected to the broker" in log.read_text(), "the service is connected")


def test_receipt_keys_are_rotated_with_the_root_from_its_offline_place(installed: Installed) -> None:
    commands = installed.commands
    offline = installed.folder / "stick-root.sealed"
    shutil.move(commands.folder / "secrets" / "authority" / "root.sealed", offline)
    assert "root.sealed" in commands.refuse("keys", "rotate", "receipt")
    new = commands.json("keys", "rotate", "receipt", "--root-file", str(offline))
    keys = {key["name"]: key["state"] for key in commands.json("keys", "list")["keys"] if key["kind"] == "receipt"}
    assert keys[new["name"]] == "active"
    assert sorted(keys.values()) == ["active", "retired"]
    newest = commands.json("keys", "rotate", "recipient")
    given = installed.enrol(EnrollingDevice("later"))
    assert given.recipient_key == newest["name"]
    assert len([one for one in given.statements if parse_statement(one).kind == 4]) == 2


def test_commands_refuse_with_a_remedy(small: Installed, tmp_path: Path) -> None:
    commands = small.commands
    assert "exists already" in commands.refuse("init", "--address", "10.0.0.1")
    assert "has an authority already" in commands.refuse("init")
    assert "no device" in commands.refuse("devices", "standing", "nobody", "lost")
    wrong = tmp_path / "wrong"
    wrong.write_text("another passphrase\n")
    wrong.chmod(0o600)
    request = EnrollingDevice("tablet").write_request(tmp_path / "request.json")
    assert "does not open issuing" in commands.refuse("--passphrase-file", wrong, "enrol", request)
    wrong.chmod(0o644)
    assert "chmod 600" in commands.refuse("--passphrase-file", wrong, "enrol", request)
    request.write_bytes(b"{}")
    assert "edge-agent enrol request" in commands.refuse("enrol", request)
    assert "time" in commands.refuse("backup", "record", "yesterday")
    assert "zone" in commands.refuse("backup", "record", "2026-10-03T02:00:00")
    assert "watermark" in commands.refuse("backup", "record", str(10**18))
    assert "status 3" in commands.refuse("backup", "wrap", "--", "sh", "-c", "exit 3")
    assert "nothing was named" in commands.refuse("held", "retry")
    toml = commands.folder / "center.toml"
    toml.write_text(toml.read_text() + "\ncolour = 1\n[nonsense]\n")
    said = commands.refuse("devices", "list")
    assert "log.colour" in said
    assert "nonsense" in said


def test_a_center_without_a_passphrase_or_with_a_short_one_is_not_made(tmp_path: Path) -> None:
    commands = CenterCommands(tmp_path / "center")
    assert "there is no passphrase" in commands.refuse("init")
    commands.passphrase.write_text("short\n")
    assert "at least 12" in commands.refuse("--passphrase-file", commands.passphrase, "init")
    assert not (tmp_path / "center").exists()


def test_nothing_of_the_center_is_open_to_other_users(installed: Installed) -> None:
    installed.commands.run("backup", "run")
    state = installed.commands.folder / "state"
    assert state.stat().st_mode & 0o007 == 0
    for folder, _, names in os.walk(installed.commands.folder / "secrets"):
        assert Path(folder).stat().st_mode & 0o077 == 0
        assert all((Path(folder) / name).stat().st_mode & 0o077 == 0 for name in names)
    for path in (*state.glob("census.sqlite3*"), *(installed.commands.folder / "backup").iterdir()):
        assert path.stat().st_mode & 0o007 == 0, path


def test_a_killed_consumer_is_started_again_and_its_siblings_go_on(small: Installed) -> None:
    commands = small.commands
    commands.run("broker")
    log = commands.folder / "consume.log"
    with (
        small.broker(),
        commands.service("consume", "--processes", "2") as service,
    ):
        wait_until(lambda: log.read_text().count("connected to the broker") == 2, "both consumers are connected")
        children = Path(f"/proc/{service.pid}/task/{service.pid}/children").read_text().split()
        assert len(children) == 2
        os.kill(int(children[0]), signal.SIGKILL)
        wait_until(
            lambda: log.read_text().count("connected to the broker") == 3, "a consumer is started again and connected"
        )
        assert Path(f"/proc/{children[1]}").exists()
    assert not Path(f"/proc/{children[1]}").exists()


def test_a_center_on_postgresql_leaves_the_backup_to_the_site_and_records_it(
    tmp_path: Path, quick_postgresql_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = urlsplit(quick_postgresql_dsn)
    url = parts._replace(netloc=f"{parts.username}@{parts.hostname}:{parts.port}").geturl()
    monkeypatch.setenv("PGPASSWORD", parts.password or "")
    commands = CenterCommands(tmp_path / "center")
    assert "pgpass" in commands.refuse(
        "--passphrase-file", commands.passphrase, "init", "--database", quick_postgresql_dsn
    )
    commands.run("--passphrase-file", commands.passphrase, "init", "--database", url)
    commands.run("enrol", EnrollingDevice("tablet").write_request(tmp_path / "request.json"))
    assert [one["name"] for one in commands.json("devices", "list")] == ["tablet"]
    assert "backup wrap" in commands.refuse("backup", "run")
    commands.run("backup", "wrap", "--", "true")


def test_operators_see_by_which_route_carrier_and_hops_a_tablets_data_came(small: Installed) -> None:
    commands = small.commands
    tablet, laptop = EnrollingDevice("tablet 17"), EnrollingDevice("laptop 3")
    given = {device.device: small.enrol(device) for device in (tablet, laptop)}
    commands.run("broker")
    head, first, second, third = read_bundle(_sealed_bundle(tablet, given[tablet.device], 3)).frames
    mesh, usb = (Frame(FrameType.WAY, write_way(Way(leg, hops))) for leg, hops in ((Leg.MESH, 1), (Leg.USB, 2)))
    client = TryingClient(
        strict_context(*laptop.write_tls_files(small.folder / "device", given[laptop.device])), laptop.device.hex()
    )
    commands.run("forms", "add", "household")
    with small.broker(), commands.service("consume"):
        log = commands.folder / "consume.log"
        wait_until(lambda: "connected to the broker" in log.read_text(), "the service is connected")
        assert client.connect(small.port) == "Success"
        client.publish(up_topic(laptop.device), write_bundle([head, mesh, first, second, usb, third]))
        wait_until(lambda: commands.json("completeness")["totals"]["envelopes_committed"] == 3, "all is committed")
        client.publish(up_topic(laptop.device), write_bundle([usb, Frame(FrameType.ENVELOPE, b"noise")]))
        wait_until(lambda: bool(commands.json("held", "list")["held"]), "the noise is held")
        client.close()
    carrier = laptop.device.hex()
    shown = commands.json("completeness", "tablet 17")
    assert [(one["route"], one["carrier"], one["hops"]) for one in shown["devices"]] == [("usb", carrier, 2)]
    assert shown["routes"] == {"mesh": {"envelopes": 2, "hops_mean": 1.0}, "usb": {"envelopes": 1, "hops_mean": 2.0}}
    said = commands.run("completeness", "tablet 17")
    assert "usb, 2 hops" in said
    assert "arrived of tablet 17: 2 by mesh (1.0 hops on average), 1 by usb (2.0 hops on average)" in said
    listed = {one["name"]: one for one in commands.json("devices", "list")}
    assert [(one["last_route"], one["last_carrier"], one["last_hops"]) for one in listed.values()] == [
        (None, None, None),
        ("usb", carrier, 2),
    ]
    said = commands.run("devices", "list")
    [row] = [line for line in said.splitlines() if tablet.device.hex() in line]
    assert "usb, 2 hops" in row
    assert row.rstrip().endswith("laptop 3")
    assert "last_hops" in commands.run("devices", "show", "tablet 17")
    [noise] = commands.json("held", "list")["held"]
    assert (noise["route"], noise["carrier"], noise["hops"]) == ("usb", carrier, 2)
    assert "hops" in commands.run("held", "show", noise["id"])


def test_what_is_held_for_its_form_is_shown_without_content_and_committed_on_retry(small: Installed) -> None:
    commands = small.commands
    device = EnrollingDevice("tablet 17")
    provisioning = small.enrol(device)
    commands.run("broker")
    client = TryingClient(
        strict_context(*device.write_tls_files(small.folder / "device", provisioning)), device.device.hex()
    )
    with small.broker(), commands.service("consume"):
        log = commands.folder / "consume.log"
        wait_until(lambda: "connected to the broker" in log.read_text(), "the service is connected")
        assert client.connect(small.port) == "Success"
        client.publish(up_topic(device.device), _sealed_bundle(device, provisioning, 2))
        wait_until(lambda: commands.json("completeness")["totals"]["envelopes_held"] == 2, "both envelopes are held")
        client.close()
    held = commands.json("held", "list", "--reason", "unknown_form")["held"]
    assert sorted((one["sequence"], one["origin"]) for one in held) == [
        (1, device.device.hex()),
        (2, device.device.hex()),
    ]
    shown = commands.run("held", "show", held[0]["id"][:12])
    assert "unknown_form" in shown
    assert "persons" not in shown
    assert commands.json("forms", "add", "household")["held_as_unknown_form"] == 2
    assert commands.json("held", "retry", "--reason", "unknown_form") == {"committed": 2, "duplicates": 0, "held": 0}
    assert commands.json("completeness", "tablet 17")["devices"][0]["committed"] == 2
    assert "nothing is held" in commands.run("held", "list")
