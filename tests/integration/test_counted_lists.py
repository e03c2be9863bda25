"""A list of who is counted, from the center's database to the screen of a tablet: by stick and laptop, and by VPN."""

from __future__ import annotations

import json
import stat
import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest

from central_broker.center_files import CenterFiles
from central_broker.configuration import parse_configuration
from central_broker.counted_lists import Given, NoKeyYet, give_list
from central_broker.seed_protection import PassphraseSources
from central_broker.storage import open_storage
from demo.balance import draw_up
from demo.field import CommandFailed, Device, Field
from demo.processes import wait_until
from edge_agent.own_list import LIST_KEY_FILE_NAME
from sync_protocol.counted_list import CountedList, Entry, Section, Status
from tests.support.small_center import SmallCenter

WAIT_SECONDS: Final = 60.0
SETTINGS: Final[dict[str, dict[str, Any]]] = {"device": {"counted_lists": True}, "usb": {"receipt_wait_seconds": 5}}
MARKED: Final = "Семёнов-Маркировка Пётр"
DAY: Final = 86_400_000_000

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def field(tmp_path: Path) -> Iterator[Field]:
    with Field(tmp_path, 1, device_settings=SETTINGS, center_kind=SmallCenter) as made:
        laptop = Device(tmp_path / "laptop", "laptop 3", made.center, settings=SETTINGS, role="collection_point")
        made.devices.append(laptop)
        made.devices[0].relay.cut()
        made.start()
        yield made


def give(field: Field, device: Device, list_: CountedList) -> Given | NoKeyYet:
    """Give a list as a command of the center does."""
    folder = field.center.folder
    sources = PassphraseSources({}, known=(folder / "passphrase").read_text().strip().encode())
    files = CenterFiles(parse_configuration((folder / "center.toml").read_text(), folder), sources)
    with closing(open_storage(field.center.database_url)) as storage:
        name = bytes.fromhex(device.status()["device"])
        return give_list(storage, files.issuing_key(), name, list_, time.time_ns() // 1_000)


def arrives(field: Field, device: Device, list_: CountedList) -> bool:
    """Give a list if the device has told its key, and tell whether the device has it."""
    given = isinstance(give(field, device, list_), Given)
    return given and (device.status()["counted_list"] or {}).get("as_of") == list_.as_of


def list_of(*entries: Entry, as_of: int) -> CountedList:
    school = Section(place="590-17", title="Boarding school № 4", entries=entries, notices=("4821-0937",))
    barracks = Section(place="590-18", title="Barracks", entries=(Entry(name="Ким Вера", status=Status.COUNTED),))
    return CountedList(as_of=as_of, keep_until=as_of + 30 * DAY, sections=(school, barracks))


def enrolled(field: Field) -> Path:
    folder = field.folder / "stick"
    folder.mkdir()
    field.center.ask("media", "enrol", "--number", "0001", "--holder", "S. Omarov", "--out", folder)
    return folder


def visit(device: Device, stick: Path) -> None:
    assert json.loads(device.edge_agent("media", "export", stick, "--json"))["ending"] == "safe"


def counted(device: Device, *words: str) -> Any:
    return json.loads(device.edge_agent("counted", *words, "--json"))


def refused(device: Device, *words: str) -> str:
    with pytest.raises(CommandFailed) as failed:
        device.edge_agent("counted", *words)
    return str(failed.value)


def files_with(name: str, *folders: Path) -> list[Path]:
    """Return the files below these folders that a name stands in."""
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return [path for path in files if name.encode() in path.read_bytes()]


def test_a_list_reaches_a_tablet_without_a_link_by_a_stick_and_nobody_on_the_way_can_read_it(field: Field) -> None:
    tablet, laptop = field.devices
    stick = enrolled(field)
    now = time.time_ns() // 1_000
    people = (
        Entry(name=MARKED, status=Status.COUNTED, birth_date="1985-03-02", channel="online", counted_on="2026-09-14"),
        Entry(name="Ахметова Айгуль", status=Status.MISSING, room="12"),
        Entry(name="Жаксыбеков Ерлан", status=Status.UNLISTED, channel="tablet"),
    )
    first = list_of(*people, as_of=now - 3 * DAY)
    assert isinstance(give(field, tablet, first), NoKeyYet)
    assert "no list of who is counted has come" in refused(tablet)
    key_file = tablet.folder / "state" / LIST_KEY_FILE_NAME
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600

    # The key goes up by stick and laptop, the list comes back the same way.
    visit(tablet, stick)
    visit(laptop, stick)
    wait_until(
        lambda: isinstance(give(field, tablet, first), Given),
        "the center knows the tablet's key",
        timeout_seconds=WAIT_SECONDS,
    )

    def the_stick_has_brought_it() -> bool:
        visit(laptop, stick)
        visit(tablet, stick)
        return tablet.status()["counted_list"] is not None

    wait_until(the_stick_has_brought_it, "the list has come by the stick", timeout_seconds=WAIT_SECONDS)
    assert tablet.status()["counted_list"] == {"as_of": now - 3 * DAY, "problem": None, "remedy": None}
    assert "list of who is counted: as of" in tablet.edge_agent("status")
    assert "3 days old" in tablet.edge_agent("status")

    shown = tablet.edge_agent("counted")
    assert "Boarding school № 4 (590-17): 1 of 2 counted" in shown
    assert "and 1 counted there who are not listed" in shown
    assert MARKED in shown and "3 days old" in shown
    missing = counted(tablet, "--missing", "--place", "school")
    assert [entry["name"] for one in missing["sections"] for entry in one["entries"]] == ["Ахметова Айгуль"]
    (found,) = counted(tablet, "check", "пётр", "семенов")["people"]
    assert (found["name"], found["status"], found["channel"]) == (MARKED, "counted", "online")
    assert counted(tablet, "check", "48210937")["notices"] == [{"place": "590-17", "title": "Boarding school № 4"}]
    assert "issued for Boarding school № 4" in tablet.edge_agent("counted", "check", "4821-0937")
    assert "nobody of that name" in refused(tablet, "check", "Никто")
    assert "neither a name nor a number" in refused(tablet, "check", " - ")

    places = (laptop.folder, stick, field.center.broker_folder, tablet.folder)
    assert files_with(tablet.status()["device"], *places) != []
    assert files_with(MARKED, *places) == []
    assert files_with("590-17", *places) == []
    assert field.center.query("SELECT count(*) FROM questionnaire") == [(0,)], "a key is no questionnaire"


def test_a_connected_tablet_gets_each_newer_list_and_shows_it_without_a_daemon_too(field: Field) -> None:
    tablet, _ = field.devices
    tablet.relay.heal()
    now = time.time_ns() // 1_000
    for number in (1, 2):
        list_ = list_of(Entry(name=f"Person {number}", status=Status.MISSING), as_of=now + number)
        wait_until(partial(arrives, field, tablet, list_), f"list {number} is there", timeout_seconds=WAIT_SECONDS)
    tablet.submit([b'{"persons":1}', b'{"persons":2}'], form="household")
    field.wait_until_synchronised(timeout_seconds=WAIT_SECONDS)
    (account, _) = draw_up(field).devices
    assert (account.accepted, account.sealed, account.committed, account.marks_equal) == (2, 2, 2, 2)
    assert tablet.process is not None
    tablet.process.close()
    assert [one["name"] for one in counted(tablet)["sections"][0]["entries"]] == ["Person 2"]
    assert "1 of them no questionnaire" in tablet.edge_agent("status")
    assert "device key" in tablet.edge_agent("queue", "list")
    assert "list of who is counted: as of" in tablet.edge_agent("status")
    key_file = tablet.folder / "state" / LIST_KEY_FILE_NAME
    key_file.chmod(0o644)
    assert "can be read by others" in refused(tablet)
    key_file.unlink()
    assert "it makes a new key" in refused(tablet)

    # A lost key is made anew, told, and the next list is sealed to it.
    tablet.start()
    assert "sealed to recipient key" in refused(tablet)
    newest = list_of(Entry(name="Person 3", status=Status.COUNTED), as_of=now + 3)
    wait_until(partial(arrives, field, tablet, newest), "a list for the new key is there", timeout_seconds=WAIT_SECONDS)
    assert [one["name"] for one in counted(tablet)["sections"][0]["entries"]] == ["Person 3"]
