"""Media at the center by its commands, as real processes: enrolled, written, withdrawn, delegated, and flooded."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sync_protocol.bundle import Frame, FrameType, read_bundle, write_bundle
from sync_protocol.identity import Role, Standing, Trust
from sync_protocol.medium import (
    certificate_in_force,
    certify_medium,
    read_medium_certificate,
    read_medium_identity,
    write_medium_identity,
)
from sync_protocol.records import Provisioning, decode_record, encode_record
from sync_protocol.statement import MEDIUM_CERTIFICATE, Statement, parse_statement
from sync_protocol.topics import STATEMENTS, up_topic
from tests.support.center_broker import TryingClient, strict_context
from tests.support.center_commands import CenterCommands
from tests.support.enrolling_device import EnrollingDevice
from tests.support.mosquitto import Mosquitto, why_no_mosquitto
from tests.support.processes import free_port, wait_until


@dataclass
class Installed:
    commands: CenterCommands
    port: int
    center_port: int
    folder: Path

    def enrol(self, device: EnrollingDevice, role: Role = Role.TABLET) -> Provisioning:
        path = self.folder / f"{device.device.hex()}.json"
        path.write_bytes(encode_record(device.request(role)))
        result = self.commands.json("enrol", path, "--renew")
        return decode_record(Path(result["provisioning"]).read_bytes(), Provisioning)

    def stick(self, name: str) -> Path:
        path = self.folder / name
        path.mkdir(exist_ok=True)
        return path

    def trust(self) -> Trust:
        """What every device stands on: the root key."""
        return Trust(bytes.fromhex(self.commands.json("keys", "list")["root_key"]))

    def on(self, stick: Path, known: Statement | None = None) -> dict[str, Any]:
        """What a device that knows the root key believes of a stick."""
        identity = read_medium_identity((stick / "CENSUS" / "MEDIUM.CNS").read_bytes())
        return vars(certificate_in_force(identity, known, self.trust()))


@pytest.fixture
def installed(tmp_path: Path) -> Installed:
    commands = CenterCommands(tmp_path / "center")
    port, center_port = free_port(), free_port()
    commands.make_small(port, center_port)
    return Installed(commands, port, center_port, tmp_path)


def test_a_stick_is_enrolled_written_handed_on_and_given_up(installed: Installed) -> None:
    commands, stick = installed.commands, installed.stick("stick")
    enrolled = commands.json(
        *("media", "enrol", "--number", "0017", "--holder", "Ахметова А. С."),
        *("--expires", "2099-11-30", "--out", stick),
    )
    assert enrolled["file"] == str(stick / "CENSUS" / "MEDIUM.CNS")
    found = installed.on(stick)
    assert (found["medium"].hex(), found["number"], found["holder"]) == (enrolled["medium"], "0017", "Ахметова А. С.")
    assert (found["standing"], found["expires_at"]) == (Standing.ACTIVE, 4_099_766_400_000_000)
    [listed] = commands.json("media", "list")
    assert (listed["number"], listed["last_day"], listed["certified_by"]) == ("0017", "2099-11-30", "the center")
    assert "Ахметова А. С." in commands.run("media")

    commands.run("media", "renew", "0017", "--holder", "Сулейменов Б.", "--expires", "never")
    commands.run("media", "write", enrolled["medium"][:6], "--out", stick)
    renewed = installed.on(stick)
    assert (renewed["medium"], renewed["holder"], renewed["expires_at"]) == (found["medium"], "Сулейменов Б.", 0)
    assert renewed["serial"] > found["serial"]

    assert commands.json("media", "standing", "0017", "lost")["changed"]
    assert not commands.json("media", "standing", "0017", "lost")["changed"]
    assert commands.json("media", "list", "--standing", "active") == []
    assert commands.json("media", "show", "0017")["standing"] == "lost"
    assert "lost" in commands.run("media", "write", "0017", "--out", stick)
    assert installed.on(stick)["standing"] is Standing.LOST


def test_another_mediums_identity_is_overwritten_only_when_that_is_said(installed: Installed) -> None:
    commands, stick, other = installed.commands, installed.stick("stick"), installed.stick("other")
    first = commands.json("media", "enrol", "--number", "1", "--holder", "A", "--out", stick)
    second = commands.json("media", "enrol", "--number", "2", "--holder", "B", "--out", other)
    assert first["medium"] in commands.refuse("media", "enrol", "--number", "3", "--holder", "C", "--out", stick)
    assert first["medium"] in commands.refuse("media", "write", "2", "--out", stick)
    assert installed.on(stick)["number"] == "1"
    assert [one["number"] for one in commands.json("media", "list")] == ["1", "2"]
    third = commands.json("media", "enrol", "--number", "3", "--holder", "C", "--out", stick, "--replace")
    assert (third["replaced"], installed.on(stick)["number"]) == (first["medium"], "3")
    commands.run("media", "write", "2", "--out", other)
    assert installed.on(other)["medium"].hex() == second["medium"]


def test_commands_about_media_refuse_with_a_remedy(installed: Installed) -> None:
    commands = installed.commands
    commands.run("media", "enrol", "--number", "1", "--holder", "A")
    assert "media write" in commands.refuse("media", "enrol", "--number", "1", "--holder", "B")
    assert "printable" in commands.refuse("media", "enrol", "--number", "2", "--holder", "A\nB")
    assert "64 bytes" in commands.refuse("media", "enrol", "--number", "2", "--holder", "я" * 33)
    assert "expired" in commands.refuse("media", "enrol", "--number", "2", "--holder", "B", "--expires", "2001-01-01")
    assert "media list" in commands.refuse("media", "standing", "nothing", "lost")
    installed.enrol(EnrollingDevice("tablet"))
    assert "media delegates" in commands.refuse("media", "delegate", "tablet", "--withdraw")
    assert "collection point" in commands.refuse("media", "delegate", "tablet")
    wrong = commands.try_run("media", "enrol", "--number", "2", "--holder", "B", "--expires", "31.12.2026")
    assert wrong.returncode == 2
    assert "2026-11-30" in wrong.stderr
    full = installed.stick("full")
    (full / "CENSUS").symlink_to(installed.folder)
    assert "format" in commands.refuse("media", "enrol", "--number", "2", "--holder", "B", "--out", full)
    assert [one["number"] for one in commands.json("media", "list")] == ["1"]


def test_a_collection_point_is_delegated_with_the_root_from_its_offline_place(installed: Installed) -> None:
    commands, stick = installed.commands, installed.stick("stick")
    laptop = EnrollingDevice("laptop 3")
    installed.enrol(laptop, Role.COLLECTION_POINT)
    root = installed.folder / "root.sealed"
    shutil.move(commands.folder / "secrets" / "authority" / "root.sealed", root)
    assert "root.sealed" in commands.refuse("media", "delegate", "laptop 3")
    assert commands.json("media", "delegates") == []
    assert commands.json("media", "delegate", "laptop 3", "--root-file", root)["changed"]
    assert not commands.json("media", "delegate", "laptop 3", "--root-file", root)["changed"]
    given = installed.enrol(laptop, Role.COLLECTION_POINT)
    delegation = next(one for one in map(parse_statement, given.statements) if one.body[:1] == b"\x08")
    identity = write_medium_identity([delegation], _certified_by(laptop))
    (stick / "CENSUS").mkdir()
    (stick / "CENSUS" / "MEDIUM.CNS").write_bytes(identity)
    assert installed.on(stick)["number"] == "7"
    assert "CENSUS" in commands.refuse("media", "record", installed.stick("empty"))
    assert commands.json("media", "record", stick)["number"] == "7"
    assert commands.json("media", "show", "7")["certified_by"] == "laptop 3"
    [shown] = commands.json("media", "delegates")
    assert (shown["name"], shown["delegation"]) == ("laptop 3", "active")

    said = commands.run("devices", "standing", "laptop 3", "lost")
    assert "media delegate" in said
    withdrawn = commands.json("media", "delegate", "laptop 3", "--withdraw", "--root-file", root)
    assert (withdrawn["changed"], withdrawn["orphaned"]) == (True, [(b"seven" + bytes(11)).hex()])
    assert "media renew" in commands.refuse("media", "write", "7", "--out", stick)
    commands.run("media", "renew", "7")
    commands.run("media", "write", "7", "--out", stick)
    assert installed.on(stick)["serial"] > 1 << 32
    assert "media delegate" not in commands.run("devices", "standing", "laptop 3", "revoked")
    assert commands.json("media", "delegates")[0]["delegation"] == "withdrawn"


def _certified_by(laptop: EnrollingDevice, standing: Standing = Standing.ACTIVE, serial: int = 1) -> Statement:
    return certify_medium(
        laptop.signing_key,
        medium=b"seven" + bytes(11),
        number="7",
        holder="Иванов",
        standing=standing,
        issued_at=1,
        expires_at=0,
        serial=serial,
    )


def _next_statements(client: TryingClient, wanted: Callable[[list[Statement]], bool]) -> list[Statement]:
    while True:
        topic, payload = client.next_message()
        statements = [parse_statement(frame.payload) for frame in read_bundle(payload).frames]
        if topic == STATEMENTS and wanted(statements):
            return statements


@pytest.mark.skipif(why_no_mosquitto() is not None, reason=str(why_no_mosquitto()))
def test_every_device_is_told_of_a_revoked_stick_also_of_one_that_a_laptop_enrolled(installed: Installed) -> None:
    commands = installed.commands
    laptop = EnrollingDevice("laptop 3")
    installed.enrol(laptop, Role.COLLECTION_POINT)
    commands.run("media", "delegate", "laptop 3")
    given = installed.enrol(laptop, Role.COLLECTION_POINT)
    commands.run("media", "enrol", "--number", "0017", "--holder", "A")
    commands.run("broker")
    context = strict_context(*laptop.write_tls_files(installed.folder / "device", given))
    client = TryingClient(context, laptop.device.hex())
    folder = commands.folder / "broker"
    with (
        Mosquitto(folder, configuration=folder / "mosquitto.conf", port=installed.center_port),
        commands.service("consume", "--processes", "1"),
        commands.service("receipts"),
    ):
        assert client.connect(installed.port) == "Success"
        client.subscribe(STATEMENTS)
        log = commands.folder / "consume.log"
        wait_until(lambda: "connected to the broker" in log.read_text(), "the consumer is connected")
        own = _certified_by(laptop)
        client.publish(up_topic(laptop.device), write_bundle([Frame(FrameType.STATEMENT, own.data)]))
        wait_until(lambda: len(commands.json("media", "list")) == 2, "the center has heard of the laptop's medium")
        listed = {one["number"]: one["certified_by"] for one in commands.json("media", "list")}
        assert listed == {"0017": "the center", "7": "laptop 3"}
        commands.run("media", "standing", "7", "revoked")
        commands.run("media", "standing", "0017", "lost")
        told = _next_statements(client, lambda found: sum(one.kind == MEDIUM_CERTIFICATE for one in found) == 2)
        client.close()
    trust = installed.trust()
    media = {}
    for statement in told:
        trust = trust.learn(statement) if statement.kind == 3 else trust
        trust.check(statement)
        if statement.kind == MEDIUM_CERTIFICATE:
            certificate = read_medium_certificate(statement)
            media[certificate.number] = certificate.standing
    assert media == {"7": Standing.REVOKED, "0017": Standing.LOST}
