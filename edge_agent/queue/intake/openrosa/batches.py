"""Questionnaires whose files come in several requests: what came is kept durably until the last request is in.

Each request becomes one file, whole or not at all, in a folder that its questionnaire has for itself:

    <folder>/<instance key>-<digest of the XML>/<number>-<digest>.post        one request with more to come
    <folder>/<instance key>-<digest of the XML>/<number>-<digest>.last.post   the one that completes it
    <folder>/<instance key>-<digest of the XML>.taken                         which files are in the queue since

So a death at any moment leaves requests that were answered, and at most one more that was not. A folder with a last
request is joined and taken at the next start; one without waits for its client. Of a file that came twice under one
name the later counts, as in ODK Central. Calls block on the disk; they raise OSError.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Final

import msgspec

from operations.durable_files import sync_directory, write_durably
from sync_protocol.attachments import Attachment, read_attachments, write_attachments
from sync_protocol.errors import Fault, ProtocolError

_LAST: Final = ".last.post"
_POST: Final = ".post"
_NOTE: Final = ".taken"
_GONE: Final = ".gone"
_KEY_BYTES: Final = 64
_DIGEST_DIGITS: Final = 16
_PART_BYTES_MAX: Final = 350
"""Of one part's boundary and header in a body with attachments, but for the name."""
_ONLY_XML: Final = b"<"
"""How a request without files is written: as the XML alone."""


@dataclass(frozen=True)
class Batch:
    """The requests of one questionnaire: `instance` and `xml_digest` are 32 bytes each."""

    instance: bytes
    xml_digest: bytes

    @property
    def name(self) -> str:
        return f"{self.instance.hex()}-{self.xml_digest.hex()}"


@dataclass(frozen=True)
class Joined:
    """What all requests of a batch brought together."""

    xml: bytes
    attachments: tuple[Attachment, ...]

    @property
    def written_bytes(self) -> int:
        """How large their one body is at most."""
        if not self.attachments:
            return len(self.xml)
        parts = sum(len(each.data) + 2 * len(each.name.encode()) + _PART_BYTES_MAX for each in self.attachments)
        return len(self.xml) + parts + _PART_BYTES_MAX


class BatchFolder:
    """All unfinished questionnaires of this device."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def prepare(self) -> None:
        """Make the folder, and remove what a death left half-written."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        sync_directory(self.folder.parent)
        for path in self.folder.glob(".*.part"):
            path.unlink()
        for path in self.folder.glob(f".*{_GONE}"):
            shutil.rmtree(path)
        for folder in self._folders():
            for path in folder.iterdir():
                if not path.name.endswith(_POST):
                    path.unlink()
            if not any(folder.iterdir()):
                folder.rmdir()

    def batches(self) -> list[Batch]:
        """Return what is here."""
        return [_batch_of(folder.name) for folder in self._folders()]

    def of_instance(self, instance: bytes) -> list[Batch]:
        """Return what is here under one instance key; more than one only where edits came under one instance id."""
        # Not by glob, which costs more than all else here: every submission asks.
        names = [name for name in os.listdir(self.folder) if name.startswith(instance.hex())]  # noqa: PTH208
        return [_batch_of(name) for name in names if _is_batch(name)]

    def is_complete(self, batch: Batch) -> bool:
        """Return whether the last request is in."""
        return any(path.name.endswith(_LAST) for path in self._posts(batch))

    def newest_at(self, batch: Batch) -> float:
        """Return when the newest request came, in seconds since 1970 by the file system."""
        return max((path.stat().st_mtime for path in self._posts(batch)), default=0.0)

    def add(self, batch: Batch, xml: bytes, attachments: Iterable[Attachment], *, last: bool) -> None:
        """Keep one request durably; a request that is here already is not kept twice."""
        files = list(attachments)
        body = write_attachments(xml, files) if files else _ONLY_XML + xml
        folder = self.folder / batch.name
        if not folder.is_dir():
            folder.mkdir(mode=0o700)
            sync_directory(self.folder)
        posts = self._posts(batch)
        digest, ending = _digest(body), _LAST if last else _POST
        if posts and posts[-1].name.endswith(f"-{digest}{ending}"):
            return
        write_durably(folder / f"{len(posts) + 1:06}-{digest}{ending}", body, mode=0o600)

    def join(self, batch: Batch) -> Joined:
        """Read everything that came; raises ProtocolError when a file was damaged on the disk."""
        xml, named = b"", dict[str, Attachment]()
        for path in self._posts(batch):
            body = path.read_bytes()
            if _digest(body) not in path.name:
                raise ProtocolError(Fault.BAD_CONTENT, "a request does not have the digest of its name")
            if body.startswith(_ONLY_XML):
                xml = body[len(_ONLY_XML) :]
            else:
                xml, attachments = read_attachments(body)
                named.update((each.name, each) for each in attachments)
        return Joined(xml, tuple(named.values()))

    def data_bytes(self, batch: Batch) -> int:
        """Return about how much came: files of one name count as often as they came."""
        return sum(path.stat().st_size for path in self._posts(batch))

    def conclude(self, batch: Batch, joined: Joined) -> None:
        """Note durably which files are in the queue now, and then let them go."""
        files = self.taken_files(batch) | {each.name: file_digest(each) for each in joined.attachments}
        write_durably(self._note(batch), msgspec.json.encode(files), mode=0o600)
        # Whole or not at all: what a death leaves of a batch whose last request is still there would be taken again.
        gone = self.folder / f".{batch.name}{_GONE}"
        shutil.rmtree(gone, ignore_errors=True)
        (self.folder / batch.name).rename(gone)
        sync_directory(self.folder)
        shutil.rmtree(gone)

    def taken_files(self, batch: Batch) -> dict[str, str]:
        """Return which files of this questionnaire were taken out of batches: their digests, by name.

        A client that got no answer to its last request repeats that alone.
        """
        try:
            return msgspec.json.decode(self._note(batch).read_bytes(), type=dict[str, str])
        except (FileNotFoundError, msgspec.DecodeError):
            return {}

    def _note(self, batch: Batch) -> Path:
        return self.folder / f"{batch.name}{_NOTE}"

    def put_aside(self, batch: Batch) -> Path:
        """Keep what cannot be joined where a person finds it, and return where."""
        aside = self.folder.with_name(f"{self.folder.name}-damaged")
        aside.mkdir(mode=0o700, exist_ok=True)
        target = next(path for number in count(1) if not (path := aside / f"{batch.name}-{number}").exists())
        (self.folder / batch.name).rename(target)
        return target

    def _posts(self, batch: Batch) -> list[Path]:
        folder = self.folder / batch.name
        return sorted(path for path in folder.glob(f"*{_POST}") if not path.name.startswith("."))

    def _folders(self) -> list[Path]:
        return sorted(path for path in self.folder.iterdir() if path.is_dir() and _is_batch(path.name))


def file_digest(attachment: Attachment) -> str:
    """Return what tells one file from another."""
    return sha256(attachment.data).hexdigest()


def body_of(joined: Joined) -> bytes:
    """Return the questionnaire's one body; raises ProtocolError when it is too large."""
    return write_attachments(joined.xml, joined.attachments) if joined.attachments else joined.xml


def _digest(body: bytes) -> str:
    return sha256(body).hexdigest()[:_DIGEST_DIGITS]


def _is_batch(name: str) -> bool:
    try:
        return len(bytes.fromhex(name.replace("-", ""))) == _KEY_BYTES
    except ValueError:
        return False


def _batch_of(name: str) -> Batch:
    instance, _, digest = name.partition("-")
    return Batch(bytes.fromhex(instance), bytes.fromhex(digest))
