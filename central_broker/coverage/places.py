"""The territory and institution tables: which oblasts, districts and institutions there are, and what people write
for them.

Files are CSV (UTF-8, a header line). Territory: code, parent, name, and any further columns that begin with `name` (the
same name in other languages); parent is empty for an oblast. Institutions: bin, name, district, and optionally type;
district is a code of the territory table.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

from central_broker.coverage.identity_number import organisation_number
from central_broker.coverage.names import place_key, place_shown
from central_broker.coverage.people import Place

UNKNOWN: Final = "?"
"""What begins a name as written, where the tables have no code for it."""

_OBLASTS: Final = files("central_broker.coverage") / "oblasts.csv"
_CODE: Final = re.compile(r"[0-9A-Za-z-]{1,20}", re.ASCII)


class PlacesRefused(ValueError):
    """A file of places cannot be taken; the message says what is wrong, and in which line."""


@dataclass(frozen=True, slots=True)
class Territory:
    """An oblast (without a parent) or a district of one."""

    code: str
    parent: str
    names: tuple[str, ...]
    """The first is the one that is shown."""


@dataclass(frozen=True, slots=True)
class Institution:
    """An institution, by its BIN."""

    bin: str
    name: str
    district: str
    kind: str = ""


def read_territories(data: bytes) -> list[Territory]:
    """Return what a territory file says; raises PlacesRefused."""
    found: dict[str, Territory] = {}
    for number, row in _rows(data, ("code", "parent", "name")):
        code = _code(row["code"], number)
        names = tuple(value.strip() for column, value in row.items() if column.startswith("name") and value.strip())
        if not names:
            raise PlacesRefused(f"line {number}: {code} has no name")
        if code in found:
            raise PlacesRefused(f"line {number}: {code} is there twice")
        found[code] = Territory(code, row["parent"].strip(), names)
    for one in found.values():
        above = found.get(one.parent)
        if one.parent and (above is None or above.parent):
            raise PlacesRefused(f"the parent of {one.code}, {one.parent}, is no oblast of this file")
    return list(found.values())


def read_institutions(data: bytes, territories: Iterable[Territory]) -> list[Institution]:
    """Return what an institution file says; raises PlacesRefused."""
    districts = {one.code for one in territories}
    found: dict[str, Institution] = {}
    for number, row in _rows(data, ("bin", "name", "district")):
        bin_ = organisation_number(row["bin"])
        if bin_ is None:
            raise PlacesRefused(f"line {number}: {row['bin']!r} is no BIN: twelve digits, the last a check digit")
        if bin_ in found:
            raise PlacesRefused(f"line {number}: {bin_} is there twice")
        district = row["district"].strip()
        if district not in districts:
            raise PlacesRefused(f"line {number}: {district!r} is no code of the territory table; import that first")
        found[bin_] = Institution(bin_, row["name"].strip(), district, (row.get("type") or "").strip())
    return list(found.values())


def oblasts() -> list[Territory]:
    """Return the oblasts of Kazakhstan in 2021 by their codes: the territory table of a center that was given none."""
    return read_territories(_OBLASTS.read_bytes())


class Places:
    """The tables as they are looked up."""

    def __init__(self, territories: Iterable[Territory], institutions: Iterable[Institution]) -> None:
        self._territories = {one.code: one for one in territories}
        self._institutions = {one.bin: one for one in institutions}
        self._by_name: dict[tuple[str, str], str] = {}
        for one in self._territories.values():
            for name in one.names:
                self._by_name.setdefault((one.parent, place_key(name)), one.code)

    def place_of(self, region: str, district: str, institution: str) -> Place:
        """Return the place that a questionnaire names: `region` and `district` as codes or names, `institution` as a
        BIN or a name.

        Where the institution table has the institution, its district counts, whatever else was written.
        """
        bin_ = organisation_number(institution)
        known = self._institutions.get(bin_ or "")
        if known is not None:
            return Place(self._region_of(known.district), self._district(known.district), known.bin)
        region_code = self._code_of("", region)
        place = Place(region_code, self._code_of(region_code, district))
        return Place(place.region, place.district, bin_ or _as_written(institution, place.district or place.region))

    def name_of(self, code: str) -> str:
        """Return the name of a region, district or institution for people; the code itself where there is none."""
        territory = self._territories.get(code)
        if territory is not None:
            return territory.names[0]
        institution = self._institutions.get(code)
        if institution is not None:
            return institution.name
        return code.rpartition("/")[2] if code.startswith(UNKNOWN) else code

    def meant(self, text: str) -> Place | None:
        """Return the place that a person means by a code, a BIN or a name; None where none is known by it."""
        known = self._territories.keys() | self._institutions.keys()
        matching = {text} & known or {
            *(code for (_, name), code in self._by_name.items() if name == place_key(text)),
            *(one.bin for one in self._institutions.values() if place_key(one.name) == place_key(text)),
        }
        if len(matching) != 1:
            return None
        (code,) = matching
        if code in self._institutions:
            return self.place_of("", "", code)
        return Place(self._region_of(code), self._district(code))

    @property
    def territories(self) -> Mapping[str, Territory]:
        return self._territories

    @property
    def institutions(self) -> Mapping[str, Institution]:
        return self._institutions

    def _region_of(self, code: str) -> str:
        return self._territories[code].parent or code

    def _district(self, code: str) -> str:
        return code if self._territories[code].parent else ""

    def _code_of(self, parent: str, written: str) -> str:
        known = self._territories.get(written)
        if known is not None and known.parent == parent:
            return written
        return self._by_name.get((parent, place_key(written))) or _as_written(written, parent)


def _as_written(written: str, above: str) -> str:
    shown = place_shown(written) or written.strip()
    return f"{UNKNOWN}{above}/{shown}" if shown else ""


def _code(text: str, number: int) -> str:
    code = text.strip()
    if not _CODE.fullmatch(code):
        raise PlacesRefused(f"line {number}: {text!r} is no code: 1 to 20 letters, digits or dashes")
    return code


def _rows(data: bytes, needed: Sequence[str]) -> Iterable[tuple[int, dict[str, str]]]:
    """Return each line's number and its columns."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise PlacesRefused("the file is not UTF-8; save it as CSV UTF-8") from None
    separator = ";" if text.partition("\n")[0].count(";") > text.partition("\n")[0].count(",") else ","
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator, restval="", strict=True)
    columns = reader.fieldnames or ()
    absent = [name for name in needed if name not in columns]
    if absent:
        raise PlacesRefused(f"the first line has to name the columns {', '.join(needed)}; not there: {absent[0]}")
    try:
        for row in reader:
            if None in row:
                raise PlacesRefused(f"line {reader.line_num} has more values than the first line has columns")
            yield reader.line_num, row
    except csv.Error as error:
        raise PlacesRefused(f"line {reader.line_num}: {error}") from error
