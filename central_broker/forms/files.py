"""The files that an XForm shows, plays or looks up, and those of a folder that are to travel with it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import defusedxml.ElementTree as defused

from central_broker.forms.definition import FormRefused
from sync_protocol.form_file import is_file_name
from sync_protocol.limits import FORM_FILE_BYTES_MAX, FORM_FILES_MAX

EXTERNAL_ITEMS: Final = "itemsets.csv"
"""What select_one_external looks up; the XForm does not name it."""
_REFERENCE: Final = re.compile(r"\s*jr://(?:images|audio|video|file|file-csv)/(.*?)\s*", re.DOTALL)


def files_named(xform: bytes) -> frozenset[str]:
    """Return the names of the files that belong to an XForm that `read_xform` has taken."""
    named: set[str] = set()
    for element in defused.fromstring(xform, forbid_dtd=True).iter():
        for text in (element.text or "", *element.attrib.values()):
            found = _REFERENCE.fullmatch(text)
            if found is not None:
                named.add(found[1])
        if "query" in element.attrib:
            named.add(EXTERNAL_ITEMS)
    return frozenset(named)


def files_of(folder: Path, named: frozenset[str]) -> dict[str, bytes]:
    """Return the named files of a folder; raises FormRefused when one is missing or cannot travel, OSError."""
    if len(named) > FORM_FILES_MAX:
        raise FormRefused(f"the form names {len(named)} files, more than {FORM_FILES_MAX}", "divide it into several")
    files: dict[str, bytes] = {}
    for name in sorted(named):
        if not is_file_name(name):
            raise FormRefused(f"the form names the file {name!r}, which is no plain short name", "rename the file")
        path = folder / name
        if not path.is_file():
            raise FormRefused(f"the form names the file {name}, which is not in {folder}", "put it there")
        size = path.stat().st_size
        if not size:
            raise FormRefused(f"{path} is empty", "put the right file there")
        if size > FORM_FILE_BYTES_MAX:
            raise FormRefused(
                f"{path} has {size:,} bytes, more than {FORM_FILE_BYTES_MAX:,}", "make the picture or list smaller"
            )
        files[name] = path.read_bytes()
    return files
