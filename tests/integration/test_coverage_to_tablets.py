"""An institution, from its list and its people's questionnaires to the coverage table, and back to the interviewer."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from central_broker.forms.census import shipped_forms
from demo.field import Center, Device
from tests.support.institution import BIN, Someone, household, institution_list, someone
from tests.support.online_device import WebSite, new_instance
from tests.support.processes import free_port, wait_until
from tests.support.small_center import SmallCenter

WAIT_SECONDS = 60.0
TERRITORIES = "code,parent,name\n59,,Северо-Казахстанская область\n593200,59,Аккайынский район\n"
INSTITUTIONS = f"bin,name,district,type\n{BIN},Дом-интернат,593200,2\n"

pytestmark = pytest.mark.timeout(240)


@dataclass
class Oblast:
    """A center with the census's forms and places, the census web site, and an interviewer's tablet."""

    center: Center
    tablet: Device
    site: WebSite
    versions: dict[str, str]

    def numbers(self) -> dict[str, int]:
        """The institution's line of the table."""
        lines = self.center.ask("coverage", "--by", "institution", "--within", BIN)
        return {name: value for line in lines for name, value in line.items() if isinstance(value, int) and value}

    def counted(self) -> Any:
        return json.loads(self.tablet.edge_agent("counted", "--json"))


@pytest.fixture
def oblast(tmp_path: Path) -> Iterator[Oblast]:
    port, token = free_port(), secrets.token_hex(32)
    tokens, territories, institutions = tmp_path / "tokens", tmp_path / "territories.csv", tmp_path / "institutions.csv"
    tokens.write_text(sha256(token.encode()).hexdigest())
    territories.write_text(TERRITORIES)
    institutions.write_text(INSTITUTIONS)
    with ExitStack() as stack:
        center = SmallCenter(tmp_path / "center")
        stack.callback(center.close)
        for form in shipped_forms():
            center.ask("forms", "add", form)
        center.ask("places", "territories", territories)
        center.ask("places", "institutions", institutions)
        tablet = Device(tmp_path / "tablet", "tablet 17", center, settings={"device": {"counted_lists": True}})
        stack.callback(tablet.close)
        online = {"enabled": True, "port": port, "tokens_file": str(tokens)}
        web = Device(tmp_path / "web", "web 1", center, settings={"online": online}, role="online")
        stack.callback(web.close)
        center.start_broker()
        center.start_consumer()
        center.start_publisher()
        for device in (web, tablet):
            device.start()
        wait_until(lambda: web.status()["online"]["listening"], "the endpoint listens")
        versions = {one["form"]: one["version"] for one in center.ask("forms", "list")}
        yield Oblast(center, tablet, WebSite(port, None, token), versions)


def online_answers(version: str, instance: str, who: Someone) -> dict[str, Any]:
    identity = {"surname": who.surname, "given_name": who.given_name, "iin": who.iin, "proxy": "self"}
    return {
        "form": "census_household",
        "version": version,
        "instance_id": instance,
        "answers": {
            "visit": {"channel": "online", "interview_date": "2021-09-20"},
            "address": {"region": "59", "district": "Аккайынский", "place_kind": "2", "institution_bin": BIN},
            "persons": [{"identity": identity}],
        },
    }


def test_an_institution_is_counted_by_three_channels_and_the_interviewer_sees_who_is_missing(oblast: Oblast) -> None:
    center, tablet = oblast.center, oblast.tablet
    version = oblast.versions["census_household"]
    people = [someone(number) for number in range(6)]
    tablet.submit([institution_list(oblast.versions["census_institution"], people, instance=new_instance())])
    handed = oblast.site.hand_in(online_answers(version, new_instance(), people[0]))
    notice = json.loads(handed.body)["notice"]["number"]
    online = "SELECT count(*) FROM form_census_household"
    wait_until(lambda: center.query(online) == [(1,)], "it is committed", timeout_seconds=WAIT_SECONDS)
    tablet.submit(
        [
            household(version, people[1:3], instance=new_instance()),
            household(version, [replace(people[3], proxy="admin")], instance=new_instance()),
            household(version, [people[0]], instance=new_instance(), day="2021-11-02"),
            household(version, [someone(40)], instance=new_instance()),
            household(version, [], instance=new_instance(), bin_=None, notice=notice),
            household(version, [], instance=new_instance(), bin_=None, notice="1234 5678 9012 3456 78"),
        ]
    )
    expected = {
        **{"listed": 6, "counted": 5, "interview": 3, "online": 1, "proxy": 1},
        **{"missing": 2, "not_listed": 1, "twice": 1},
    }
    wait_until(
        lambda: oblast.numbers() == expected,
        "the table is right",
        timeout_seconds=WAIT_SECONDS,
        evidence=lambda: f"{oblast.numbers()}",
    )
    assert [one["notice"] for one in center.ask("coverage", "notices")] == ["1234 5678 9012 3456 78"]
    assert len(center.ask("coverage", "notices", "--all")) == 2

    center.ask("coverage", "assign", "tablet 17", BIN, "593200")
    (sent,) = center.ask("coverage", "send")
    assert sent["result"].startswith("given, 7 people")
    wait_until(lambda: tablet.status()["counted_list"] is not None, "the list has come", timeout_seconds=WAIT_SECONDS)
    institution, district = oblast.counted()["sections"]
    assert (institution["title"], district["title"]) == ("Дом-интернат", "Аккайынский район")
    stands = {entry["name"]: (entry["status"], entry.get("channel")) for entry in institution["entries"]}
    names = [f"{one.surname} {one.given_name}" for one in (*people, someone(40))]
    assert stands == dict(
        zip(
            names,
            [
                *(("counted", "online"), ("counted", "interview"), ("counted", "interview"), ("counted", "proxy")),
                *(("missing", None), ("missing", None), ("unlisted", "interview")),
            ],
            strict=True,
        )
    )
    assert "issued for Дом-интернат" in tablet.edge_agent("counted", "check", notice)
    assert names[4] in tablet.edge_agent("counted", "--missing")

    # The next evening one of the two is counted, and the newer list takes the place of the one before.
    tablet.submit([household(version, [people[4]], instance=new_instance(), day="2021-10-06")])
    wait_until(lambda: oblast.numbers()["missing"] == 1, "he is counted", timeout_seconds=WAIT_SECONDS)
    center.ask("coverage", "send")
    wait_until(
        lambda: (
            [
                entry["name"]
                for section in oblast.counted()["sections"]
                for entry in section["entries"]
                if entry["status"] == "missing"
            ]
            == [names[5]]
        ),
        "the tablet knows it",
        timeout_seconds=WAIT_SECONDS,
    )
    center.ask("coverage", "assign", "tablet 17")
    assert center.ask("coverage", "send") == []
