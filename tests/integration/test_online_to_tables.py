"""From the census web site, over an online device and the broker, to typed rows; and its notices on a tablet."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from demo.field import Center, Device
from edge_agent.commands import main
from sync_protocol.identity import device_name
from sync_protocol.keys import SigningKey
from sync_protocol.notice import notice_number, sign_notice
from tests.support.online_device import WebSite, new_instance
from tests.support.processes import free_port, wait_until
from tests.support.small_center import SmallCenter

WAIT_SECONDS = 60.0
FORM = """\
| survey | | | |
| | type | name | label |
| | text | village | Village |
| | begin_repeat | persons | Persons |
| | integer | age | Age |
| | end_repeat | | |
| settings | | | |
| | form_id | version | form_title |
| | dwelling | 1 | Dwelling |
"""


@dataclass
class Country:
    """A center, the web site's device, and a tablet."""

    center: Center
    web: Device
    tablet: Device
    site: WebSite

    def check(self, *words: str, given: str | None = None) -> Result:
        """Check a notice on the tablet."""
        words = ("--configuration", str(self.tablet.configuration), "notice", "check", *words)
        return CliRunner().invoke(main, words, input=given, prog_name="edge-agent")

    def verdict(self, text: str) -> str:
        return str(json.loads(self.check("--json", text).stdout)["verdict"])


@pytest.fixture
def country(tmp_path: Path) -> Iterator[Country]:
    port, token = free_port(), secrets.token_hex(32)
    tokens, form = tmp_path / "tokens", tmp_path / "dwelling.md"
    tokens.write_text(sha256(token.encode()).hexdigest())
    form.write_text(FORM)
    online = {"enabled": True, "port": port, "tokens_file": str(tokens)}
    with ExitStack() as stack:
        center = SmallCenter(tmp_path / "center")
        stack.callback(center.close)
        center.ask("forms", "add", form)
        # The tablet is enrolled first, and must hear of the web site's device.
        tablet = Device(tmp_path / "tablet", "tablet 17", center, settings={})
        stack.callback(tablet.close)
        web = Device(tmp_path / "web", "web 1", center, settings={"online": online}, role="online")
        stack.callback(web.close)
        center.start_broker()
        center.start_consumer()
        center.start_publisher()
        for device in (web, tablet):
            device.start()
        wait_until(lambda: web.status()["online"]["listening"], "the endpoint listens")
        yield Country(center, web, tablet, WebSite(port, None, token))


def dwelling(instance_id: str, village: str, *ages: Any, **members: str) -> dict[str, Any]:
    answers = {"village": village, "persons": [{"age": age} for age in ages]}
    return {"form": "dwelling", "version": "1", "instance_id": instance_id, "answers": answers, **members}


def dwelling_xml(instance_id: str, village: str) -> bytes:
    meta = f"<orx:meta><orx:instanceID>{instance_id}</orx:instanceID></orx:meta>"
    return (
        f'<data id="dwelling" version="1" xmlns:orx="http://openrosa.org/xforms"><village>{village}</village>'
        f"<persons><age>7</age></persons>{meta}</data>"
    ).encode()


def test_what_the_web_site_hands_in_becomes_rows_that_came_online_and_its_notices_are_believed_on_a_tablet(
    country: Country,
) -> None:
    center, site = country.center, country.site
    first, edit, by_xml = (new_instance() for _ in range(3))
    handed = site.hand_in(dwelling(first, "Аксу", 33, "four"))
    assert handed.status == 201
    assert site.hand_in(dwelling(edit, "Аксу-2", 34, replaces=first)).status == 201
    assert site.submit(dwelling_xml(by_xml, "Есиль")).status == 201
    country.tablet.submit([dwelling_xml(new_instance(), "Тайынша")])
    wait_until(
        lambda: center.query("SELECT count(*) FROM form_dwelling") == [(4,)],
        "all four are rows",
        timeout_seconds=WAIT_SECONDS,
    )
    assert center.query("SELECT village FROM form_dwelling_current ORDER BY 1") == [
        ("Аксу-2",),
        ("Есиль",),
        ("Тайынша",),
    ]
    assert center.query("SELECT path, position, rule, value FROM finding") == [
        ("persons/age", 2, "not_a_number", "four")
    ]
    assert center.query("SELECT route, count(*) FROM envelope GROUP BY 1 ORDER BY 1") == [("online", 3), ("vpn", 1)]
    listed = {one["name"]: (one["role"], one["last_route"]) for one in center.ask("devices", "list")}
    assert listed == {"tablet 17": ("tablet", "vpn"), "web 1": ("online", "online")}
    # The center finds the number of every notice in what it has.
    stored = center.query("SELECT form, instance_id FROM questionnaire")
    notice = handed.document["notice"]
    assert notice["number"] in {notice_number(*one) for one in stored}
    wait_until(lambda: country.verdict(notice["token"]) == "genuine", "the tablet knows the web site's device")
    country.tablet.close()
    country.web.close()
    center.close()
    checked = country.check(notice["token"])
    assert (checked.exit_code, notice["number"] in checked.stdout) == (0, True)
    assert country.check(given=notice["token"].lower() + "\n").exit_code == 0
    assert country.verdict(notice["number"].replace("-", " ")) == "well_formed"
    assert country.check(notice["number"]).exit_code == 3
    digits = notice["number"]
    assert country.verdict(digits[:-1] + str((int(digits[-1]) + 1) % 10)) == "mistyped"
    assert country.check("nonsense").exit_code == 1


def test_a_notice_is_not_believed_when_its_device_is_revoked_and_is_when_it_is_returned(country: Country) -> None:
    token = country.site.hand_in(dwelling(new_instance(), "Аксу", 1)).document["notice"]["token"]
    wait_until(lambda: country.verdict(token) == "genuine", "the tablet knows the web site's device")
    country.center.ask("devices", "standing", "web 1", "returned")
    country.center.ask("devices", "standing", "web 1", "revoked")
    wait_until(lambda: country.verdict(token) == "disavowed", "the tablet knows that it is revoked")
    assert "revoked" in country.check(token).stdout
    country.center.ask("devices", "standing", "web 1", "returned")
    wait_until(lambda: country.verdict(token) == "genuine", "the tablet knows that it is returned")


def test_a_tablet_that_never_had_a_link_believes_by_what_its_enrolment_brought_and_no_stranger(
    country: Country, tmp_path: Path
) -> None:
    token = country.site.hand_in(dwelling(new_instance(), "Аксу", 1)).document["notice"]["token"]
    new = Device(tmp_path / "new", "tablet 18", country.center, settings={})
    new.close()
    country.tablet.close()
    country.tablet = new
    assert country.verdict(token) == "genuine"
    stranger = SigningKey(bytes(32))
    name = device_name(stranger.public_bytes)
    forged = sign_notice(stranger, device=name, form="dwelling", instance_id="uuid:1", accepted_at=1)
    assert country.verdict(forged.token) == "unknown_signer"
    assert country.check(forged.token).exit_code == 3
    web = bytes.fromhex(country.web.status()["device"])
    in_its_name = sign_notice(stranger, device=web, form="dwelling", instance_id="uuid:1", accepted_at=1)
    assert country.verdict(in_its_name.token) == "forged"
    # A tablet's own key is certified, and not for this.
    key = SigningKey(bytes.fromhex((new.folder / "provisioning" / "signing.key").read_text()))
    own = sign_notice(key, device=device_name(key.public_bytes), form="dwelling", instance_id="uuid:1", accepted_at=1)
    assert country.verdict(own.token) == "forged"
    for cut in (token[:-1], token[:40], "", token + "A"):
        assert not cut or country.verdict(cut) == "mistyped"


def test_a_token_of_another_center_is_not_known(country: Country, tmp_path: Path) -> None:
    other = SmallCenter(tmp_path / "other center")
    elsewhere = Device(tmp_path / "elsewhere", "tablet 99", other, settings={})
    elsewhere.close()
    token = country.site.hand_in(dwelling(new_instance(), "Аксу", 1)).document["notice"]["token"]
    country.tablet.close()
    country.tablet = elsewhere
    assert country.verdict(token) == "unknown_signer"
    # With the other center's statements put beside its own it believes nothing at all.
    record = elsewhere.folder / "provisioning" / "provisioning.json"
    foreign = json.loads((country.web.folder / "provisioning.json").read_text())["statements"]
    document = json.loads(record.read_text())
    record.write_text(json.dumps(document | {"statements": document["statements"] + foreign}))
    refused = country.check(token)
    assert (refused.exit_code, "is not this device's" in refused.output) == (1, True)
