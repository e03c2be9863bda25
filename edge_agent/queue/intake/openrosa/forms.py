"""The forms that this device has (port), and the folder that an operator fills with them.

<state directory>/forms/<any name>/form.xml      an XForm
<state directory>/forms/<any name>/media/<file>  what it shows, plays or looks up
"""

from __future__ import annotations

import os
import xml.sax.handler
import xml.sax.xmlreader
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import md5
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Final, Protocol

import defusedxml.sax
from defusedxml.common import DefusedXmlException

from sync_protocol.limits import FORM_TITLE_CHARACTERS_MAX, KIBIBYTE, XFORM_BYTES_MAX

XFORM_FILE_NAME: Final = "form.xml"
MEDIA_FOLDER_NAME: Final = "media"
FORMS_MAX: Final = 200
MEDIA_FILES_MAX: Final = 1_000
_READ_BYTES: Final = 64 * KIBIBYTE


@dataclass(frozen=True)
class MediaFile:
    """One file that belongs to a form."""

    name: str
    md5: str


@dataclass(frozen=True)
class Form:
    """One version of a form. `key` names it in addresses, and is the shelf's to choose."""

    key: str
    form: str
    version: str
    title: str
    md5: str
    """Of the XForm's bytes: clients know by it whether they have them."""
    media: tuple[MediaFile, ...] = ()


class FormShelf(Protocol):
    """The forms that this device has. Its calls are short; they raise OSError when a form is gone meanwhile."""

    def forms(self) -> Sequence[Form]:
        """Return all of them, in the order in which they are shown."""
        ...

    def xform(self, key: str) -> bytes:
        """Return a form's XML, as it was made."""
        ...

    def open_media(self, key: str, name: str) -> BinaryIO:
        """Open one of its files."""
        ...


class FolderShelf:
    """Forms in a folder; what cannot be used is told once (folder's name, problem) and left out."""

    def __init__(self, folder: Path, tell: Callable[[str, str], None]) -> None:
        self._folder = folder
        self._tell = tell
        self._known: dict[Path, tuple[tuple[int, int, int], str]] = {}
        self._forms: dict[Path, tuple[str, Form | None]] = {}

    def forms(self) -> Sequence[Form]:
        try:
            folders = sorted(path for path in self._folder.iterdir() if not path.name.startswith("."))[:FORMS_MAX]
        except FileNotFoundError:
            folders = []
        found = [form for folder in folders if (form := self._form(folder)) is not None]
        self._forms = {folder: kept for folder, kept in self._forms.items() if folder in folders}
        self._known = {path: kept for path, kept in self._known.items() if set(path.parents) & set(folders)}
        return found

    def xform(self, key: str) -> bytes:
        with self._opened(key, Path(XFORM_FILE_NAME)) as file:
            return file.read(XFORM_BYTES_MAX)

    def open_media(self, key: str, name: str) -> BinaryIO:
        return self._opened(key, Path(MEDIA_FOLDER_NAME) / name)

    def _opened(self, key: str, path: Path) -> BinaryIO:
        if not _is_name(key) or not _is_name(path.name) or len(path.parts) > 2:
            raise FileNotFoundError
        descriptor = os.open(self._folder / key / path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        return os.fdopen(descriptor, "rb")

    def _form(self, folder: Path) -> Form | None:
        path = folder / XFORM_FILE_NAME
        try:
            digest = self._digest(path)
            kept = self._forms.get(folder)
            if kept is None or kept[0] != digest:
                kept = digest, self._read(folder, digest)
                self._forms[folder] = kept
            media = self._media(folder / MEDIA_FOLDER_NAME)
        except OSError:
            return None
        form = kept[1]
        return None if form is None else Form(form.key, form.form, form.version, form.title, form.md5, media)

    def _read(self, folder: Path, digest: str) -> Form | None:
        data = self.xform(folder.name)
        problem = "it is too large" if len(data) == XFORM_BYTES_MAX else ""
        found = _XFormTitle()
        try:
            defusedxml.sax.parse(BytesIO(data), found, forbid_dtd=True)
        except (DefusedXmlException, xml.sax.SAXException, ValueError, LookupError):
            problem = "it is not XML without a document type"
        if not problem and not found.form:
            problem = "its instance has no id"
        if problem:
            self._tell(folder.name, problem)
            return None
        title = found.title.strip() or found.form
        return Form(folder.name, found.form, found.version, title[:FORM_TITLE_CHARACTERS_MAX], digest)

    def _media(self, folder: Path) -> tuple[MediaFile, ...]:
        try:
            paths = sorted(path for path in folder.iterdir() if not path.name.startswith("."))[:MEDIA_FILES_MAX]
        except FileNotFoundError:
            return ()
        return tuple(
            MediaFile(path.name, self._digest(path)) for path in paths if path.is_file() and not path.is_symlink()
        )

    def _digest(self, path: Path) -> str:
        """Return the MD5 of a file, which is what the form list has; computed anew when the file changed."""
        status = path.stat(follow_symlinks=False)
        state = (status.st_ino, status.st_size, status.st_mtime_ns)
        known = self._known.get(path)
        if known is not None and known[0] == state:
            return known[1]
        digest = md5(usedforsecurity=False)
        with path.open("rb") as file:
            while piece := file.read(_READ_BYTES):
                digest.update(piece)
        self._known[path] = (state, digest.hexdigest())
        return digest.hexdigest()


def current_versions(forms: Sequence[Form]) -> list[Form]:
    """Return the newest version of each form, in the order of `forms`; versions are compared as numbers if they are."""
    newest: dict[str, Form] = {}
    for form in forms:
        if form.form not in newest or _rank(form.version) > _rank(newest[form.form].version):
            newest[form.form] = form
    return list(newest.values())


def _rank(version: str) -> tuple[int, str]:
    return (int(version), version) if version.isascii() and version.isdigit() else (-1, version)


def _is_name(text: str) -> bool:
    return bool(text) and not text.startswith(".") and not set(text) & {"/", "\0"}


class _XFormTitle(xml.sax.handler.ContentHandler):
    """Finds the title, and id and version on the root of the primary instance."""

    def __init__(self) -> None:
        super().__init__()
        self.form = self.version = self.title = ""
        self._path: list[str] = []
        self._instances = 0

    def startElement(self, name: str, attributes: xml.sax.xmlreader.AttributesImpl) -> None:
        local = name.rpartition(":")[2]
        self._path.append(local)
        if self._path[-2:] == ["model", "instance"]:
            self._instances += 1
        elif self._path[-3:-1] == ["model", "instance"] and self._instances == 1:
            self.form, self.version = attributes.get("id", ""), attributes.get("version", "")

    def characters(self, content: str) -> None:
        if self._path[-2:] == ["head", "title"] and len(self.title) < FORM_TITLE_CHARACTERS_MAX:
            self.title += content

    def endElement(self, name: str) -> None:
        self._path.pop()
