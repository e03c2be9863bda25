"""One tablet, broker and center for all tests, and the pages of form programs as scripts/browser-pages built them."""

from __future__ import annotations

import os
import shutil
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.request import urlopen

import pytest

from central_broker.forms.xlsform import convert
from demo.field import Device, Field
from tests.browser.person import FOLDER, PageServer, Person
from tests.support.processes import free_port, wait_until
from tests.support.shared_data import PROJECT_FOLDER
from tests.support.small_center import SmallCenter

CHROMIUM_VARIABLE: Final = "CENSUS_CHROMIUM"
PAGES: Final = PROJECT_FOLDER / "build" / "browser" / "pages"
VISIT: Final = FOLDER / "visit.md"
HOUSEHOLD: Final = "census_household"


def _chromium() -> str | None:
    return os.environ.get(CHROMIUM_VARIABLE) or shutil.which("chromium") or shutil.which("chromium-browser")


def _why_not() -> str | None:
    if _chromium() is None:
        return f"no chromium: install it, or name one in {CHROMIUM_VARIABLE}; then make test-browser"
    if shutil.which("node") is None:
        return "no node: install nodejs and npm; then make test-browser"
    if not (PAGES / "web_forms.html").exists():
        return "the pages are not built: run scripts/browser-pages"
    return None


@pytest.fixture(scope="module")
def pages() -> Iterator[PageServer]:
    """What a web server on the tablet would serve."""
    reason = _why_not()
    if reason:
        pytest.skip(reason)
    with PageServer(PAGES) as server:
        yield server


@pytest.fixture(scope="module")
def field(pages: PageServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Field]:
    """The census form comes from the center; the visit, which has a file beside it, lies in the tablet's folder."""
    folder = tmp_path_factory.mktemp("browser")
    intake = {"openrosa": True, "openrosa_port": free_port(), "openrosa_origins": [pages.origin]}
    forms = [str(VISIT), HOUSEHOLD]
    with Field(folder / "field", 1, forms=forms, device_settings={"intake": intake}, center_kind=SmallCenter) as made:
        _put_visit(made.devices[0].folder / "state" / "forms" / "visit")
        made.start()
        made.center.ask("forms", "publish", HOUSEHOLD)
        wait_until(lambda: _offered(made.devices[0]) == 2, "the tablet offers both forms", timeout_seconds=60)
        yield made


def _offered(device: Device) -> int:
    address = device.status()["openrosa"]["address"]
    if address is None:
        return 0
    with urlopen(f"{address}/formList") as answer:
        forms: bytes = answer.read()
    return forms.count(b"<xform>")


def _put_visit(folder: Path) -> None:
    (folder / "media").mkdir(parents=True)
    (folder / "form.xml").write_bytes(convert(VISIT).xform)
    (folder / "media" / "districts.csv").write_text("name,label\nesil,Есиль\naksu,Аксу\n")


@pytest.fixture
def photograph(tmp_path: Path) -> Path:
    """A picture that a browser can show: 160 by 120 dots, 58 kB."""
    width, height = 160, 120
    lines = (bytes(value % 256 for x in range(width) for value in (5 * x + y, 7 * y, x * y)) for y in range(height))
    parts = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"".join(b"\0" + line for line in lines), 0)),
        (b"IEND", b""),
    ]
    chunks = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )
    path = tmp_path / "house.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    return path


@pytest.fixture
def interviewer(field: Field, pages: PageServer) -> Person:
    """Works at the tablet, in a Russian browser."""
    return Person(str(_chromium()), pages.origin, field.devices[0].status()["openrosa"]["address"], "ru-RU")
